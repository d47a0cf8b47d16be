//! Processors: what changes a row of logits before a token is drawn from it.
//!
//! Each can be used alone. The order in which a [`Sampler`](crate::Sampler) runs them is an option,
//! [`Order`](crate::Order).
//!
//! Those that choose by probability (top-k, top-p, typical, ...) let equal logits share their fate, so that what
//! stays does not depend on the order of tokens, and always leave the most probable token at least.

mod bans;
mod bias;
mod context;
mod dry;
mod dynamic;
mod entropy;
mod lengths;
mod mirostat;
mod penalties;
mod temperature;
mod truncation;
mod xtc;

pub use bans::{BadWords, NoRepeatNgram};
pub use bias::LogitBias;
pub use context::{Context, Memory};
pub use dry::Dry;
pub use dynamic::DynamicTemperature;
pub use entropy::{Epsilon, Eta, Typical};
pub use lengths::{Forced, MinTokens};
pub use mirostat::{Mirostat, MirostatVersion};
pub use penalties::{PresenceFrequency, Repetition};
pub use temperature::Temperature;
pub use truncation::{MinP, TopK, TopNSigma, TopP};
pub use xtc::Xtc;

use std::sync::Arc;

/// Changes a row of logits in place; `-inf` excludes a token.
///
/// A processor is a pure function of the context and the row. It is called for every position of a
/// draft with the drafted tokens in the context, by drafter and expert alike, so nothing needs to be
/// undone when a draft is refused.
pub trait LogitsProcessor: Send + Sync {
    /// Changes `row`, which scores the token after `context`.
    fn process(&self, context: &Context<'_>, row: &mut [f32]);

    /// Whether it may be asked of contexts that never come to be, from another thread, at any time. One that takes
    /// notes of the text must not, and without a word nothing of the kind is taken for granted: then no drafts are made
    /// ahead. The processors of this crate all say yes.
    fn is_pure(&self) -> bool {
        false
    }
}

impl<P: LogitsProcessor + ?Sized> LogitsProcessor for Arc<P> {
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        (**self).process(context, row);
    }

    fn is_pure(&self) -> bool {
        (**self).is_pure()
    }
}

/// Lets a truncation be used alone.
macro_rules! process_alone {
    ($($truncation:ty),*) => {
        $(impl crate::processors::LogitsProcessor for $truncation {
            fn process(&self, context: &crate::Context<'_>, row: &mut [f32]) {
                crate::candidates::Truncation::exclude(self, &crate::candidates::Place::of(context, 0), row);
            }

            fn is_pure(&self) -> bool {
                true
            }
        })*
    };
}
use process_alone;

/// What a truncation leaves of a row, by index.
#[cfg(test)]
fn kept(processor: &dyn LogitsProcessor, row: &[f32]) -> Vec<usize> {
    let mut row = row.to_vec();
    processor.process(&Context::new(&[], 0), &mut row);
    (0..row.len()).filter(|&i| row[i] > f32::NEG_INFINITY).collect()
}
