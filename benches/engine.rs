//! What a round is made of: the expert's forward by number of rows, drafting, sampling, judging, and whole
//! texts with and without drafts, on the demo pair.
//!
//! Times depend on the machine and on what else it does: compare figures of one run only.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use drafthorse::{
    DeviceChoice, Engine, Lossless, ModelDrafter, SamplingOptions, SessionOptions, TokenId, Transformer,
    WeightType, demo,
    logits::{Context, Probs, Proposal, Sampler, Scores, SeededDraws},
    model::CachedModel,
    open_device,
    verifier::AcceptanceRule,
};
use std::{hint::black_box, sync::Arc};

fn pair(weights: WeightType) -> (Arc<Transformer>, Arc<Transformer>) {
    let device = open_device(DeviceChoice::Cpu).expect("the CPU is there");
    let open = "the demo pair is part of the program";
    (demo::expert(&device, weights).expect(open), demo::drafter(&device, weights).expect(open))
}

/// c(m): a forward of m rows after 128 tokens.
fn forward(criterion: &mut Criterion) {
    let sequence: Vec<TokenId> = (0..256).map(|i| 300 + (i * 37) % 700).collect();
    for (name, weights) in [("f32", WeightType::F32), ("f16", WeightType::F16)] {
        let (expert, drafter) = pair(weights);
        let mut group = criterion.benchmark_group(format!("forward-{name}"));
        for (part, model) in [("expert", expert), ("drafter", drafter)] {
            let mut cached = CachedModel::new(model);
            for rows in [1, 2, 3, 4, 5, 8, 9, 16] {
                group.bench_function(BenchmarkId::new(part, rows), |bencher| {
                    let tokens = &sequence[..128 + rows];
                    bencher.iter(|| cached.logits(tokens, rows).expect("tokens of the vocabulary"));
                });
            }
        }
        group.finish();
    }
}

/// Rows of logits to distributions, and a round's decisions.
fn decide(criterion: &mut Criterion) {
    let row: Vec<f32> = (0..32_000).map(|i| ((i * 7919) % 1000) as f32 / 100.0).collect();
    let mut group = criterion.benchmark_group("sampler-32000");
    let options = [
        ("greedy", SamplingOptions::default()),
        ("temperature", SamplingOptions { temperature: 0.8, ..Default::default() }),
        ("top-p", SamplingOptions { temperature: 0.8, top_p: 0.9, ..Default::default() }),
        ("top-k", SamplingOptions { temperature: 0.8, top_k: 40, ..Default::default() }),
    ];
    for (name, options) in options {
        let sampler = Sampler::new(&options).expect("options in range");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let scores = sampler.scores(&Context::new(&[], 0), black_box(&row)).expect("finite logits");
                black_box(scores.probs());
            });
        });
    }
    group.finish();
    let scores = |shift: usize| {
        let weights = (0..32_000).map(|i| ((i + shift) % 97) as f64 + 1.0).collect();
        let probs = Probs::normalize(weights).expect("positive weights");
        Scores::from_probs(probs.clone(), probs)
    };
    let proposal = Proposal { tokens: vec![5, 6, 7, 8], scores: vec![scores(1); 4] };
    let expert: Vec<_> = (0..5).map(|_| scores(3)).collect();
    criterion.bench_function("judge-32000", |bencher| {
        let mut round = 0;
        bencher.iter(|| {
            round += 1;
            Lossless.judge(&proposal, &expert, 10, &mut SeededDraws::new(1, round))
        });
    });
}

/// 64 tokens by draft length.
fn generate(criterion: &mut Criterion) {
    let (expert, drafter) = pair(WeightType::F32);
    let prompt = expert.tokenizer().expect("the demo pair has one").encode("Question: Tom has 3 apples");
    let prompt = prompt.expect("plain text");
    let mut group = criterion.benchmark_group("generate");
    group.throughput(Throughput::Elements(64)).sample_size(20);
    for k in [0, 1, 2, 4] {
        group.bench_function(BenchmarkId::new("k", k), |bencher| {
            bencher.iter(|| {
                let drafter = ModelDrafter::new(drafter.clone());
                let engine =
                    Engine::builder().expert(expert.clone()).drafter(drafter).draft_length(k).build();
                let mut engine = engine.expect("the demo pair fits");
                let options = SessionOptions { max_tokens: 64, ..Default::default() };
                let session = engine.session(&prompt, &options).expect("a prompt");
                session.map(|step| step.expect("a step").tokens.len()).sum::<usize>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, forward, decide, generate);
criterion_main!(benches);
