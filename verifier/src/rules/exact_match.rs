use crate::{AcceptanceRule, Kind, Needs, RuleInfo, round::match_draws, tree::match_tree};
use drafthorse_logits::{DraftTree, Draws, Probs, Proposal, Purpose, Scores, TokenId, TreeVerdict, Verdict};
use std::{borrow::Cow, sync::Arc};

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

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "exact-match",
    kind: Kind::Lossless,
    about: "the expert's distribution; a drafted token stands if the expert draws the same; one text a seed",
    dials: &[],
    make: |_| Arc::new(ExactMatch),
};

impl AcceptanceRule for ExactMatch {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn target<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(expert.probs())
    }

    fn kind(&self) -> Kind {
        INFO.kind
    }

    /// How likely the expert draws the same token.
    fn acceptance(&self, token: TokenId, _draft: &Scores, expert: &Scores) -> f64 {
        expert.prob(token)
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

    fn judge_tree(
        &self,
        tree: &DraftTree,
        expert: &[Scores],
        position: usize,
        draws: &mut dyn Draws,
    ) -> TreeVerdict {
        match_tree(tree, |point, depth| draws.pick(position + depth, Purpose::Target, expert[point].probs()))
    }
}
