//! Host mathematics of logits: distributions, processors, sampling and seeded draws.
//!
//! Everything a decision about a token is made of, without Burn and without I/O:
//!
//! * [`Logits`]: rows of raw scores over the vocabulary, as a model returns them;
//! * [`Sampler`]: runs the [`processors`] in an [`Order`], and turns a row into [`Scores`];
//! * [`Memory`]: what processors remember of a text, handed on along drafts;
//! * [`Probs`]: one distribution over the vocabulary;
//! * [`Combine`] and [`Guidance`]: rows made of several models' rows;
//! * [`Sled`] and [`Dola`]: rows made of several layers of a model;
//! * [`RowQuestion`]: what is wanted of rows that stay where they are;
//! * [`Constraint`] and [`Matcher`]: what a text may say, along its tokens;
//! * [`Proposal`] and [`Verdict`]: what a drafter and a judge exchange;
//! * [`DraftTree`] and [`TreeVerdict`]: the same where drafts branch;
//! * [`calibration`]: how often a confidence is right;
//! * [`Draws`]: every random decision, keyed by seed, round, position and purpose;
//! * [`drift`]: whether a model says what it used to;
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
pub mod calibration;
mod candidates;
mod constraint;
mod draws;
pub mod drift;
mod ensemble;
mod error;
pub mod exact;
mod largest;
mod layers;
mod log_probs;
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
mod token_set;
mod tree;
mod warp;

pub use constraint::{Constraint, ConstraintError, Matcher};
pub use draws::{Draws, Purpose, SeededDraws};
pub use ensemble::{Combine, Guidance, Weights, log_softmax};
pub use error::LogitsError;
pub use largest::largest;
pub use layers::{Dola, Evolution, LayerContrast, Sled};
pub use log_probs::{LogProbs, LogProbsOf, LogProbsOptions};
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
pub use token_set::TokenSet;
pub use tree::{
    BestTree, Branching, DraftTree, RankAcceptance, Ranked, ShapeError, TreeError, TreePlan, TreeShape,
    TreeVerdict,
};

/// The number of a token in the vocabulary, from 0.
pub type TokenId = u32;
