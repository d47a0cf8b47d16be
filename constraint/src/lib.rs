//! Grammars that a text must follow, as masks over the vocabulary along drafts.
//!
//! * [`TokenTable`]: the bytes of every token of a vocabulary, prepared once a model;
//! * [`Grammar`]: a JSON schema, a regular expression or a Lark grammar, compiled for a table; it is a
//!   [`Constraint`](drafthorse_logits::Constraint), shared by as many texts as there are.
//!
//! Every token is allowed after which the text can still be completed byte by byte, however a tokenizer would cut it:
//! the law of the text is the model's, restricted to what the grammar allows at each position. A vocabulary
//! without a token for some byte can still lead into a dead end, which is an error of the text.
//!
//! The parser is [llguidance](https://docs.rs/llguidance).
//!
//! # Example
//!
//! ```
//! use drafthorse_constraint::{Grammar, TokenTable};
//! use drafthorse_logits::Constraint;
//!
//! let table = TokenTable::of_texts(&["a", "b", "ab", "c"])?;
//! let grammar = Grammar::regex(&table, "(ab)+c")?;
//! let mut matcher = grammar.start(&[])?;
//! assert_eq!(matcher.allowed(&[])?.iter().collect::<Vec<_>>(), [0, 2]); // a, ab
//! assert_eq!(matcher.allowed(&[2])?.iter().collect::<Vec<_>>(), [0, 2, 3]);
//! assert!(matcher.is_complete(&[2, 3])?);
//! assert_eq!(matcher.forced(&[0], 3, false)?, [1]); // after "a", b alone
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In a session, drafter and expert are restricted alike, and what is forced is drafted for nothing:
//!
//! ```
//! # use drafthorse_constraint::{Grammar, TokenTable, Whitespace};
//! use drafthorse_engine::{Engine, Finish, SessionOptions};
//! use drafthorse_model::TableModel;
//! use std::sync::Arc;
//!
//! let table = TokenTable::of_texts(&["{", "}", "\"", "ok", ":", "true", "false"])?;
//! let schema = r#"{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
//!     "additionalProperties": false}"#;
//! let grammar = Grammar::json_schema(&table, schema, Whitespace::None)?;
//! let mut engine = Engine::builder().expert(Arc::new(TableModel::random(7, 1.0, 1))).build()?;
//! let options = SessionOptions { constraint: Some(Arc::new(grammar)), ..Default::default() };
//! let mut session = engine.session(&[0], &options)?;
//! let last = session.by_ref().last().ok_or("no text")??;
//! assert_eq!(last.finish, Some(Finish::Grammar));
//! assert_eq!(session.generated()[..5], [0, 2, 3, 2, 4]); // {"ok":
//! assert_eq!((session.stats().rounds, session.stats().forced), (2, 6)); // seven tokens without a drafter
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod grammar;
mod matcher;
mod parser;
mod table;

pub use error::GrammarError;
pub use grammar::{Grammar, Whitespace};
pub use table::TokenTable;
