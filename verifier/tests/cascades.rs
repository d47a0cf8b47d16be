//! What the papers prove of deferral and rejection.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    BINARY, Pair, decisions, deferral, given, open_pair, pair, rejection, row, rows, rule, two_rows,
};
use drafthorse_logits::{Probs, Scores};
use drafthorse_verifier::{AcceptanceRule, KeepRule, Kept, RULES};
use proptest::{prelude::*, strategy::ValueTree};

/// Lemma 3: a binary cascade refuses where it defers, and there as often as the two differ.
fn refuses_where_it_defers(rule: &dyn AcceptanceRule, pair: &Pair) -> bool {
    let expected = deferral(rule, pair) * pair.p().total_variation(pair.q());
    (rejection(rule, pair) - expected).abs() < 1e-9
}

/// Whether deferral falls, or stays, as the dial rises.
fn falls(name: &str, dials: &[f64], pair: &Pair) -> bool {
    let rates: Vec<f64> = dials.iter().map(|&dial| deferral(&*rule(name, dial), pair)).collect();
    rates.is_sorted_by(|a, b| *a >= b - 1e-12)
}

/// Dials of a rule from strict to lenient, with those at which this pair changes sides.
fn ladder(name: &str, pair: &Pair) -> Vec<f64> {
    let (q, p) = (&pair.draft, &pair.expert);
    let edges = [
        1.0 - q.raw_max(),
        p.raw_max() - q.raw_max(),
        q.raw_entropy(),
        q.raw_entropy() - p.raw_entropy(),
        (p.raw_max() - q.raw_max()) / pair.p().total_variation(pair.q()),
        (q.raw_entropy() - p.raw_entropy()) / pair.p().total_variation(pair.q()),
    ];
    let dial = RULES.iter().find(|info| info.name == name).unwrap().dials[0];
    let around = edges.iter().filter(|x| x.is_finite()).flat_map(|x| [x - 1e-6, *x, x + 1e-6]);
    let mut dials: Vec<f64> = around.chain(dial.sweep.iter().copied()).collect();
    dials.retain(|x| (dial.low..=dial.high).contains(x));
    dials.sort_by(f64::total_cmp);
    dials
}

proptest! {
    #[test]
    fn rejection_is_deferral_times_distance(pair in pair(), step in 0usize..1000) {
        for name in BINARY {
            let dials = ladder(name, &pair);
            let rule = rule(name, dials[step % dials.len()]);
            prop_assert!(refuses_where_it_defers(&*rule, &pair), "{name}");
        }
    }

    /// For Chow and Diff, and for a fixed pair for OPT too.
    #[test]
    fn deferral_falls_as_lenience_rises(pair in pair()) {
        for name in BINARY {
            prop_assert!(falls(name, &ladder(name, &pair), &pair), "{name}");
        }
        for name in ["cascade-token-v1", "cascade-token-v2", "cascade-token-v3"] {
            prop_assert!(falls(name, &ladder(name, &pair), &pair), "{name}: more tokens are kept");
        }
    }

    /// Both sides alike: whatever a binary cascade decides, nothing is refused.
    #[test]
    fn binary_cascades_refuse_nothing_where_both_agree(row in row(5), dial in 0.0..1.0f64) {
        let pair = rows(&row, &row, 0.7, 1.0);
        for name in BINARY {
            prop_assert!(rejection(&*rule(name, dial), &pair) < 1e-12, "{name}");
        }
    }

    /// Decisions look at unscaled distributions, so the temperature does not move them.
    #[test]
    fn decisions_do_not_depend_on_the_temperature((q, p) in two_rows(), step in 0usize..1000) {
        let [cold, cool, warm] = [0.0, 0.2, 1.0].map(|t| rows(&q, &p, t, 1.0));
        let same = |rule: &dyn AcceptanceRule| {
            let warm = decisions(rule, &warm);
            decisions(rule, &cool) == warm && decisions(rule, &cold) == warm
        };
        let unscaled = RULES.iter().filter(|info| {
            info.with(&[]).unwrap().deferral(0, &warm.draft, &warm.expert).is_some() && !scaled(info.name)
        });
        for info in unscaled {
            let sweep = info.dials[0].sweep;
            let rule = rule(info.name, sweep[step % sweep.len()]);
            prop_assert!(same(&*rule), "{}", info.name);
        }
    }
}

/// OPT's distance is that of what is sampled; typical acceptance is about what is sampled altogether.
fn scaled(name: &str) -> bool {
    ["cascade-opt", "cascade-opt-log", "typical"].contains(&name)
}

/// The control of the test above, and the reason for its exceptions.
#[test]
fn distances_do_depend_on_the_temperature() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut moved = [0; 3];
    for _ in 0..500 {
        let (q, p) = two_rows().new_tree(&mut runner).unwrap().current();
        let [cool, warm] = [0.2, 1.0].map(|t| rows(&q, &p, t, 1.0));
        for (n, (name, dial)) in
            [("cascade-opt", 0.5), ("cascade-opt-log", 1.0), ("typical", 0.2)].iter().enumerate()
        {
            let rule = rule(name, *dial);
            moved[n] += usize::from(decisions(&*rule, &cool) != decisions(&*rule, &warm));
        }
    }
    assert!(moved.iter().all(|n| *n > 5), "{moved:?}");
}

/// Chow's rule the wrong way round: it asks where the drafter is sure.
struct Backwards(f64);

impl KeepRule for Backwards {
    fn name(&self) -> &'static str {
        "backwards"
    }

    fn kept<'a>(&self, draft: &'a Scores, _: &'a Scores) -> Kept<'a> {
        if draft.raw_max() < self.0 { Kept::All } else { Kept::Nothing }
    }
}

