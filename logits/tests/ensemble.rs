//! Laws of several models: the golden case of `reference/golden/golden.toml`, and what holds for all rows.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_logits::{
    Combine, Context, Guidance, LogitsError, Probs, Sampler, SamplingOptions, Weights, log_softmax,
};
use proptest::{collection::vec, prelude::*};

#[derive(serde::Deserialize)]
struct Golden {
    ensemble: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    q: Vec<f64>,
    p: Vec<f64>,
    weight: f64,
    mixture: Vec<f64>,
    geometric: Vec<f64>,
    product: Vec<f64>,
}

fn weights(weights: &[f64]) -> Weights {
    Weights::new(weights.to_vec()).unwrap()
}

fn near(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
}

/// The probabilities of unnormalised log-probabilities.
fn law(logs: &[f64]) -> Vec<f64> {
    let max = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Probs::normalize(logs.iter().map(|x| (x - max).exp()).collect()).unwrap().to_vec()
}

#[test]
fn the_golden_case() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../reference/golden/golden.toml");
    let golden: Golden = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in golden.ensemble {
        let logs = |row: &[f64]| row.iter().map(|x| x.ln()).collect::<Vec<_>>();
        let (p, q) = (logs(&case.p), logs(&case.q));
        let of = |combine: Combine| law(&combine.law(&[&p[..], &q[..]]).unwrap());
        let shares = || weights(&[case.weight, 1.0 - case.weight]);
        assert!(near(&of(Combine::Mixture(shares())), &case.mixture, 1e-12));
        assert!(near(&of(Combine::LogitAverage(shares())), &case.geometric, 1e-12));
        assert!(near(&of(Combine::Product(weights(&[1.0, 1.0]))), &case.product, 1e-12));
        assert!(
            !near(&of(Combine::Product(shares())), &case.product, 1e-3),
            "a product takes its powers as they are"
        );
        assert!(!near(&of(Combine::Mixture(weights(&[0.4, 0.6]))), &case.mixture, 1e-3));
        // Rows of single precision.
        let (p, q): (Vec<f32>, Vec<f32>) = p.iter().zip(&q).map(|(&p, &q)| (p as f32, q as f32)).unzip();
        let row = Combine::Mixture(shares()).logits(&[&p, &q]);
        assert!(near(&Probs::softmax(&row).to_vec(), &case.mixture, 1e-6));
    }
}

fn row(vocab: usize) -> impl Strategy<Value = Vec<f32>> {
    vec(-12.0..12.0f32, vocab)
}

fn two() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
    (2usize..12).prop_flat_map(|vocab| (row(vocab), row(vocab)))
}

fn wild(vocab: usize) -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![4 => -30.0..30.0f32, 2 => Just(f32::NEG_INFINITY), 1 => Just(1e30f32), 1 => Just(-1e30f32)];
    (vec(logit, vocab), 0..vocab).prop_map(|(mut row, at)| {
        row[at] = row[at].max(-1e30);
        row
    })
}

proptest! {
    #[test]
    fn each_law_is_what_it_says((p, q) in two(), w in 0.01..0.99f64, strength in 0.0..3.0f64, cut in 0.0..1.0f64, scale in 0.0..3.0f64) {
        let (a, b) = (Probs::softmax(&p).to_vec(), Probs::softmax(&q).to_vec());
        let of = |term: &dyn Fn(f64, f64) -> f64| {
            Probs::normalize(a.iter().zip(&b).map(|(&a, &b)| term(a, b)).collect()).unwrap().to_vec()
        };
        let combined = |combine: Combine| law(&combine.law(&[&p[..], &q[..]]).unwrap());
        let both = || weights(&[3.0 * w, 3.0 * (1.0 - w)]);
        prop_assert!(near(&combined(Combine::Mixture(both())), &of(&|a, b| w * a + (1.0 - w) * b), 1e-12));
        prop_assert!(near(&combined(Combine::LogitAverage(both())), &of(&|a, b| a.powf(w) * b.powf(1.0 - w)), 1e-12));
        prop_assert!(near(&combined(Combine::Product(both())), &of(&|a, b| a.powf(3.0 * w) * b.powf(3.0 - 3.0 * w)), 1e-12));
        let best = a.iter().copied().fold(0.0, f64::max);
        let edge = a.iter().any(|a| (a - cut * best).abs() < 1e-9 && *a != best);
        let contrast = combined(Combine::Contrast { strength, plausibility: cut });
        let wanted = of(&|a, b| if a >= cut * best { a.powf(1.0 + strength) / b.max(1e-12).powf(strength) } else { 0.0 });
        prop_assert!(edge || near(&contrast, &wanted, 1e-9));
        let guided = Probs::softmax(&Guidance::new(scale).unwrap().logits(&p, &q)).to_vec();
        prop_assert!(near(&guided, &of(&|a, b| a.powf(scale) * b.powf(1.0 - scale)), 1e-5));
    }

    /// A constant added to a model's row means nothing.
    #[test]
    fn laws_see_no_shift((p, q) in two(), shift in -50.0..50.0f64) {
        let p: Vec<f64> = p.iter().map(|&x| f64::from(x)).collect();
        let q: Vec<f64> = q.iter().map(|&x| f64::from(x)).collect();
        let moved: Vec<f64> = q.iter().map(|x| x + shift).collect();
        for combine in [
            Combine::Mixture(weights(&[1.0, 2.0])),
            Combine::LogitAverage(weights(&[1.0, 2.0])),
            Combine::Contrast { strength: 0.5, plausibility: 0.1 },
        ] {
            let of = |q: &[f64]| law(&combine.law(&[&p[..], q]).unwrap());
            prop_assert!(near(&of(&q), &of(&moved), 1e-9));
        }
    }

    /// Extreme rows: never NaN or +inf, and a token can be drawn unless the models have none in common.
    #[test]
    fn wild_rows_stay_usable((p, q) in (1usize..9).prop_flat_map(|n| (wild(n), wild(n))), w in 0.0..1.0f64, scale in prop_oneof![Just(0.0), Just(1.0), 0.0..5.0f64]) {
        let both = || weights(&[w, 1.0 - w]);
        let common = p.iter().zip(&q).any(|(p, q)| p.is_finite() && q.is_finite());
        let laws = [
            (Combine::Mixture(both()).logits(&[&p, &q]), true),
            (Combine::LogitAverage(both()).logits(&[&p, &q]), common),
            (Combine::Product(both()).logits(&[&p, &q]), common),
            (Combine::Contrast { strength: 0.5, plausibility: 0.1 }.logits(&[&p, &q]), true),
            (Guidance::new(scale).unwrap().logits(&p, &q), common || scale == 1.0 || scale == 0.0),
        ];
        let sampler = Sampler::new(&SamplingOptions { temperature: 1.0, ..Default::default() }).unwrap();
        for (row, usable) in laws {
            prop_assert!(row.iter().all(|x| !x.is_nan() && *x < f32::INFINITY), "{row:?}");
            prop_assert!(!usable || sampler.scores(&Context::new(&[], 0), &row).is_ok(), "{row:?}");
        }
    }

    #[test]
    fn log_softmax_is_the_logarithm_of_softmax(row in row(7)) {
        let wanted: Vec<f64> = Probs::softmax(&row).to_vec().iter().map(|p| p.ln()).collect();
        prop_assert!(near(&log_softmax(&row), &wanted, 1e-12));
    }
}

