//! The law of constrained texts, exact to within rounding.
//!
//! The grammar is a list of texts, so that paper needs no parser: a token may come if some text of the list still can.
//! The same comparison is given matchers that are wrong, and must reject each.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_constraint::{Grammar, TokenTable};
use drafthorse_drafter::{Drafter, ModelDrafter, NgramDrafter, NoDrafter};
use drafthorse_engine::{Adaptive, DraftCosts, DraftLength, Engine, SessionOptions};
use drafthorse_logits::{
    Constraint, ConstraintError, Matcher, SamplingOptions, TokenId, TokenSet,
    exact::{distance, outcomes},
};
use drafthorse_model::TableModel;
use drafthorse_verifier::{AcceptanceRule, Block, ExactMatch, Lossless, RULES, rule};
use std::{collections::HashMap, sync::Arc};

const TOKENS: [&str; 5] = ["a", "b", "ab", "c", "<end>"];
const END: TokenId = 4;
const PROMPT: [TokenId; 4] = [0, 1, 0, 1];

/// With choices, tokens that are forced, ways to write one text in several ways, and texts that begin others.
const TEXTS: [&str; 7] = ["ab", "abab", "ababab", "abac", "ba", "bab", "c"];

type Law = HashMap<Vec<TokenId>, f64>;

fn expert() -> Arc<TableModel> {
    Arc::new(TableModel::random(5, 1.5, 3))
}

fn other_model() -> Arc<TableModel> {
    Arc::new(TableModel::random(5, 2.0, 7))
}

/// Of some rows the grammar leaves nothing.
fn two_tokens() -> Arc<TableModel> {
    let none = f32::NEG_INFINITY;
    Arc::new(TableModel::from_fn(5, |context| vec![0.5, context.len() as f32, none, none, none]))
}

fn grammar() -> Grammar {
    Grammar::regex(&TokenTable::of_texts(&TOKENS).unwrap(), &TEXTS.join("|")).unwrap()
}

/// The same with a tokenizer that writes letter by letter, so that other tokens are guessed.
fn spelled() -> Grammar {
    let letters =
        |text: &str| text.chars().map(|letter| "ab_c".find(letter).map(|at| at as TokenId)).collect();
    let table = TokenTable::of_texts(&TOKENS).unwrap().with_encoder(letters);
    Grammar::regex(&table, &TEXTS.join("|")).unwrap()
}

fn options(stop_tokens: &[TokenId], sampling: SamplingOptions) -> SessionOptions {
    SessionOptions {
        sampling,
        max_tokens: 4,
        stop_tokens: stop_tokens.to_vec(),
        constraint: Some(Arc::new(grammar())),
        ..Default::default()
    }
}

fn at(temperature: f32) -> SamplingOptions {
    SamplingOptions { temperature, ..Default::default() }
}

/// What may follow, by the list of texts.
fn allowed(tokens: &[TokenId], stop_tokens: &[TokenId]) -> Vec<TokenId> {
    if tokens.contains(&END) {
        return vec![];
    }
    let text: String = tokens.iter().map(|&token| TOKENS[token as usize]).collect();
    let may = |token: TokenId| match token {
        END => stop_tokens.contains(&END) && TEXTS.contains(&&*text),
        _ => TEXTS.iter().any(|whole| whole.starts_with(&(text.clone() + TOKENS[token as usize]))),
    };
    (0..5).filter(|&token| may(token)).collect()
}

