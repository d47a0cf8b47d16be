use crate::{AcceptanceRule, Kind, Needs, RuleError, RuleInfo, ratio, round::bonus};
use drafthorse_logits::{Draws, Origin, Probs, Proposal, Purpose, Scores, TokenId, Verdict};
use std::{borrow::Cow, sync::Arc};

/// Block verification: decides over the drafted tokens together, so that a likely token can make up for an
/// unlikely one before it.
///
/// * Law: the expert's distribution p, exactly.
/// * Accepts at least as many tokens as [`Lossless`](crate::Lossless) on average, and as many with one drafted
///   token or at temperature 0.
///
/// With `w_0 = 1` and `w_i = min(1, w_{i-1} p(x_i) / q(x_i))`, the first i tokens stand with probability `w_i`;
/// the rest is drawn from `norm(max(0, w_i p - q))`.
///
/// Source: Sun et al., "Block Verification Accelerates Speculative Decoding", 2025, Algorithm 2.
#[derive(Clone, Copy, Debug, Default)]
pub struct Block;

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "block",
    kind: Kind::Lossless,
    about: "the expert's distribution, by block verification: on average never fewer accepted tokens than lossless",
    dials: &[],
    make: |_| Arc::new(Block),
};

impl AcceptanceRule for Block {
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
        Needs::Sampled
    }

    fn check_trees(&self) -> Result<(), RuleError> {
        Err(RuleError::Trees { rule: INFO.name })
    }

    fn judge(
        &self,
        proposal: &Proposal,
        expert: &[Scores],
        position: usize,
        draws: &mut dyn Draws,
    ) -> Verdict {
        let (tokens, drafted) = (&proposal.tokens, proposal.tokens.len());
        // How many tokens stand, and the weight of the law after them.
        let (mut accepted, mut weight) = (0, 1.0);
        let mut running = 1.0f64;
        for (index, &token) in tokens.iter().enumerate() {
            let (draft, row) = (&proposal.scores[index], &expert[index]);
            running = (running * row.prob(token) / draft.prob(token)).min(1.0);
            if running <= 0.0 {
                break;
            }
            let stands = match proposal.scores.get(index + 1).filter(|_| index + 1 < drafted) {
                Some(next) => residual_share(running, next.probs(), expert[index + 1].probs()),
                None => running,
            };
            if stands >= 1.0 || draws.accept(position + index, stands) {
                (accepted, weight) = (index + 1, running);
            }
        }
        let last = expert[accepted].probs();
        let at = position + accepted;
        if accepted == drafted {
            return bonus(tokens, draws.pick(at, Purpose::Target, last));
        }
        let residual = weighted_residual(weight, proposal.scores[accepted].probs(), last);
        let next = draws.pick(at, Purpose::Replacement, residual.as_ref().unwrap_or(last));
        Verdict { accepted, next, origin: Origin::Replacement }
    }
}

/// `h = A / (A + 1 - w)` with `A = sum(max(0, w p - q))` at the next position: how likely the tokens so far
/// stand, given that they may.
fn residual_share(weight: f64, draft: &Probs, expert: &Probs) -> f64 {
    // With a weight of 1 the fraction is 1, also where nothing is left.
    if weight >= 1.0 {
        return 1.0;
    }
    let left = match (expert.as_point(), draft.as_point()) {
        (Some(token), _) => (weight - draft.get(token)).max(0.0),
        (None, Some(token)) => weight * (1.0 - expert.get(token)),
        (None, None) => expert.sum_with(draft, |p, q| (weight * p - q).max(0.0)),
    };
    left / (left + 1.0 - weight)
}

/// `norm(max(0, w p - q))`; `None` where nothing is left.
fn weighted_residual(weight: f64, draft: &Probs, expert: &Probs) -> Option<Probs> {
    if weight >= 1.0 || draft.as_point().is_some() || expert.as_point().is_some() {
        // Of a point only one side is left, and its weight does not matter.
        return expert.residual(draft);
    }
    let (p, q) = (expert.row(), draft.row());
    Probs::collect(p.len(), p.iter().zip(q.iter()).map(|(p, q)| (weight * p - q).max(0.0)))
}