#[test]
fn wrong_deferrals_are_found() {
    let pair = given(&[0.5, 0.3, 0.2], &[0.2, 0.2, 0.6]);
    let asks = |confidence| deferral(&Backwards(confidence), &pair);
    assert!((asks(0.4), asks(0.6)) == (1.0, 0.0), "it falls with confidence, and so rises with lenience");
    assert!(!falls("cascade-chow", &[0.9, 0.1], &pair), "a ladder in the wrong order is seen");
    // A token rule is not binary: Lemma 3 does not hold for it.
    assert!(!refuses_where_it_defers(&*rule("cascade-token-v3", 0.0), &pair));
    assert!(
        refuses_where_it_defers(&Backwards(0.4), &pair) && refuses_where_it_defers(&Backwards(0.6), &pair)
    );
}

/// Equation 10 by its sign: the more the two differ, the less OPT asks.
#[test]
fn opt_asks_less_where_more_is_at_stake() {
    let (draft, expert) = ([0.5, 0.3, 0.2], [0.7, 0.2, 0.1]);
    let raw = |law: &[f64]| common::probs(law);
    let with_sampled = |q: &[f64], p: &[f64]| Pair {
        draft: Scores::from_probs(raw(&draft), raw(q)),
        expert: Scores::from_probs(raw(&expert), raw(p)),
    };
    let opt = rule("cascade-opt", 0.5);
    let asks = |pair: &Pair| deferral(&*opt, pair) == 1.0;
    assert!(asks(&with_sampled(&draft, &expert)), "gain 0.2, price 0.1");
    assert!(!asks(&with_sampled(&[1.0, 0.0, 0.0], &[0.0, 1.0, 0.0])), "gain 0.2, price 0.5");
}

proptest! {
    /// The lossy rules: how often they refuse, and how far they go.
    #[test]
    fn lossy_rules_refuse_less_than_lossless(pair in pair(), low in 0.0..1.0f64, high in 0.0..1.0f64) {
        let lossless = pair.p().total_variation(pair.q());
        let (low, high) = (low.min(high), low.max(high));
        for name in ["lenience", "lenience-balanced", "interpolation", "mentored"] {
            let [less, more] = [low, high].map(|dial| rejection(&*rule(name, dial), &pair));
            prop_assert!(more <= less + 1e-9 && less <= lossless + 1e-9, "{name}: {more}, {less}, {lossless}");
        }
        let mixed = rule("interpolation", low).target(&pair.draft, &pair.expert).into_owned();
        for v in pair.tokens() {
            let mean = low * pair.q().get(v) + (1.0 - low) * pair.p().get(v);
            prop_assert!((mixed.get(v) - mean).abs() < 1e-9);
        }
    }

    #[test]
    fn mentored_decoding_keeps_to_its_budget(pair in pair(), budget in prop_oneof![0.0..0.1f64, 0.0..3.0f64]) {
        let law = rule("mentored", budget).target(&pair.draft, &pair.expert).into_owned();
        prop_assert!(within(budget, &law, &pair), "{} of {budget}", pair.p().kl(&law));
    }

    /// What the drafter cannot say and the expert hardly ever does stays possible.
    #[test]
    fn mentored_decoding_loses_nothing(tiny in -60.0..-30.0f64, budget in 0.0..3.0f64) {
        let pair = given(&[1.0, 0.0], &[1.0, tiny.exp()]);
        let law = rule("mentored", budget).target(&pair.draft, &pair.expert).into_owned();
        prop_assert!(within(budget, &law, &pair), "{} of {budget}", pair.p().kl(&law));
    }

    /// No law of the same divergence is nearer to the drafter, as far as mixtures go.
    #[test]
    fn mentored_decoding_beats_mixtures(pair in open_pair(), weight in 0.05..0.95f64) {
        let mixed = rule("interpolation", weight).target(&pair.draft, &pair.expert).into_owned();
        let mentored = rejection(&*rule("mentored", pair.p().kl(&mixed)), &pair);
        prop_assert!(mentored <= mixed.total_variation(pair.q()) + 1e-7);
    }

    /// The control: with a little more to spend more is spent, and the comparison sees it.
    #[test]
    fn overspending_is_found(pair in open_pair().prop_filter("alike", |pair| pair.p().kl(pair.q()) > 0.06)) {
        let law = rule("mentored", 0.05).target(&pair.draft, &pair.expert).into_owned();
        prop_assert!(within(0.05, &law, &pair) && !within(0.05 - 1e-6, &law, &pair));
        prop_assert!(!within(0.05, pair.q(), &pair), "the drafter's own law spends more");
    }
}

/// In large vocabularies tokens are taken together to find the multiplier, and what is found is nearly as good.
#[test]
fn mentored_decoding_nearly_uses_its_budget_in_large_vocabularies() {
    let vocab = 6000;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut row = || proptest::collection::vec(-8.0..8.0f32, vocab).new_tree(&mut runner).unwrap().current();
    for _ in 0..8 {
        let pair = rows(&row(), &row(), 1.0, 1.0);
        for budget in [0.01, 0.1, 1.0] {
            let rule = rule("mentored", budget);
            let law = rule.target(&pair.draft, &pair.expert).into_owned();
            let spent = pair.p().kl(&law);
            assert!((spent - budget).abs() < 1e-5 * budget.max(1.0), "{spent} of {budget}");
            for v in pair.tokens().step_by(97) {
                let stands = rule.acceptance(v, &pair.draft, &pair.expert);
                assert!(
                    (stands - (law.get(v) / pair.q().get(v)).min(1.0)).abs() < 1e-9,
                    "token {v}: {stands}"
                );
            }
        }
    }
}

fn within(budget: f64, law: &Probs, pair: &Pair) -> bool {
    pair.p().kl(law) <= budget + 1e-9
}
