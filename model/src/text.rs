use crate::{ModelError, Vocabulary};
use drafthorse_logits::TokenId;

/// Turns tokens into text, one text at a time.
pub trait Detokenizer: Send + Sync {
    /// The text that follows `prompt`, whose own text is not given out.
    fn text_after(&self, prompt: &[TokenId]) -> Box<dyn TextDecoder>;
}

/// A text that grows by tokens.
pub trait TextDecoder: Send {
    /// Takes a token; returns the text that is complete with it, which may be none.
    ///
    /// # Errors
    ///
    /// The token cannot be decoded.
    fn push(&mut self, token: TokenId) -> Result<String, ModelError>;

    /// What is left when no token follows.
    ///
    /// # Errors
    ///
    /// The last tokens cannot be decoded.
    fn finish(&mut self) -> Result<String, ModelError>;
}

/// The texts of the tokens, one after the other: enough for models whose tokens are plain text.
impl Detokenizer for Vocabulary {
    fn text_after(&self, _prompt: &[TokenId]) -> Box<dyn TextDecoder> {
        Box::new(self.clone())
    }
}

impl TextDecoder for Vocabulary {
    fn push(&mut self, token: TokenId) -> Result<String, ModelError> {
        Ok(self.text(token).unwrap_or_default().to_owned())
    }

    fn finish(&mut self) -> Result<String, ModelError> {
        Ok(String::new())
    }
}

#[cfg(feature = "transformer")]
mod tokenizer {
    use super::{Detokenizer, ModelError, TextDecoder, TokenId};
    use crate::{TextStream, Tokenizer};
    use std::sync::Arc;

    impl Detokenizer for Arc<Tokenizer> {
        fn text_after(&self, prompt: &[TokenId]) -> Box<dyn TextDecoder> {
            Box::new(TextStream::after(self.clone(), prompt))
        }
    }

    impl TextDecoder for TextStream {
        fn push(&mut self, token: TokenId) -> Result<String, ModelError> {
            TextStream::push(self, token)
        }

        fn finish(&mut self) -> Result<String, ModelError> {
            TextStream::finish(self)
        }
    }
}
