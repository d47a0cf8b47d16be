//! Verifying drafted tokens: acceptance rules and the judge.
//!
//! An [`AcceptanceRule`] states a law: the distribution the next token shall have, given what drafter and
//! expert say. [`couple`] draws from that law while keeping the drafted token as often as any method
//! can, and [`judge`] does so position by position along a draft. They are the only places where a token
//! is accepted or replaced, but for one: where rows of logits stay on a device, a [`Reading`] holds what was
//! found out there for rules that [need](Needs) no more.
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

mod couple;
mod exact_match;
mod judge;
mod lossless;
mod round;
mod rule;
mod verifier;

pub use couple::couple;
pub use exact_match::ExactMatch;
pub use judge::judge;
pub use lossless::Lossless;
pub use round::{Reading, Round};
pub use rule::{AcceptanceRule, Needs, RULES, RuleError, rule};
pub use verifier::Verifier;
