//! Rules that read confidences through calibrators: their laws on paper.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Pair, decisions, first_token, open_pair};
use drafthorse_logits::calibration::Calibrator;
use drafthorse_verifier::{AcceptanceRule, CascadeChow, Confidence, RULES, RuleError, describe, rule};
use proptest::prelude::*;

fn calibrators() -> impl Strategy<Value = Calibrator> {
    prop_oneof![
        (0.2..5.0f64).prop_map(|t| Calibrator::parse(&format!("temperature:{t}")).unwrap()),
        (0.1..3.0f64, -2.0..2.0f64).prop_map(|(a, b)| Calibrator::parse(&format!("platt:{a},{b}")).unwrap()),
        (0.0..0.5f64, 0.5..1.0f64)
            .prop_map(|(a, b)| Calibrator::parse(&format!("isotonic:0.2={a},0.6={a},0.9={b}")).unwrap()),
    ]
}

fn confidence(draft: &Calibrator, expert: Option<&Calibrator>) -> Confidence {
    Confidence { draft: Some(draft.clone()), expert: expert.cloned() }
}

/// The law with these decisions of the rule: the drafter's where it keeps, the expert's elsewhere.
fn binary(pair: &Pair, defer: bool) -> Vec<f64> {
    if defer { pair.p().to_vec() } else { pair.q().to_vec() }
}

fn near(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9)
}

proptest! {
    #[test]
    fn the_law_is_that_of_calibrated_confidences(
        pair in open_pair(), draft in calibrators(), expert in calibrators(), lenience in -0.9..0.9f64,
    ) {
        let (sure, best) = (pair.q().max().1, pair.p().max().1);
        let (q, p) = (draft.apply(sure), expert.apply(best));
        let tv = pair.p().total_variation(pair.q());
        let both = || confidence(&draft, Some(&expert));
        for (name, confidence, gap) in [
            ("cascade-diff", both(), p - lenience - q),
            ("cascade-opt", both(), p - lenience * tv - q),
            ("cascade-chow", confidence(&draft, None), 1.0 - lenience.abs() - q),
        ] {
            let lenience = if name == "cascade-chow" { lenience.abs() } else { lenience };
            let rule = rule(&format!("{name}:lenience={lenience}")).unwrap().calibrated(confidence).unwrap();
            prop_assert!(gap.abs() < 1e-9 || near(&first_token(&*rule, &pair), &binary(&pair, gap > 0.0)), "{name}");
        }
        // BiLD keeps, where the drafter is sure, tokens that do not surprise the expert.
        let bild = rule("bild:rollback=1,fallback=0.6").unwrap().calibrated(confidence(&draft, None)).unwrap();
        let kept = |v: u32| q >= 0.6 && pair.p().get(v) >= (-1f64).exp();
        let eta: f64 = pair.tokens().filter(|&v| !kept(v)).map(|v| pair.q().get(v)).sum();
        let law: Vec<f64> = pair
            .tokens()
            .map(|v| if kept(v) { pair.q().get(v) } else { 0.0 } + eta * pair.p().get(v))
            .collect();
        prop_assert!((q - 0.6).abs() < 1e-9 || near(&first_token(&*bild, &pair), &law));
    }

    /// A calibrator that changes nothing changes nothing, and may be exchanged for another.
    #[test]
    fn the_identity_is_the_plain_rule(pair in open_pair(), lenience in 0.0..1.0f64) {
        let plain = rule(&format!("cascade-diff:lenience={lenience}")).unwrap();
        let [same, other] = ["platt:1,0", "isotonic:0=1"].map(|text| Calibrator::parse(text).unwrap());
        let calibrated = plain.calibrated(confidence(&other, None)).unwrap();
        prop_assert!(decisions(&*calibrated, &pair).iter().all(|defer| *defer == Some(false)), "the drafter is sure");
        let back = calibrated.calibrated(confidence(&same, Some(&same))).unwrap();
        let gap = pair.p().max().1 - lenience - pair.q().max().1;
        prop_assert!(gap.abs() < 1e-9 || decisions(&*back, &pair) == decisions(&*plain, &pair));
    }
}

#[test]
fn what_a_calibrator_cannot_change_is_refused() {
    let calibrator = || Calibrator::parse("temperature:1.3").unwrap();
    let draft = || Confidence { draft: Some(calibrator()), expert: None };
    let reading: Vec<_> = RULES
        .iter()
        .filter(|info| rule(info.name).unwrap().calibrated(draft()).is_ok())
        .map(|info| info.name)
        .collect();
    assert_eq!(reading, ["cascade-chow", "cascade-diff", "cascade-opt", "bild"]);
    let error = rule("cascade-chow-log").unwrap().calibrated(draft()).unwrap_err();
    assert_eq!(error, RuleError::NoConfidence { rule: "cascade-chow-log" });
    let both = || Confidence { draft: Some(calibrator()), expert: Some(calibrator()) };
    let error = rule("bild").unwrap().calibrated(both()).unwrap_err();
    assert!(error.to_string().starts_with("rule bild reads the drafter's confidence only"), "{error}");
    let rule = AcceptanceRule::calibrated(&CascadeChow { lenience: 0.4 }, draft()).unwrap();
    assert_eq!(describe(&*rule), "cascade-chow, lenience 0.4, drafter by temperature:1.3");
    assert!(rule.needs_calibrated_draft() && rule.needs_draft_after());
    assert_eq!(describe(&*rule.calibrated(Confidence::default()).unwrap()), "cascade-chow, lenience 0.4");
}
