//! Deciding a round takes no memory of the system once the first rounds are over.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../logits/tests/common/counting.rs"]
mod counting;

use counting::counted;
use drafthorse::{
    Draws, SamplingOptions,
    logits::{Context, Proposal, Purpose, Sampler, Scores, SeededDraws},
    synthetic::random_tokens,
    verifier::{RULES, rule},
};
const K: usize = 5;
const VOCAB: usize = 400;

/// Rows of logits that look random; the drafter's are near to the expert's.
fn rows(seed: u64, spread: f32) -> Vec<Vec<f32>> {
    let base = |i: usize| random_tokens(i as u64, VOCAB, 1000);
    let noise = |i: usize| random_tokens(seed + i as u64, VOCAB, 1000);
    let row = |i: usize| {
        base(i).iter().zip(noise(i)).map(|(&x, e)| x as f32 / 100.0 + spread * e as f32 / 1000.0).collect()
    };
    (0..=K).map(row).collect()
}

/// Allocations of the decision of each of some rounds.
fn allocations(spec: &str, sampling: &SamplingOptions) -> Vec<usize> {
    let (rule, sampler) = (rule(spec).unwrap(), Sampler::new(sampling).unwrap());
    let (draft, expert) = (rows(100, 3.0), rows(200, 0.0));
    let scores = |rows: &[Vec<f32>]| -> Vec<Scores> {
        rows.iter().map(|row| sampler.scores(&Context::new(&[], 0), row).unwrap()).collect()
    };
    let round = |number| {
        let mut draws = SeededDraws::new(3, number);
        let (scores, expert) = (scores(&draft), scores(&expert));
        let tokens = (0..K).map(|i| draws.pick(i, Purpose::Draft, scores[i].probs())).collect();
        let proposal = Proposal { tokens, scores };
        let before = counted();
        rule.judge(&proposal, &expert, 0, &mut draws);
        counted() - before
    };
    (0..600).map(round).collect()
}

fn samplings() -> [SamplingOptions; 4] {
    let at = |temperature| SamplingOptions { temperature, ..Default::default() };
    [at(0.0), at(0.8), at(1.0), SamplingOptions { top_p: 0.9, top_k: 50, ..at(0.7) }]
}

#[test]
fn no_rule_allocates_once_it_is_under_way() {
    for info in RULES {
        for sampling in samplings() {
            let counts = allocations(info.name, &sampling);
            let late: usize = counts[450..].iter().sum();
            assert_eq!(late, 0, "{} {sampling:?}", info.name);
        }
    }
}

/// The first rounds do allocate, and are seen to.
#[test]
fn allocations_are_counted() {
    assert!(allocations("lossless", &samplings()[1])[0] > 0);
}
