use super::SequentialTest;
use crate::ratio;
use drafthorse_logits::{Branching, Draws, Probs, Purpose, TokenId};
use std::borrow::Cow;

/// Draws from `target` given several `tokens` that were proposed for one `position` from `draft`, keeping one of them
/// often: `Ok` with the index of the one that stands, `Err` with a token in their place.
///
/// If the tokens were proposed as `branching` says, the result follows `target` exactly:
///
/// * chosen tokens: each stands with the probability the target has left for it;
/// * drawn with replacement: each stands with `min(1, target / draft)`, and after each that does not the target is
///   `norm(max(0, target - draft))`;
/// * drawn without: the same, and the draft loses the token;
/// * sequential: see [`SequentialTest`].
///
/// With one drawn token all three are [`couple`](crate::couple).
///
/// # Errors
///
/// The token in their place, a bonus if there are no tokens.
///
/// Source: Miao et al., "`SpecInfer`", 2024, Algorithm 2 (with replacement); Chen et al., "Sequoia", 2024, Algorithm 2
/// (without); Li et al., "EAGLE-2", 2024 (chosen tokens).
pub fn couple_candidates(
    branching: Branching,
    tokens: &[TokenId],
    (draft, target): (&Probs, &Probs),
    position: usize,
    draws: &mut dyn Draws,
) -> Result<usize, TokenId> {
    let first = |token| ratio(target.get(token), draft.get(token));
    couple_point(Point { branching, tokens, draft, position }, first, || Cow::Borrowed(target), draws)
}

/// A position with what was proposed for it.
#[derive(Clone, Copy)]
pub(crate) struct Point<'a> {
    pub(crate) branching: Branching,
    pub(crate) tokens: &'a [TokenId],
    pub(crate) draft: &'a Probs,
    pub(crate) position: usize,
}

/// [`couple_candidates`], where `acceptance` says how likely the first of drawn tokens stands, and the target is made
/// only if that is not enough.
pub(crate) fn couple_point<'a>(
    point: Point<'_>,
    acceptance: impl FnOnce(TokenId) -> f64,
    target: impl FnOnce() -> Cow<'a, Probs>,
    draws: &mut dyn Draws,
) -> Result<usize, TokenId> {
    let Point { branching, tokens, draft, position } = point;
    let [first, ..] = tokens else { return Err(draws.pick(position, Purpose::Target, &target())) };
    if branching == Branching::Sequential {
        return SequentialTest::new(draft, &target(), tokens.len()).decide(tokens, position, draws);
    }
    if branching.is_drawn() && stands(acceptance(*first), position, 0, draws) {
        return Ok(0);
    }
    let mut rest = target();
    if !branching.is_drawn() && stands(rest.get(*first), position, 0, draws) {
        return Ok(0);
    }
    for candidate in 1..=tokens.len() {
        let (before, token) = (&tokens[..candidate], tokens.get(candidate));
        // The law by which the refused token was proposed. Without a residual the two are equal up to rounding, and
        // the target itself is right.
        if let Some(residual) = rest.residual(&law(point, &before[..candidate - 1])) {
            rest = Cow::Owned(residual);
        }
        let Some(&token) = token else { break };
        let draft = law(point, before);
        if stands(ratio(rest.get(token), draft.get(token)), position, candidate, draws) {
            return Ok(candidate);
        }
    }
    Err(draws.pick(position, Purpose::Replacement, &rest))
}

/// The law of the candidate after `before`, as far as it matters: of a chosen token it is certain.
fn law<'a>(point: Point<'a>, before: &[TokenId]) -> Cow<'a, Probs> {
    let Point { branching, tokens, draft, .. } = point;
    match (branching, before) {
        (Branching::TopChildren, _) => Cow::Owned(Probs::point(tokens[before.len()], draft.vocab_size())),
        (Branching::WithoutReplacement, [_, ..]) => {
            draft.without(before).map_or(Cow::Borrowed(draft), Cow::Owned)
        }
        _ => Cow::Borrowed(draft),
    }
}

/// Tosses the coin of a candidate, if one is needed.
pub(crate) fn stands(probability: f64, position: usize, candidate: usize, draws: &mut dyn Draws) -> bool {
    probability >= 1.0 || draws.accept_candidate(position, candidate, probability)
}
