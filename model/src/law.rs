//! Laws that a model's layers make together.

use crate::{
    LanguageModel, LayerLogits, LayeredModel, ModelError, Segment, Vocabulary,
    layered::{check_layered, check_layers},
};
use drafthorse_logits::{Dola, Logits, Sled};
use std::{fmt, str::FromStr, sync::Arc};

/// A law made of what a model says after its last layer and after earlier ones.
///
/// It takes the place of the expert's logits before anything else sees them, so it goes with every acceptance rule
/// and every sampling option.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_enums)]
pub enum LayerLaw {
    /// Self logits evolution: Zhang et al., 2024.
    Sled(Sled),
    /// Contrast with the layer that differs most: Chuang et al., 2024.
    Dola(Dola),
}

/// Which earlier layers a law looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum EarlyLayers {
    /// All before the last.
    All,
    /// Every second of the lower half: for long answers and reasoning (up to 20 layers of models with more than 40).
    Low,
    /// Every second of the upper half: for short answers and facts (from the last 20 of models with more than 40).
    High,
    /// These.
    Listed(Vec<usize>),
}

/// A law with the layers it looks at, as written on command lines: `sled`, `dola:layers=high`,
/// `sled:scale=5,rate=2.5,layers=2+4+5`.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct LawSpec {
    /// The law.
    pub law: LayerLaw,
    /// The layers.
    pub layers: EarlyLayers,
}

impl EarlyLayers {
    /// The layers of a model with `layers` layers. Where head and embedding are one (`tied`), the embedding is left
    /// out of the lower half: it only says the token that was read.
    pub fn of(&self, layers: usize, tied: bool) -> Vec<usize> {
        let first = if tied { 2 } else { 0 };
        let range = match self {
            Self::Listed(listed) => return listed.clone(),
            Self::All => return (0..layers).collect(),
            Self::Low if layers > 40 => first..20,
            Self::Low => first..layers / 2,
            Self::High if layers > 40 => layers - 20..layers,
            Self::High => layers / 2..layers,
        };
        let chosen: Vec<_> = range.step_by(2).collect();
        if chosen.is_empty() { vec![first.min(layers.saturating_sub(1))] } else { chosen }
    }
}

impl FromStr for EarlyLayers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "low" => Ok(Self::Low),
            "high" => Ok(Self::High),
            _ => {
                let layers = text.split('+').map(str::parse).collect::<Result<_, _>>();
                layers.map(Self::Listed).map_err(|_| {
                    format!("`{text}` names no layers; write all, low, high, or numbers such as 2+4+5")
                })
            }
        }
    }
}

impl FromStr for LawSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        let known: &[&str] = match name {
            "sled" => &["layers", "scale", "rate", "steps", "floor"],
            "dola" => &["layers", "relative-top", "floor"],
            _ => return Err(format!("there is no law `{name}`; there are sled and dola")),
        };
        let mut layers = if name == "sled" { EarlyLayers::All } else { EarlyLayers::Low };
        // The general settings of the papers.
        let (mut scale, mut rate, mut steps, mut floor, mut relative_top) = (10, 2.0, 1, -1000.0, 0.1);
        if text.ends_with([':', ',']) || settings.contains(",,") {
            return Err(format!(
                "a setting of law `{text}` is empty; write {name}:NAME=VALUE,..., or {name} alone"
            ));
        }
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| format!("`{setting}` of law `{text}` has no value; write NAME=VALUE"))?;
            let number =
                || value.parse().map_err(|_| format!("{key} `{value}` of law {name} is not a number"));
            let count =
                || value.parse().map_err(|_| format!("{key} `{value}` of law {name} is not a whole number"));
            match key {
                _ if !known.contains(&key) => {
                    return Err(format!("law {name} has no setting `{key}`; it has {}", known.join(", ")));
                }
                "layers" => layers = value.parse()?,
                "scale" => scale = count()?,
                "steps" => steps = count()?,
                "rate" => rate = number()?,
                "relative-top" => relative_top = number()?,
                _ => floor = number()?,
            }
        }
        let law = match name {
            "sled" => Sled::new(scale, rate, steps, floor).map(LayerLaw::Sled),
            _ => Dola::new(relative_top, floor).map(LayerLaw::Dola),
        };
        law.map(|law| Self { law, layers }).map_err(|error| error.to_string())
    }
}

/// A model whose logits are those of a [`LayerLaw`].
///
/// Each forward runs the head once for every layer that is looked at, for the wanted rows only.
pub struct LayeredLaw<M> {
    model: Arc<M>,
    law: LayerLaw,
    layers: Vec<usize>,
}

impl<M> fmt::Debug for LayeredLaw<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LayeredLaw {{ {:?} over layers {:?} }}", self.law, self.layers)
    }
}

