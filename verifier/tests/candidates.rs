//! Several candidates at one position.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{probs, top};
use drafthorse_logits::{
    Branching, Draws, Probs, Purpose, SeededDraws, TokenId,
    exact::{distance, outcomes},
};
use drafthorse_verifier::{SequentialTest, couple_candidates};
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(serde::Deserialize)]
struct Golden {
    multi_draft: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    method: String,
    candidates: usize,
    q: Vec<f64>,
    p: Vec<f64>,
    any_accepted: f64,
    rho: Option<f64>,
    beta: Option<f64>,
    accept: Option<Vec<f64>>,
    residual: Option<Vec<f64>>,
    children: Option<Vec<TokenId>>,
}

fn branching(method: &str) -> Branching {
    match method {
        "with_replacement" => Branching::WithReplacement,
        "without_replacement" => Branching::WithoutReplacement,
        "k_seq" => Branching::Sequential,
        "top_children" => Branching::TopChildren,
        other => panic!("method {other}"),
    }
}

/// Candidates proposed as `branching` says.
fn propose(branching: Branching, q: &Probs, count: usize, draws: &mut dyn Draws) -> Vec<TokenId> {
    if branching == Branching::TopChildren {
        return top(q, count);
    }
    let mut drawn = Vec::new();
    for candidate in 0..count {
        let law =
            if branching == Branching::WithoutReplacement { q.without(&drawn) } else { Some(q.clone()) };
        let Some(law) = law else { break };
        drawn.push(draws.pick_candidate(0, candidate, &law));
    }
    drawn
}

type Handle = fn(Branching, &[TokenId], (&Probs, &Probs), usize, &mut dyn Draws) -> Result<usize, TokenId>;

/// The law of what comes out, and how likely a candidate stands.
fn law(
    branching: Branching,
    q: &Probs,
    pi: &Probs,
    count: usize,
    handle: Handle,
) -> (HashMap<TokenId, f64>, f64) {
    let all = outcomes(|draws| {
        let tokens = propose(branching, q, count, draws);
        let found = handle(branching, &tokens, (q, pi), 0, draws);
        (found.map_or_else(|token| token, |index| tokens[index]), found.is_ok())
    });
    let (mut law, mut any) = (HashMap::new(), 0.0);
    for ((token, stands), weight) in all {
        *law.entry(token).or_insert(0.0) += weight;
        any += if stands { weight } else { 0.0 };
    }
    (law, any)
}

fn as_law(probs: &Probs) -> HashMap<TokenId, f64> {
    (0..).zip(probs.to_vec()).collect()
}

fn near(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-9)
}

#[test]
fn the_golden_cases_of_several_candidates() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../reference/golden/golden.toml");
    let golden: Golden = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in &golden.multi_draft {
        let (q, p, branching) = (probs(&case.q), probs(&case.p), branching(&case.method));
        let (law, any) = law(branching, &q, &p, case.candidates, couple_candidates);
        assert!(distance(&law, &as_law(&p)) < 1e-9, "{}", case.name);
        assert!((any - case.any_accepted).abs() < 1e-9, "{}: {any}", case.name);
        if let Some(children) = &case.children {
            assert_eq!(&top(&q, case.candidates), children);
        }
        if let (Some(rho), Some(beta)) = (case.rho, case.beta) {
            let test = SequentialTest::new(&q, &p, case.candidates);
            assert!((test.rho() - rho).abs() < 1e-9 && (test.beta() - beta).abs() < 1e-9, "{}", case.name);
            assert!((test.any() - any).abs() < 1e-9);
            let accept: Vec<f64> = (0..q.vocab_size() as TokenId).map(|v| test.acceptance(v)).collect();
            assert!(near(&accept, case.accept.as_ref().unwrap()), "{}", case.name);
            let residual = test.residual().unwrap().to_vec();
            assert!(near(&residual, case.residual.as_ref().unwrap()), "{}: {residual:?}", case.name);
        }
    }
    assert_eq!(golden.multi_draft.len(), 32);
}

/// Distributions with zeros, points, equal ones, and nearly equal ones.
fn pair() -> impl Strategy<Value = (Probs, Probs)> {
    let weight = || prop_oneof![2 => Just(0.0), 5 => 1e-6..1.0f64];
    (2usize..5)
        .prop_flat_map(move |n| {
            (prop::collection::vec(weight(), n), prop::collection::vec(weight(), n), 0..6, 1e-16..1e-9f64)
        })
        .prop_filter_map("no mass", |(q, p, kind, nudge)| {
            let n = q.len();
            let p = match kind {
                0 => q.clone(),
                1 => q.iter().map(|w| w + nudge).collect(),
                _ => p,
            };
            let q = if kind == 5 { Probs::point(n as TokenId - 1, n) } else { Probs::normalize(q)? };
            Some((q, Probs::normalize(p)?))
        })
}

