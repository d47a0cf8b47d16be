//! Calibration: the golden case of `reference/golden/golden.toml`, planted parameters, and what holds for all pairs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_logits::{
    Probs, TokenId,
    calibration::{
        CalibrationError, Calibrator, Isotonic, Judged, Platt, Reliability, TemperatureScaling, brier, nll,
    },
};
use proptest::{collection::vec, prelude::*};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

#[derive(serde::Deserialize)]
struct Golden {
    calibration: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    confidence: Vec<f64>,
    correct: Vec<u8>,
    bins: usize,
    ece: f64,
    mce: f64,
    brier: f64,
    bin: Vec<GoldenBin>,
}

#[derive(serde::Deserialize)]
struct GoldenBin {
    index: usize,
    count: usize,
    accuracy: f64,
    confidence: f64,
}

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance
}

#[test]
fn the_golden_case() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../reference/golden/golden.toml");
    let golden: Golden = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in golden.calibration {
        let mut pairs: Vec<Judged> =
            case.confidence.iter().zip(&case.correct).map(|(&c, &y)| (c, y == 1)).collect();
        let of = |pairs: &[Judged], bins| Reliability::equal_width(pairs, bins).unwrap();
        let diagram = of(&pairs, case.bins);
        assert!(near(diagram.ece(), case.ece, 1e-12) && near(diagram.mce(), case.mce, 1e-12));
        assert!(near(brier(&pairs).unwrap(), case.brier, 1e-12));
        assert_eq!(diagram.bins.len(), case.bin.len());
        for (ours, wanted) in diagram.bins.iter().zip(&case.bin) {
            assert_eq!((ours.index, ours.count), (wanted.index, wanted.count));
            assert!(
                near(ours.accuracy, wanted.accuracy, 1e-12)
                    && near(ours.confidence, wanted.confidence, 1e-12)
            );
        }
        assert!(!near(of(&pairs, 2).ece(), case.ece, 1e-3), "other bins must be seen");
        pairs[0].1 = !pairs[0].1;
        assert!(!near(of(&pairs, case.bins).ece(), case.ece, 1e-3), "another outcome must be seen");
    }
}

fn pairs(least: usize) -> impl Strategy<Value = Vec<Judged>> {
    let confidence = prop_oneof![4 => 0.0..=1.0f64, 1 => Just(0.0), 1 => Just(1.0), 1 => Just(0.5)];
    vec((confidence, any::<bool>()), least..60)
}

fn both_kinds() -> impl Strategy<Value = Vec<Judged>> {
    (pairs(0), 0.0..=1.0f64, 0.0..=1.0f64).prop_map(|(mut pairs, a, b)| {
        pairs.extend([(a, true), (b, false)]);
        pairs
    })
}

fn applied(calibrator: &Calibrator, pairs: &[Judged]) -> Vec<Judged> {
    pairs.iter().map(|&(c, right)| (calibrator.apply(c), right)).collect()
}

fn fits(pairs: &[Judged]) -> [Calibrator; 3] {
    [
        TemperatureScaling::fit(pairs).unwrap().into(),
        Platt::fit(pairs).unwrap().into(),
        Isotonic::fit(pairs).unwrap().into(),
    ]
}

