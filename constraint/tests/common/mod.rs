//! Models over about a hundred tokens of JSON, and texts by them.
#![allow(dead_code, reason = "each test uses a part")]

use drafthorse_constraint::TokenTable;
use drafthorse_drafter::ModelDrafter;
use drafthorse_engine::{Engine, Finish, SessionOptions, Stats};
use drafthorse_logits::TokenId;
use drafthorse_model::TableModel;
use std::sync::Arc;

/// Pieces that JSON texts are made of, in several ways, and every letter they need.
const PIECES: [&str; 36] = [
    "{", "}", "[", "]", ":", ",", "\"", "{\"", "\"}", "\":", "\",", "\":\"", "\",\"", "},", "],", "[]", "{}",
    "[\"", "true", "false", "null", "name", "na", "id", "tag", "ab", "x1", "10", "42", "-", ".", "\\", " ",
    "\n", "(", "+",
];

pub(crate) fn tokens() -> Vec<String> {
    let letters = ('a'..='z').chain('0'..='9').chain(['A', 'B', 'C', '_', ')', '*', '@', '#', '/', '!']);
    let mut tokens: Vec<String> =
        PIECES.map(str::to_owned).into_iter().chain(letters.map(String::from)).collect();
    tokens.extend(["é", "漢", "<end>"].map(str::to_owned));
    tokens
}

/// The table of them, in which the end has no text.
pub(crate) fn table(tokens: &[String]) -> TokenTable {
    let texts: Vec<_> = tokens.iter().map(|text| if text == "<end>" { "" } else { text.as_str() }).collect();
    TokenTable::of_texts(&texts).expect("a table of pieces")
}

pub(crate) fn end(tokens: &[String]) -> TokenId {
    tokens.len() as TokenId - 1
}

/// An engine of two models that agree now and then.
pub(crate) fn engine(tokens: &[String]) -> Engine {
    let vocab = tokens.len();
    let expert = TableModel::random(vocab, 2.0, 1);
    let other = TableModel::random(vocab, 2.0, 2);
    let drafter = TableModel::from_fn(vocab, |context| {
        let rows = expert.row(context).iter().zip(other.row(context));
        rows.map(|(expert, other)| 0.7 * expert + 0.5 * other).collect()
    });
    let builder = Engine::builder().expert(Arc::new(expert)).drafter(ModelDrafter::new(Arc::new(drafter)));
    builder.draft_length(3).build().expect("models of one vocabulary")
}

pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) finish: Option<Finish>,
    pub(crate) stats: Stats,
}

impl Written {
    /// Whether the text ended by itself.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.finish, Some(Finish::Grammar | Finish::StopToken(_)))
    }
}

pub(crate) fn write(engine: &mut Engine, tokens: &[String], options: &SessionOptions) -> Written {
    let mut session = engine.session(&[0], options).expect("a session");
    let mut finish = None;
    for step in &mut session {
        finish = step.expect("a step").finish;
    }
    let written = session.generated().iter().filter(|&&token| token != end(tokens));
    let text = written.map(|&token| tokens[token as usize].as_str()).collect();
    Written { text, finish, stats: session.stats().clone() }
}