/// Each candidate by itself against the same target: wrong.
fn independent(
    _: Branching,
    tokens: &[TokenId],
    (q, pi): (&Probs, &Probs),
    position: usize,
    draws: &mut dyn Draws,
) -> Result<usize, TokenId> {
    let ratio = |token| (pi.get(token) / q.get(token)).min(1.0);
    let kept =
        tokens.iter().enumerate().find(|(i, token)| draws.accept_candidate(position, *i, ratio(**token)));
    if let Some((index, _)) = kept {
        return Ok(index);
    }
    let residual = pi.residual(q);
    Err(draws.pick(position, Purpose::Replacement, residual.as_ref().unwrap_or(pi)))
}

/// A chosen token judged as if it had been drawn: wrong.
fn as_if_drawn(
    _: Branching,
    tokens: &[TokenId],
    laws: (&Probs, &Probs),
    position: usize,
    draws: &mut dyn Draws,
) -> Result<usize, TokenId> {
    couple_candidates(Branching::WithoutReplacement, tokens, laws, position, draws)
}

proptest! {
    #[test]
    fn the_result_follows_the_target((q, pi) in pair(), count in 0usize..5) {
        for branching in Branching::ALL {
            let (law, _) = law(branching, &q, &pi, count, couple_candidates);
            prop_assert!(distance(&law, &as_law(&pi)) < 1e-9, "{branching:?} {count}");
        }
    }

    /// As on paper: a candidate more never hurts; one drawn candidate is refused with probability TV; without
    /// replacement some candidate stands wherever all that the target can say was proposed.
    #[test]
    fn more_candidates_stand_more_often((q, pi) in pair()) {
        for branching in Branching::ALL {
            let any: Vec<f64> = (0..5).map(|count| law(branching, &q, &pi, count, couple_candidates).1).collect();
            prop_assert!(any.windows(2).all(|pair| pair[1] >= pair[0] - 1e-9), "{branching:?} {any:?}");
            if branching.is_drawn() {
                prop_assert!((any[1] - (1.0 - pi.total_variation(&q))).abs() < 1e-9);
            } else {
                let said: f64 = top(&q, 3).into_iter().map(|token| pi.get(token)).sum();
                prop_assert!((any[3] - said).abs() < 1e-9);
            }
            if matches!(branching, Branching::WithoutReplacement | Branching::TopChildren) {
                prop_assert!(any[4] > 1.0 - 1e-9, "all four tokens were there");
            }
        }
    }
}

#[test]
fn wrong_couplings_are_found() {
    let (q, p) = (probs(&[0.5, 0.3, 0.15, 0.05]), probs(&[0.25, 0.45, 0.1, 0.2]));
    for (branching, count, wrong) in [
        (Branching::WithReplacement, 2, independent as Handle),
        (Branching::WithoutReplacement, 2, independent),
        (Branching::TopChildren, 1, as_if_drawn),
        (Branching::TopChildren, 2, as_if_drawn),
    ] {
        let off = distance(&law(branching, &q, &p, count, wrong).0, &as_law(&p));
        assert!(off > 0.02, "{branching:?} with {count}: {off}");
    }
    // With one drawn candidate the tests are the same.
    let (one, _) = law(Branching::WithReplacement, &q, &p, 1, independent);
    assert!(distance(&one, &as_law(&p)) < 1e-12);
}

/// Seeded draws that do not tell candidates apart.
struct OneNumber(SeededDraws);

impl Draws for OneNumber {
    fn accept(&mut self, position: usize, probability: f64) -> bool {
        self.0.accept(position, probability)
    }

    fn pick(&mut self, position: usize, purpose: Purpose, probs: &Probs) -> TokenId {
        self.0.pick(position, purpose, probs)
    }
}

/// The law holds for draws by a seed too: every candidate has numbers of its own.
#[test]
fn seeded_candidates_follow_the_target() {
    let (q, p) = (probs(&[0.5, 0.3, 0.15, 0.05]), probs(&[0.25, 0.45, 0.1, 0.2]));
    let count = 20_000;
    let off = |branching, draws: &dyn Fn(u64) -> Box<dyn Draws>| {
        let mut found = [0.0; 4];
        for seed in 0..count {
            let mut draws = draws(seed);
            let tokens = propose(branching, &q, 3, &mut *draws);
            let token = couple_candidates(branching, &tokens, (&q, &p), 0, &mut *draws);
            found[token.map_or_else(|token| token, |index| tokens[index]) as usize] += 1.0;
        }
        let n = count as f64;
        let deviation = |v: usize| {
            let p = p.get(v as TokenId);
            (found[v] / n - p).abs() / (p * (1.0 - p) / n).sqrt()
        };
        (0..4).map(deviation).fold(0.0, f64::max)
    };
    for branching in Branching::ALL {
        let own = off(branching, &|seed| Box::new(SeededDraws::new(seed, 1)));
        assert!(own < 5.0, "{branching:?}: {own} standard deviations");
        let shared = off(branching, &|seed| Box::new(OneNumber(SeededDraws::new(seed, 1))));
        assert!(shared > 10.0, "{branching:?}: {shared} standard deviations");
    }
}