#[test]
fn log_softmax_of_extreme_rows() {
    assert_eq!(
        log_softmax(&[1e30, -1e30, f32::NEG_INFINITY]),
        [0.0, -2.0 * f64::from(1e30f32), f64::NEG_INFINITY]
    );
    assert!(near(&log_softmax(&[1e30; 2]), &[-2f64.ln(); 2], 1e-15));
    assert!(near(&log_softmax(&[7.0; 4]), &[-4f64.ln(); 4], 1e-15));
    assert_eq!(log_softmax(&[-1000.0]), [0.0]);
    for bad in [&[f32::NAN, 1.0][..], &[f32::INFINITY], &[f32::NEG_INFINITY; 2]] {
        assert!(log_softmax(bad).iter().all(|x| x.is_nan()));
    }
    assert!(log_softmax(&[]).is_empty());
}

#[test]
fn a_model_without_weight_has_no_say() {
    let (p, q) = ([1.0, 2.0, 0.5], [f32::NEG_INFINITY, 0.0, 0.0]);
    let own = Probs::softmax(&p).to_vec();
    for combine in [Combine::Mixture(weights(&[2.0, 0.0])), Combine::LogitAverage(weights(&[2.0, 0.0]))] {
        assert!(near(&Probs::softmax(&combine.logits(&[&p, &q])).to_vec(), &own, 1e-7));
    }
    for (scale, row) in [(1.0, &p), (0.0, &q)] {
        let guided = Probs::softmax(&Guidance::new(scale).unwrap().logits(&p, &q)).to_vec();
        assert!(near(&guided, &Probs::softmax(row).to_vec(), 1e-7));
    }
    // What the unconditioned side excludes does not become certain.
    let guided = Guidance::new(2.0).unwrap().logits(&p, &q);
    assert!(guided[0] == f32::NEG_INFINITY && guided[1].is_finite());
}

#[test]
fn what_cannot_be_combined_is_refused() {
    let text = |error: LogitsError| error.to_string();
    assert!(text(Weights::new(vec![1.0, -0.5]).unwrap_err()).starts_with("weight of a model -0.5"));
    assert!(text(Weights::new(vec![f64::NAN]).unwrap_err()).starts_with("weight of a model NaN"));
    assert!(text(Weights::new(vec![0.0, 0.0]).unwrap_err()).starts_with("sum of the models' weights 0"));
    assert!(Weights::equal(0).is_err());
    assert!(text(Guidance::new(-1.0).unwrap_err()).starts_with("guidance scale -1"));
    let mixture = Combine::Mixture(Weights::equal(3).unwrap());
    assert_eq!(mixture.check(2), Err(LogitsError::Models { models: 2, wanted: 3 }));
    assert!(text(mixture.check(2).unwrap_err()).starts_with("2 models, but their combination is for 3"));
    let contrast = |strength, plausibility| Combine::Contrast { strength, plausibility }.check(2);
    assert!(contrast(0.5, 0.1).is_ok());
    assert!(text(contrast(-0.5, 0.1).unwrap_err()).starts_with("contrast strength"));
    assert!(text(contrast(0.5, 1.5).unwrap_err()).starts_with("contrast plausibility"));
    let row = Combine::Mixture(Weights::equal(2).unwrap()).logits(&[&[0.0, 1.0], &[f32::NAN, 1.0]]);
    assert!(row.iter().all(|x| x.is_nan()), "a broken model is not hidden");
}
