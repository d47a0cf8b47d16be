//! The golden cases of processors and row statistics, from `reference/golden/golden.toml`.
//!
//! The logits of all cases are numbers that an f32 holds exactly, and all that follows is f64: probabilities agree
//! to 1e-9. Logits that a penalty changed are f32 again and agree to half a unit in its last place, 6e-8 of the
//! number.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_logits::{
    Context, LogitsProcessor, Probs, Sampler, SamplingOptions, TokenId, log_sum_exp,
    processors::{
        Epsilon, Eta, MinP, Mirostat, PresenceFrequency, Repetition, TopK, TopNSigma, TopP, Typical, Xtc,
    },
};

#[derive(serde::Deserialize)]
struct Golden {
    row_statistics: Vec<Row>,
    processor: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Row {
    logits: Vec<f32>,
    probs: Vec<f64>,
    entropy_nats: f64,
    surprise_bits: Vec<f64>,
    typical_order: Vec<usize>,
    population_deviation: f64,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    kind: String,
    logits: Vec<f32>,
    temperature: Option<f32>,
    k: Option<usize>,
    mass: Option<f64>,
    ratio: Option<f64>,
    epsilon: Option<f64>,
    n: Option<f64>,
    threshold: Option<f64>,
    probability: Option<f64>,
    penalty: Option<f32>,
    seen: Option<Vec<TokenId>>,
    frequency: Option<f32>,
    presence: Option<f32>,
    counts: Option<Vec<usize>>,
    keep: Option<Vec<bool>>,
    probs: Option<Vec<f64>>,
    logits_out: Option<Vec<f64>>,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../reference/golden/golden.toml");
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn near(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance * b.abs().max(1.0))
}

/// The processor of a case, and the option that switches it on.
fn truncation(case: &Case) -> Option<(Box<dyn LogitsProcessor>, SamplingOptions)> {
    let on = SamplingOptions { temperature: 1.0, ..Default::default() };
    let epsilon = || case.epsilon.unwrap();
    Some(match &case.kind[..] {
        "top_k" => {
            let top_k = case.k.unwrap();
            (Box::new(TopK(top_k)), SamplingOptions { top_k, ..on })
        }
        "top_p" => {
            let top_p = case.mass.unwrap();
            (Box::new(TopP(top_p)), SamplingOptions { top_p, ..on })
        }
        "min_p" => {
            let min_p = case.ratio.unwrap();
            (Box::new(MinP(min_p)), SamplingOptions { min_p, ..on })
        }
        "typical" => {
            let typical_p = case.mass.unwrap();
            (Box::new(Typical(typical_p)), SamplingOptions { typical_p, ..on })
        }
        "epsilon" => (Box::new(Epsilon(epsilon())), SamplingOptions { epsilon: epsilon(), ..on }),
        "eta" => (Box::new(Eta(epsilon())), SamplingOptions { eta: epsilon(), ..on }),
        "top_n_sigma" => {
            let top_n_sigma = case.n.unwrap();
            (Box::new(TopNSigma(top_n_sigma)), SamplingOptions { top_n_sigma, ..on })
        }
        "xtc" => {
            let (probability, threshold) = (case.probability.unwrap(), case.threshold.unwrap());
            let options = SamplingOptions { xtc_probability: probability, xtc_threshold: threshold, ..on };
            (Box::new(Xtc { probability, threshold, seed: 0 }), options)
        }
        _ => return None,
    })
}

#[test]
fn truncations() {
    let mut kinds = std::collections::BTreeSet::new();
    for case in &golden().processor {
        let Some((processor, options)) = truncation(case) else { continue };
        kinds.insert(case.kind.clone());
        let mut row = case.logits.clone();
        processor.process(&Context::new(&[], 0), &mut row);
        let kept: Vec<_> = row.iter().map(|x| *x > f32::NEG_INFINITY).collect();
        assert_eq!(Some(kept), case.keep, "{}", case.name);
        let probs = case.probs.as_deref().unwrap();
        assert!(near(&Probs::softmax(&row).to_vec(), probs, 1e-9), "{} alone", case.name);
        let sampler = Sampler::new(&options).unwrap();
        let scores = sampler.scores(&Context::new(&[], 0), &case.logits).unwrap();
        assert!(near(&scores.probs().to_vec(), probs, 1e-9), "{} in a sampler", case.name);
    }
    assert_eq!(kinds.len(), 8, "{kinds:?}");
}

#[test]
fn temperatures_and_penalties() {
    let mut seen = 0;
    for case in &golden().processor {
        let mut row = case.logits.clone();
        match &case.kind[..] {
            "temperature" => {
                let options =
                    SamplingOptions { temperature: case.temperature.unwrap(), ..Default::default() };
                let scores = Sampler::new(&options).unwrap().scores(&Context::new(&[], 0), &row).unwrap();
                assert!(
                    near(&scores.probs().to_vec(), case.probs.as_deref().unwrap(), 1e-9),
                    "{}",
                    case.name
                );
                seen += 1;
                continue;
            }
            "repetition" => {
                let repetition = Repetition { penalty: case.penalty.unwrap(), last_n: 0 };
                repetition.process(&Context::new(case.seen.as_deref().unwrap(), 0), &mut row);
            }
            "frequency_presence" => {
                let counts = case.counts.as_deref().unwrap();
                let repeat = |(token, n): (TokenId, &usize)| std::iter::repeat_n(token, *n);
                let tokens: Vec<_> = (0..).zip(counts).flat_map(repeat).collect();
                let (presence, frequency) = (case.presence.unwrap(), case.frequency.unwrap());
                PresenceFrequency { presence, frequency, last_n: 0 }
                    .process(&Context::new(&tokens, 0), &mut row);
            }
            _ => continue,
        }
        seen += 1;
        let row: Vec<_> = row.into_iter().map(f64::from).collect();
        assert!(near(&row, case.logits_out.as_deref().unwrap(), 6e-8), "{}", case.name);
    }
    assert_eq!(seen, 5);
}

#[test]
fn statistics_of_rows() {
    for case in &golden().row_statistics {
        let probs = Probs::softmax(&case.logits);
        assert!(near(&probs.to_vec(), &case.probs, 1e-12));
        assert!((probs.entropy() - case.entropy_nats).abs() < 1e-12);
        let total = log_sum_exp(&case.logits);
        let bits = |x: &f32| (total - f64::from(*x)) / std::f64::consts::LN_2;
        assert!(near(&case.logits.iter().map(bits).collect::<Vec<_>>(), &case.surprise_bits, 1e-12));
        // Typical sampling takes tokens in this order: with a little more mass, one token more.
        let mut taken = Vec::new();
        let mut mass = 0.0;
        for &token in &case.typical_order {
            let mut row = case.logits.clone();
            taken.push(token);
            mass += case.probs[token];
            Typical(mass - 1e-9).process(&Context::new(&[], 0), &mut row);
            let kept: Vec<_> = (0..row.len()).filter(|i| row[*i] > f32::NEG_INFINITY).collect();
            taken.sort_unstable();
            assert_eq!(kept, taken);
        }
        // Version 2 of mirostat cuts between surprises, top-n-sigma at a multiple of the deviation.
        for (token, surprise) in case.surprise_bits.iter().enumerate() {
            for (allowed, count) in [(surprise + 1e-9, token + 1), (surprise - 1e-9, token.max(1))] {
                let mut row = case.logits.clone();
                // What is allowed before the first token is twice the target.
                let mirostat = Mirostat { tau: allowed / 2.0, ..Default::default() };
                mirostat.process(&Context::new(&[], 0).remembering(mirostat.start()), &mut row);
                assert_eq!(row.iter().filter(|x| **x > f32::NEG_INFINITY).count(), count);
            }
            let n = (f64::from(case.logits[0]) - f64::from(case.logits[token])) / case.population_deviation;
            let mut row = case.logits.clone();
            TopNSigma(n + 1e-9).process(&Context::new(&[], 0), &mut row);
            assert_eq!(row.iter().filter(|x| **x > f32::NEG_INFINITY).count(), token + 1);
        }
    }
}
