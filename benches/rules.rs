//! What deciding a round costs on the host, by rule and size of the vocabulary: `cargo bench --bench rules`.
//!
//! A round of k = 5 drafted tokens at temperature 0.8, with a drafter near to the expert (random rows, about
//! four of five tokens accepted). The drafter's distributions are there, as it has drawn from them; of the
//! expert there are rows of logits, and what a rule needs of them is part of its time.

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use drafthorse::{
    Draws, SamplingOptions,
    logits::{Context, Proposal, Purpose, Sampler, Scores, SeededDraws},
    verifier::{RULES, rule},
};
use std::{hint::black_box, time::Duration};

const K: usize = 5;
const VOCABULARIES: [usize; 3] = [4_096, 32_000, 152_000];

/// Numbers that look random, from -1 to 1.
fn noise(seed: u64, count: usize) -> impl Iterator<Item = f32> {
    drafthorse::synthetic::random_tokens(seed, count, 1 << 20)
        .into_iter()
        .map(|token| token as f32 / (1 << 19) as f32 - 1.0)
}

/// A row of logits with a few likely tokens and a long tail.
fn row(seed: u64, vocab: usize) -> Vec<f32> {
    noise(seed, vocab).map(|x| 14.0 * x * x * x.abs()).collect()
}

/// One round: what was drafted, and the expert's rows.
struct Round {
    sampler: Sampler,
    draft: Vec<Vec<f32>>,
    expert: Vec<Vec<f32>>,
    number: u64,
}

impl Round {
    fn new(vocab: usize, temperature: f32) -> Self {
        let options = SamplingOptions { temperature, ..Default::default() };
        let expert: Vec<_> = (0..=K as u64).map(|i| row(i + 1, vocab)).collect();
        let near = |(i, row): (usize, &Vec<f32>)| {
            row.iter().zip(noise(100 + i as u64, vocab)).map(|(x, e)| x + 0.7 * e).collect()
        };
        let draft = expert.iter().enumerate().map(near).collect();
        Self { sampler: Sampler::new(&options).expect("in range"), draft, expert, number: 0 }
    }

    fn scores(&self, rows: &[Vec<f32>]) -> Vec<Scores> {
        let context = Context::new(&[], 0);
        rows.iter().map(|row| self.sampler.scores(&context, row).expect("finite")).collect()
    }

    /// The state before a decision, another in each round.
    fn next(&mut self) -> (Proposal, Vec<Scores>, SeededDraws) {
        self.number += 1;
        let mut draws = SeededDraws::new(7, self.number);
        let scores = self.scores(&self.draft);
        let tokens = (0..K).map(|i| draws.pick(i, Purpose::Draft, scores[i].probs())).collect::<Vec<_>>();
        (Proposal { tokens, scores }, self.scores(&self.expert), draws)
    }
}

fn decide(criterion: &mut Criterion) {
    for (name, temperature) in [("judge", 0.8), ("judge-greedy", 0.0)] {
        let mut group = criterion.benchmark_group(name);
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        for vocab in VOCABULARIES {
            let mut round = Round::new(vocab, temperature);
            for info in RULES {
                let rule = rule(info.name).expect("a rule of the list");
                group.bench_function(BenchmarkId::new(info.name, vocab), |bencher| {
                    let decide = |(proposal, expert, mut draws): (Proposal, Vec<Scores>, SeededDraws)| {
                        black_box(rule.judge(&proposal, &expert, 0, &mut draws));
                        (proposal, expert)
                    };
                    bencher.iter_batched(|| round.next(), decide, BatchSize::PerIteration);
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, decide);
criterion_main!(benches);
