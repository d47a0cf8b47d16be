use crate::{AcceptanceRule, Kind, Needs, RuleInfo, round::match_draws, tree::match_tree};
use drafthorse_logits::{DraftTree, Draws, Probs, Proposal, Scores, TreeVerdict, Verdict};
use std::{borrow::Cow, sync::Arc};

/// Coupled noise: drafter and expert each draw by the same noise, a function of seed and position; the drafted
/// token stands if the expert draws the same.
///
/// * Law: the expert's distribution p, exactly.
/// * The same seed gives the same text with any drafter, any draft length, and with none, at any temperature.
/// * A drafted token stands with probability `sum_v 1 / sum_u max(p_u / p_v, q_u / q_v)`, which is between
///   `(1 - TV) / (1 + TV)` and `1 - TV`: less than [`Lossless`](crate::Lossless), more than
///   [`ExactMatch`](crate::ExactMatch).
///
/// Source: Daliri, Musco, Suresh, "Coupling without Communication and Drafter-Invariant Speculative Decoding",
/// 2024.
#[derive(Clone, Copy, Debug, Default)]
pub struct CoupledNoise;

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "coupled-noise",
    kind: Kind::Lossless,
    about: "the expert's distribution, drawn by the noise the drafter drew by; one text a seed",
    dials: &[],
    make: |_| Arc::new(CoupledNoise),
};

impl AcceptanceRule for CoupledNoise {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn target<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(expert.probs())
    }

    fn kind(&self) -> Kind {
        INFO.kind
    }

    fn shares_noise(&self) -> bool {
        true
    }

    fn needs(&self) -> Needs {
        Needs::Sampled
    }

    fn judge(
        &self,
        proposal: &Proposal,
        expert: &[Scores],
        position: usize,
        draws: &mut dyn Draws,
    ) -> Verdict {
        match_draws(&proposal.tokens, |index| draws.race(position + index, expert[index].probs()))
    }

    fn judge_tree(
        &self,
        tree: &DraftTree,
        expert: &[Scores],
        position: usize,
        draws: &mut dyn Draws,
    ) -> TreeVerdict {
        match_tree(tree, |point, depth| draws.race(position + depth, expert[point].probs()))
    }
}
