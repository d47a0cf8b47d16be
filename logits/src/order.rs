use crate::LogitsError;
use std::{fmt, str::FromStr};

/// A step from a row of logits to what is sampled.
///
/// The first ones, up to [`Forced`](Self::Forced), make the law ([`Scores::raw`](crate::Scores::raw)); the others
/// change how it is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// `logit-bias`
    LogitBias,
    /// `penalties`: repetition, then presence and frequency.
    Penalties,
    /// `dry`
    Dry,
    /// `no-repeat-ngram`
    NoRepeatNgram,
    /// `bad-words`
    BadWords,
    /// `min-tokens`
    MinTokens,
    /// `forced`
    Forced,
    /// `temperature`, fixed or dynamic.
    Temperature,
    /// `top-k`
    TopK,
    /// `top-p`
    TopP,
    /// `min-p`
    MinP,
    /// `typical`
    Typical,
    /// `epsilon`
    Epsilon,
    /// `eta`
    Eta,
    /// `top-n-sigma`
    TopNSigma,
    /// `xtc`
    Xtc,
    /// `mirostat`
    Mirostat,
}

use Stage::{
    BadWords, Dry, Epsilon, Eta, Forced, LogitBias, MinP, MinTokens, Mirostat, NoRepeatNgram, Penalties,
    Temperature, TopK, TopNSigma, TopP, Typical, Xtc,
};

impl Stage {
    /// All of them.
    pub const ALL: [Self; 17] = [
        LogitBias,
        Penalties,
        Dry,
        NoRepeatNgram,
        BadWords,
        MinTokens,
        Forced,
        Temperature,
        TopK,
        TopP,
        MinP,
        Typical,
        Epsilon,
        Eta,
        TopNSigma,
        Xtc,
        Mirostat,
    ];

    /// Its name in lists.
    pub fn name(self) -> &'static str {
        match self {
            LogitBias => "logit-bias",
            Penalties => "penalties",
            Dry => "dry",
            NoRepeatNgram => "no-repeat-ngram",
            BadWords => "bad-words",
            MinTokens => "min-tokens",
            Forced => "forced",
            Temperature => "temperature",
            TopK => "top-k",
            TopP => "top-p",
            MinP => "min-p",
            Typical => "typical",
            Epsilon => "epsilon",
            Eta => "eta",
            TopNSigma => "top-n-sigma",
            Xtc => "xtc",
            Mirostat => "mirostat",
        }
    }

    /// Whether it makes the law, rather than changing how the law is sampled.
    pub fn makes_law(self) -> bool {
        matches!(self, LogitBias | Penalties | Dry | NoRepeatNgram | BadWords | MinTokens | Forced)
    }

    fn parse(name: &str) -> Option<Self> {
        let name = name.trim().replace('_', "-").to_lowercase();
        let known = match &name[..] {
            "temp" | "dynatemp" => "temperature",
            "typ-p" | "typical-p" => "typical",
            "min-length" => "min-tokens",
            name => name,
        };
        Self::ALL.into_iter().find(|stage| stage.name() == known)
    }
}

/// The order in which the stages of a [`Sampler`](crate::Sampler) run.
///
/// Stages that make the law come before those that change how it is sampled, because deferral rules look at the
/// law alone. Processors of the user's own run between the two.
///
/// ```
/// use drafthorse_logits::Order;
///
/// let order: Order = "penalties,top-k,top-p,temperature".parse()?;
/// assert_eq!(order.to_string(), "penalties,top-k,top-p,temperature");
/// assert!("top-k,penalties".parse::<Order>().is_err());
/// assert_eq!("llama.cpp".parse::<Order>()?, Order::llama_cpp());
/// # Ok::<(), drafthorse_logits::LogitsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order(Vec<Stage>);

