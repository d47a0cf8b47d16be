//! Sessions over five tokens.
#![allow(dead_code, reason = "each test uses a part")]

use drafthorse_constraint::{Grammar, TokenTable};
use drafthorse_drafter::{Drafter, ModelDrafter};
use drafthorse_engine::{Engine, Finish, SessionOptions, Stats};
use drafthorse_logits::{Constraint, SamplingOptions, TokenId};
use drafthorse_model::{TableModel, Vocabulary};
use std::sync::Arc;

pub(crate) const TOKENS: [&str; 5] = ["a", "b", "ab", "c", "<end>"];
pub(crate) const END: TokenId = 4;

pub(crate) fn table() -> TokenTable {
    TokenTable::of_texts(&["a", "b", "ab", "c", ""]).unwrap()
}

pub(crate) fn regex(regex: &str) -> Arc<dyn Constraint> {
    Arc::new(Grammar::regex(&table(), regex).unwrap())
}

pub(crate) fn builder() -> drafthorse_engine::EngineBuilder {
    let texts = Vocabulary::new(TOKENS.map(|text| Some(text.to_owned())));
    Engine::builder().expert(Arc::new(TableModel::random(5, 1.0, 3))).detokenizer(texts)
}

pub(crate) fn engine(drafter: impl Drafter + 'static) -> Engine {
    builder().drafter(drafter).draft_length(4).build().unwrap()
}

pub(crate) fn model() -> ModelDrafter {
    ModelDrafter::new(Arc::new(TableModel::random(5, 1.0, 7)))
}

pub(crate) fn options(constraint: Arc<dyn Constraint>) -> SessionOptions {
    let sampling = SamplingOptions { temperature: 1.0, ..Default::default() };
    SessionOptions { sampling, constraint: Some(constraint), max_tokens: 30, ..Default::default() }
}

pub(crate) struct Run {
    pub(crate) text: String,
    pub(crate) finish: Option<Finish>,
    pub(crate) error: Option<drafthorse_engine::Error>,
    pub(crate) stats: Stats,
}

pub(crate) fn run(engine: &mut Engine, options: &SessionOptions) -> Run {
    let mut session = engine.session(&[0], options).unwrap();
    let (mut text, mut finish, mut error) = (String::new(), None, None);
    for step in &mut session {
        assert!(error.is_none(), "nothing comes after an error");
        match step {
            Ok(step) => (text, finish) = (text + &step.text, step.finish),
            Err(cause) => error = Some(cause),
        }
    }
    Run { text, finish, error, stats: session.stats().clone() }
}
