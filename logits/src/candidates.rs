//! The tokens that are left of a row, and how fewer are left.

use crate::{Context, Memory, TokenId, buffer::Buffer, math::Normalizer, scan, simd};

/// Where a row stands: all that a truncation may know besides the row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Tokens before it.
    pub(crate) position: usize,
    /// Of the surprises before it.
    pub(crate) memory: Memory,
    /// Of coins.
    pub(crate) seed: u64,
}

impl Place {
    pub(crate) fn of(context: &Context<'_>, seed: u64) -> Self {
        Self { position: context.tokens().len(), memory: context.memory(), seed }
    }
}

/// Logits at a temperature, among which is chosen; at least one is above `-inf`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) logits: &'a [f32],
    pub(crate) temperature: Option<f32>,
}

impl View<'_> {
    pub(crate) fn max(&self) -> f32 {
        simd::max(self.logits)
    }

    pub(crate) fn normalizer(&self) -> Normalizer {
        match self.temperature {
            None => Normalizer::of(self.logits),
            Some(temperature) => Normalizer::at(self.logits, temperature),
        }
    }

    pub(crate) fn with_entropy(&self) -> (Normalizer, f64) {
        Normalizer::with_entropy(self.logits, self.temperature)
    }
}

/// The logits that stay, whatever their temperature: from `low` to `high`, both of them included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Keep {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Keep {
    /// Those not below `low`, which is finite or says that all stay.
    pub(crate) fn at_least(low: f32) -> Option<Self> {
        (low > f32::NEG_INFINITY).then_some(Self { low, high: f32::INFINITY })
    }

    /// Those not above `high`.
    pub(crate) fn at_most(high: f32) -> Self {
        Self { low: f32::MIN, high }
    }
}

/// A choice among tokens by their logits, so that equal logits share their fate.
pub(crate) trait Truncation: Send + Sync {
    /// What stays, at least one token; `None` where all do.
    fn keep(&self, place: &Place, view: &View<'_>) -> Option<Keep>;

    /// Excludes the others from a row.
    fn exclude(&self, place: &Place, row: &mut [f32]) {
        if simd::max(row) == f32::NEG_INFINITY {
            return;
        }
        if let Some(Keep { low, high }) = self.keep(place, &View { logits: row, temperature: None }) {
            scan::exclude(row, low, high);
        }
    }
}

/// A few tokens of a row, in order, with their logits.
#[derive(Clone, Debug)]
pub(crate) struct Few {
    pub(crate) tokens: Buffer<TokenId>,
    pub(crate) logits: Buffer<f32>,
}

impl Few {
    /// Those of a row that stay.
    pub(crate) fn of(row: &[f32], keep: Keep) -> Self {
        Self::gather(row, keep, |index| index as TokenId)
    }

    /// Those that stay.
    pub(crate) fn kept(&self, keep: Keep) -> Self {
        Self::gather(&self.logits, keep, |index| self.tokens[index])
    }

    fn gather(logits: &[f32], Keep { low, high }: Keep, token: impl Fn(usize) -> TokenId) -> Self {
        let mut kept = Buffer::fill(0, |_| {});
        let tokens = Buffer::fill(0, |tokens| {
            kept = Buffer::fill(0, |kept| {
                scan::each_chunk_within(logits, low, high, |start, chunk| {
                    for (index, &logit) in (start..).zip(chunk) {
                        if logit >= low && logit <= high {
                            tokens.push(token(index));
                            kept.push(logit);
                        }
                    }
                });
            });
        });
        Self { tokens, logits: kept }
    }
}
