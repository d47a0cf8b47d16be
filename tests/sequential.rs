//! Sequential cascades: their exact law, their limits, their numbers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::generate;
use drafthorse::{
    Engine, ErrorKind, Finish, SamplingOptions, SequentialCascade, SequentialRule, SessionOptions,
    TableModel, TokenId,
    logits::{Context, Sampler, Scores, exact},
};
use std::{collections::HashMap, sync::Arc};

const PROMPT: [TokenId; 2] = [0, 2];

fn models(vocab: usize) -> [Arc<TableModel>; 2] {
    [1, 2].map(|seed| Arc::new(TableModel::random(vocab, 2.0, seed)))
}

fn cascade(vocab: usize) -> SequentialCascade {
    let [expert, drafter] = models(vocab);
    SequentialCascade::new(expert, drafter).unwrap()
}

fn options(temperature: f32, max_tokens: usize) -> SessionOptions {
    let sampling = SamplingOptions { temperature, ..Default::default() };
    SessionOptions { sampling, seed: 5, max_tokens, ..Default::default() }
}

/// Plain decoding of one model.
fn plain(model: &Arc<TableModel>, options: &SessionOptions) -> Vec<TokenId> {
    let mut engine = Engine::builder().expert(model.clone()).build().unwrap();
    generate(&mut engine, &PROMPT, options)
}

type Law = HashMap<Vec<TokenId>, f64>;

/// The law of a cascade over all its random outcomes.
fn law(rule: SequentialRule, options: &SessionOptions) -> Law {
    exact::outcomes(|draws| cascade(3).generate_with(&PROMPT, options, rule, draws).unwrap().tokens)
}

/// The law on paper: `next` says how the token after a sequence is distributed.
fn on_paper(tokens: usize, next: &dyn Fn(&[TokenId]) -> Vec<f64>) -> Law {
    let mut law = Law::from([(Vec::new(), 1.0)]);
    for _ in 0..tokens {
        let grow = |(text, weight): (&Vec<TokenId>, &f64)| {
            let probs = next(&[&PROMPT[..], text].concat());
            let more = |(v, p): (usize, &f64)| ([&text[..], &[v as TokenId]].concat(), weight * p);
            probs.iter().enumerate().map(more).collect::<Vec<_>>()
        };
        law = law.iter().flat_map(grow).collect();
    }
    law
}

fn scores(model: &TableModel, options: &SessionOptions, sequence: &[TokenId]) -> Scores {
    let sampler = Sampler::new(&options.sampling).unwrap();
    sampler.scores(&Context::new(sequence, PROMPT.len()), model.row(sequence)).unwrap()
}

#[test]
fn the_law_of_token_level_deferral_is_the_one_on_paper() {
    let [expert, drafter] = models(3);
    let options = options(0.7, 4);
    for lenience in [0.3, 0.5] {
        let next = |sequence: &[TokenId]| {
            let draft = scores(&drafter, &options, sequence);
            // Confidence is looked at before the temperature.
            let keep = draft.raw().max().1 >= 1.0 - lenience;
            let scores = if keep { draft } else { scores(&expert, &options, sequence) };
            scores.probs().to_vec()
        };
        let law = law(SequentialRule::Token { lenience }, &options);
        assert!(exact::distance(&law, &on_paper(4, &next)) < 1e-12);
        for model in [&expert, &drafter] {
            let alone = |sequence: &[TokenId]| scores(model, &options, sequence).probs().to_vec();
            assert!(exact::distance(&law, &on_paper(4, &alone)) > 1e-3, "both must have their say");
        }
    }
}

#[test]
fn the_law_of_sequence_level_deferral_is_the_one_on_paper() {
    let [expert, drafter] = models(3);
    let options = options(1.0, 3);
    let alone = |model: &TableModel| {
        on_paper(3, &|sequence: &[TokenId]| scores(model, &options, sequence).probs().to_vec())
    };
    let (drafts, texts) = (alone(&drafter), alone(&expert));
    let paper = |threshold: f64| {
        let kept = |weight: f64| if weight.powf(1.0 / 3.0) >= threshold { weight } else { 0.0 };
        let deferred: f64 = 1.0 - drafts.values().map(|weight| kept(*weight)).sum::<f64>();
        let weigh =
            |(text, weight): (&Vec<TokenId>, &f64)| (text.clone(), kept(*weight) + deferred * texts[text]);
        drafts.iter().map(weigh).collect::<Law>()
    };
    let law = law(SequentialRule::Sequence { threshold: 0.45 }, &options);
    assert!(exact::distance(&law, &paper(0.45)) < 1e-12);
    assert!(exact::distance(&law, &paper(0.3)) > 1e-3 && exact::distance(&law, &paper(0.6)) > 1e-3);
}

