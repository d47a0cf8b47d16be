use crate::{ModelError, Vocabulary};
use drafthorse_logits::{Logits, TokenId};

/// What a model remembers of the tokens it has read.
pub trait KvCache: Send {
    /// Number of tokens held.
    fn len(&self) -> usize;

    /// Whether nothing is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all but the first `len` tokens; nothing happens where fewer are held.
    fn truncate(&mut self, len: usize);
}

/// Tokens of one sequence, to be read after what its cache holds.
///
/// A chunk of a prompt, a decode step and a verify pass are all just segments, and one forward takes
/// any number of them.
#[derive(Debug)]
pub struct Segment<'a, C> {
    /// The tokens to read.
    pub tokens: &'a [TokenId],
    /// For how many of the last tokens logits are wanted.
    pub rows: usize,
    /// What was read before; grows by `tokens`.
    pub cache: &'a mut C,
}

impl<C: KvCache> Segment<'_, C> {
    /// Checks what every model must check before it reads a segment.
    ///
    /// # Errors
    ///
    /// No tokens, a token outside the vocabulary, more rows than tokens, or no room in the context.
    pub fn check(&self, vocab: usize, context: usize) -> Result<(), ModelError> {
        if self.tokens.is_empty() {
            return Err(ModelError::EmptySequence);
        }
        if self.rows > self.tokens.len() {
            return Err(ModelError::Rows { rows: self.rows, tokens: self.tokens.len() });
        }
        if let Some(&token) = self.tokens.iter().find(|&&token| token as usize >= vocab) {
            return Err(ModelError::Token { token, vocab });
        }
        let length = self.cache.len() + self.tokens.len();
        if length > context {
            return Err(ModelError::ContextFull { length, context });
        }
        Ok(())
    }
}

/// A causal language model: weights, shared by reference; what was read lives in caches.
pub trait LanguageModel: Send + Sync + 'static {
    /// What it remembers of one sequence.
    type Cache: KvCache;

    /// Number of logits in a row.
    fn vocab_size(&self) -> usize;

    /// The most tokens a sequence may have.
    fn context_len(&self) -> usize;

    /// The text of each token, where it is known.
    fn vocabulary(&self) -> Option<&Vocabulary> {
        None
    }

    /// A cache that holds nothing.
    fn new_cache(&self) -> Self::Cache;

    /// Reads every segment after what its cache holds; one [`Logits`] a segment, a row for each of its
    /// last `rows` tokens.
    ///
    /// # Errors
    ///
    /// What [`Segment::check`] finds, or a failure of the device. After an error the caches may hold
    /// part of the segments; truncate them to their former lengths before they are used again.
    fn forward(&self, segments: &mut [Segment<'_, Self::Cache>]) -> Result<Vec<Logits>, ModelError>;
}
