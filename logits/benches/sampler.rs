//! From a row of 152,000 logits to a drawn token, for the usual chains of processors, on one core.
//!
//! `pass` is one look at the row, its largest logit: what any sampler has to pay.

use criterion::{Criterion, criterion_group, criterion_main};
use drafthorse_logits::{
    Context, Draws, Order, Purpose, Sampler, SamplingOptions, SeededDraws,
    processors::{Dry, Mirostat, MirostatVersion},
};
use rand::{Rng, SeedableRng, rngs::ChaCha8Rng};
use std::hint::black_box;

const VOCAB: usize = 152_000;

/// Normal noise with a few peaks, as rows of language models are.
fn row(seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || (rng.next_u32() as f32 + 0.5) / 4_294_967_296.0;
    let mut normal = || (-2.0 * uniform().ln()).sqrt() * (std::f32::consts::TAU * uniform()).cos();
    let mut row: Vec<_> = (0..VOCAB).map(|_| 2.5 * normal()).collect();
    for peak in 0..40u16 {
        row[usize::from(peak) * 3701 + 17] = 18.0 - 0.25 * f32::from(peak) + normal();
    }
    row
}

fn chains() -> Vec<(&'static str, SamplingOptions)> {
    let at = |temperature| SamplingOptions { temperature, ..Default::default() };
    let usual = SamplingOptions { top_k: 50, top_p: 0.9, min_p: 0.05, ..at(0.8) };
    let mirostat = |version| Some(Mirostat { version, ..Default::default() });
    let dry = Dry { multiplier: 0.8, ..Default::default() };
    vec![
        ("greedy", at(0.0)),
        ("temperature", at(0.8)),
        ("top-k", SamplingOptions { top_k: 50, ..at(0.8) }),
        ("top-p", SamplingOptions { top_p: 0.9, ..at(0.8) }),
        ("top-p of a flat row", SamplingOptions { top_p: 0.9, ..at(3.0) }),
        ("min-p", SamplingOptions { min_p: 0.05, ..at(0.8) }),
        ("typical", SamplingOptions { typical_p: 0.9, ..at(0.8) }),
        ("epsilon", SamplingOptions { epsilon: 3e-4, ..at(0.8) }),
        ("eta", SamplingOptions { eta: 3e-4, ..at(0.8) }),
        ("top-n-sigma", SamplingOptions { top_n_sigma: 1.0, ..at(0.8) }),
        ("xtc", SamplingOptions { xtc_probability: 1.0, ..at(0.8) }),
        ("dynatemp", SamplingOptions { dynatemp_range: 0.5, ..at(0.8) }),
        ("mirostat 1", SamplingOptions { mirostat: mirostat(MirostatVersion::V1), ..at(0.8) }),
        ("mirostat 2", SamplingOptions { mirostat: mirostat(MirostatVersion::V2), ..at(0.8) }),
        ("hf", usual.clone()),
        ("llama.cpp", SamplingOptions { order: Order::llama_cpp(), ..usual.clone() }),
        ("vllm", SamplingOptions { order: Order::vllm(), ..usual.clone() }),
        (
            "llama.cpp with everything",
            SamplingOptions {
                order: Order::llama_cpp(),
                repetition_penalty: 1.1,
                penalty_last_n: 64,
                dry,
                top_n_sigma: 2.0,
                typical_p: 0.95,
                xtc_probability: 0.5,
                ..usual
            },
        ),
    ]
}

fn sampler(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sampler");
    let rows: Vec<_> = (0..4).map(row).collect();
    let text: Vec<u32> = (0..1000).map(|i| i * i % 977).collect();
    group.bench_function("pass", |bencher| {
        let mut turn = 0;
        bencher.iter(|| {
            turn += 1;
            // In 16 lanes, which become vectors.
            let mut lanes = [f32::NEG_INFINITY; 16];
            for chunk in black_box(&rows[turn % rows.len()]).as_chunks::<16>().0 {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane = lane.max(x);
                }
            }
            lanes
        });
    });
    for (name, temperature) in [("nucleus of a law", 0.8), ("nucleus of a flat law", 3.0)] {
        let sampler = Sampler::new(&SamplingOptions { temperature, ..Default::default() }).expect("in range");
        let scores = sampler.scores(&Context::new(&[], 0), &rows[0]).expect("finite logits");
        let probs = scores.probs().clone();
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&probs).nucleus(0.9)));
    }
    for (name, options) in chains() {
        let sampler = Sampler::new(&options).expect("options in range");
        let memory = sampler.memory();
        group.bench_function(name, |bencher| {
            let mut turn = 0;
            bencher.iter(|| {
                turn += 1;
                let context = Context::new(&text, 10).remembering(memory);
                let row = black_box(&rows[turn % rows.len()]);
                let scores = sampler.scores(&context, row).expect("finite logits");
                SeededDraws::new(1, turn as u64).pick(turn, Purpose::Target, scores.probs())
            });
        });
    }
}

criterion_group!(benches, sampler);
criterion_main!(benches);
