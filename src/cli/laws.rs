//! The law the expert speaks: its own, one made of its layers, or one of several models together.

use super::{args::ModelArgs, failure::Failure, parts};
use clap::{Args, ValueEnum};
use drafthorse::{
    TokenId, Transformer,
    engine::EngineBuilder,
    logits::{Combine, Guidance, Weights},
    model::{Ensemble, LawSpec, LayeredLaw},
    verifier::Guide,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// What the expert's law is made of.
#[derive(Args, Clone)]
#[command(next_help_heading = "The expert's law")]
pub(crate) struct LawArgs {
    /// Make the expert's law of its layers: sled or dola, NAME:SETTING=VALUE,... ; both take layers (all, low, high, or
    /// numbers such as 2+4), sled also scale, rate, steps and floor, dola relative-top and floor
    #[arg(long, value_name = "LAW", value_parser = parse_law)]
    pub(crate) law: Option<String>,
    /// Further models of the same vocabulary, in a list, whose laws are combined with the expert's: folders, demo, or
    /// demo-drafter
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "law")]
    pub(crate) ensemble: Vec<String>,
    /// How they are combined
    #[arg(long, value_enum, value_name = "HOW", default_value = "mixture", requires = "ensemble")]
    pub(crate) ensemble_by: By,
    /// Their weights, in a list that begins with the expert's; without it all are equal
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "ensemble")]
    pub(crate) ensemble_weights: Vec<f64>,
    /// Push the expert away from what it says after another prompt (classifier-free guidance): 1 changes nothing,
    /// 1.5 is usual
    #[arg(long, visible_alias = "cfg-scale", value_name = "X", allow_negative_numbers = true)]
    pub(crate) guidance_scale: Option<f64>,
    /// The other prompt; without it the last token of the prompt alone
    #[arg(long, value_name = "TEXT", requires = "guidance_scale")]
    pub(crate) negative_prompt: Option<String>,
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
            self.ensemble.iter().map(|name| parts::member(name, models)).collect::<Result<_, _>>()?;
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
        parts.extend(self.guidance_scale.map(|scale| format!("guidance {scale}")));
        (!parts.is_empty()).then(|| format!("expert's law: {}", parts.join(", ")))
    }

    /// What was said, in JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "layers": self.law,
            "ensemble": self.ensemble,
            "ensemble_by": self.how().filter(|_| !self.ensemble.is_empty()),
            "ensemble_weights": self.ensemble_weights,
            "guidance_scale": self.guidance_scale,
            "negative_prompt": self.negative_prompt,
        })
    }

    /// The other prompt of guidance.
    pub(crate) fn guide(&self, prompt: &[TokenId], expert: &Transformer) -> Result<Option<Guide>, Failure> {
        let Some(scale) = self.guidance_scale else { return Ok(None) };
        let guidance = Guidance::new(scale).map_err(Failure::new)?;
        let negative = match (&self.negative_prompt, expert.tokenizer()) {
            (None, _) => prompt.last().copied().into_iter().collect(),
            (Some(text), Some(tokenizer)) => tokenizer.encode(text)?,
            (Some(_), None) => {
                return Err(Failure::new(
                    "--negative-prompt is text, and the expert has no tokenizer.json; leave it out: the last token of the prompt then stands alone",
                ));
            }
        };
        Ok(Some(Guide { negative, guidance }))
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
