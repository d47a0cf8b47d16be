use crate::{AcceptanceRule, Needs, round::match_draws};
use drafthorse_logits::{Draws, Probs, Proposal, Purpose, Scores, Verdict};
use std::borrow::Cow;

/// Exact match: at each position a token is drawn from the expert, and the drafted one stands if it is
/// the same.
///
/// * Law: the expert's distribution p, exactly.
/// * Accepts less than [`Lossless`](crate::Lossless) at temperature above 0 (`sum(p q)` instead of
///   `sum(min(p, q))` for a sampled draft), but the draws are keyed by position alone: the same seed
///   gives the same text with any drafter, any draft length, and with none.
/// * At temperature 0 the two are the same.
///
/// Source: the "sampler match" of llama.cpp and of transformers' prompt lookup; Leviathan et al., 2023,
/// for temperature 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExactMatch;

impl AcceptanceRule for ExactMatch {
    fn name(&self) -> &'static str {
        "exact-match"
    }

    fn target<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(expert.probs())
    }

    fn is_lossless(&self) -> bool {
        true
    }

    fn needs(&self) -> Needs {
        Needs::Draw
    }

    fn judge(
        &self,
        proposal: &Proposal,
        expert: &[Scores],
        position: usize,
        draws: &mut dyn Draws,
    ) -> Verdict {
        let draw = |index: usize| draws.pick(position + index, Purpose::Target, expert[index].probs());
        match_draws(&proposal.tokens, draw)
    }
}
