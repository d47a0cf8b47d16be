use drafthorse_logits::{Draws, Probs, Purpose, TokenId};

/// Draws from `target` given a `token` drawn from `draft`, keeping it as often as possible: `Ok` if it
/// stands, `Err` with its replacement.
///
/// The token stands with probability `min(1, target / draft)` at it, and is otherwise replaced from the
/// residual distribution. If `token` follows `draft`, the result follows `target` exactly, and it is
/// refused with probability `TV(target, draft)`, the least possible (maximal coupling).
///
/// # Errors
///
/// The replacement.
///
/// Source: Leviathan et al., 2023, Algorithm 1; Narasimhan et al., 2025, Algorithm 4 for any target.
pub fn couple(
    token: TokenId,
    draft: &Probs,
    target: &Probs,
    position: usize,
    draws: &mut dyn Draws,
) -> Result<(), TokenId> {
    let stands = ratio(target.get(token), draft.get(token));
    // A ratio of 1 or more needs no coin.
    if stands >= 1.0 || draws.accept(position, stands) {
        return Ok(());
    }
    Err(replacement(draft, target, position, draws))
}

/// `min(1, target / draft)`: how likely a drafted token stands.
pub(crate) fn ratio(target: f64, draft: f64) -> f64 {
    // What a drafter proposes has a probability above 0.
    if target < draft { target / draft } else { 1.0 }
}

/// What comes instead of a refused token.
pub(crate) fn replacement(draft: &Probs, target: &Probs, position: usize, draws: &mut dyn Draws) -> TokenId {
    // Without a residual the two are equal up to rounding, and the target itself is right.
    let residual = target.residual(draft);
    draws.pick(position, Purpose::Replacement, residual.as_ref().unwrap_or(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_logits::exact::{distance, outcomes};
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Distributions with zeros, equal ones, and nearly equal ones.
    fn pair() -> impl Strategy<Value = (Probs, Probs)> {
        let weight = || prop_oneof![2 => Just(0.0), 5 => 1e-6..1.0f64];
        (2usize..7)
            .prop_flat_map(move |n| {
                (prop::collection::vec(weight(), n), prop::collection::vec(weight(), n), 0..4, 1e-16..1e-9f64)
            })
            .prop_filter_map("no mass", |(q, p, kind, nudge)| {
                let p = match kind {
                    0 => q.clone(),
                    1 => q.iter().map(|w| w + nudge).collect(),
                    _ => p,
                };
                Some((Probs::normalize(q)?, Probs::normalize(p)?))
            })
    }

    /// The law of what comes out when a token is drawn from `draft` and handled by `handle`.
    fn law(draft: &Probs, handle: impl Fn(TokenId, &mut dyn Draws) -> TokenId) -> HashMap<TokenId, f64> {
        outcomes(|draws| {
            let token = draws.pick(0, Purpose::Draft, draft);
            handle(token, draws)
        })
    }

    fn as_law(probs: &Probs) -> HashMap<TokenId, f64> {
        (0..).zip(probs.to_vec()).collect()
    }

    proptest! {
        #[test]
        fn the_result_follows_the_target((q, pi) in pair()) {
            let law = law(&q, |x, draws| couple(x, &q, &pi, 0, draws).err().unwrap_or(x));
            prop_assert!(distance(&law, &as_law(&pi)) < 1e-9);
        }

        #[test]
        fn a_token_is_refused_as_seldom_as_possible((q, pi) in pair()) {
            let refused = outcomes(|draws| {
                let token = draws.pick(0, Purpose::Draft, &q);
                couple(token, &q, &pi, 0, draws).is_err()
            });
            let refused = refused.get(&true).copied().unwrap_or(0.0);
            prop_assert!((refused - pi.total_variation(&q)).abs() < 1e-9);
        }

        /// The same tests must reject what is wrong.
        #[test]
        fn wrong_couplings_are_found((q, pi) in pair().prop_filter("nearly equal", |(q, p)| p.total_variation(q) > 0.05)) {
            // The replacement drawn from the target instead of the residual.
            let no_residual = law(&q, |x, draws| match couple(x, &q, &pi, 0, draws) {
                Ok(()) => x,
                Err(_) => draws.pick(0, Purpose::Replacement, &pi),
            });
            // Both sides see a mass of TV come from p instead of from the residual.
            let residual = pi.residual(&q).unwrap();
            let expected = pi.total_variation(&q) * (0..pi.vocab_size() as TokenId)
                .map(|v| (residual.get(v) - pi.get(v)).abs()).fold(0.0, f64::max);
            prop_assert!((distance(&no_residual, &as_law(&pi)) - expected).abs() < 1e-9);
            prop_assert!(expected > 1e-6 || residual.total_variation(&pi) < 1e-4);
            // A token is always kept.
            prop_assert!(distance(&law(&q, |x, _| x), &as_law(&pi)) > 1e-3);
        }
    }
}