impl Order {
    /// The names of the orders that come ready.
    pub const PRESETS: [&'static str; 3] = ["hf", "llama.cpp", "vllm"];

    /// As in Hugging Face transformers: temperature first. What is not there comes last.
    pub fn hf() -> Self {
        let law = [LogitBias, Penalties, Dry, NoRepeatNgram, BadWords, MinTokens, Forced];
        let warp = [Temperature, TopK, TopP, MinP, Typical, Epsilon, Eta, TopNSigma, Xtc, Mirostat];
        Self([&law[..], &warp[..]].concat())
    }

    /// As in llama.cpp: temperature after all that excludes tokens. (Epsilon and eta are not there.)
    pub fn llama_cpp() -> Self {
        let law = [LogitBias, NoRepeatNgram, BadWords, MinTokens, Penalties, Dry, Forced];
        let warp = [TopNSigma, TopK, Typical, TopP, MinP, Epsilon, Eta, Xtc, Temperature, Mirostat];
        Self([&law[..], &warp[..]].concat())
    }

    /// As in vLLM: temperature, min-p, then top-k and top-p. What is not there comes last.
    pub fn vllm() -> Self {
        let law = [NoRepeatNgram, BadWords, MinTokens, LogitBias, Penalties, Dry, Forced];
        let warp = [Temperature, MinP, TopK, TopP, Typical, Epsilon, Eta, TopNSigma, Xtc, Mirostat];
        Self([&law[..], &warp[..]].concat())
    }

    /// An order of one's own.
    ///
    /// # Errors
    ///
    /// [`LogitsError::Order`]: a stage stands in it twice, or one that makes the law after one that changes how it
    /// is sampled.
    pub fn new(stages: Vec<Stage>) -> Result<Self, LogitsError> {
        for (index, stage) in stages.iter().enumerate() {
            let name = stage.name();
            if stages[..index].contains(stage) {
                return Err(LogitsError::Order(format!("stage `{name}` stands in it twice; name it once")));
            }
            if let Some(warp) = stages[..index].iter().find(|before| stage.makes_law() && !before.makes_law())
            {
                let warp = warp.name();
                return Err(LogitsError::Order(format!(
                    "stage `{name}` makes the law and stands after `{warp}`, which changes how it is sampled; put `{name}` first"
                )));
            }
        }
        Ok(Self(stages))
    }

    /// The stages, the first to run first.
    pub fn stages(&self) -> &[Stage] {
        &self.0
    }
}

impl Default for Order {
    /// That of Hugging Face transformers.
    fn default() -> Self {
        Self::hf()
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|stage| stage.name()).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Order {
    type Err = LogitsError;

    /// A preset by its name, or stages by theirs, separated by commas or semicolons; `_` is the same as `-`.
    fn from_str(text: &str) -> Result<Self, LogitsError> {
        match text {
            "hf" | "transformers" => return Ok(Self::hf()),
            "llama.cpp" | "llama" => return Ok(Self::llama_cpp()),
            "vllm" => return Ok(Self::vllm()),
            _ => {}
        }
        if text.trim_matches([',', ';', ' ']).is_empty() {
            let message = format!("no stage is named; there are the orders {}", Self::PRESETS.join(", "));
            return Err(LogitsError::Order(message));
        }
        let stage = |name: &str| {
            Stage::parse(name).ok_or_else(|| {
                let known: Vec<_> = Stage::ALL.iter().map(|stage| stage.name()).collect();
                LogitsError::Order(format!(
                    "`{name}` is no stage; there are {}, and the orders {}",
                    known.join(", "),
                    Self::PRESETS.join(", ")
                ))
            })
        };
        let names = text.split([',', ';']).filter(|name| !name.trim().is_empty());
        Self::new(names.map(stage).collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_hold_every_stage_and_keep_the_rule() {
        for name in Order::PRESETS {
            let order: Order = name.parse().expect("a preset");
            assert_eq!(Order::new(order.stages().to_vec()), Ok(order.clone()), "{name}");
            assert!(Stage::ALL.iter().all(|stage| order.stages().contains(stage)), "{name}");
            assert_eq!(order.to_string().parse(), Ok(order), "{name}");
        }
    }

    #[test]
    fn names_of_peers_are_understood() {
        let order: Order =
            "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temp".parse().expect("names");
        let own = "penalties,dry,top-n-sigma,top-k,typical,top-p,min-p,xtc,temperature";
        assert_eq!(order.to_string(), own);
    }

    #[test]
    fn wrong_orders_say_what_is_wrong() {
        let wrong = |text: &str| text.parse::<Order>().expect_err("a wrong order").to_string();
        assert_eq!(wrong("top-k,top-k"), "order of sampling: stage `top-k` stands in it twice; name it once");
        assert!(wrong(" ,").contains("no stage is named"));
        assert!(wrong("temperature,dry").contains("`dry` makes the law and stands after `temperature`"));
        assert!(wrong("topk").contains("`topk` is no stage; there are logit-bias, penalties"));
    }
}
