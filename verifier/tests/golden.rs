//! The golden cases of the rules that exist, from `reference/golden/golden.toml`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_logits::{Probs, Scores};
use drafthorse_verifier::rule;

#[derive(serde::Deserialize)]
struct Golden {
    rule: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    rule: String,
    q_raw: Vec<f64>,
    p_raw: Vec<f64>,
    q: Vec<f64>,
    p: Vec<f64>,
    pi: Vec<f64>,
    accept: Vec<f64>,
    residual: Vec<f64>,
    rejection_rate: f64,
}

fn near(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
}

fn scores(raw: &[f64], sampled: &[f64]) -> Scores {
    let probs = |weights: &[f64]| Probs::normalize(weights.to_vec()).unwrap();
    Scores::from_probs(probs(raw), probs(sampled))
}

#[test]
fn rules_reproduce_their_golden_cases() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../reference/golden/golden.toml");
    let golden: Golden = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut seen = 0;
    for case in golden.rule {
        let Some(rule) = rule(&case.rule) else { continue };
        seen += 1;
        let (draft, expert) = (scores(&case.q_raw, &case.q), scores(&case.p_raw, &case.p));
        let pi = rule.target(&draft, &expert);
        let q = draft.probs();
        let accept: Vec<f64> =
            (0..).zip(&case.q).map(|(v, &q)| if q > 0.0 { (pi.get(v) / q).min(1.0) } else { 1.0 }).collect();
        let tolerance = 1e-9;
        assert!(near(&pi.to_vec(), &case.pi, tolerance), "{}: pi", case.name);
        assert!(near(&accept, &case.accept, tolerance), "{}: accept", case.name);
        assert!((pi.total_variation(q) - case.rejection_rate).abs() <= tolerance, "{}: rejection", case.name);
        // A residual is divided by the rejection rate, and its rounding with it.
        let residual = pi.residual(q).filter(|_| case.rejection_rate > 0.0).map_or(vec![], |r| r.to_vec());
        assert!(
            near(&residual, &case.residual, tolerance.max(1e-15 / case.rejection_rate)),
            "{}: residual",
            case.name
        );
    }
    assert!(seen >= 7, "{seen} cases");
}
