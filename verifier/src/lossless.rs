use crate::{AcceptanceRule, Needs};
use drafthorse_logits::{Probs, Scores};
use std::borrow::Cow;

/// Speculative sampling: the text follows the expert's distribution exactly, whatever the drafter.
///
/// * Law: the expert's distribution p, after temperature and truncation.
/// * A drafted token x is kept with probability `min(1, p(x) / q(x))`, otherwise replaced from
///   `norm(max(0, p - q))`.
/// * At temperature 0 it keeps what the expert would have said.
///
/// Source: Leviathan, Kalman, Matias, "Fast Inference from Transformers via Speculative Decoding", 2023,
/// Algorithm 1; Chen et al., "Accelerating Large Language Model Decoding with Speculative Sampling", 2023.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lossless;

impl AcceptanceRule for Lossless {
    fn name(&self) -> &'static str {
        "lossless"
    }

    fn target<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(expert.probs())
    }

    fn is_lossless(&self) -> bool {
        true
    }

    fn needs(&self) -> Needs {
        Needs::Coupling
    }
}