proptest! {
    #[test]
    fn isotonic_never_falls_and_never_worsens_brier(pairs in both_kinds(), mut at in vec(0.0..=1.0f64, 2..20)) {
        let curve = Calibrator::from(Isotonic::fit(&pairs).unwrap());
        at.sort_by(f64::total_cmp);
        prop_assert!(at.windows(2).all(|x| curve.apply(x[0]) <= curve.apply(x[1])));
        let fitted = brier(&applied(&curve, &pairs)).unwrap();
        prop_assert!(fitted <= brier(&pairs).unwrap() + 1e-12);
        // Nor is another such curve better: squares, roots, and halves of confidence.
        for other in [|c: f64| c * c, f64::sqrt, |c| 0.5 * c, |c| 0.5 + 0.5 * c, |_| 0.5] {
            let other: Vec<_> = pairs.iter().map(|&(c, right)| (other(c), right)).collect();
            prop_assert!(fitted <= brier(&other).unwrap() + 1e-12);
        }
    }

    /// On its own data a fit is at least as likely as the confidences themselves (slope 1, offset 0).
    #[test]
    fn temperature_never_worsens_the_likelihood(pairs in both_kinds()) {
        let scaling = TemperatureScaling::fit(&pairs).unwrap();
        let of = |scaling: TemperatureScaling| nll(&applied(&scaling.into(), &pairs)).unwrap();
        prop_assert!(of(scaling) <= nll(&pairs).unwrap() + 1e-9);
        for other in [0.5, 0.9, 1.1, 2.0] {
            let other = (scaling.temperature() * other).clamp(0.02, 50.0);
            prop_assert!(of(scaling) <= of(TemperatureScaling::new(other).unwrap()) + 1e-9);
        }
    }

    #[test]
    fn platt_is_at_the_bottom(pairs in both_kinds(), slope in -2.0..2.0f64, offset in -2.0..2.0f64) {
        let line = Platt::fit(&pairs).unwrap();
        let right = pairs.iter().filter(|(_, right)| *right).count() as f64;
        let (high, low) = ((right + 1.0) / (right + 2.0), 1.0 / (pairs.len() as f64 - right + 2.0));
        let loss = |line: Platt| -> f64 {
            let of = |&(c, right): &Judged| {
                let (p, y) = (line.apply(c).clamp(1e-300, 1.0 - 1e-16), if right { high } else { low });
                -y * p.ln() - (1.0 - y) * (1.0 - p).ln()
            };
            pairs.iter().map(of).sum()
        };
        let other = Platt::new(line.slope() + 0.1 * slope, line.offset() + 0.1 * offset);
        prop_assert!(line.slope().is_finite() && loss(line) <= loss(other) + 1e-6, "{line:?} {other:?}");
    }

    #[test]
    fn calibrated_confidences_are_probabilities_and_texts_are_read_back(pairs in both_kinds(), c in 0.0..=1.0f64) {
        for calibrator in fits(&pairs) {
            prop_assert!((0.0..=1.0).contains(&calibrator.apply(c)), "{calibrator}");
            prop_assert!(calibrator.apply(f64::NAN).is_nan());
            prop_assert_eq!(Calibrator::parse(&calibrator.to_string()), Ok(calibrator));
        }
    }

    #[test]
    fn bins_hold_every_pair(pairs in pairs(1), bins in 1usize..20) {
        for diagram in [Reliability::equal_width(&pairs, bins), Reliability::equal_mass(&pairs, bins)] {
            let diagram = diagram.unwrap();
            prop_assert_eq!(diagram.bins.iter().map(|bin| bin.count).sum::<usize>(), pairs.len());
            prop_assert!(diagram.bins.iter().all(|bin| bin.index < bins && bin.low <= bin.confidence + 1e-12 && bin.confidence <= bin.high + 1e-12));
            prop_assert!(diagram.ece() <= diagram.mce() + 1e-12 && diagram.mce() <= 1.0);
            prop_assert!(diagram.bins.windows(2).all(|two| two[0].high <= two[1].low + 1e-12));
        }
    }

    /// Where all confidences differ, bins of equal mass differ by one pair at most.
    #[test]
    fn bins_of_equal_mass(count in 1usize..80, bins in 1usize..12) {
        let pairs: Vec<Judged> = (0..count).map(|i| (i as f64 / count as f64, i % 3 == 0)).collect();
        let sizes: Vec<_> = Reliability::equal_mass(&pairs, bins).unwrap().bins.iter().map(|bin| bin.count).collect();
        prop_assert_eq!(sizes.len(), bins.min(count));
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
    }
}

/// Outcomes whose true probability is a known curve of the confidence.
fn planted(curve: impl Fn(f64) -> f64, count: usize) -> Vec<Judged> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut one = || {
        let c: f64 = rng.random();
        (c, rng.random::<f64>() < curve(c))
    };
    (0..count).map(|_| one()).collect()
}

#[test]
fn planted_parameters_are_found() {
    let temperature = TemperatureScaling::new(1.7).unwrap();
    let pairs = planted(|c| temperature.apply(c), 40_000);
    assert!(near(TemperatureScaling::fit(&pairs).unwrap().temperature(), 1.7, 0.05));
    let line = Platt::new(0.6, -0.4);
    let pairs = planted(|c| line.apply(c), 40_000);
    let found = Platt::fit(&pairs).unwrap();
    assert!(near(found.slope(), 0.6, 0.03) && near(found.offset(), -0.4, 0.03), "{found:?}");
    // A curve that neither can bend to: both miss it, isotonic regression does not.
    let stairs = |c: f64| if c < 0.5 { 0.1 } else { 0.6 };
    let pairs = planted(stairs, 40_000);
    let miss = |calibrator: &Calibrator| {
        (1..100)
            .map(|i| f64::from(i) / 100.0 + 0.003)
            .map(|c| (calibrator.apply(c) - stairs(c)).abs())
            .sum::<f64>()
            / 99.0
    };
    let [temperature, platt, isotonic] = fits(&pairs);
    assert!(miss(&isotonic) < 0.02 && miss(&platt) > 0.04 && miss(&temperature) > 0.1);
}

