//! From a row to a drawn token no memory is asked of the system, once the first rows are over.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/counting.rs"]
mod counting;

use counting::counted;
use drafthorse_logits::{
    Context, Draws, Order, Purpose, Sampler, SamplingOptions, SeededDraws,
    processors::{Dry, Mirostat, MirostatVersion},
};
fn options() -> Vec<SamplingOptions> {
    let at = |temperature| SamplingOptions { temperature, ..Default::default() };
    let mirostat = |version| Some(Mirostat { version, ..Default::default() });
    let several = |order| SamplingOptions {
        repetition_penalty: 1.2,
        presence_penalty: 0.1,
        dry: Dry {
            multiplier: 0.5,
            allowed_length: 20,
            breakers: (110..140).map(|token| vec![token]).chain([vec![140, 3], vec![141, 4, 5]]).collect(),
            ..Default::default()
        },
        no_repeat_ngram: 3,
        bad_words: vec![vec![1, 2]],
        top_k: 50,
        top_p: 0.9,
        min_p: 0.01,
        typical_p: 0.95,
        top_n_sigma: 3.0,
        xtc_probability: 0.5,
        order,
        ..at(0.8)
    };
    vec![
        at(0.0),
        at(0.8),
        SamplingOptions { top_k: 50, ..at(0.8) },
        SamplingOptions { top_p: 0.9, ..at(0.8) },
        SamplingOptions { top_p: 0.9, ..at(30.0) },
        SamplingOptions { min_p: 0.05, ..at(0.8) },
        SamplingOptions { typical_p: 0.9, ..at(0.8) },
        SamplingOptions { epsilon: 1e-3, eta: 1e-3, ..at(0.8) },
        SamplingOptions { top_n_sigma: 1.0, dynatemp_range: 0.3, ..at(0.8) },
        SamplingOptions { xtc_probability: 0.5, ..at(0.8) },
        SamplingOptions { mirostat: mirostat(MirostatVersion::V1), ..at(0.8) },
        SamplingOptions { mirostat: mirostat(MirostatVersion::V2), ..at(0.8) },
        several(Order::hf()),
        several(Order::llama_cpp()),
        several(Order::vllm()),
    ]
}

#[test]
fn sampling_asks_for_no_memory() {
    let mut first = 0;
    let text: Vec<u32> = (0..300).map(|i| i * i % 97).collect();
    for vocab in [150, 5000] {
        let rows: Vec<Vec<f32>> = (0..5u64)
            .map(|seed| (0..vocab).map(|i| ((i * 7919 + seed * 31) % 1009) as f32 / 80.0).collect())
            .collect();
        for options in options() {
            let sampler = Sampler::new(&options).unwrap().seeded(3);
            let mut memory = sampler.memory();
            let mut draw = |turn: usize| {
                let context = Context::new(&text, 10).remembering(memory);
                let scores = sampler.scores(&context, &rows[turn % rows.len()]).unwrap();
                let token = SeededDraws::new(1, turn as u64).pick(turn, Purpose::Target, scores.probs());
                memory = sampler.remember(memory, &scores, token);
            };
            let none = counted();
            (0..60).for_each(&mut draw);
            first += counted() - none;
            let before = counted();
            (60..80).for_each(&mut draw);
            assert_eq!(counted() - before, 0, "{options:?}");
        }
    }
    assert!(first > 0, "the first rows do ask for memory, and that is seen");
}
