use crate::{TokenId, TokenSet};
use std::sync::Arc;

/// What a text must follow: a grammar over one vocabulary, compiled once and shared by many texts.
///
/// It holds nothing of any text. [`start`](Self::start) gives each text a [`Matcher`] of its own.
pub trait Constraint: Send + Sync {
    /// Number of tokens of the vocabulary it was made for. Tokens beyond are never allowed.
    fn vocab_size(&self) -> usize;

    /// What one text may say. The text can be ended by the tokens `ends`, which are allowed exactly where
    /// the constraint allows the end, whatever text they stand for; there may be none.
    ///
    /// # Errors
    ///
    /// The constraint cannot be used, for example because nothing can begin a text.
    fn start(&self, ends: &[TokenId]) -> Result<Box<dyn Matcher>, ConstraintError>;
}

/// What one text may say, position by position.
///
/// Every method is a pure function of `generated`, the tokens after the prompt, in whatever order it is
/// asked: drafted tokens that were refused leave nothing behind. Inside it may remember, so that drafter
/// and expert, who ask for the same positions, cause the work once.
pub trait Matcher: Send {
    /// The tokens that may follow `generated`. None where `generated` is complete and nothing may follow.
    ///
    /// # Errors
    ///
    /// `generated` breaks the constraint, nothing of the vocabulary can go on with it, or a limit was reached.
    fn allowed(&mut self, generated: &[TokenId]) -> Result<Arc<TokenSet>, ConstraintError>;

    /// Whether `generated` may end here: what a text that was cut is asked. Where nothing may follow, it may.
    ///
    /// That is all that is known without more; a constraint that lets a text end where it may also go on says so here.
    ///
    /// # Errors
    ///
    /// As [`allowed`](Self::allowed).
    fn is_complete(&mut self, generated: &[TokenId]) -> Result<bool, ConstraintError> {
        Ok(self.allowed(generated)?.is_empty())
    }

    /// The token by which the text goes on where what it says next is certain, although several ways to
    /// write it in tokens may be allowed. It is a guess at the way and nothing else depends on it.
    ///
    /// # Errors
    ///
    /// As [`allowed`](Self::allowed).
    fn guess(&mut self, generated: &[TokenId]) -> Result<Option<TokenId>, ConstraintError> {
        Ok(self.allowed(generated)?.only())
    }

    /// Up to `max` tokens that are forced after `generated`.
    ///
    /// Each is the single one allowed at its place. With `guesses` also those of [`guess`](Self::guess),
    /// which are lawful drafts for every rule whose law does not look at the draft.
    ///
    /// # Errors
    ///
    /// `generated` itself breaks the constraint. Further on, what cannot be told is not forced.
    fn forced(
        &mut self,
        generated: &[TokenId],
        max: usize,
        guesses: bool,
    ) -> Result<Vec<TokenId>, ConstraintError> {
        let (mut text, start) = (generated.to_vec(), generated.len());
        while text.len() - start < max {
            let next = self.allowed(&text).and_then(|allowed| match allowed.only() {
                None if guesses => self.guess(&text),
                only => Ok(only),
            });
            match next {
                Ok(Some(token)) => text.push(token),
                Err(error) if text.len() == start => return Err(error),
                Ok(None) | Err(_) => break,
            }
        }
        Ok(text.split_off(start))
    }
}

fn count(tokens: usize) -> String {
    format!("{tokens} token{}", if tokens == 1 { "" } else { "s" })
}

/// Why a constraint cannot say what may follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// The text goes on as the constraint forbids.
    #[error("token {token} at position {position} of the text is not what the constraint allows there")]
    Broken {
        /// Position in the generated text, from 0.
        position: usize,
        /// The token there.
        token: TokenId,
    },
    /// The text is not complete, and no token can go on with it.
    #[error(
        "no token of the vocabulary can go on with the text after {}, and the constraint does not let it end there; the vocabulary lacks what the grammar needs",
        count(*position)
    )]
    DeadEnd {
        /// Number of generated tokens.
        position: usize,
    },
    /// A limit that keeps work and memory bounded.
    #[error("the grammar is too ambiguous or too large at position {position} of the text: {limit}")]
    Limit {
        /// Number of generated tokens.
        position: usize,
        /// The limit, in words.
        limit: String,
    },
    /// The constraint allows tokens, and everything else excludes all of them.
    #[error(
        "the constraint allows {} after {} of the text, and {} excludes {}",
        count(*allowed),
        count(*position),
        by.as_deref().unwrap_or("the model or a processor"),
        if *allowed == 1 { "it" } else { "all of them" }
    )]
    NothingLeft {
        /// Number of generated tokens.
        position: usize,
        /// How many tokens it allows there.
        allowed: usize,
        /// What may be the reason, in words.
        by: Option<String>,
    },
    /// The constraint itself failed.
    #[error("the constraint failed at position {position} of the text: {message}")]
    Failed {
        /// Number of generated tokens.
        position: usize,
        /// What happened.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Allows what its table says at a position, and is complete behind it.
    struct Table(Vec<Vec<TokenId>>);

    impl Matcher for Table {
        fn allowed(&mut self, generated: &[TokenId]) -> Result<Arc<TokenSet>, ConstraintError> {
            let position = generated.len();
            match self.0.get(position) {
                Some(tokens) if tokens.is_empty() => Err(ConstraintError::DeadEnd { position }),
                Some(tokens) => Ok(Arc::new(TokenSet::of(9, tokens))),
                None => Ok(Arc::new(TokenSet::of(9, &[]))),
            }
        }

        fn guess(&mut self, generated: &[TokenId]) -> Result<Option<TokenId>, ConstraintError> {
            Ok(self.0.get(generated.len()).and_then(|tokens| tokens.last().copied()))
        }
    }

    #[test]
    fn forced_tokens_end_where_there_is_a_choice() {
        let mut table = Table(vec![vec![3], vec![4], vec![5, 6], vec![7]]);
        assert_eq!(table.forced(&[], 9, false), Ok(vec![3, 4]));
        assert_eq!(table.forced(&[], 1, false), Ok(vec![3]));
        assert_eq!(table.forced(&[3, 4, 5], 9, false), Ok(vec![7]));
        assert_eq!(table.forced(&[3], 9, true), Ok(vec![4, 6, 7]));
        assert_eq!(table.forced(&[3, 4, 5, 7], 9, true), Ok(vec![]), "the text is over");
        assert_eq!(table.is_complete(&[3, 4, 5, 7]), Ok(true));
        assert_eq!(table.is_complete(&[3, 4, 5]), Ok(false));
    }

    #[test]
    fn what_cannot_be_told_is_not_forced() {
        let mut table = Table(vec![vec![3], vec![]]);
        assert_eq!(table.forced(&[], 9, true), Ok(vec![3]));
        assert_eq!(table.forced(&[3], 9, true), Err(ConstraintError::DeadEnd { position: 1 }));
    }
}
