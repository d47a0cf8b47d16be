//! How probable a model finds a text: log-probabilities of its tokens, perplexity, bits per byte.
//!
//! # Example
//!
//! ```
//! use drafthorse::{TableModel, model::CachedModel, score::{Windows, score}};
//! use std::sync::Arc;
//!
//! // A model that finds every one of four tokens equally probable.
//! let mut model = CachedModel::new(Arc::new(TableModel::from_fn(4, |_| vec![0.0; 4])));
//! let scores = score(&mut model, &[0, 1, 2, 3, 1], Windows::new(3, 2)?)?;
//! assert_eq!(scores.len(), 4); // nothing comes before the first token
//! assert!(scores.iter().all(|score| (score.log_prob - 0.25f64.ln()).abs() < 1e-12));
//! # Ok::<(), drafthorse::score::ScoreError>(())
//! ```

use crate::rows::{LogProbsOfRow, each_row};
use drafthorse_logits::{TokenId, argmax};
use drafthorse_model::{ModelError, SequenceModel};

/// How a text is read that may be longer than the context.
///
/// The first window scores all its tokens. Each further one begins `stride` tokens later, scores the `stride` tokens
/// that are new, and reads the rest only as what comes before them. So every token but the first is scored exactly
/// once, after at most `context` tokens and, beyond the first window, after more than `context - stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    context: usize,
    stride: usize,
}

impl Windows {
    /// Windows of `context` tokens, each `stride` after the one before.
    ///
    /// # Errors
    ///
    /// [`ScoreError::Windows`] unless 1 <= stride <= context.
    pub fn new(context: usize, stride: usize) -> Result<Self, ScoreError> {
        if stride == 0 || stride > context {
            return Err(ScoreError::Windows { context, stride });
        }
        Ok(Self { context, stride })
    }

    /// The most tokens read before the one that is scored.
    pub fn context(self) -> usize {
        self.context
    }

    /// Tokens scored in each window but the first.
    pub fn stride(self) -> usize {
        self.stride
    }

    /// For a text of `length` tokens: where each window begins, its first scored token, and where it ends.
    fn over(self, length: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let Self { context, stride } = self;
        let window = move |first: usize| {
            let end = if first == 1 { context.saturating_add(1) } else { first + stride };
            (end.saturating_sub(context + 1), first, end.min(length))
        };
        let begin = (length > 1).then(|| window(1));
        std::iter::successors(begin, move |&(_, _, end)| (end < length).then(|| window(end)))
    }
}

/// A token of a text and how probable it was.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct TokenScore {
    /// The token.
    pub token: TokenId,
    /// Tokens that were read before it.
    pub before: usize,
    /// Its log-probability in nats, at temperature 1; `-inf` where the model excludes it.
    pub log_prob: f64,
    /// The model's most probable token there, the lowest id among equals.
    pub best: TokenId,
    /// The probability of that token: how sure the model was.
    pub max_probability: f64,
}

impl TokenScore {
    /// What `row`, the logits after `before` tokens, says of `token`.
    fn of(row: &[f32], token: TokenId, before: usize) -> Result<Self, ModelError> {
        let log_probs = LogProbsOfRow::new(row)?;
        let best = argmax(row);
        let max_probability = log_probs.get(best)?.exp().min(1.0);
        Ok(Self { token, before, log_prob: log_probs.get(token)?, best, max_probability })
    }
}

/// Why a text was not scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// The windows would leave tokens out, or never end.
    #[error("windows of {context} tokens with a stride of {stride}: 1 <= stride <= context is needed")]
    Windows {
        /// The most tokens read before the one that is scored.
        context: usize,
        /// Tokens scored in each window but the first.
        stride: usize,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// The log-probability of every token of a text but the first.
///
/// # Errors
///
/// The model fails; a token outside its vocabulary; windows beyond its context.
pub fn score(
    model: &mut dyn SequenceModel,
    tokens: &[TokenId],
    windows: Windows,
) -> Result<Vec<TokenScore>, ScoreError> {
    let mut scores = Vec::with_capacity(tokens.len().saturating_sub(1));
    for (begin, first, end) in windows.over(tokens.len()) {
        // The last token of a window is scored and not read.
        let read = &tokens[begin..end - 1];
        each_row(model, read, first - begin - 1, |at, row| {
            let token = tokens[begin + at + 1];
            scores.push(TokenScore::of(row, token, at + 1)?);
            Ok::<_, ScoreError>(())
        })?;
    }
    Ok(scores)
}

/// The scores of texts, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Tokens that were scored.
    pub tokens: usize,
    /// Bytes of their text.
    pub bytes: usize,
    /// Sum of their log-probabilities, in nats.
    pub log_prob: f64,
}

