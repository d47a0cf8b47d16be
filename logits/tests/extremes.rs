//! Rows at the edge of what numbers can be: every processor, alone and in a sampler, leaves a token and no NaN.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_logits::{
    Context, LogitsError, LogitsProcessor, Memory, Order, Probs, Sampler, SamplingOptions, argmax,
    log_sum_exp,
    processors::{
        BadWords, Dry, DynamicTemperature, Epsilon, Eta, Forced, LogitBias, MinP, MinTokens, Mirostat,
        MirostatVersion, NoRepeatNgram, PresenceFrequency, Repetition, Temperature, TopK, TopNSigma, TopP,
        Typical, Xtc,
    },
};
use proptest::prelude::*;

const OUT: f32 = f32::NEG_INFINITY;
const TEXT: [u32; 6] = [3, 0, 1, 3, 0, 1];

fn rows() -> Vec<Vec<f32>> {
    vec![
        vec![1e30, -1e30, 0.0, 1e30, OUT],
        vec![f32::MAX, f32::MIN, f32::MAX, 0.0, OUT],
        vec![f32::MIN; 5],
        vec![f32::MIN_POSITIVE, -f32::MIN_POSITIVE, 0.0, -0.0, 1e-45],
        vec![7.0; 5],
        vec![OUT, OUT, -3.0, OUT, OUT],
        vec![OUT, OUT, f32::MIN, OUT, OUT],
        vec![0.0, -1e4, -1e4, -1e4, -1e4],
        vec![1e4, 0.0, 0.0, 0.0, OUT],
        vec![0.0, -709.0, -744.0, -746.0, OUT],
        vec![OUT, 5.0, 5.0, OUT, 4.999_999_5],
        (0..3000).map(|i| (i % 13) as f32).collect(),
        (0..3000).map(|i| if i % 3 == 0 { OUT } else { -1e30 * (i % 5) as f32 }).collect(),
        vec![2.0; 3000],
    ]
}

/// All that there is, at several settings each. None of them bans everything here.
fn processors() -> Vec<(String, Box<dyn LogitsProcessor>)> {
    let mut all: Vec<(String, Box<dyn LogitsProcessor>)> = Vec::new();
    let mut add = |name: &str, processor: Box<dyn LogitsProcessor>| all.push((name.to_owned(), processor));
    for t in [1e-30, 0.1, 1.0, 3.0, 1e30] {
        add(&format!("temperature {t}"), Box::new(Temperature(t)));
        for range in [0.05, 1e3] {
            let dynamic = DynamicTemperature { temperature: t, range, exponent: 2.0 };
            add(&format!("dynatemp {t} {range}"), Box::new(dynamic));
        }
    }
    for k in [1, 2, 4, 5, 100, 2999, 9999] {
        add(&format!("top-k {k}"), Box::new(TopK(k)));
    }
    for x in [1e-300, 0.01, 0.3, 0.5, 0.9999, 1.0 - f64::EPSILON] {
        add(&format!("top-p {x}"), Box::new(TopP(x)));
        add(&format!("min-p {x}"), Box::new(MinP(x)));
        add(&format!("typical {x}"), Box::new(Typical(x)));
        add(&format!("epsilon {x}"), Box::new(Epsilon(x)));
        add(&format!("eta {x}"), Box::new(Eta(x)));
        add(&format!("top-n-sigma {x}"), Box::new(TopNSigma(x)));
        add(&format!("xtc {x}"), Box::new(Xtc { probability: 1.0, threshold: x, seed: 1 }));
    }
    add("top-n-sigma far", Box::new(TopNSigma(1e300)));
    for (tau, eta) in [(1e-9, 0.1), (3.0, 1.0), (1e300, 1.0)] {
        for version in [MirostatVersion::V1, MirostatVersion::V2] {
            add(&format!("{version:?} {tau}"), Box::new(Mirostat { version, tau, eta }));
        }
    }
    for x in [1e-30, 0.5, 2.0, 1e30] {
        add(&format!("repetition {x}"), Box::new(Repetition { penalty: x, last_n: 0 }));
        let both = PresenceFrequency { presence: x, frequency: -x, last_n: 0 };
        add(&format!("presence, frequency {x}"), Box::new(both));
        for multiplier in [x, -x] {
            let dry = Dry { multiplier, base: 1.0 + x, ..Default::default() };
            add(&format!("DRY {multiplier}"), Box::new(dry));
        }
    }
    add("bias", Box::new(LogitBias(vec![(1, 3e38), (2, -3e38)])));
    add("bad words", Box::new(BadWords(vec![vec![3, 0, 1, 0], vec![4]])));
    add("no repeat", Box::new(NoRepeatNgram(3)));
    add("min tokens", Box::new(MinTokens { tokens: 9, ends: vec![4] }));
    add("forced", Box::new(Forced { first: None, last: Some((5, 2)) }));
    all
}