impl<M: LayeredModel> LayeredLaw<M> {
    /// The law of this model.
    ///
    /// # Errors
    ///
    /// No layers, or one that the model does not have before its last.
    pub fn new(model: Arc<M>, spec: &LawSpec) -> Result<Self, ModelError> {
        let layers = spec.layers.of(model.layers(), model.tied_head());
        check_layers(&layers, model.layers())?;
        if layers.is_empty() {
            return Err(ModelError::Layer { layer: 0, layers: 0 });
        }
        Ok(Self { model, law: spec.law, layers })
    }

    /// The layers it looks at.
    pub fn layers(&self) -> &[usize] {
        &self.layers
    }

    fn apply(&self, found: &LayerLogits) -> Logits {
        let row = |row: usize| {
            let early: Vec<_> = found.early.iter().map(|layer| layer.row(row)).collect();
            match &self.law {
                LayerLaw::Sled(sled) => sled.logits(found.last.row(row), &early),
                LayerLaw::Dola(dola) => dola.logits(found.last.row(row), &early),
            }
        };
        Logits::new((0..found.last.rows()).flat_map(row).collect(), found.last.vocab_size())
    }
}

impl<M: LayeredModel> LanguageModel for LayeredLaw<M> {
    type Cache = M::Cache;

    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.model.context_len()
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.model.vocabulary()
    }

    fn reads_trees(&self) -> bool {
        self.model.reads_trees()
    }

    fn new_cache(&self) -> M::Cache {
        self.model.new_cache()
    }

    fn forward(&self, segments: &mut [Segment<'_, M::Cache>]) -> Result<Vec<Logits>, ModelError> {
        if segments.iter().all(|segment| segment.rows == 0) {
            return self.model.forward(segments);
        }
        let found = self.model.forward_layers(segments, &self.layers)?;
        for (found, segment) in found.iter().zip(segments.iter()) {
            check_layered(found, segment.rows, self.layers.len(), self.vocab_size())?;
        }
        Ok(found.iter().map(|found| self.apply(found)).collect())
    }
}

/// Its layers are those of the model inside; the last row is the law's.
impl<M: LayeredModel> LayeredModel for LayeredLaw<M> {
    fn layers(&self) -> usize {
        self.model.layers()
    }

    fn tied_head(&self) -> bool {
        self.model.tied_head()
    }

    fn forward_layers(
        &self,
        segments: &mut [Segment<'_, M::Cache>],
        layers: &[usize],
    ) -> Result<Vec<LayerLogits>, ModelError> {
        let asked = [&self.layers[..], layers].concat();
        let found = self.model.forward_layers(segments, &asked)?;
        for (found, segment) in found.iter().zip(segments.iter()) {
            check_layered(found, segment.rows, asked.len(), self.vocab_size())?;
        }
        let split = |mut found: LayerLogits| {
            let early = found.early.split_off(self.layers.len());
            LayerLogits { last: self.apply(&found), early }
        };
        Ok(found.into_iter().map(split).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_chosen_by_depth() {
        use EarlyLayers::{All, High, Listed, Low};
        assert_eq!(All.of(3, true), [0, 1, 2]);
        assert_eq!(Low.of(32, false), [0, 2, 4, 6, 8, 10, 12, 14]);
        assert_eq!(Low.of(6, true), [2]);
        assert_eq!((Low.of(5, true), Low.of(2, true), Low.of(1, true)), (vec![2], vec![1], vec![0]));
        assert_eq!(High.of(6, true), [3, 5]);
        assert_eq!((High.of(80, false)[0], Low.of(80, false).len()), (60, 10));
        assert_eq!(Listed(vec![4, 1]).of(6, true), [4, 1]);
    }

    #[test]
    fn laws_are_written_as_text() {
        let spec = |text: &str| text.parse::<LawSpec>();
        let sled = spec("sled:scale=5,rate=2.5,layers=2+4").expect("a law");
        assert_eq!(sled.layers, EarlyLayers::Listed(vec![2, 4]));
        assert_eq!(sled.law, LayerLaw::Sled(Sled::new(5, 2.5, 1, -1000.0).expect("in range")));
        let dola = spec("dola").expect("a law");
        assert_eq!((dola.layers, dola.law), (EarlyLayers::Low, LayerLaw::Dola(Dola::default())));
        assert_eq!(spec("sled").expect("a law").law, LayerLaw::Sled(Sled::default()), "the papers' settings");
        let error = |text: &str| spec(text).expect_err("no law");
        assert!(error("slde").contains("there are sled and dola"));
        assert!(error("sled:top=3").contains("no setting `top`"));
        assert!(error("sled:rate").contains("NAME=VALUE"));
        assert!(error("sled:rate=x").contains("not a number"));
        assert!(error("dola:layers=mid").contains("all, low, high"));
        assert!(error("dola:relative-top=7").contains('7'));
    }
}
