//! Which outcomes of a verification are worth a draft.

use drafthorse_drafter::DraftRequest;
use drafthorse_logits::{Proposal, Scores, TokenId, Verdict, largest};

/// How fast the rest that no prepared token covers is taken to shrink with their number: `F^-s`.
const EXPONENT: f64 = 1.0;

/// No expert takes so long that more drafts could be made.
const MOST: usize = 1000;

/// A way in which a verification can turn out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outcome {
    /// So many drafted tokens stand.
    pub(super) accepted: usize,
    /// This one follows them.
    pub(super) token: TokenId,
    /// How likely that is.
    pub(super) probability: f64,
}

/// All that is known of how the verification of a proposal may turn out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcomes {
    /// The likely ones in which a token is refused, and those after the last token where its row is there.
    pub(super) known: Vec<Outcome>,
    /// Where the row after the last token is not there: how many outcomes it shall add.
    pub(super) more: usize,
    /// How likely all tokens are to stand.
    pub(super) all: f64,
}

impl Outcomes {
    /// Up to `budget` outcomes for a proposal whose tokens stand with probability `rate` each.
    pub(super) fn of(proposal: &Proposal, rate: f64, budget: usize) -> Self {
        let k = proposal.tokens.len();
        let budget = budget.min(MOST);
        let counts = whole(&fan_out(rate, k, budget as f64, EXPONENT), budget);
        let mut known = Vec::new();
        for (accepted, (&token, scores)) in proposal.tokens.iter().zip(&proposal.scores).enumerate() {
            let reached = power(rate, accepted) * (1.0 - rate);
            known.extend(likely(scores, Some(token), counts[accepted], accepted, reached));
        }
        let all = power(rate, k);
        let Some(after) = proposal.scores.get(k) else { return Self { known, more: counts[k], all } };
        known.extend(likely(after, None, counts[k], k, all));
        Self { known, more: 0, all }
    }

    /// Adds those after the last of `k` tokens, whose row is there now.
    pub(super) fn add_after(&mut self, k: usize, after: &Scores) {
        self.known.extend(likely(after, None, self.more, k, self.all));
        self.more = 0;
    }

    /// The likeliest first; among equals the one after more tokens, which are read already.
    pub(super) fn in_order(mut self) -> Vec<Outcome> {
        let order = |a: &Outcome, b: &Outcome| {
            b.probability.total_cmp(&a.probability).then(b.accepted.cmp(&a.accepted))
        };
        self.known.sort_by(order);
        self.known
    }
}

/// The `count` likeliest tokens at a position. A refused one does not come again; a point mass says nothing of the others,
/// and the distribution before it became one does.
fn likely(
    scores: &Scores,
    refused: Option<TokenId>,
    count: usize,
    accepted: usize,
    reached: f64,
) -> impl Iterator<Item = Outcome> {
    let probs = if scores.probs().as_point().is_some() { scores.raw() } else { scores.probs() };
    let best = match (count, probs.as_slice()) {
        (0, _) => Vec::new(),
        (_, Some(row)) => largest(row, count + usize::from(refused.is_some())),
        (_, None) => probs.as_point().map(|token| (token, 1.0)).into_iter().collect(),
    };
    let rest = refused.map_or(1.0, |token| 1.0 - probs.get(token)).max(f64::MIN_POSITIVE);
    let possible = best.into_iter().filter(move |&(token, p)| p > 0.0 && Some(token) != refused);
    possible.take(count).map(move |(token, p)| Outcome { accepted, token, probability: reached * p / rest })
}

/// How many tokens to be ready for after 0, 1, .., `k` accepted ones, `budget` in all, so that the one that comes is among
/// them as often as possible.
///
/// Source: Kumar, Dao, May, "Speculative Speculative Decoding", 2026: the capped geometric fan-out.
fn fan_out(acceptance_rate: f64, k: usize, budget: f64, exponent: f64) -> Vec<f64> {
    let a = acceptance_rate;
    let reached = (0..=k).map(|n| if n < k { power(a, n) * (1.0 - a) } else { power(a, k) });
    let weights: Vec<f64> = reached.map(|p| p.powf(1.0 / (1.0 + exponent))).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| budget * weight / sum).collect()
}

/// The nearest whole numbers with the same sum: those that lose most by cutting are raised first.
fn whole(shares: &[f64], sum: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = shares.iter().map(|share| share.floor() as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|&a, &b| shares[b].fract().total_cmp(&shares[a].fract()).then(b.cmp(&a)));
    let missing = sum.saturating_sub(counts.iter().sum());
    order.into_iter().take(missing).for_each(|at| counts[at] += 1);
    counts
}

fn power(base: f64, exponent: usize) -> f64 {
    base.powi(i32::try_from(exponent).unwrap_or(i32::MAX))
}

/// How likely a drafted token is to stand, from those that were looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acceptance {
    accepted: f64,
    examined: f64,
}

impl Acceptance {
    /// What is believed before anything was looked at, which weighs as much as ten tokens.
    pub(super) const NEW: Self = Self { accepted: 7.0, examined: 10.0 };