fn context() -> Context<'static> {
    let mirostat = Mirostat { tau: 2.0, ..Default::default() };
    Context::new(&TEXT, 2).remembering(mirostat.start())
}

/// A row from which a token can be drawn, or in which a ban left nothing.
fn sane(name: &str, row: &[f32], before: &[f32]) {
    assert!(row.iter().all(|x| !x.is_nan()), "{name}: {before:?} became {row:?}");
    let alive = |row: &[f32]| row.iter().any(|x| *x > OUT);
    // Bans may take the only token there was.
    let bans = ["bad", "no repeat", "min tokens"].iter().any(|ban| name.starts_with(ban));
    assert!(alive(row) || bans && before.iter().filter(|x| **x > OUT).count() <= 1, "{name}: {before:?}");
}

#[test]
fn every_processor_leaves_a_token_and_no_nan() {
    for (name, processor) in processors() {
        for before in rows() {
            let mut row = before.clone();
            processor.process(&context(), &mut row);
            sane(&name, &row, &before);
        }
        let mut none = vec![OUT; 5];
        processor.process(&context(), &mut none);
        assert!(none.iter().all(|x| !x.is_nan()), "{name}: an empty row became {none:?}");
        processor.process(&Context::new(&[], 0), &mut [1.0]);
    }
}

#[test]
fn truncations_keep_the_logits_they_keep() {
    let penal = ["temperature", "dynatemp", "repetition", "presence", "DRY", "bias", "forced"];
    for (name, processor) in processors() {
        if penal.iter().any(|penal| name.starts_with(penal)) {
            continue;
        }
        for before in rows() {
            let mut row = before.clone();
            processor.process(&context(), &mut row);
            assert!(row.iter().zip(&before).all(|(a, b)| *a == OUT || a == b), "{name}: {before:?} {row:?}");
        }
    }
}

/// Each option alone, and several together.
fn options() -> Vec<SamplingOptions> {
    let at = |temperature| SamplingOptions { temperature, ..Default::default() };
    let mut all = vec![at(0.0), at(1e-30), at(0.7), at(1.0), at(1e30)];
    let mirostat = |version, tau| Some(Mirostat { version, tau, eta: 0.1 });
    for t in [1e-30, 0.7, 1.0, 50.0] {
        all.extend([
            SamplingOptions { top_k: 2, ..at(t) },
            SamplingOptions { top_k: 2000, ..at(t) },
            SamplingOptions { top_p: 0.5, ..at(t) },
            SamplingOptions { min_p: 1.0, ..at(t) },
            SamplingOptions { typical_p: 0.3, ..at(t) },
            SamplingOptions { epsilon: 0.9, ..at(t) },
            SamplingOptions { eta: 0.9, ..at(t) },
            SamplingOptions { top_n_sigma: 1e-9, ..at(t) },
            SamplingOptions { xtc_probability: 1.0, xtc_threshold: 0.0, ..at(t) },
            SamplingOptions { dynatemp_range: 9.0, ..at(t) },
            SamplingOptions { mirostat: mirostat(MirostatVersion::V1, 1.0), ..at(t) },
            SamplingOptions { mirostat: mirostat(MirostatVersion::V2, 1e-3), ..at(t) },
        ]);
        let together = SamplingOptions {
            repetition_penalty: 1e30,
            presence_penalty: 3e38,
            frequency_penalty: 3e38,
            dry: Dry { multiplier: 3e38, ..Default::default() },
            top_k: 40,
            top_p: 0.9,
            min_p: 0.05,
            typical_p: 0.9,
            epsilon: 1e-3,
            eta: 1e-3,
            top_n_sigma: 1.5,
            xtc_probability: 0.5,
            dynatemp_range: 0.5,
            ..at(t)
        };
        for order in [Order::hf(), Order::llama_cpp(), Order::vllm()] {
            all.push(SamplingOptions { order, ..together.clone() });
        }
    }
    all
}

fn check_scores(options: &SamplingOptions, row: &[f32]) {
    let sampler = Sampler::new(options).unwrap().seeded(7);
    let scores = sampler.scores(&Context::new(&TEXT, 2).remembering(sampler.memory()), row).unwrap();
    let probs = scores.probs().to_vec();
    let sum: f64 = probs.iter().sum();
    assert!((sum - 1.0).abs() < 1e-9, "{options:?} {row:?}: {probs:?}");
    assert!(probs.iter().all(|p| (0.0..=1.0 + 1e-12).contains(p)), "{options:?} {row:?}: {probs:?}");
    for token in 0..row.len() {
        assert_eq!(scores.prob(token as u32), probs[token]);
        assert!(row[token] > OUT || probs[token] == 0.0, "{options:?}: an excluded token came back");
    }
    assert!(scores.entropy() >= -1e-12 && scores.raw_entropy() >= -1e-12 && !scores.entropy().is_nan());
    // The law once more from its raw row; penalties have already been at work there.
    if options.repetition_penalty == 1.0 {
        assert_eq!(scores.warp(row.iter().copied()), *scores.probs(), "{options:?}");
    }
    let after = sampler.remember(sampler.memory(), &scores, argmax(row));
    assert!(after.allowed().is_none_or(f64::is_finite));
}