#[test]
fn at_its_limits_one_of_the_two_writes_alone() {
    let [expert, drafter] = models(7);
    for temperature in [0.0, 1.0] {
        let options = options(temperature, 30);
        let text = |rule| cascade(7).generate(&PROMPT, &options, rule).unwrap();
        let (drafts, texts) = (plain(&drafter, &options), plain(&expert, &options));
        assert_ne!(drafts, texts);

        let alone = text(SequentialRule::Token { lenience: 1.0 });
        assert_eq!(alone.tokens, drafts);
        assert_eq!((alone.stats.expert_rows, alone.stats.deferral_rate()), (0, Some(0.0)));
        let never = text(SequentialRule::Token { lenience: -0.01 });
        assert_eq!(never.tokens, texts);
        assert_eq!((never.stats.expert_passes, never.stats.deferral_rate()), (30, Some(1.0)));

        let whole = text(SequentialRule::Sequence { threshold: 0.0 });
        assert_eq!((whole.stats.expert_passes, whole.stats.drafter_passes), (0, 30));
        let anew = text(SequentialRule::Sequence { threshold: 1.01 });
        assert_eq!(anew.tokens, texts);
        assert_eq!((anew.stats.expert_passes, anew.stats.drafter_passes), (30, 30));
        if temperature == 0.0 {
            assert_eq!(whole.tokens, drafts);
        }
    }
}

#[test]
fn what_the_expert_catches_up_with_is_counted() {
    let options = options(1.0, 40);
    let stats =
        cascade(7).generate(&PROMPT, &options, SequentialRule::Token { lenience: 0.5 }).unwrap().stats;
    assert_eq!((stats.emitted, stats.drafter_passes), (40, 40));
    assert_eq!(stats.deferred, stats.expert_passes);
    assert!(stats.expert_rows > stats.expert_passes, "{stats:?}");
    assert!(stats.expert_rows <= stats.emitted, "no token is read twice: {stats:?}");
}

#[test]
fn texts_end_where_they_should() {
    let mut options = options(1.0, 50);
    let rule = SequentialRule::Token { lenience: 0.5 };
    let whole = cascade(7).generate(&PROMPT, &options, rule).unwrap();
    assert_eq!((whole.tokens.len(), &whole.finish), (50, &Finish::MaxTokens));
    let stop = whole.tokens[9];
    let first = whole.tokens.iter().position(|token| *token == stop).unwrap();
    options.stop_tokens = vec![stop];
    let stopped = cascade(7).generate(&PROMPT, &options, rule).unwrap();
    assert_eq!(stopped.tokens, whole.tokens[..=first]);
    assert_eq!(stopped.finish, Finish::StopToken(stop));

    // The drafter's context ends first: the expert goes on; then its own ends.
    let expert = Arc::new(TableModel::random(5, 2.0, 1).with_context(12));
    let drafter = Arc::new(TableModel::random(5, 2.0, 2).with_context(6));
    for rule in [SequentialRule::Token { lenience: 1.0 }, SequentialRule::Sequence { threshold: 0.0 }] {
        let mut cascade = SequentialCascade::new(expert.clone(), drafter.clone()).unwrap();
        let text = cascade.generate(&PROMPT, &self::options(1.0, 50), rule).unwrap();
        assert_eq!((text.tokens.len(), text.finish), (10, Finish::ContextEnd));
        assert!(text.stats.deferred > 0);
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let [expert, _] = models(5);
    let other = SequentialCascade::new(expert, Arc::new(TableModel::random(4, 1.0, 1)));
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Vocabulary);
    let rule = SequentialRule::Token { lenience: 0.5 };
    let refused = |prompt: &[TokenId], options: &SessionOptions| {
        cascade(3).generate(prompt, options, rule).unwrap_err().kind()
    };
    assert_eq!(refused(&[], &options(0.0, 5)), ErrorKind::Prompt);
    assert_eq!(refused(&PROMPT, &options(0.0, 0)), ErrorKind::Option);
    assert_eq!(refused(&PROMPT, &options(-1.0, 5)), ErrorKind::Option);
    let strings = SessionOptions { stop_strings: vec!["x".into()], ..options(0.0, 5) };
    assert_eq!(refused(&PROMPT, &strings), ErrorKind::Option);
}
