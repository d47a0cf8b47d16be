//! Drift: no warning where nothing changed, a warning where the model did.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_logits::{
    Probs,
    drift::{Certainty, Drift, DriftError, KolmogorovSmirnov, Reference},
};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

/// Positions of a model whose logits are spread like this, and divided by a temperature.
fn stream(count: usize, temperature: f32, seed: u64) -> Vec<Certainty> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut position = || {
        let sure = rng.random::<f32>() * 8.0;
        let row: Vec<f32> = (0..40).map(|_| rng.random::<f32>() * sure / temperature).collect();
        let (certainty, probs) = (Certainty::of(&row), Probs::softmax(&row));
        assert!((certainty.entropy - probs.entropy()).abs() < 1e-12);
        assert_eq!(certainty.max_probability, probs.max().1);
        certainty
    };
    (0..count).map(|_| position()).collect()
}

fn watch(reference: &Reference, stream: &[Certainty]) -> Drift {
    let mut drift = Drift::new(reference.clone());
    for &position in stream {
        drift.observe(position);
    }
    drift
}

/// Of 200 seeds, how many lead to a warning.
fn warnings(count: usize, temperature: f32) -> usize {
    let reference = Reference::of(&stream(2000, 1.0, 1)).unwrap();
    (0..200)
        .filter(|seed| watch(&reference, &stream(count, temperature, 100 + seed)).check().is_some())
        .count()
}

#[test]
fn a_stream_like_the_reference_is_left_alone() {
    for count in [100, 400, 2000] {
        let warned = warnings(count, 1.0);
        assert!(warned <= 10, "{warned} of 200 warned at {count} positions");
    }
}

#[test]
fn another_temperature_is_noticed() {
    for temperature in [0.5, 0.7, 1.5] {
        let warned = warnings(400, temperature);
        assert!(warned >= 190, "{warned} of 200 warned at temperature {temperature}");
    }
}

#[test]
fn a_warning_says_its_numbers() {
    let reference = Reference::of(&stream(2000, 1.0, 1)).unwrap();
    let drift = watch(&reference, &stream(500, 0.4, 2));
    let warning = drift.check().unwrap();
    let text = warning.to_string();
    assert!(warning.psi >= Drift::LARGE && text.contains("a large shift: stability index"), "{text}");
    assert!(text.ends_with("over 500 positions against 2000 of the reference"), "{text}");
    assert_eq!(drift.clone().with_limit(warning.psi + 0.1).check(), None);
    // However far it is, a few positions prove nothing.
    assert_eq!(watch(&reference, &stream(99, 0.1, 2)).check(), None);
    assert_eq!((drift.positions(), reference.positions()), (500, 2000));
}

#[test]
fn a_reference_is_read_back() {
    let reference = Reference::of(&stream(777, 1.0, 5)).unwrap();
    assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
    // A model that always says the same is a reference too.
    let alike = vec![Certainty { entropy: 0.0, max_probability: 1.0 }; 60];
    let flat = Reference::of(&alike).unwrap();
    assert_eq!(flat.to_string(), "entropy 60<=0,0; max-probability 60<=1,0");
    assert_eq!(flat.to_string().parse(), Ok(flat.clone()));
    assert_eq!(watch(&flat, &vec![alike[0]; 200]).check(), None);
    let moved = watch(&flat, &vec![Certainty { entropy: 1.0, max_probability: 0.5 }; 200]);
    assert!(moved.check().is_some_and(|warning| warning.psi.is_finite() && warning.test.p_value < 1e-9));
}

#[test]
fn what_is_no_reference_is_refused() {
    assert_eq!(Reference::of(&stream(49, 1.0, 1)), Err(DriftError::Few { positions: 49 }));
    let mut broken = stream(60, 1.0, 1);
    broken[7].entropy = f64::NAN;
    assert!(
        Reference::of(&broken).unwrap_err().to_string().starts_with("position 7 (from 0) has entropy NaN")
    );
    for (text, reason) in [
        ("entropy 60", "it has no semicolon"),
        ("entropie 60; max-probability 60", "a name is missing"),
        ("entropy 1.5; max-probability 60", "a count is no whole number"),
        ("entropy 60<=x,0; max-probability 60", "an edge is no number"),
        ("entropy 60<=0; max-probability 60", "all bins but the last have an edge"),
        ("entropy 60,0; max-probability 60", "all bins but the last have an edge"),
        ("entropy 60<=1,0<=0.5,1; max-probability 60", "edges are finite and rise"),
        ("entropy 60<=NaN,1; max-probability 60", "edges are finite and rise"),
        ("entropy 60; max-probability 49", "a reference has 50 positions or more"),
    ] {
        let error = text.parse::<Reference>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("no reference for drift: {reason}")), "{text}: {error}");
    }
}

/// The tests of samples, as often right as they say.
#[test]
fn p_values_are_as_frequent_as_they_say() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut sample = |count: usize| (0..count).map(|_| rng.random::<f64>()).collect::<Vec<_>>();
    let (mut one, mut two, mut shifted) = (0, 0, 0);
    for _ in 0..1000 {
        let (a, b) = (sample(80), sample(120));
        one += usize::from(KolmogorovSmirnov::against(&a, |x| x).unwrap().p_value < 0.1);
        two += usize::from(KolmogorovSmirnov::between(&a, &b).unwrap().p_value < 0.1);
        let moved: Vec<f64> = b.iter().map(|x| x + 0.3).collect();
        shifted += usize::from(KolmogorovSmirnov::between(&a, &moved).unwrap().p_value < 0.1);
    }
    assert!((70..=130).contains(&one), "{one} of 1000");
    assert!((50..=130).contains(&two), "{two} of 1000");
    assert!(shifted >= 950, "{shifted} of 1000");
}