#[test]
fn every_option_gives_a_law() {
    for options in options() {
        for row in rows() {
            check_scores(&options, &row);
        }
    }
}

proptest! {
    #[test]
    fn every_option_gives_a_law_of_any_row(
        row in prop::collection::vec(
            prop_oneof![8 => -30.0..30.0f32, 1 => Just(OUT), 1 => Just(2.0f32), 1 => -1e30..1e30f32],
            1..60,
        ),
    ) {
        prop_assume!(row.iter().any(|x| *x > OUT));
        for options in options() {
            check_scores(&options, &row);
        }
    }

    /// What a sampler makes of a row in its own way is what the processors make of it one after the other.
    #[test]
    fn a_sampler_is_its_processors_in_order(
        row in prop::collection::vec(prop_oneof![8 => -9.0..9.0f32, 1 => Just(OUT), 1 => Just(2.0f32)], 5..80),
        t in prop_oneof![Just(1.0f32), 0.3..3.0f32],
        k in 1usize..90,
        p in 0.2..1.0f64,
        m in 0.0..0.5f64,
    ) {
        prop_assume!(row.iter().any(|x| *x > OUT));
        let on = SamplingOptions {
            temperature: t, top_k: k, top_p: p, min_p: m, typical_p: p, epsilon: m / 100.0, eta: m / 100.0,
            top_n_sigma: 4.0 * p, xtc_probability: 0.5, xtc_threshold: m, ..Default::default()
        };
        for order in [Order::hf(), Order::llama_cpp(), Order::vllm()] {
            let mut by_hand = row.clone();
            for stage in order.stages() {
                let processor: Box<dyn LogitsProcessor> = match stage.name() {
                    "temperature" => Box::new(Temperature(t)),
                    "top-k" => Box::new(TopK(k)),
                    "top-p" => Box::new(TopP(p)),
                    "min-p" => Box::new(MinP(m)),
                    "typical" => Box::new(Typical(p)),
                    "epsilon" => Box::new(Epsilon(m / 100.0)),
                    "eta" => Box::new(Eta(m / 100.0)),
                    "top-n-sigma" => Box::new(TopNSigma(4.0 * p)),
                    "xtc" => Box::new(Xtc { probability: 0.5, threshold: m, seed: 3 }),
                    _ => continue,
                };
                processor.process(&Context::new(&TEXT, 2), &mut by_hand);
            }
            let sampler = Sampler::new(&SamplingOptions { order, ..on.clone() }).unwrap().seeded(3);
            let scores = sampler.scores(&Context::new(&TEXT, 2), &row).unwrap();
            let (ours, theirs) = (scores.probs().to_vec(), Probs::softmax(&by_hand).to_vec());
            // By hand, logits are rounded after the temperature.
            prop_assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-5), "{:?} {:?}", ours, theirs);
        }
    }
}

#[test]
fn unusable_rows_are_refused_whatever_the_options() {
    for options in options() {
        let sampler = Sampler::new(&options).unwrap();
        let refuse = |row: &[f32]| sampler.scores(&Context::new(&TEXT, 2), row).unwrap_err();
        assert!(matches!(refuse(&[0.0, f32::NAN]), LogitsError::NotFinite { token: 1, .. }));
        assert!(matches!(refuse(&[f32::INFINITY, 0.0]), LogitsError::NotFinite { token: 0, .. }));
        assert_eq!(refuse(&[OUT; 4]), LogitsError::NothingLeft { vocab: 4 });
    }
}

#[test]
fn sums_of_extreme_rows() {
    for row in rows() {
        let (total, max) = (log_sum_exp(&row), row[argmax(&row) as usize]);
        assert!(total >= f64::from(max) && total <= f64::from(max) + (row.len() as f64).ln() + 1e-9);
        let probs = Probs::softmax(&row);
        assert!((probs.to_vec().iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(probs.entropy() >= 0.0 && probs.entropy() <= (row.len() as f64).ln() + 1e-9);
    }
    assert_eq!(log_sum_exp(&[]), f64::NEG_INFINITY);
    assert_eq!(Memory::default(), Memory::off());
}
