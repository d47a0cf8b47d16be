//! The law the expert speaks: its own, one made of its layers, or one of several models together.

use super::{args::ModelArgs, failure::Failure, parts};
use clap::{Args, ValueEnum};
use drafthorse::{
    Transformer,
    engine::EngineBuilder,
    logits::{Combine, Weights},
    model::{Ensemble, LawSpec, LayeredLaw},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// What the expert's law is made of.
#[derive(Args, Clone)]
#[command(next_help_heading = "The expert's law")]
pub(crate) struct LawArgs {
    /// Make the expert's law of its layers: sled or dola, NAME:SETTING=VALUE,...
    ///
    /// Both have layers, the early ones that are looked at: all, low or high (every second one of that half), or
    /// numbers such as 2+4; sled: all, dola: low. And floor, the logit of tokens that are left out: at most 0, -1000.
    ///
    /// sled takes a step from the last layer's law to where the way through the layers points: scale, how many tokens
    /// are kept (1 or more, 10); rate, how far the step goes (0 to 100, 2); steps, in how many (1 to 100, 1).
    ///
    /// dola keeps what the last layer says more of than the early layer most unlike it: relative-top, the share of the
    /// best token's probability from which on a token is kept (0 to 1, 0.1).
    #[arg(long, value_name = "LAW", value_parser = parse_law)]
    pub(crate) law: Option<String>,
    /// Further models of the same vocabulary, in a list, whose laws are combined with the expert's: folders, demo,
    /// demo-drafter, or bench-134m
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "law")]
    pub(crate) ensemble: Vec<String>,
    /// How they are combined
    #[arg(long, value_enum, value_name = "HOW", default_value = "mixture", requires = "ensemble")]
    pub(crate) ensemble_by: By,
    /// Their weights, in a list that begins with the expert's; without it all are equal
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "ensemble")]
    pub(crate) ensemble_weights: Vec<f64>,
}

fn parse_law(text: &str) -> Result<String, String> {
    text.parse::<LawSpec>().map(|_| text.to_owned())
}

/// How experts are combined.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum By {
    /// Mean of the logits: the geometric mean of the laws.
    Average,
    /// Mean of the probabilities.
    Mixture,
    /// Product of the probabilities.
    Product,
    /// What the expert finds likelier than the one other model, the amateur (contrastive decoding)
    Contrast,
}

/// The expert with what its law is made of.
pub(crate) enum ExpertLaw {
    Own,
    Layers(LawSpec),
    Ensemble(Vec<Arc<Transformer>>, Combine),
}

impl LawArgs {
    /// Opens what the law needs besides the expert.
    pub(crate) fn open(&self, models: &ModelArgs) -> Result<ExpertLaw, Failure> {
        if let Some(spec) = &self.law {
            return spec.parse().map(ExpertLaw::Layers).map_err(Failure::new);
        }
        if self.ensemble.is_empty() {
            return Ok(ExpertLaw::Own);
        }
        let members: Vec<_> =
            self.ensemble.iter().map(|name| parts::expert(name, models)).collect::<Result<_, _>>()?;
        let weights = || match &self.ensemble_weights[..] {
            [] => Weights::equal(members.len() + 1),
            weights => Weights::new(weights.to_vec()),
        };
        let combine = match self.ensemble_by {
            By::Average => weights().map(Combine::LogitAverage),
            By::Mixture => weights().map(Combine::Mixture),
            By::Product if self.ensemble_weights.is_empty() => {
                Weights::new(vec![1.0; members.len() + 1]).map(Combine::Product)
            }
            By::Product => weights().map(Combine::Product),
            By::Contrast if !self.ensemble_weights.is_empty() => {
                return Err(Failure::new(
                    "--ensemble-weights with --ensemble-by contrast: a contrast has no weights; leave them out",
                ));
            }
            By::Contrast => Ok(Combine::Contrast { strength: 0.5, plausibility: 0.1 }),
        };
        Ok(ExpertLaw::Ensemble(members, combine.map_err(Failure::new)?))
    }

    /// The name of how experts are combined.
    fn how(&self) -> Option<String> {
        Some(self.ensemble_by.to_possible_value()?.get_name().to_owned())
    }

    /// What was said, in words; `None` for the expert's own law.
    pub(crate) fn describe(&self) -> Option<String> {
        let mut parts: Vec<String> = self.law.iter().cloned().collect();
        if !self.ensemble.is_empty() {
            let how = self.how().unwrap_or_default();
            let weights: Vec<_> = self.ensemble_weights.iter().map(ToString::to_string).collect();
            let by = if weights.is_empty() { String::new() } else { format!(" by {}", weights.join(" : ")) };
            parts.push(format!("{how} with {}{by}", self.ensemble.join(", ")));
        }
        (!parts.is_empty()).then(|| format!("expert's law: {}", parts.join(", ")))
    }

    /// What was said, in JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "layers": self.law,
            "ensemble": self.ensemble,
            "ensemble_by": self.how().filter(|_| !self.ensemble.is_empty()),
            "ensemble_weights": self.ensemble_weights,
        })
    }
}

impl ExpertLaw {
    /// The builder with the expert as this law has it.
    pub(crate) fn give(
        &self,
        builder: EngineBuilder,
        expert: &Arc<Transformer>,
    ) -> Result<EngineBuilder, Failure> {
        Ok(match self {
            Self::Own => builder.expert(expert.clone()),
            Self::Layers(spec) => builder.expert(Arc::new(LayeredLaw::new(expert.clone(), spec)?)),
            Self::Ensemble(members, combine) => {
                let all = std::iter::once(expert).chain(members).cloned().collect();
                builder.expert(Arc::new(Ensemble::new(all, combine.clone())?))
            }
        })
    }
}
