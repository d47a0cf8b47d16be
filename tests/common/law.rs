//! Laws of texts: on paper, and as the engine draws them.
#![allow(dead_code, reason = "each test uses a part")]

use drafthorse::{
    AcceptanceRule, Drafter, Engine, SamplingOptions, SessionOptions, TableModel, TokenId,
    logits::exact::outcomes,
};
use std::{collections::HashMap, sync::Arc};

pub(crate) type Law = HashMap<Vec<TokenId>, f64>;

/// Repeats itself, so that the n-gram drafter has something to say from the beginning.
pub(crate) const PROMPT: [TokenId; 4] = [0, 1, 0, 1];

pub(crate) fn at(temperature: f32) -> SamplingOptions {
    SamplingOptions { temperature, ..Default::default() }
}

pub(crate) fn options(sampling: SamplingOptions, max_tokens: usize) -> SessionOptions {
    SessionOptions { sampling, max_tokens, ..Default::default() }
}

pub(crate) fn expert(vocab: usize) -> Arc<TableModel> {
    Arc::new(TableModel::random(vocab, 1.5, 3))
}

pub(crate) fn other_model(vocab: usize) -> Arc<TableModel> {
    Arc::new(TableModel::random(vocab, 2.0, 7))
}

pub(crate) fn engine(
    expert: &Arc<TableModel>,
    drafter: impl Drafter + 'static,
    rule: Arc<dyn AcceptanceRule>,
) -> Engine {
    Engine::builder().expert(expert.clone()).drafter(drafter).rule(rule).build().unwrap()
}

/// The law of the next token on paper. The row is f32, as rows are, until its temperature is applied;
/// all that follows is f64 and written down from the definitions.
pub(crate) fn next_law(model: &TableModel, sequence: &[TokenId], sampling: &SamplingOptions) -> Vec<f64> {
    let mut row = model.row(sequence).to_vec();
    for (token, logit) in (0..).zip(&mut row) {
        if sequence.contains(&token) {
            let penalty = sampling.repetition_penalty;
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
        let count = sequence[PROMPT.len()..].iter().filter(|&&t| t == token).count();
        if count > 0 {
            *logit -= sampling.presence_penalty + sampling.frequency_penalty * count as f32;
        }
    }
    warped(&row, sampling)
}

/// What is sampled of a row: after temperature, top-k, top-p and min-p.
pub(crate) fn warped(row: &[f32], sampling: &SamplingOptions) -> Vec<f64> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |&x: &f32| match sampling.temperature {
        0.0 => f64::from(u8::from(x == max)),
        1.0 => (f64::from(x) - f64::from(max)).exp(),
        t => f64::from((x - max) / t).exp(),
    };
    let law = kept(row.iter().map(weight).collect(), |_| 0.0);
    let law = kept(law, |sorted| match sampling.top_k {
        0 => 0.0,
        k => sorted[k.min(sorted.len()) - 1],
    });
    let law = kept(law, |sorted| edge_of_nucleus(sorted, sampling.top_p));
    kept(law, |sorted| sampling.min_p * sorted[0])
}

/// The least of the most probable that together reach `mass`; 0 where it takes all.
pub(crate) fn edge_of_nucleus(sorted: &[f64], mass: f64) -> f64 {
    let reached = (1..sorted.len()).find(|&n| sorted[..n].iter().sum::<f64>() >= mass);
    reached.map_or(0.0, |n| sorted[n - 1])
}

/// What is at least as probable as a threshold, normalized. The threshold sees the law sorted downwards.
fn kept(law: Vec<f64>, threshold: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let threshold = threshold(&sorted(&law));
    normalized(law.into_iter().map(|p| if p >= threshold { p } else { 0.0 }).collect())
}

pub(crate) fn sorted(law: &[f64]) -> Vec<f64> {
    let mut sorted = law.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted
}

pub(crate) fn normalized(law: Vec<f64>) -> Vec<f64> {
    let sum: f64 = law.iter().sum();
    law.into_iter().map(|p| p / sum).collect()
}

/// The law of the text on paper: the product of the laws of its tokens, up to a stop token or the length.
pub(crate) fn on_paper(options: &SessionOptions, next: impl Fn(&[TokenId]) -> Vec<f64>) -> Law {
    let mut law = Law::new();
    let mut open = vec![(PROMPT.to_vec(), 1.0)];
    while let Some((sequence, probability)) = open.pop() {
        let text = &sequence[PROMPT.len()..];
        if text.len() == options.max_tokens || text.last().is_some_and(|t| options.stop_tokens.contains(t)) {
            law.insert(text.to_vec(), probability);
            continue;
        }
        for (token, p) in (0..).zip(next(&sequence)) {
            if p > 0.0 {
                open.push(([&sequence[..], &[token]].concat(), probability * p));
            }
        }
    }
    law
}

/// The law of the text as the engine draws it.
pub(crate) fn of_engine(engine: &mut Engine, options: &SessionOptions) -> Law {
    outcomes(|draws| {
        let session = engine.session_with(&PROMPT, options, draws).unwrap();
        session.flat_map(|step| step.unwrap().tokens).map(|token| token.id).collect()
    })
}
