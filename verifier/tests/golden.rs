//! The golden cases of the rules, from `reference/golden/golden.toml`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_logits::{Probs, Scores, TokenId};
use drafthorse_verifier::{AcceptanceRule, rule};

#[derive(serde::Deserialize)]
struct Golden {
    rule: Vec<Case>,
    lossy: Vec<Case>,
    interpolation: Vec<Case>,
    mentored: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    rule: Option<String>,
    lenience: Option<f64>,
    balanced: Option<bool>,
    beta: Option<f64>,
    draft_weight: Option<f64>,
    budget: Option<f64>,
    q_raw: Option<Vec<f64>>,
    p_raw: Option<Vec<f64>>,
    q: Vec<f64>,
    p: Vec<f64>,
    defer: Option<bool>,
    keep: Option<Vec<bool>>,
    #[serde(default)]
    tie: bool,
    pi: Vec<f64>,
    accept: Option<Vec<f64>>,
    residual: Option<Vec<f64>>,
    rejection_rate: f64,
    kl: Option<f64>,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../reference/golden/golden.toml");
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

const TOLERANCE: f64 = 1e-9;

fn near(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
}

fn scores(raw: &[f64], sampled: &[f64]) -> Scores {
    let probs = |weights: &[f64]| Probs::normalize(weights.to_vec()).unwrap();
    Scores::from_probs(probs(raw), probs(sampled))
}

/// The rule of a case, which the file names as the papers do.
fn named(name: &str, lenience: Option<f64>) -> Box<dyn AcceptanceRule> {
    let name = match name {
        "lossless" => "lossless".to_owned(),
        cascade => format!("cascade-{}", cascade.replace('_', "-")),
    };
    let spec = lenience.map_or(name.clone(), |lenience| format!("{name}:lenience={lenience}"));
    Box::new(rule(&spec).unwrap())
}

/// What a rule says of a case, against what the case says.
fn check(rule: &dyn AcceptanceRule, case: &Case) -> Result<(), String> {
    let raw = |given: &Option<Vec<f64>>, sampled: &[f64]| given.clone().unwrap_or(sampled.to_vec());
    let draft = scores(&raw(&case.q_raw, &case.q), &case.q);
    let expert = scores(&raw(&case.p_raw, &case.p), &case.p);
    let (pi, q) = (rule.target(&draft, &expert), draft.probs());
    let same = |what: &str, ok: bool| if ok { Ok(()) } else { Err(format!("{}: {what}", case.name)) };
    same("pi", near(&pi.to_vec(), &case.pi, TOLERANCE))?;
    same("rejection", (pi.total_variation(q) - case.rejection_rate).abs() <= TOLERANCE)?;
    let tokens = 0..case.q.len() as TokenId;
    if let Some(wanted) = &case.accept {
        // Where the draft proposes nothing there is nothing to accept; the file says 1.
        let accept: Vec<f64> = tokens.clone().map(|v| rule.acceptance(v, &draft, &expert)).collect();
        same("accept", near(&accept, wanted, TOLERANCE))?;
    }
    if let Some(wanted) = &case.residual {
        // A residual is divided by the rejection rate, and its rounding with it.
        let residual = pi.residual(q).filter(|_| case.rejection_rate > 0.0).map_or(vec![], |r| r.to_vec());
        same("residual", near(&residual, wanted, TOLERANCE.max(1e-15 / case.rejection_rate)))?;
    }
    if let Some(wanted) = case.kl {
        same("divergence", (expert.probs().kl(&pi) - wanted).abs() <= TOLERANCE)?;
    }
    let deferral = |v| rule.deferral(v, &draft, &expert);
    if let Some(defer) = case.defer {
        same("defer", tokens.clone().all(|v| deferral(v) == Some(defer)))?;
    }
    if let Some(keep) = &case.keep {
        same("keep", tokens.zip(keep).all(|(v, &keep)| deferral(v) == Some(!keep)))?;
    }
    Ok(())
}

#[test]
fn the_cascades_reproduce_their_golden_cases() {
    let mut seen = 0;
    for case in golden().rule.iter().filter(|case| !case.tie) {
        check(&*named(case.rule.as_deref().unwrap(), case.lenience), case).unwrap();
        seen += 1;
    }
    assert!(seen >= 100, "{seen} cases");
}

#[test]
fn the_lossy_rules_reproduce_their_golden_cases() {
    let golden = golden();
    let mut seen = 0;
    for case in &golden.lossy {
        let name = match (case.balanced.unwrap(), case.beta) {
            (true, _) => "lenience-balanced",
            (false, Some(1.0)) => "lenience",
            (false, beta) => panic!("no rule has the residual of beta {beta:?}"),
        };
        let rule = rule(&format!("{name}:lenience={}", case.lenience.unwrap())).unwrap();
        check(&*rule, case).unwrap();
        seen += 1;
    }
    for case in &golden.interpolation {
        let rule = rule(&format!("interpolation:draft-weight={}", case.draft_weight.unwrap())).unwrap();
        check(&*rule, case).unwrap();
    }
    for case in &golden.mentored {
        let rule = rule(&format!("mentored:budget={}", case.budget.unwrap())).unwrap();
        check(&*rule, case).unwrap();
    }
    assert!(seen >= 5, "{seen} cases");
}

/// The comparison must see a rule with its dial elsewhere, and another rule.
#[test]
fn wrong_rules_are_found() {
    let golden = golden();
    let find = |name: &str| golden.rule.iter().find(|case| !case.tie && case.name == name).unwrap();
    let case = golden.rule.iter().find(|case| case.rule.as_deref() == Some("token_v3") && !case.tie).unwrap();
    assert!(check(&*named("token_v3", case.lenience.map(|x| x + 0.5)), case).is_err());
    assert!(check(&*named("token_v1", case.lenience), case).is_err());
    assert!(check(&*rule("lenience:lenience=0.3").unwrap(), find("A lossless")).is_err());
    assert!(check(&*rule("lenience").unwrap(), &golden.lossy[0]).is_err(), "its balanced twin");
    assert!(check(&*rule("mentored:budget=0.06").unwrap(), &golden.mentored[0]).is_err());
}
