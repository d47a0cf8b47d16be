//! Every processor keeps its law under speculation: laws of whole texts, over all random outcomes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod paper;
mod rounds;
mod settings;

use drafthorse_drafter::{Drafter, ModelDrafter, NgramDrafter};
use drafthorse_engine::{Engine, SessionOptions};
use drafthorse_logits::{
    Context, SamplingOptions, TokenId,
    exact::{distance, outcomes},
    processors::{Mirostat, Xtc},
};
use drafthorse_model::TableModel;
use drafthorse_verifier::{AcceptanceRule, rule};
use settings::{all, choices, of_context, on, together};
use std::{collections::HashMap, sync::Arc};

pub(crate) type Law = HashMap<Vec<TokenId>, f64>;

pub(crate) const VOCAB: usize = 4;
pub(crate) const TOKENS: usize = 3;
const TOLERANCE: f64 = 1e-9;
/// What a control is off by at least.
const OFF: f64 = 1e-3;

/// Repeats itself, so that the n-gram drafter has something to say from the beginning.
pub(crate) const PROMPT: [TokenId; 4] = [0, 1, 0, 1];

pub(crate) fn expert() -> Arc<TableModel> {
    Arc::new(TableModel::random(VOCAB, 1.5, 3))
}

fn other_model() -> Arc<TableModel> {
    Arc::new(TableModel::random(VOCAB, 2.0, 7))
}

fn options(sampling: &SamplingOptions, k: usize, seed: u64) -> SessionOptions {
    let (sampling, draft_length) = (sampling.clone(), Some(k.into()));
    SessionOptions { sampling, draft_length, max_tokens: TOKENS, seed, ..Default::default() }
}

fn of_engine(engine: &mut Engine, options: &SessionOptions) -> Law {
    outcomes(|draws| {
        let session = engine.session_with(&PROMPT, options, draws).unwrap();
        session.flat_map(|step| step.unwrap().tokens).map(|token| token.id).collect()
    })
}

fn engine(drafter: impl Drafter + 'static, rule: Arc<dyn AcceptanceRule>) -> Engine {
    Engine::builder().expert(expert()).drafter(drafter).rule(rule).draft_length(1).build().unwrap()
}

fn on_paper(sampling: &SamplingOptions, seed: u64) -> Law {
    let expert = expert();
    let mut law = Law::new();
    let mut open = vec![(PROMPT.to_vec(), 1.0)];
    while let Some((sequence, probability)) = open.pop() {
        if sequence.len() == PROMPT.len() + TOKENS {
            law.insert(sequence[PROMPT.len()..].to_vec(), probability);
            continue;
        }
        let memory = paper::memory(&sequence, PROMPT.len(), sampling, |sequence| expert.row(sequence));
        let context = Context::new(&sequence, PROMPT.len()).remembering(memory);
        let next = paper::next_law(&context, expert.row(&sequence), sampling, seed);
        for (token, p) in (0..).zip(next).filter(|(_, p)| *p > 0.0) {
            open.push(([&sequence[..], &[token]].concat(), probability * p));
        }
    }
    law
}

/// Plain decoding is as on paper; lossless rules are as plain decoding, with any drafter and draft length.
fn follow_the_expert(settings: Vec<(&str, SamplingOptions)>) {
    for (name, sampling) in settings {
        let seed = 5;
        let mut plain = engine(NgramDrafter::default(), rule("lossless").unwrap());
        let plain = of_engine(&mut plain, &options(&sampling, 0, seed));
        let paper = on_paper(&sampling, seed);
        let off = distance(&plain, &paper);
        assert!(off < TOLERANCE, "{name}: plain decoding is {off} off its law on paper");
        for spec in ["lossless", "block"] {
            let drafters: [(&str, Box<dyn Drafter>); 3] = [
                ("another model", Box::new(ModelDrafter::new(other_model()))),
                ("n-gram", Box::new(NgramDrafter::new(1, 3).unwrap())),
                ("the expert", Box::new(ModelDrafter::new(expert()))),
            ];
            for (drafter_name, drafter) in drafters {
                let mut engine = engine(drafter, rule(spec).unwrap());
                for k in 1..=3 {
                    let off = distance(&of_engine(&mut engine, &options(&sampling, k, seed)), &plain);
                    assert!(off < TOLERANCE, "{name}, {spec}, {drafter_name}, k = {k}: {off} off");
                }
            }
        }
    }
}

#[test]
fn choices_among_tokens_follow_the_expert() {
    follow_the_expert(choices());
}

#[test]
fn what_looks_at_the_context_follows_the_expert() {
    follow_the_expert(of_context());
}

#[test]
fn every_order_follows_the_expert() {
    follow_the_expert(together());
}

/// Their law is made of what the drafter says too, and does not depend on how much it says at once.
#[test]
fn laws_of_cascades_do_not_hang_on_the_draft_length() {
    for (name, sampling) in all() {
        for spec in ["cascade-token-v3:lenience=0.4", "cascade-diff:lenience=0.1"] {
            let mut engine = engine(ModelDrafter::new(other_model()), rule(spec).unwrap());
            let mut law = |k| of_engine(&mut engine, &options(&sampling, k, 5));
            let one = law(1);
            for k in 2..=3 {
                let off = distance(&law(k), &one);
                assert!(off < TOLERANCE, "{name}, {spec}, k = {k}: {off} off k = 1");
            }
        }
    }
}

