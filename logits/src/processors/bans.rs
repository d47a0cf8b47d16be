use super::{Context, LogitsProcessor};
use crate::TokenId;

/// Bans words: sequences of tokens, of which the last is banned where the others stand before it, prompt included.
/// A sequence of one token bans it everywhere. Empty ones ban nothing.
#[derive(Clone, Debug)]
pub struct BadWords(pub Vec<Vec<TokenId>>);

impl LogitsProcessor for BadWords {
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        for word in &self.0 {
            if let Some((last, before)) = word.split_last()
                && context.tokens().ends_with(before)
            {
                ban(row, *last);
            }
        }
    }

    fn is_pure(&self) -> bool {
        true
    }
}

/// Bans every token that would make `n` tokens in a row stand in the text, prompt included, a second time; 0 is
/// off.
///
/// Source: Paulus, Xiong, Socher, "A Deep Reinforced Model for Abstractive Summarization", 2018.
#[derive(Clone, Copy, Debug)]
pub struct NoRepeatNgram(pub usize);

impl LogitsProcessor for NoRepeatNgram {
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        let (tokens, n) = (context.tokens(), self.0);
        if n == 0 || tokens.len() < n {
            return;
        }
        let begun = &tokens[tokens.len() - (n - 1)..];
        for ngram in tokens.windows(n) {
            if ngram.starts_with(begun) {
                ban(row, ngram[n - 1]);
            }
        }
    }

    fn is_pure(&self) -> bool {
        true
    }
}

pub(super) fn ban(row: &mut [f32], token: TokenId) {
    if let Some(logit) = row.get_mut(token as usize) {
        *logit = f32::NEG_INFINITY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banned(processor: &dyn LogitsProcessor, tokens: &[TokenId]) -> Vec<usize> {
        let mut row = [0.0; 6];
        processor.process(&Context::new(tokens, 1), &mut row);
        (0..6).filter(|&i| row[i] == f32::NEG_INFINITY).collect()
    }

    #[test]
    fn words_are_banned_where_they_would_end() {
        let words = BadWords(vec![vec![5], vec![1, 2, 3], vec![], vec![2, 4], vec![9]]);
        assert_eq!(banned(&words, &[0]), [5]);
        assert_eq!(banned(&words, &[0, 1, 2]), [3, 4, 5]);
        assert_eq!(banned(&words, &[1]), [5]);
    }

    #[test]
    fn ngrams_are_not_repeated() {
        assert_eq!(banned(&NoRepeatNgram(2), &[1, 2, 1, 3, 1]), [2, 3]);
        assert_eq!(banned(&NoRepeatNgram(3), &[1, 2, 1, 3, 1, 2]), [1]);
        assert_eq!(banned(&NoRepeatNgram(1), &[1, 2, 2]), [1, 2]);
        assert!(banned(&NoRepeatNgram(3), &[1, 2]).is_empty() && banned(&NoRepeatNgram(0), &[1]).is_empty());
    }
}
