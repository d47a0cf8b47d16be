//! The engine of speculative decoding: rounds of drafting and verifying until a text ends.
//!
//! [`Engine::builder`] puts an expert, a drafter and an acceptance rule together and refuses parts that
//! do not fit. [`Engine::session`] generates: a [`Session`] is an iterator of [`Step`]s, one a round. Drafts can branch
//! ([`SessionOptions::tree`]).
//! Parts can be exchanged between sessions, and [`Pending`] loads them meanwhile.
//!
//! # Example
//!
//! ```
//! use drafthorse_drafter::ModelDrafter;
//! use drafthorse_engine::{Engine, SessionOptions};
//! use drafthorse_model::TableModel;
//! use std::sync::Arc;
//!
//! let mut engine = Engine::builder()
//!     .expert(Arc::new(TableModel::random(8, 2.0, 1)))
//!     .drafter(ModelDrafter::new(Arc::new(TableModel::random(8, 2.0, 2))))
//!     .draft_length(3)
//!     .build()?;
//! let options = SessionOptions { max_tokens: 20, ..Default::default() };
//! let mut session = engine.session(&[1, 2], &options)?;
//! let mut tokens = Vec::new();
//! for step in &mut session {
//!     tokens.extend(step?.tokens.iter().map(|token| token.id));
//! }
//! assert_eq!(tokens.len(), 20);
//! assert!(session.stats().rounds <= 20);
//! # Ok::<(), drafthorse_engine::Error>(())
//! ```

mod ahead;
mod beam;
mod builder;
mod compatible;
mod constrained;
mod decide;
mod draft;
mod emit;
mod engine;
mod error;
mod guess;
mod length;
mod lengths;
mod options;
mod pending;
mod raced;
mod sequential;
mod session;
mod stats;
mod step;
mod stop;
mod tree;
mod watch;

pub use ahead::{Ahead, AheadOptions, AheadReport, AheadStats, AheadWhen, AheadWhy};
pub use beam::{BeamSearch, BeamText, BeamTexts, EarlyStopping};
pub use builder::EngineBuilder;
pub use compatible::check_pair;
pub use engine::Engine;
pub use error::{Error, ErrorKind};
pub use length::{Adaptive, DraftCosts, DraftLength, DraftLengthError, Speculation, Standing};
pub use options::SessionOptions;
pub use pending::Pending;
pub use sequential::{SequentialCascade, SequentialRule, SequentialStats, SequentialText};
pub use session::Session;
pub use stats::Stats;
pub use step::{Asked, Finish, Provenance, Step, StepToken};
pub use watch::Abstain;
