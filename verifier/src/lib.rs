//! Verifying drafted tokens: acceptance rules and the judge.
//!
//! An [`AcceptanceRule`] states a law: the distribution the next token shall have, given what drafter and
//! expert say. [`couple`] draws from that law while keeping the drafted token as often as any method
//! can, and [`judge`] does so position by position along a draft. They are the only places where a token
//! is accepted or replaced, but for one: where rows of logits stay on a device, a [`Reading`] holds what was
//! found out there for rules that [need](Needs) no more. [`couple_candidates`] and [`judge_tree`] are the same where
//! several drafted tokens compete for a position.
//!
//! # Example
//!
//! ```
//! use drafthorse_logits::{Probs, Proposal, Scores, SeededDraws};
//! use drafthorse_verifier::{AcceptanceRule, Lossless};
//!
//! let scores = |weights: [f64; 3]| {
//!     let probs = Probs::normalize(weights.to_vec()).unwrap();
//!     Scores::from_probs(probs.clone(), probs)
//! };
//! let proposal = Proposal { tokens: vec![0], scores: vec![scores([1.0, 1.0, 0.0])] };
//! let expert = [scores([0.0, 1.0, 1.0]), scores([1.0, 0.0, 0.0])];
//! let verdict = Lossless.judge(&proposal, &expert, 10, &mut SeededDraws::new(1, 1));
//! assert_eq!((verdict.accepted, verdict.next), (0, 2)); // refused; the residual is token 2
//! ```

mod catalogue;
mod confidence;
mod couple;
mod judge;
mod keep;
mod price;
mod round;
mod rule;
mod rules;
mod tree;
mod verifier;

pub use catalogue::{Dial, RULES, RuleError, RuleInfo, describe, rule};
pub use confidence::{Calibrated, Confidence, ConfidenceRule};
pub use couple::couple;
pub use judge::judge;
pub use keep::{KeepRule, Kept};
pub use price::Price;
pub use round::{Guide, Reading, Round};
pub use rule::{AcceptanceRule, Kind, Needs};
pub use rules::{
    bild::Bild, block::Block, chow::CascadeChow, chow_log::CascadeChowLog, contrastive::Contrastive,
    coupled_noise::CoupledNoise, diff::CascadeDiff, diff_log::CascadeDiffLog, exact_match::ExactMatch,
    interpolation::Interpolation, lenience::Lenience, lenience_balanced::LenienceBalanced,
    lossless::Lossless, mentored::Mentored, opt::CascadeOpt, opt_log::CascadeOptLog,
    token_v1::CascadeTokenV1, token_v2::CascadeTokenV2, token_v3::CascadeTokenV3, top_k::TopKAcceptance,
    truncate_min_p::TruncateMinP, truncate_top_p::TruncateTopP, typical::Typical,
};
pub use tree::{SequentialTest, TreeReading, TreeRound, couple_candidates, judge_tree};
pub use verifier::Verifier;

use couple::ratio;
