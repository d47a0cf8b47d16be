//! Classifier-free guidance: the law of the text, with drafts and without.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::{Drafter, ModelDrafter, NgramDrafter, NoDrafter};
use drafthorse_engine::{Engine, ErrorKind, Finish, SessionOptions};
use drafthorse_logits::{
    Guidance, SamplingOptions, TokenId,
    exact::{distance, outcomes},
};
use drafthorse_model::TableModel;
use drafthorse_verifier::{Guide, rule};
use std::{collections::HashMap, sync::Arc};

const VOCAB: usize = 3;
const PROMPT: [TokenId; 3] = [0, 1, 0];

type Law = HashMap<Vec<TokenId>, f64>;

fn expert() -> Arc<TableModel> {
    Arc::new(TableModel::random(VOCAB, 1.5, 3))
}

fn guide(negative: Vec<TokenId>, scale: f64) -> Guide {
    Guide { negative, guidance: Guidance::new(scale).unwrap() }
}

fn options(guide: Guide, temperature: f32, k: usize) -> SessionOptions {
    let sampling = SamplingOptions { temperature, ..Default::default() };
    SessionOptions {
        sampling,
        guide: Some(guide),
        max_tokens: 4,
        draft_length: Some(k.into()),
        ..Default::default()
    }
}

/// `p_u^(1 - s) p_c^s` at a temperature, normalized; the other prompt is followed by the same text.
fn next(expert: &TableModel, guide: &Guide, text: &[TokenId], temperature: f32) -> Vec<f64> {
    let law = |before: &[TokenId]| {
        let row = expert.row(&[before, text].concat()).to_vec();
        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        row.into_iter().map(|x| f64::from(x) - sum.ln()).collect::<Vec<_>>()
    };
    let (with, other) = (law(&PROMPT), law(&guide.negative));
    let guided = with.iter().zip(&other).map(|(c, u)| u + guide.guidance.scale() * (c - u));
    let weights: Vec<f64> = guided.map(|x| (x / f64::from(temperature)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|x| x / sum).collect()
}

fn on_paper(expert: &TableModel, guide: &Guide, temperature: f32) -> Law {
    let mut law = Law::from([(vec![], 1.0)]);
    for _ in 0..4 {
        let mut longer = Law::new();
        for (text, probability) in law {
            for (token, p) in (0..).zip(next(expert, guide, &text, temperature)) {
                longer.insert([&text[..], &[token]].concat(), probability * p);
            }
        }
        law = longer;
    }
    law
}

fn of_engine(engine: &mut Engine, options: &SessionOptions) -> Law {
    outcomes(|draws| {
        let session = engine.session_with(&PROMPT, options, draws).unwrap();
        session.flat_map(|step| step.unwrap().tokens).map(|token| token.id).collect()
    })
}

#[test]
fn the_text_follows_the_guided_law_whatever_is_drafted() {
    let expert = expert();
    let drafters: [fn() -> Box<dyn Drafter>; 3] = [
        || Box::new(ModelDrafter::new(Arc::new(TableModel::random(VOCAB, 2.0, 7)))),
        || Box::new(NgramDrafter::new(1, 2).unwrap()),
        || Box::new(NoDrafter),
    ];
    for guide in [guide(vec![2, 2], 1.5), guide(vec![1], 0.4)] {
        for (temperature, name) in [(1.0, "lossless"), (0.7, "block"), (1.0, "exact-match")] {
            let paper = on_paper(&expert, &guide, temperature);
            let wrong = on_paper(&expert, &Guide { negative: vec![0, 0], ..guide.clone() }, temperature);
            for drafter in drafters {
                let rule = rule(name).unwrap();
                let builder = Engine::builder().expert(expert.clone()).drafter(drafter()).rule(rule);
                let mut engine = builder.build().unwrap();
                for k in 0..3 {
                    let found = of_engine(&mut engine, &options(guide.clone(), temperature, k));
                    assert!(distance(&found, &paper) < 1e-6, "{name}, k = {k}");
                    assert!(distance(&found, &wrong) > 1e-3, "the control must fail");
                }
            }
        }
    }
}

#[test]
fn a_scale_of_1_changes_nothing() {
    let mut engine = Engine::builder().expert(expert()).build().unwrap();
    let guide = guide(vec![2], 1.0);
    let guided = of_engine(&mut engine, &options(guide.clone(), 1.0, 0));
    let plain = of_engine(&mut engine, &SessionOptions { guide: None, ..options(guide, 1.0, 0) });
    assert!(distance(&guided, &plain) < 1e-6);
}

#[test]
fn what_cannot_guide_is_refused() {
    let table = TableModel::random(3, 1.0, 1).with_context(8);
    let mut engine = Engine::builder().expert(Arc::new(table)).build().unwrap();
    let mut refuse = |negative: Vec<TokenId>| {
        let error = engine.session(&PROMPT, &options(guide(negative, 1.5), 1.0, 0)).unwrap_err();
        (error.kind(), error.to_string())
    };
    assert!(refuse(vec![]).1.starts_with("the negative prompt is empty"));
    assert!(refuse(vec![7]).1.contains("token 7 of the negative prompt"));
    assert_eq!(refuse(vec![0; 8]).0, ErrorKind::Prompt);
    assert!(Guidance::new(-1.0).is_err() && Guidance::new(f64::NAN).is_err());
}

/// The other prompt takes room in the context too.
#[test]
fn a_longer_other_prompt_ends_the_text_earlier() {
    let mut engine =
        Engine::builder().expert(Arc::new(TableModel::random(3, 1.0, 1).with_context(8))).build().unwrap();
    let guide = guide(vec![0; 6], 1.5);
    let steps: Vec<_> =
        engine.session(&PROMPT, &options(guide, 0.0, 0)).unwrap().map(|step| step.unwrap()).collect();
    assert_eq!(steps.len(), 2);
    assert_eq!(steps[1].finish, Some(Finish::ContextEnd));
}
