//! How many tokens are drafted a round.

mod acceptance;
mod account;
mod adaptive;
#[cfg(test)]
mod clocked;
mod controller;
mod costs;
mod gauge;
mod learning;
mod marginal;
mod report;
mod rules;
#[cfg(test)]
mod simulate;
mod store;
mod text;
mod trees;

pub use adaptive::Adaptive;
pub(crate) use controller::{Controller, Plan, Rows, Why};
pub use costs::DraftCosts;
pub(crate) use costs::Times;
pub(crate) use learning::Outcome;
pub use report::{Speculation, Standing};
pub(crate) use store::{Bounds, Learnt, Way};
pub use text::DraftLengthError;
pub(crate) use trees::{Choices, TreeOutcome};

use drafthorse_drafter::StopRule;
use rules::{Uncertain, Unsure};
use std::sync::Arc;

/// How many tokens are drafted a round.
///
/// As text it is `4`, `auto`, `confidence:0.4` or `entropy:0.3`; all but the first take `,max=N` behind them.
///
/// Whatever it is, the law of the text is the same: whether a token is proposed never depends on that token.
///
/// ```
/// use drafthorse_engine::DraftLength;
///
/// let length: DraftLength = "confidence:0.4,max=8".parse()?;
/// assert_eq!(length, DraftLength::Confidence { threshold: 0.4, max: 8 });
/// assert_eq!(length.to_string(), "confidence:0.4,max=8");
/// assert_eq!(DraftLength::from(3), DraftLength::Fixed(3));
/// # Ok::<(), drafthorse_engine::DraftLengthError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DraftLength {
    /// So many; 0 is plain decoding.
    Fixed(usize),
    /// Until the drafter is not sure: a draft ends with a token where the drafter's highest probability, at temperature
    /// one, was below `threshold`. llama.cpp calls it `p-min` and leaves that token out, which would bend the law of
    /// sampled drafts; Hugging Face calls it `assistant_confidence_threshold`.
    Confidence {
        /// From 0 to 1. 0 never ends a draft.
        threshold: f64,
        /// The most tokens.
        max: usize,
    },
    /// Until the drafter is not sure: a draft ends with a token where `sqrt(0.15 H)` was above `threshold`, `H` being
    /// the entropy of what the drafter samples from, at temperature 1, in nats.
    ///
    /// Source: Zhang et al., "Draft Model Knows When to Stop: Self-Verification Length Policy" (SVIP), 2024, with .3.
    /// The criterion of `AdaEDL` (Agrawal et al., 2024), `1 - sqrt(0.2 H) < lambda`, is a threshold of
    /// `sqrt(0.75) (1 - lambda)`.
    Entropy {
        /// Not negative.
        threshold: f64,
        /// The most tokens.
        max: usize,
    },
    /// As many as pay on this machine, with this drafter and this text; none where none do.
    Adaptive(Adaptive),
}

impl Default for DraftLength {
    fn default() -> Self {
        Self::Adaptive(Adaptive::default())
    }
}

impl From<usize> for DraftLength {
    fn from(tokens: usize) -> Self {
        Self::Fixed(tokens)
    }
}

impl From<Adaptive> for DraftLength {
    fn from(adaptive: Adaptive) -> Self {
        Self::Adaptive(adaptive)
    }
}

impl DraftLength {
    /// The most tokens of a round.
    pub fn max(&self) -> usize {
        match self {
            Self::Fixed(max) | Self::Confidence { max, .. } | Self::Entropy { max, .. } => *max,
            Self::Adaptive(adaptive) => adaptive.max,
        }
    }

    /// How many tokens a round drafts if nothing ends it before, for which contexts must have room; what learns goes
    /// by the room there is.
    pub(crate) fn promised(&self) -> usize {
        match self {
            Self::Adaptive(_) => 0,
            _ => self.max(),
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// A threshold out of range, or a most of 0, which would be [`Fixed`](Self::Fixed).
    pub fn check(&self) -> Result<(), DraftLengthError> {
        let (name, threshold, range) = match self {
            Self::Fixed(_) => return Ok(()),
            Self::Confidence { threshold, .. } => ("confidence", *threshold, 0.0..=1.0),
            Self::Entropy { threshold, .. } => ("entropy", *threshold, 0.0..=f64::MAX),
            Self::Adaptive(adaptive) => {
                adaptive.check()?;
                ("auto", 0.0, 0.0..=1.0)
            }
        };
        if !range.contains(&threshold) {
            return Err(DraftLengthError::Threshold { name, threshold });
        }
        if self.max() == 0 { Err(DraftLengthError::NoTokens { name }) } else { Ok(()) }
    }

    /// How many tokens of a draft that is there at once are verified, by the confidences in them.
    pub(crate) fn cut(&self, confidences: &[f64]) -> usize {
        let Self::Confidence { threshold, .. } = self else { return confidences.len() };
        let unsure = confidences.iter().position(|confidence| confidence < threshold);
        unsure.map_or(confidences.len(), |last| last + 1)
    }

    /// What ends drafts before their greatest length.
    fn stop_rule(&self) -> Option<Arc<dyn StopRule>> {
        match *self {
            Self::Fixed(_) | Self::Adaptive(_) => None,
            Self::Confidence { threshold, .. } => Some(Arc::new(Unsure { threshold })),
            Self::Entropy { threshold, .. } => Some(Arc::new(Uncertain { threshold })),
        }
    }
}