/// A setting without effect would be tested by nothing.
#[test]
fn every_setting_changes_the_law() {
    let laws: Vec<_> = all().iter().map(|(name, sampling)| (*name, on_paper(sampling, 5))).collect();
    let plain = on_paper(&on(), 5);
    for (i, (name, law)) in laws.iter().enumerate() {
        assert!(distance(law, &plain) > OFF, "{name} is as nothing at all");
        // Two neighbours are two settings of one processor.
        let neighbour = i.checked_sub(1).map(|before| &laws[before]);
        if let Some((other, second)) = neighbour {
            assert!(distance(law, second) > OFF, "{name} is as {other}");
        }
    }
}

fn xtc(probability: f64) -> SamplingOptions {
    SamplingOptions { xtc_probability: probability, xtc_threshold: 0.2, ..on() }
}

/// For a seed the coins are fixed; over seeds they come as often as they shall, and the law is the mixture.
#[test]
fn xtc_has_a_law_for_each_seed_and_a_mixture_over_them() {
    let mut engine = engine(ModelDrafter::new(other_model()), rule("lossless").unwrap());
    let mut laws = std::collections::BTreeMap::new();
    for seed in 0..40 {
        let coins: Vec<_> = (PROMPT.len()..PROMPT.len() + TOKENS)
            .map(|at| Xtc { probability: 0.5, threshold: 0.2, seed }.excludes(at))
            .collect();
        let [plain, drafted] = [0, 2].map(|k| of_engine(&mut engine, &options(&xtc(0.5), k, seed)));
        assert!(distance(&plain, &drafted) < TOLERANCE, "seed {seed}");
        let known = laws.entry(coins.clone()).or_insert_with(|| drafted.clone());
        assert!(distance(known, &drafted) < TOLERANCE, "the law is a function of the coins {coins:?}");
    }
    assert_eq!(laws.len(), 1 << TOKENS, "all coins fell in 40 seeds");
    let laws: Vec<_> = laws.into_values().collect();
    for (i, law) in laws.iter().enumerate() {
        assert!(laws[..i].iter().all(|other| distance(law, other) > OFF), "coins matter");
    }
    // The law of the first token over the coins: each law of a text counts as often as its coins come.
    let first = |law: &Law, token: TokenId| {
        law.iter().filter(|(text, _)| text[0] == token).map(|(_, p)| *p).sum::<f64>()
    };
    let (never, always) = (on_paper(&xtc(0.0), 0), on_paper(&xtc(1.0), 0));
    for token in 0..VOCAB as TokenId {
        let mean = laws.iter().map(|law| first(law, token)).sum::<f64>() / laws.len() as f64;
        let mixture = 0.5 * first(&never, token) + 0.5 * first(&always, token);
        assert!((mean - mixture).abs() < TOLERANCE, "token {token}: {mean} {mixture}");
    }
}

/// The test finds what it is there to find: a round loop of its own agrees with the engine, and with a mistake not.
#[test]
fn mistakes_are_found() {
    use rounds::Mistake;
    let mirostat = |sampling: &SamplingOptions| sampling.mirostat.is_some();
    let settings = [of_context(), together(), choices().into_iter().filter(|(_, s)| mirostat(s)).collect()];
    let mut found: HashMap<Mistake, usize> = HashMap::new();
    for (name, sampling) in settings.concat() {
        let mut plain = engine(NgramDrafter::default(), rule("lossless").unwrap());
        let plain = of_engine(&mut plain, &options(&sampling, 0, 5));
        let law = |mistake| rounds::law(&other_model(), &sampling, 2, 5, mistake);
        let off = distance(&law(None), &plain);
        assert!(off < TOLERANCE, "{name}: {off} off without a mistake");
        let mistakes = Mistake::ALL.into_iter().filter(|m| *m == Mistake::Shifted || mirostat(&sampling));
        for mistake in mistakes {
            *found.entry(mistake).or_default() += usize::from(distance(&law(Some(mistake)), &plain) > OFF);
        }
    }
    assert!(found[&Mistake::Shifted] >= 10, "{found:?}");
    assert!(found[&Mistake::NotUndone] >= 4, "{found:?}");
    assert!(found[&Mistake::NotAdvanced] >= 2, "{found:?}");
}

#[test]
fn sequential_cascades_refuse_mirostat() {
    use drafthorse_engine::{ErrorKind, SequentialCascade, SequentialRule};
    let sampling = SamplingOptions { mirostat: Some(Mirostat::default()), ..on() };
    let mut cascade = SequentialCascade::new(expert(), other_model()).unwrap();
    let rule = SequentialRule::Token { lenience: 0.5 };
    let error = cascade.generate(&PROMPT, &options(&sampling, 0, 0), rule).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Option);
    assert!(error.to_string().starts_with("mirostat follows the surprises of one model"));
}

/// Stop tokens are what ends a text, where no other tokens are named.
#[test]
fn min_tokens_know_the_stop_tokens_of_the_session() {
    let mut engine = engine(ModelDrafter::new(other_model()), rule("lossless").unwrap());
    let with = |stop_tokens: Vec<TokenId>, k| {
        let sampling = SamplingOptions { min_tokens: 2, ..on() };
        SessionOptions { stop_tokens, ..options(&sampling, k, 0) }
    };
    for k in 0..=2 {
        let law = of_engine(&mut engine, &with(vec![1, 2], k));
        assert!(law.keys().all(|text| !text[..2].contains(&1) && !text[..2].contains(&2)), "{law:?}");
        assert!(law.keys().any(|text| text[2] == 1));
    }
    let error = engine.session(&PROMPT, &with(vec![], 0)).unwrap_err();
    assert!(error.to_string().starts_with("min tokens is 2, but no token is known"), "{error}");
}