    /// About as many tokens are remembered.
    const MEMORY: f64 = 200.0;

    pub(super) fn learn(&mut self, verdict: &Verdict) {
        self.accepted += verdict.accepted as f64;
        self.examined += verdict.examined() as f64;
        if self.examined > Self::MEMORY {
            self.accepted /= 2.0;
            self.examined /= 2.0;
        }
    }

    /// Never quite 0 or 1.
    pub(super) fn rate(&self) -> f64 {
        (self.accepted / self.examined).clamp(0.02, 0.98)
    }
}

/// How many tokens to draft for an outcome: as many as may be asked for, or as many as there were where a rule ends drafts.
pub(super) fn length(request: &DraftRequest<'_>, proposal: &Proposal) -> usize {
    if request.stop.is_some() { proposal.tokens.len().clamp(1, request.max.max(1)) } else { request.max }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_logits::{Origin, Probs};
    use proptest::prelude::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        fan_out: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        acceptance_rate: f64,
        k: usize,
        budget: f64,
        exponent: f64,
        fan_out: Vec<f64>,
    }

    #[test]
    fn the_fan_out_is_the_golden_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../reference/golden/golden.toml");
        let golden: Golden = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(!golden.fan_out.is_empty());
        for case in golden.fan_out {
            let off = |rate| {
                let found = fan_out(rate, case.k, case.budget, case.exponent);
                assert_eq!(found.len(), case.fan_out.len());
                found.iter().zip(&case.fan_out).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
            };
            assert!(off(case.acceptance_rate) < 1e-12);
            assert!(off(case.acceptance_rate - 0.01) > 1e-3, "another rate is seen");
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_are_near_and_add_up(rate in 0.02..0.98f64, k in 0usize..9, budget in 0usize..30) {
            let shares = fan_out(rate, k, budget as f64, EXPONENT);
            let counts = whole(&shares, budget);
            prop_assert_eq!(counts.iter().sum::<usize>(), budget);
            prop_assert!(shares.iter().zip(&counts).all(|(share, &count)| (share - count as f64).abs() < 1.0));
        }
    }

    fn scores(row: &[f64]) -> Scores {
        let probs = Probs::normalize(row.to_vec()).unwrap();
        Scores::from_probs(probs.clone(), probs)
    }

    #[test]
    fn the_likeliest_come_first_and_refused_tokens_never() {
        let rows = [scores(&[0.1, 0.6, 0.3]), scores(&[0.5, 0.2, 0.3]), scores(&[0.2, 0.1, 0.7])];
        let proposal = Proposal { tokens: vec![1, 0], scores: rows.to_vec() };
        let outcomes = Outcomes::of(&proposal, 0.8, 5).in_order();
        assert_eq!((outcomes[0].accepted, outcomes[0].token), (2, 2));
        assert!((outcomes[0].probability - 0.64 * 0.7).abs() < 1e-12);
        assert_eq!(outcomes.len(), 5);
        assert!(outcomes.is_sorted_by(|a, b| a.probability >= b.probability));
        assert!(!outcomes.iter().any(|o| o.accepted < 2 && o.token == proposal.tokens[o.accepted]));
        // Without the last row the same outcomes come later.
        let open = Proposal { scores: rows[..2].to_vec(), ..proposal.clone() };
        let mut later = Outcomes::of(&open, 0.8, 5);
        assert!(later.more > 0 && later.known.iter().all(|outcome| outcome.accepted < 2));
        later.add_after(2, &rows[2]);
        assert_eq!(later.in_order(), outcomes);
    }

    #[test]
    fn no_number_is_too_large() {
        let rows = vec![scores(&[0.1, 0.6, 0.3]); 2];
        let proposal = Proposal { tokens: vec![1], scores: rows };
        assert_eq!(Outcomes::of(&proposal, 0.5, usize::MAX).in_order().len(), 5, "two tokens, or three");
        assert!(Outcomes::of(&proposal, 0.5, 0).in_order().is_empty());
    }

    #[test]
    fn a_point_mass_is_seen_through() {
        let raw = Probs::normalize(vec![0.6, 0.1, 0.3]).unwrap();
        let row = Scores::from_probs(raw, Probs::point(0, 3));
        let found: Vec<_> = likely(&row, Some(0), 2, 0, 1.0).map(|o| (o.token, o.probability)).collect();
        assert_eq!(found.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [2, 1]);
        assert!((found[0].1 - 0.75).abs() < 1e-12);
        assert_eq!(likely(&Scores::point(1, 3), Some(1), 2, 0, 1.0).count(), 0, "nothing is known");
        assert_eq!(likely(&Scores::point(1, 3), None, 2, 0, 1.0).next().map(|o| o.token), Some(1));
    }

    #[test]
    fn the_rate_follows_what_stands() {
        let mut acceptance = Acceptance::NEW;
        assert!((acceptance.rate() - 0.7).abs() < 1e-12);
        for _ in 0..300 {
            acceptance.learn(&Verdict { accepted: 1, next: 0, origin: Origin::Replacement });
        }
        assert!((acceptance.rate() - 0.5).abs() < 0.01);
    }
}