impl Summary {
    /// Of tokens whose text is `bytes` long.
    pub fn new(scores: &[TokenScore], bytes: usize) -> Self {
        let log_prob = scores.iter().map(|score| score.log_prob).sum();
        Self { tokens: scores.len(), bytes, log_prob }
    }

    /// Adds another text.
    pub fn merge(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.bytes += other.bytes;
        self.log_prob += other.log_prob;
    }

    /// The mean log-probability of a token, in nats; `None` without tokens.
    pub fn mean_log_prob(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.log_prob / self.tokens as f64)
    }

    /// `exp(-mean log-probability)`: depends on the tokenizer.
    pub fn perplexity(&self) -> Option<f64> {
        self.mean_log_prob().map(|mean| (-mean).exp())
    }

    /// Bits for each byte of the text: does not depend on the tokenizer.
    pub fn bits_per_byte(&self) -> Option<f64> {
        (self.bytes > 0).then(|| -self.log_prob / std::f64::consts::LN_2 / self.bytes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_logits::Probs;
    use drafthorse_model::{CachedModel, TableModel};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// By the definition: from the row after the tokens before.
    fn by_hand(model: &TableModel, tokens: &[TokenId], at: usize) -> f64 {
        let row = model.row(&tokens[..at]);
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        f64::from(row[tokens[at] as usize]) - sum.ln()
    }

    proptest! {
        #[test]
        fn every_token_is_scored_once_with_what_is_promised_before_it(
            tokens in prop::collection::vec(0u32..4, 0..60),
            (context, stride) in (1usize..20).prop_flat_map(|context| (Just(context), 1..=context)),
        ) {
            let model = Arc::new(TableModel::random(4, 2.0, 11).with_context(context));
            let windows = Windows::new(context, stride).expect("in range");
            let scores = score(&mut CachedModel::new(model.clone()), &tokens, windows).expect("a table");
            let scored: Vec<_> = scores.iter().map(|score| score.token).collect();
            prop_assert_eq!(&scored, &tokens.get(1..).unwrap_or_default());
            for (at, score) in (1..).zip(&scores) {
                prop_assert!(score.before <= context);
                let promised = if at <= context { score.before == at } else { score.before > context - stride };
                prop_assert!(promised, "{} before token {}", score.before, at);
                prop_assert!(score.max_probability >= score.log_prob.exp());
                prop_assert_eq!(score.best == score.token, score.max_probability <= score.log_prob.exp());
                // The table looks two tokens back: where both are in the window, the window does not matter.
                if score.before >= 2 || at == 1 {
                    prop_assert!((score.log_prob - by_hand(&model, &tokens, at)).abs() < 1e-6);
                    let (best, most) = Probs::softmax(model.row(&tokens[..at])).max();
                    prop_assert!(score.best == best && (score.max_probability - most).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn a_short_text_needs_no_second_window_and_an_empty_one_none() {
        let windows = Windows::new(4, 2).expect("in range");
        assert_eq!(windows.over(0).count() + windows.over(1).count(), 0);
        assert_eq!(windows.over(5).collect::<Vec<_>>(), [(0, 1, 5)]);
        assert_eq!(windows.over(8).collect::<Vec<_>>(), [(0, 1, 5), (2, 5, 7), (4, 7, 8)]);
        for (context, stride) in [(4, 0), (4, 5), (0, 0)] {
            let error = Windows::new(context, stride).expect_err("out of range").to_string();
            assert!(
                error.contains(&format!("windows of {context} tokens with a stride of {stride}")),
                "{error}"
            );
        }
    }

    #[test]
    fn sums_in_closed_form() {
        let of = |log_prob| TokenScore { token: 0, before: 1, log_prob, best: 0, max_probability: 1.0 };
        let mut summary = Summary::new(&[of(0.5f64.ln()), of(0.125f64.ln())], 8);
        summary.merge(&Summary::new(&[], 0));
        assert!((summary.perplexity().expect("two tokens") - 4.0).abs() < 1e-12);
        assert!((summary.bits_per_byte().expect("eight bytes") - 0.5).abs() < 1e-12);
        assert_eq!(Summary::default().perplexity(), None);
        assert_eq!(Summary::new(&[of(f64::NEG_INFINITY)], 1).perplexity(), Some(f64::INFINITY));
    }

    #[test]
    fn what_the_model_cannot_read_is_its_error() {
        let model = Arc::new(TableModel::random(4, 1.0, 1).with_context(3));
        let windows = Windows::new(8, 8).expect("in range");
        let error = score(&mut CachedModel::new(model.clone()), &[1; 6], windows).expect_err("too long");
        assert_eq!(error.to_string(), "a sequence of 5 tokens exceeds the context of 3");
        let error = score(&mut CachedModel::new(model), &[1, 7], windows).expect_err("no such token");
        assert_eq!(error.to_string(), "token 7 is outside the vocabulary of 4 tokens");
    }
}