#[test]
fn the_temperature_of_rows_is_found() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut rows: Vec<(Vec<f32>, TokenId)> = Vec::new();
    for _ in 0..4000 {
        let row: Vec<f32> = (0..12).map(|_| rng.random::<f32>() * 6.0).collect();
        let warm: Vec<f32> = row.iter().map(|x| x / 1.6).collect();
        rows.push((row, Probs::softmax(&warm).quantile(rng.random())));
    }
    let other = (rows[0].1 as usize + 1) % 12;
    rows[0].0[other] = f32::NEG_INFINITY;
    let fit = |rows: &[(Vec<f32>, TokenId)]| {
        TemperatureScaling::fit_logits(
            &rows.iter().map(|(row, token)| (&row[..], *token)).collect::<Vec<_>>(),
        )
    };
    assert!(near(fit(&rows).unwrap().temperature(), 1.6, 0.1));
    // Outcomes that are always the best token: as cold as can be told.
    let sure = [(vec![1.0, 0.0], 0)];
    assert!((0.02..0.05).contains(&fit(&sure).unwrap().temperature()));
    assert_eq!(fit(&[]), Err(CalibrationError::Empty));
    for (row, token) in [(vec![f32::NAN, 0.0], 1), (vec![0.0], 1), (vec![0.0, f32::NEG_INFINITY], 1)] {
        assert_eq!(fit(&[(row, token)]), Err(CalibrationError::Row { index: 0, token }));
    }
}

#[test]
fn degenerate_pairs_are_refused() {
    type Fit = fn(&[Judged]) -> Result<Calibrator, CalibrationError>;
    let fits: [Fit; 3] = [
        |pairs| TemperatureScaling::fit(pairs).map(Calibrator::from),
        |pairs| Platt::fit(pairs).map(Calibrator::from),
        |pairs| Isotonic::fit(pairs).map(Calibrator::from),
    ];
    for fit in fits {
        assert_eq!(fit(&[]), Err(CalibrationError::Empty));
        assert_eq!(fit(&[(0.5, true)]), Err(CalibrationError::OneKind { pairs: 1, outcome: "right" }));
        assert_eq!(
            fit(&[(0.5, false), (0.9, false)]),
            Err(CalibrationError::OneKind { pairs: 2, outcome: "wrong" })
        );
        let nan = fit(&[(0.5, true), (f64::NAN, false)]).unwrap_err();
        assert_eq!(nan.to_string(), "confidence NaN of pair 1 (from 0) is not between 0 and 1");
        assert!(fit(&[(1.5, true), (0.5, false)]).is_err());
        // All alike but the outcome, and separable: finite, and sensible.
        let alike = fit(&[(0.9, true), (0.9, false), (0.9, false), (0.9, true)]).unwrap();
        assert!(near(alike.apply(0.9), 0.5, 0.07), "{alike}");
        let apart = fit(&[(0.9, true), (0.1, false)]).unwrap();
        assert!(apart.apply(0.95) > 0.5 && apart.apply(0.05) < 0.5, "{apart}");
    }
    assert_eq!(Reliability::equal_width(&[(0.5, true)], 0), Err(CalibrationError::NoBins));
    // However many bins are asked for, there are no more than pairs.
    for bins in [2, 3, 1000, usize::MAX] {
        let two = [(0.25, false), (0.75, true)];
        for diagram in [Reliability::equal_width(&two, bins), Reliability::equal_mass(&two, bins)] {
            assert_eq!(diagram.unwrap().bins.len(), 2, "{bins}");
        }
    }
    assert_eq!(Reliability::equal_mass(&[], 3), Err(CalibrationError::Empty));
    assert!(brier(&[(-0.1, true)]).is_err() && nll(&[(f64::NAN, true)]).is_err());
    assert!(near(nll(&[(0.0, true)]).unwrap(), -(1e-12f64.ln()), 1e-9), "finite");
}

#[test]
fn texts_that_are_no_calibrator() {
    let error = |text: &str| Calibrator::parse(text).unwrap_err().to_string();
    for (text, reason) in [
        ("platt", "it has no colon"),
        ("plat:1,2", "its kind is unknown"),
        ("platt:1", "two numbers are needed"),
        ("platt:1,x", "a finite number is missing"),
        ("temperature:0", "a temperature is above 0"),
        ("temperature:inf", "a finite number is missing"),
        ("isotonic:0.1", "a knot is CONFIDENCE=PROBABILITY"),
        ("isotonic:0.5=0.2,0.5=0.3", "knots rise"),
        ("isotonic:0.1=0.4,0.5=0.3", "knots rise"),
        ("isotonic:0.1=1.4", "knots rise"),
        ("isotonic:", "a knot is CONFIDENCE=PROBABILITY"),
    ] {
        let error = error(text);
        assert!(error.starts_with(&format!("`{text}` is no calibrator: {reason}")), "{error}");
    }
    let curve = Calibrator::parse("isotonic:0.2=0.1, 0.6=0.5").unwrap();
    assert!([(0.0, 0.1), (0.2, 0.1), (0.4, 0.3), (0.6, 0.5), (1.0, 0.5)].iter().all(|&(c, p)| near(
        curve.apply(c),
        p,
        1e-15
    )));
    assert!(near("platt:1,0".parse::<Calibrator>().unwrap().apply(0.3), 0.3, 1e-15));
}
