//! Host mathematics of logits: distributions, processors, sampling and seeded draws.
//!
//! Everything a decision about a token is made of, without Burn and without I/O:
//!
//! * [`Logits`]: rows of raw scores over the vocabulary, as a model returns them;
//! * [`Sampler`]: the only place that knows the order of the [`processors`]; turns a row into [`Scores`];
//! * [`Probs`]: one distribution over the vocabulary;
//! * [`RowQuestion`]: what is wanted of rows that stay where they are;
//! * [`Proposal`] and [`Verdict`]: what a drafter and a judge exchange;
//! * [`Draws`]: every random decision, keyed by seed, round, position and purpose;
//! * [`exact`]: runs a procedure over *all* its random outcomes and weighs each, for tests of laws.
//!
//! # Example
//!
//! ```
//! use drafthorse_logits::{Context, Sampler, SamplingOptions};
//!
//! let sampler = Sampler::new(&SamplingOptions { temperature: 0.5, top_k: 2, ..Default::default() })?;
//! let scores = sampler.scores(&Context::new(&[], 0), &[1.0, 2.0, 0.0])?;
//! assert_eq!(scores.probs().get(2), 0.0); // cut by top-k
//! assert!((scores.probs().get(1) / scores.probs().get(0) - 2f64.exp()).abs() < 1e-6);
//! # Ok::<(), drafthorse_logits::LogitsError>(())
//! ```

mod buffer;
mod candidates;
mod draws;
mod error;
pub mod exact;
mod logits;
mod math;
mod options;
mod order;
mod probs;
pub mod processors;
mod question;
mod round;
mod sampler;
mod scan;
mod scores;
mod select;
mod simd;
mod warp;

pub use draws::{Draws, Purpose, SeededDraws};
pub use error::LogitsError;
pub use logits::Logits;
pub use math::{argmax, log_sum_exp};
pub use options::SamplingOptions;
pub use order::{Order, Stage};
pub use probs::{ProbRow, Probs};
pub use processors::{Context, LogitsProcessor, Memory};
pub use question::{RowAnswer, RowQuestion};
pub use round::{Origin, Proposal, ProposalError, Verdict};
pub use sampler::Sampler;
pub use scores::Scores;

/// The number of a token in the vocabulary, from 0.
pub type TokenId = u32;
