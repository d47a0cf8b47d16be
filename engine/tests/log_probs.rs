//! Log-probabilities of the text: those of the row that predicts each token, drafted or not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::{Drafter, ModelDrafter, NgramDrafter};
use drafthorse_engine::{Engine, SessionOptions, StepToken};
use drafthorse_logits::{Context, LogProbs, LogProbsOf, LogProbsOptions, Sampler, SamplingOptions, TokenId};
use drafthorse_model::TableModel;
use drafthorse_verifier::rule;
use std::sync::Arc;

const VOCAB: usize = 9;
const PROMPT: [TokenId; 4] = [0, 1, 0, 1];

fn expert() -> Arc<TableModel> {
    Arc::new(TableModel::random(VOCAB, 2.0, 3))
}

fn engine(expert: &Arc<TableModel>, drafter: Box<dyn Drafter>, name: &str) -> Engine {
    let rule = rule(name).unwrap();
    Engine::builder().expert(expert.clone()).drafter(drafter).rule(rule).draft_length(4).build().unwrap()
}

fn drafters() -> [Box<dyn Drafter>; 2] {
    let other = ModelDrafter::new(Arc::new(TableModel::random(VOCAB, 2.0, 7)));
    [Box::new(other), Box::new(NgramDrafter::new(1, 2).unwrap())]
}

fn tokens(engine: &mut Engine, options: &SessionOptions) -> Vec<StepToken> {
    engine.session(&PROMPT, options).unwrap().flat_map(|step| step.unwrap().tokens).collect()
}

/// Written down from the definitions: of the raw row, or of what is sampled of it.
fn by_hand(expert: &TableModel, before: &[TokenId], token: TokenId, options: &SessionOptions) -> f64 {
    let row = expert.row(before);
    if options.log_probs.unwrap().of == LogProbsOf::Raw {
        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        return f64::from(row[token as usize]) - sum.ln();
    }
    let context = Context::new(before, PROMPT.len());
    Sampler::new(&options.sampling).unwrap().scores(&context, row).unwrap().probs().get(token).ln()
}

/// The largest difference from the definition; `late` looks at the row that many tokens too early.
fn difference(expert: &TableModel, text: &[StepToken], options: &SessionOptions, late: usize) -> f64 {
    let mut sequence = PROMPT.to_vec();
    let mut worst = 0f64;
    for token in text {
        let found = token.log_probs.as_ref().unwrap().chosen;
        let expected = by_hand(expert, &sequence[..sequence.len() - late], token.id, options);
        worst = worst.max(if found == expected { 0.0 } else { (found - expected).abs() });
        sequence.push(token.id);
    }
    worst
}

fn samplings() -> [SamplingOptions; 3] {
    let sharp = SamplingOptions { temperature: 0.7, top_p: 0.9, presence_penalty: 0.5, ..Default::default() };
    [SamplingOptions::default(), SamplingOptions { temperature: 1.0, ..Default::default() }, sharp]
}

#[test]
fn every_token_has_the_probability_of_its_own_row() {
    let expert = expert();
    for name in ["lossless", "block", "exact-match", "cascade-token-v3:lenience=0.3"] {
        for drafter in drafters() {
            let calibrated = drafter.is_calibrated();
            if name.starts_with("cascade") && !calibrated {
                continue;
            }
            let mut engine = engine(&expert, drafter, name);
            for (seed, sampling) in (0..).zip(samplings()) {
                for of in [LogProbsOf::Raw, LogProbsOf::Processed] {
                    for k in [0, 1, 4] {
                        let log_probs = Some(LogProbsOptions { top: 2, of });
                        let (sampling, draft_length) = (sampling.clone(), Some(k.into()));
                        let options = SessionOptions {
                            sampling,
                            log_probs,
                            draft_length,
                            seed,
                            max_tokens: 30,
                            ..Default::default()
                        };
                        let text = tokens(&mut engine, &options);
                        assert_eq!(text.len(), 30);
                        let found = difference(&expert, &text, &options, 0);
                        assert!(found < 1e-9, "{name}, k = {k}, {options:?}: {found}");
                        // The row before says something else.
                        if of == LogProbsOf::Raw {
                            assert!(difference(&expert, &text, &options, 1) > 0.1, "the control must fail");
                        }
                    }
                }
            }
        }
    }
}

/// Where texts of one seed are the same for every draft length, so are their log-probabilities.
#[test]
fn drafting_changes_no_log_probability() {
    let expert = expert();
    for drafter in drafters() {
        let mut engine = engine(&expert, drafter, "exact-match");
        for sampling in samplings() {
            let with = |k: usize| SessionOptions {
                sampling: sampling.clone(),
                log_probs: Some(LogProbsOptions { top: 3, of: LogProbsOf::Processed }),
                draft_length: Some(k.into()),
                max_tokens: 40,
                ..Default::default()
            };
            let found = |text: Vec<StepToken>| -> Vec<(TokenId, LogProbs)> {
                text.into_iter().map(|token| (token.id, token.log_probs.unwrap())).collect()
            };
            let plain = found(tokens(&mut engine, &with(0)));
            assert!((1..5).all(|k| found(tokens(&mut engine, &with(k))) == plain));
        }
    }
}

#[test]
fn they_are_given_only_where_they_are_wanted_and_change_nothing() {
    let mut engine = engine(&expert(), drafters().into_iter().next().unwrap(), "lossless");
    for sampling in samplings() {
        let without = SessionOptions { sampling, ..Default::default() };
        let with = SessionOptions { log_probs: Some(LogProbsOptions::default()), ..without.clone() };
        let (without, with) = (tokens(&mut engine, &without), tokens(&mut engine, &with));
        assert!(without.iter().all(|token| token.log_probs.is_none()));
        assert!(with.iter().all(|token| token.log_probs.as_ref().is_some_and(|found| found.top.is_empty())));
        let ids = |tokens: &[StepToken]| tokens.iter().map(|token| token.id).collect::<Vec<_>>();
        assert_eq!(ids(&without), ids(&with));
    }
}
