use crate::{
    AcceptanceRule,
    couple::replacement,
    round::{bonus, first_refused},
};
use drafthorse_logits::{Draws, Proposal, Purpose, Scores, Verdict};

/// Decides a round position by position: drafted tokens stand until the first that is refused; then comes
/// its replacement, or the bonus token after the last. `position` is that of the first drafted token in the
/// sequence.
///
/// This is [`couple`](crate::couple) at each position, with the whole law only where a token is replaced: no
/// row is looked at beyond the first refusal.
///
/// # Shapes
///
/// `expert` has one row more than `proposal.tokens`. Where the proposal has a row of scores after its
/// last token the law of the bonus is the rule's target there, otherwise its law
/// [without a draft](AcceptanceRule::undrafted), mostly the expert's.
///
/// # Panics
///
/// If `expert` or the proposal's scores have too few rows.
///
/// Source: Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, Algorithm 4 (with the
/// expert's distribution as target: Leviathan et al., 2023, Algorithm 1).
pub fn judge<R: AcceptanceRule + ?Sized>(
    rule: &R,
    proposal: &Proposal,
    expert: &[Scores],
    position: usize,
    draws: &mut dyn Draws,
) -> Verdict {
    let refused = first_refused(&proposal.tokens, |index, token| {
        let (draft, expert, position) = (&proposal.scores[index], &expert[index], position + index);
        let stands = rule.acceptance(token, draft, expert);
        if stands >= 1.0 || draws.accept(position, stands) {
            return Ok(());
        }
        Err(replacement(draft.probs(), &rule.target(draft, expert), position, draws))
    });
    if let Some(verdict) = refused {
        return verdict;
    }
    let accepted = proposal.tokens.len();
    let last = &expert[accepted];
    let mut pick = |law| draws.pick(position + accepted, Purpose::Target, law);
    let next = match proposal.scores.get(accepted) {
        Some(draft) => pick(&rule.target(draft, last)),
        None => pick(&rule.undrafted(last)),
    };
    bonus(&proposal.tokens, next)
}
