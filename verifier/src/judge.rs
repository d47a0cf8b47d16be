use crate::{
    couple,
    round::{bonus, first_refused},
};
use drafthorse_logits::{Draws, Probs, Proposal, Purpose, Scores, Verdict};
use std::borrow::Cow;

/// Decides a round position by position: drafted tokens stand until the first that is refused; then comes
/// its replacement, or the bonus token after the last.
///
/// `target` states the law at a position from the drafter's and the expert's scores. `position` is that
/// of the first drafted token in the sequence.
///
/// # Shapes
///
/// `expert` has one row more than `proposal.tokens`. Where the proposal has a row of scores after its
/// last token the law of the bonus is `target` there, otherwise the expert's distribution.
///
/// # Panics
///
/// If `expert` or the proposal's scores have too few rows.
///
/// Source: Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, Algorithm 4 (with
/// `target` = the expert's distribution: Leviathan et al., 2023, Algorithm 1).
pub fn judge<'a>(
    proposal: &'a Proposal,
    expert: &'a [Scores],
    target: impl Fn(&'a Scores, &'a Scores) -> Cow<'a, Probs>,
    position: usize,
    draws: &mut dyn Draws,
) -> Verdict {
    let refused = first_refused(&proposal.tokens, |index, token| {
        let draft = &proposal.scores[index];
        couple(token, draft.probs(), &target(draft, &expert[index]), position + index, draws)
    });
    if let Some(verdict) = refused {
        return verdict;
    }
    let accepted = proposal.tokens.len();
    let last = &expert[accepted];
    let law = match proposal.scores.get(accepted) {
        Some(draft) => target(draft, last),
        None => Cow::Borrowed(last.probs()),
    };
    bonus(&proposal.tokens, draws.pick(position + accepted, Purpose::Target, &law))
}
