//! SLED and `DoLa`: the golden cases of `reference/golden/golden.toml`, and what holds for all rows.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_logits::{Context, Dola, LogitsError, Probs, Sampler, SamplingOptions, Sled, TokenId};
use proptest::{collection::vec, prelude::*};

#[derive(serde::Deserialize)]
struct Golden {
    sled: Vec<SledCase>,
    dola: Vec<DolaCase>,
}

#[derive(serde::Deserialize)]
struct SledCase {
    final_logits: Vec<f64>,
    early_logits: Vec<Vec<f64>>,
    scale: usize,
    rate: f64,
    steps: usize,
    floor: f64,
    latent: Vec<f64>,
    layer_weights: Vec<f64>,
    logits_out: Vec<f64>,
}

#[derive(serde::Deserialize)]
struct DolaCase {
    final_logits: Vec<f64>,
    early_logits: Vec<Vec<f64>>,
    relative_top: f64,
    floor: f64,
    divergence: Vec<f64>,
    layer: usize,
    keep: Vec<bool>,
    scores: Vec<f64>,
    probs: Vec<f64>,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../reference/golden/golden.toml");
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn slices<T>(rows: &[Vec<T>]) -> Vec<&[T]> {
    rows.iter().map(Vec::as_slice).collect()
}

fn near(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
}

fn single(row: &[f64]) -> Vec<f32> {
    row.iter().map(|&x| x as f32).collect()
}

fn check_sled(sled: &Sled, case: &SledCase) -> bool {
    let evolution = sled.evolve(&case.final_logits, &slices(&case.early_logits)).unwrap();
    let (mut latent, mut logits) = (vec![0.0; case.latent.len()], vec![case.floor; case.latent.len()]);
    for (at, &token) in evolution.support.iter().enumerate() {
        latent[token as usize] = evolution.latent[at];
        logits[token as usize] = evolution.logits[at];
    }
    // Rows in single precision cannot do better than its inputs.
    let early: Vec<_> = case.early_logits.iter().map(|row| single(row)).collect();
    let row: Vec<f64> =
        sled.logits(&single(&case.final_logits), &slices(&early)).into_iter().map(f64::from).collect();
    near(&latent, &case.latent, 1e-9)
        && near(&evolution.layer_weights, &case.layer_weights, 1e-9)
        && near(&logits, &case.logits_out, 1e-9)
        && near(&row, &case.logits_out, 1e-5)
}

#[test]
fn sled_reproduces_its_golden_cases() {
    for case in golden().sled {
        let sled = Sled::new(case.scale, case.rate, case.steps, case.floor).unwrap();
        assert!(check_sled(&sled, &case));
        for wrong in [
            Sled::new(case.scale - 1, case.rate, case.steps, case.floor),
            Sled::new(case.scale, case.rate + 0.1, case.steps, case.floor),
            Sled::new(case.scale, case.rate + 0.01, case.steps + 1, case.floor),
        ] {
            assert!(!check_sled(&wrong.unwrap(), &case), "a wrong setting must be seen");
        }
    }
}

#[test]
fn dola_reproduces_its_golden_case() {
    for case in golden().dola {
        let dola = Dola::new(case.relative_top, case.floor).unwrap();
        let contrast = dola.contrast(&case.final_logits, &slices(&case.early_logits)).unwrap();
        assert!(near(&contrast.divergence, &case.divergence, 1e-12));
        assert_eq!(contrast.layer, Some(case.layer));
        assert!(near(&contrast.scores, &case.scores, 1e-12));
        assert_eq!(contrast.scores.iter().map(|&x| x > case.floor).collect::<Vec<_>>(), case.keep);
        let early: Vec<_> = case.early_logits.iter().map(|row| single(row)).collect();
        let row = dola.logits(&single(&case.final_logits), &slices(&early));
        assert!(near(&Probs::softmax(&row).to_vec(), &case.probs, 1e-6));
        // The other layer is another law.
        let other = dola.contrast(&case.final_logits, &slices(&case.early_logits[1..])).unwrap();
        assert!(!near(&other.scores, &case.scores, 1e-3));
    }
}

/// The evolution as the paper writes it: a gradient for each token of the support.
fn sled_on_paper(last: &[f64], early: &[Vec<f64>], scale: usize, rate: f64) -> Vec<f64> {
    let softmax = |row: &[f64]| {
        let max = row.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
        row.iter().map(|x| (x - max).exp() / sum).collect::<Vec<_>>()
    };
    let mut support: Vec<usize> = (0..last.len()).collect();
    support.sort_by(|&a, &b| last[b].total_cmp(&last[a]));
    support.truncate(scale);
    let mut latent = vec![0.0; last.len()];
    for layer in early {
        let p = softmax(layer);
        for &i in &support {
            let gradient: Vec<f64> = (0..p.len()).map(|v| p[v] - f64::from(u8::from(v == i))).collect();
            let (mut dot, mut a, mut b) = (0.0, 0.0, 0.0);
            for v in 0..p.len() {
                let d = layer[v] - last[v];
                dot += gradient[v] * d;
                a += gradient[v] * gradient[v];
                b += d * d;
            }
            latent[i] += (dot / (a * b).sqrt()).max(0.0).powi(2);
        }
    }
    let total: f64 = latent.iter().sum();
    let p = softmax(last);
    support.into_iter().map(|i| last[i] - rate * (p[i] - latent[i] / total.max(1e-300))).collect()
}

fn rows(vocab: std::ops::Range<usize>) -> impl Strategy<Value = (Vec<f64>, Vec<Vec<f64>>)> {
    let row = |vocab| vec(-12.0..12.0f64, vocab);
    vocab.prop_flat_map(move |vocab| (row(vocab), vec(row(vocab), 1..5)))
}

/// Whatever a model may say, infinities and enormous numbers among it.
fn wild() -> impl Strategy<Value = (Vec<f32>, Vec<Vec<f32>>)> {
    let logit = || prop_oneof![4 => -30.0..30.0f32, 1 => Just(f32::NEG_INFINITY), 1 => Just(1e30f32), 1 => Just(-1e30f32)];
    let row = move |vocab| {
        (vec(logit(), vocab), 0..vocab, -5.0..5.0f32).prop_map(|(mut row, at, x)| {
            row[at] = x;
            row
        })
    };
    (1usize..20).prop_flat_map(move |vocab| (row(vocab), vec(row(vocab), 0..4)))
}

proptest! {
    #[test]
    fn sled_is_what_the_paper_says((last, early) in rows(2..40), scale in 1usize..12, rate in 0.0..4.0f64) {
        let sled = Sled::new(scale, rate, 1, -1000.0).unwrap();
        let evolution = sled.evolve(&last, &slices(&early)).unwrap();
        prop_assert!(near(&evolution.logits, &sled_on_paper(&last, &early, scale, rate), 1e-9));
        let mass: f64 = evolution.latent.iter().sum();
        prop_assert!((mass - 1.0).abs() < 1e-12 || evolution.latent.iter().all(|&x| x == 0.0));
        prop_assert!(evolution.support.len() == scale.min(last.len()));
    }

    /// A layer may be as certain as it likes of a token: the cosines of the others do not drown in rounding.
    #[test]
    fn a_certain_layer_still_points((last, early) in rows(3..9), certain in 20.0..34.0f64) {
        let mut layer = early[0].clone();
        layer[1] += certain;
        let at = |last: &[f64]| Sled::new(9, 1.0, 1, 0.0).unwrap().evolve(last, &[&layer]).unwrap();
        let (a, b) = (at(&last), at(&last.iter().map(|x| x + 1e-9).collect::<Vec<_>>()));
        prop_assert!(near(&a.latent, &b.latent, 1e-6));
    }

    #[test]
    fn rate_0_is_the_identity_on_the_support((last, early) in rows(2..12)) {
        let row = Sled::new(3, 0.0, 2, -1000.0).unwrap().logits(&single(&last), &slices(&early.iter().map(|r| single(r)).collect::<Vec<_>>()));
        let kept = row.iter().zip(single(&last)).filter(|(a, _)| **a != -1000.0);
        prop_assert!(kept.clone().all(|(a, b)| *a == b) && kept.count() == 3.min(last.len()));
    }

    /// Extreme rows still give rows from which a token can be drawn, and excluded tokens stay excluded.
    #[test]
    fn wild_rows_stay_usable((last, early) in wild(), steps in 1usize..4) {
        let sampler = Sampler::new(&SamplingOptions { temperature: 1.0, ..Default::default() }).unwrap();
        let sled = Sled::new(3, 1.5, steps, -1000.0).unwrap();
        for row in [sled.logits(&last, &slices(&early)), Dola::default().logits(&last, &slices(&early))] {
            let scores = sampler.scores(&Context::new(&[], 0), &row);
            prop_assert!(scores.is_ok(), "{:?} of {:?} and {:?}", row, last, early);
            for (v, (old, new)) in last.iter().zip(&row).enumerate() {
                prop_assert!(*old != f32::NEG_INFINITY || *new == f32::NEG_INFINITY, "token {v}");
            }
        }
    }

    #[test]
    fn dola_is_what_the_paper_says((last, early) in rows(2..40), top in 0.0..1.0f64) {
        let law = |row: &[f64]| Probs::softmax(&single(row));
        let early: Vec<Vec<f64>> = early.iter().map(|r| single(r).into_iter().map(f64::from).collect()).collect();
        let last: Vec<f64> = single(&last).into_iter().map(f64::from).collect();
        let contrast = Dola::new(top, -1000.0).unwrap().contrast(&last, &slices(&early)).unwrap();
        let p = law(&last);
        let apart = early.iter().map(|layer| {
            let q = law(layer);
            (0..last.len() as TokenId).map(|v| {
                let (p, q) = (p.get(v), q.get(v));
                let half = |x: f64| if x > 0.0 { 0.5 * x * (2.0 * x / (p + q)).ln() } else { 0.0 };
                half(p) + half(q)
            }).sum::<f64>()
        });
        prop_assert!(near(&contrast.divergence, &apart.collect::<Vec<_>>(), 1e-12));
        let q = law(&early[contrast.layer.unwrap()]);
        for v in 0..last.len() {
            let (p_v, q_v, score) = (p.get(v as TokenId), q.get(v as TokenId), contrast.scores[v]);
            let edge = (p_v - top * p.max().1).abs() < 1e-9;
            let wanted = if p_v >= top * p.max().1 { p_v.ln() - q_v.ln() } else { -1000.0 };
            prop_assert!(edge || (score - wanted).abs() < 1e-9, "{score} {wanted}");
        }
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let range = |error: LogitsError| error.to_string();
    assert_eq!(
        range(Sled::new(0, 1.0, 1, 0.0).unwrap_err()),
        "evolution scale 0 is out of range: 1 or more tokens"
    );
    assert!(range(Sled::new(1, -0.1, 1, 0.0).unwrap_err()).starts_with("evolution rate -0.1"));
    assert!(range(Sled::new(1, f64::NAN, 1, 0.0).unwrap_err()).starts_with("evolution rate NaN"));
    assert!(range(Sled::new(1, 1.0, 0, 0.0).unwrap_err()).starts_with("evolution steps 0"));
    assert!(range(Sled::new(1, 1.0, 1, 1e300).unwrap_err()).starts_with("evolution floor"));
    assert!(range(Dola::new(1.1, 0.0).unwrap_err()).starts_with("relative top 1.1"));
    assert!(range(Dola::new(0.1, f64::NEG_INFINITY).unwrap_err()).starts_with("contrast floor"));
}

#[test]
fn broken_rows_are_not_hidden() {
    let good = [1.0, 2.0];
    for bad in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [f32::NEG_INFINITY; 2]] {
        for row in [
            Sled::default().logits(&good, &[&good, &bad]),
            Sled::default().logits(&bad, &[&good]),
            Dola::default().logits(&good, &[&good, &bad]),
            Dola::default().logits(&bad, &[&good]),
        ] {
            assert!(row.iter().all(|x| x.is_nan()), "{row:?}");
        }
    }
}

#[test]
fn layers_that_say_the_same_leave_nothing_to_contrast() {
    let last = [3.0, 2.0, -4.0];
    let contrast = Dola::default().contrast(&last, &[&last, &last]).unwrap();
    assert!(contrast.divergence.iter().all(|&x| x < 1e-15));
    assert_eq!((contrast.layer, contrast.scores), (Some(0), vec![0.0, 0.0, -1000.0]));
    let alone = Dola::default().contrast(&last, &[]).unwrap();
    assert!(alone.layer.is_none() && (alone.scores[0] - alone.scores[1] - 1.0).abs() < 1e-12);
}
