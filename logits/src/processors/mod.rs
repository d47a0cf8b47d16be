//! Processors: what changes a row of logits before a token is drawn from it.
//!
//! The order in which the built-in ones run is fixed in one place, [`Sampler`](crate::Sampler).

mod bias;
mod penalties;
mod temperature;
mod truncation;

pub use bias::LogitBias;
pub use penalties::{PresenceFrequency, Repetition};
pub use temperature::Temperature;
pub use truncation::{MinP, TopK, TopP};

use crate::TokenId;
use std::sync::Arc;

/// What comes before the position a row of logits is for.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    tokens: &'a [TokenId],
    prompt: usize,
}

impl<'a> Context<'a> {
    /// All tokens so far, drafted ones included, of which the first `prompt` are the prompt.
    ///
    /// A `prompt` beyond the end means that everything is prompt.
    pub fn new(tokens: &'a [TokenId], prompt: usize) -> Self {
        Self { tokens, prompt: prompt.min(tokens.len()) }
    }

    /// Prompt and generated tokens.
    pub fn tokens(&self) -> &'a [TokenId] {
        self.tokens
    }

    /// The tokens after the prompt.
    pub fn generated(&self) -> &'a [TokenId] {
        &self.tokens[self.prompt..]
    }
}

/// Changes a row of logits in place; `-inf` excludes a token.
///
/// A processor is a pure function of the context and the row. It is called for every position of a
/// draft with the drafted tokens in the context, by drafter and expert alike, so nothing needs to be
/// undone when a draft is refused.
pub trait LogitsProcessor: Send + Sync {
    /// Changes `row`, which scores the token after `context`.
    fn process(&self, context: &Context<'_>, row: &mut [f32]);
}

impl<P: LogitsProcessor + ?Sized> LogitsProcessor for Arc<P> {
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        (**self).process(context, row);
    }
}