/// A model's row, restricted and normalized.
fn masked(model: &TableModel, sequence: &[TokenId], stop_tokens: &[TokenId], temperature: f32) -> Vec<f64> {
    let may = allowed(&sequence[PROMPT.len()..], stop_tokens);
    let row = model.row(sequence);
    let best = may.iter().map(|&token| row[token as usize]).fold(f32::NEG_INFINITY, f32::max);
    let weight = |token: TokenId| match may.contains(&token) {
        false => 0.0,
        true if temperature == 0.0 => f64::from(u8::from(row[token as usize] == best)),
        true => f64::from((row[token as usize] - best) / temperature).exp(),
    };
    let weights: Vec<f64> = (0..5).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// The law of the text: the product of the laws of its tokens, up to where nothing may follow.
fn on_paper(options: &SessionOptions, next: impl Fn(&[TokenId]) -> Vec<f64>) -> Law {
    let mut law = Law::new();
    let mut open = vec![(PROMPT.to_vec(), 1.0)];
    while let Some((sequence, probability)) = open.pop() {
        let text = &sequence[PROMPT.len()..];
        if text.len() == options.max_tokens || allowed(text, &options.stop_tokens).is_empty() {
            law.insert(text.to_vec(), probability);
            continue;
        }
        for (token, p) in (0..).zip(next(&sequence)).filter(|(_, p)| *p > 0.0) {
            open.push(([&sequence[..], &[token]].concat(), probability * p));
        }
    }
    law
}

fn engine(drafter: impl Drafter + 'static, rule: Arc<dyn AcceptanceRule>) -> Engine {
    Engine::builder().expert(expert()).drafter(drafter).rule(rule).build().unwrap()
}

/// The law of the text as the engine draws it; texts that end with an error have a token more, that is none.
fn of_engine(engine: &mut Engine, options: &SessionOptions) -> Law {
    outcomes(|draws| {
        let session = engine.session_with(&PROMPT, options, draws).unwrap();
        session.fold(Vec::new(), |mut text, step| {
            match step {
                Ok(step) => text.extend(step.tokens.iter().map(|token| token.id)),
                Err(_) => text.push(TokenId::MAX),
            }
            text
        })
    })
}

/// From 0 tokens up, and by rules that end drafts.
fn lengths() -> Vec<DraftLength> {
    let costs = DraftCosts::new(vec![(1, 1.0), (4, 1.2)], vec![(1, 0.2)]).with_acceptance(vec![0.6]);
    let rules = [
        DraftLength::Confidence { threshold: 0.6, max: 3 },
        DraftLength::Entropy { threshold: 0.35, max: 3 },
        Adaptive::up_to(3).with_costs(costs).into(),
    ];
    (0..=3).map(DraftLength::from).chain(rules).collect()
}

fn drafters() -> [(&'static str, Box<dyn Drafter>); 5] {
    [
        ("another model", Box::new(ModelDrafter::new(other_model()))),
        ("the expert", Box::new(ModelDrafter::new(expert()))),
        ("ngram", Box::new(NgramDrafter::new(1, 2).unwrap())),
        ("a model of two tokens", Box::new(ModelDrafter::new(two_tokens()))),
        ("forced tokens alone", Box::new(NoDrafter)),
    ]
}

/// Filters choose among what the grammar allows: its mask comes before them.
#[test]
fn filters_come_after_the_grammar() {
    let sampling = SamplingOptions { top_k: 2, ..at(0.7) };
    let options = options(&[END], sampling);
    let paper = on_paper(&options, |sequence| {
        let law = masked(&expert(), sequence, &[END], 0.7);
        let mut sorted = law.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let kept: Vec<f64> = law.into_iter().map(|p| if p >= sorted[1] { p } else { 0.0 }).collect();
        let sum: f64 = kept.iter().sum();
        kept.into_iter().map(|p| p / sum).collect()
    });
    let mut engine = engine(ModelDrafter::new(other_model()), Arc::new(Lossless));
    for k in 0..=3 {
        let options = SessionOptions { draft_length: Some(k.into()), ..options.clone() };
        let difference = distance(&of_engine(&mut engine, &options), &paper);
        assert!(difference < 1e-6, "k = {k}: {difference}");
    }
}

#[test]
fn drafts_do_not_change_the_law_of_a_constrained_text() {
    let rules: [fn() -> Arc<dyn AcceptanceRule>; 3] =
        [|| Arc::new(Lossless), || Arc::new(Block), || Arc::new(ExactMatch)];
    for ends in [&[][..], &[END]] {
        for temperature in [0.0, 0.7] {
            let options = options(ends, at(temperature));
            let paper = on_paper(&options, |sequence| masked(&expert(), sequence, ends, temperature));
            assert!((paper.values().sum::<f64>() - 1.0).abs() < 1e-12);
            for rule in rules {
                for (name, drafter) in drafters() {
                    let mut engine = engine(drafter, rule());
                    for (k, length) in lengths().into_iter().enumerate() {
                        let mut options =
                            SessionOptions { draft_length: Some(length.clone()), ..options.clone() };
                        if k == 2 {
                            options.constraint = Some(Arc::new(spelled()));
                        }
                        let difference = distance(&of_engine(&mut engine, &options), &paper);
                        let case =
                            format!("{}, {name}, {length}, ends {ends:?}, T = {temperature}", rule().name());
                        assert!(difference < 1e-6, "{case}: {difference}");
                    }
                }
            }
        }
    }
}

/// The law of a cascade, of two models restricted alike.
#[test]
fn cascades_follow_their_law_of_restricted_models() {
    for lenience in [0.3, 0.55] {
        let spec = format!("cascade-chow:lenience={lenience}");
        for ends in [&[][..], &[END]] {
            let options = options(ends, at(1.0));
            let paper = on_paper(&options, |sequence| {
                let draft = masked(&other_model(), sequence, ends, 1.0);
                let sure = draft.iter().copied().fold(0.0, f64::max) >= 1.0 - lenience;
                if sure { draft } else { masked(&expert(), sequence, ends, 1.0) }
            });
            let plain = on_paper(&options, |sequence| masked(&expert(), sequence, ends, 1.0));
            assert!(distance(&plain, &paper) > 0.01, "the cascade must do something");
            let mut engine = engine(ModelDrafter::new(other_model()), rule(&spec).unwrap());
            for length in lengths().split_off(1) {
                let options = SessionOptions { draft_length: Some(length.clone()), ..options.clone() };
                let difference = distance(&of_engine(&mut engine, &options), &paper);
                assert!(difference < 1e-6, "{spec}, {length}, ends {ends:?}: {difference}");
            }
        }
    }
}

/// Rules that know nothing of grammars, with drafters that know nothing of them, write nothing else either.
#[test]
fn every_rule_keeps_to_the_grammar() {
    for spec in RULES.iter().map(|info| info.name) {
        let rule = rule(spec).unwrap();
        for (name, drafter) in drafters() {
            if rule.needs_calibrated_draft() && !drafter.is_calibrated() {
                continue;
            }
            let mut engine = engine(drafter, rule.clone());
            for k in 1..=3 {
                let options = SessionOptions { draft_length: Some(k.into()), ..options(&[END], at(1.0)) };
                for (text, probability) in of_engine(&mut engine, &options) {
                    let fits = (0..text.len()).all(|at| allowed(&text[..at], &[END]).contains(&text[at]));
                    let whole = text.len() == options.max_tokens || allowed(&text, &[END]).is_empty();
                    assert!(fits && whole, "{spec}, {name}, k = {k}: {text:?} of probability {probability}");
                }
            }
        }
    }
}

/// A constraint made of another one's matchers.
struct Wrong(Grammar, Wrap);

type Wrap = fn(Box<dyn Matcher>) -> Box<dyn Matcher>;

impl Constraint for Wrong {
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn start(&self, ends: &[TokenId]) -> Result<Box<dyn Matcher>, ConstraintError> {
        self.0.start(ends).map(self.1)
    }
}

/// Says what was allowed a token before.
struct Lags(Box<dyn Matcher>);

impl Matcher for Lags {
    fn allowed(&mut self, generated: &[TokenId]) -> Result<Arc<TokenSet>, ConstraintError> {
        self.0.allowed(&generated[..generated.len().saturating_sub(1)])
    }
}

/// Remembers what it said at a position, and does not forget it when the draft is refused.
struct NeverRollsBack(Box<dyn Matcher>, HashMap<usize, Arc<TokenSet>>);

impl Matcher for NeverRollsBack {
    fn allowed(&mut self, generated: &[TokenId]) -> Result<Arc<TokenSet>, ConstraintError> {
        if let Some(known) = self.1.get(&generated.len()) {
            return Ok(known.clone());
        }
        let allowed = self.0.allowed(generated)?;
        self.1.insert(generated.len(), allowed.clone());
        Ok(allowed)
    }
}

#[test]
fn wrong_matchers_are_found() {
    let wrong: [(&str, Wrap); 2] = [
        ("lags by a token", |matcher| Box::new(Lags(matcher))),
        ("is not rolled back", |matcher| Box::new(NeverRollsBack(matcher, HashMap::new()))),
    ];
    for (name, wrap) in wrong {
        for k in 2..=3 {
            let right = SessionOptions { draft_length: Some(k.into()), ..options(&[END], at(1.0)) };
            let paper = on_paper(&right, |sequence| masked(&expert(), sequence, &[END], 1.0));
            let options = SessionOptions { constraint: Some(Arc::new(Wrong(grammar(), wrap))), ..right };
            let mut engine = engine(ModelDrafter::new(other_model()), Arc::new(Lossless));
            let difference = distance(&of_engine(&mut engine, &options), &paper);
            assert!(difference > 0.01, "a matcher that {name}, k = {k}: {difference}");
        }
    }
}
