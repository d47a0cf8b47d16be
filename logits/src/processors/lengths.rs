use super::{Context, LogitsProcessor, bans::ban};
use crate::TokenId;

/// Bans the tokens that would end a text before it has `tokens` tokens; the prompt does not count.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct MinTokens {
    /// Tokens of the text, the one that ends it not among them.
    pub tokens: usize,
    /// What ends a text.
    pub ends: Vec<TokenId>,
}

impl LogitsProcessor for MinTokens {
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        if context.generated().len() < self.tokens {
            self.ends.iter().for_each(|end| ban(row, *end));
        }
    }

    fn is_pure(&self) -> bool {
        true
    }
}

/// Forces a token at the beginning of a text, or at its end if it gets that long; the prompt does not count.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs)]
pub struct Forced {
    /// The first token.
    pub first: Option<TokenId>,
    /// A length, and the last token of a text of this length.
    pub last: Option<(usize, TokenId)>,
}

impl LogitsProcessor for Forced {
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        let generated = context.generated().len();
        let first = self.first.filter(|_| generated == 0);
        let last = self.last.filter(|(length, _)| generated + 1 == *length);
        // Where a text of one token is to begin and to end, its end matters.
        if let Some(token) = last.map(|(_, token)| token).or(first) {
            row.fill(f32::NEG_INFINITY);
            if let Some(logit) = row.get_mut(token as usize) {
                *logit = 0.0;
            }
        }
    }

    fn is_pure(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: f32 = f32::NEG_INFINITY;

    fn row(processor: &dyn LogitsProcessor, tokens: &[TokenId]) -> [f32; 3] {
        let mut row = [1.0, 2.0, 3.0];
        processor.process(&Context::new(tokens, 2), &mut row);
        row
    }

    #[test]
    fn a_text_does_not_end_too_early() {
        let long = MinTokens { tokens: 2, ends: vec![1, 2, 9] };
        assert_eq!(row(&long, &[0, 0]), [1.0, OUT, OUT]);
        assert_eq!(row(&long, &[0, 0, 0]), [1.0, OUT, OUT]);
        assert_eq!(row(&long, &[0, 0, 0, 0]), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn the_first_and_the_last_token_are_forced() {
        let forced = Forced { first: Some(2), last: Some((3, 0)) };
        assert_eq!(row(&forced, &[0, 0]), [OUT, OUT, 0.0]);
        assert_eq!(row(&forced, &[0, 0, 2]), [1.0, 2.0, 3.0]);
        assert_eq!(row(&forced, &[0, 0, 2, 1]), [0.0, OUT, OUT]);
        assert_eq!(row(&Forced { last: Some((1, 0)), ..forced }, &[0, 0]), [0.0, OUT, OUT]);
    }
}
