use crate::{AcceptanceRule, Kind, Needs, RuleInfo, ratio};
use drafthorse_logits::{Probs, Scores, TokenId};
use std::{borrow::Cow, sync::Arc};

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

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "lossless",
    kind: Kind::Lossless,
    about: "the expert's distribution, by rejection sampling",
    dials: &[],
    make: |_| Arc::new(Lossless),
};

impl AcceptanceRule for Lossless {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn target<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(expert.probs())
    }

    fn kind(&self) -> Kind {
        INFO.kind
    }

    fn acceptance(&self, token: TokenId, draft: &Scores, expert: &Scores) -> f64 {
        ratio(expert.prob(token), draft.prob(token))
    }

    fn needs(&self) -> Needs {
        Needs::Coupling
    }
}
