//! Text to tokens and back.

use crate::{ModelError, Vocabulary};
use drafthorse_logits::TokenId;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A tokenizer in the `tokenizer.json` format of Hugging Face.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocabulary: Vocabulary,
    path: PathBuf,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer {{ {} tokens from {} }}", self.vocabulary.len(), self.path.display())
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is no tokenizer.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Io { path: path.into(), source })?;
        Self::parse(path, &bytes)
    }

    /// A tokenizer that is part of the program; `name` only stands in errors.
    ///
    /// # Errors
    ///
    /// The bytes are no `tokenizer.json`.
    pub fn embedded(name: &str, bytes: &[u8]) -> Result<Self, ModelError> {
        Self::parse(Path::new(name), bytes)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ModelError> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|error| fail(&format!("{}: {error}", path.display())))?;
        // A length set for training must not cut prompts or pad them.
        inner.with_truncation(None).map_err(|error| fail(&error.to_string()))?;
        inner.with_padding(None);
        let known = inner.get_vocab(true);
        let size = known.values().max().map_or(0, |&id| id as usize + 1);
        let mut texts = vec![None; size];
        for (text, id) in known {
            texts[id as usize] = Some(text);
        }
        Ok(Self { inner, vocabulary: Vocabulary::new(texts), path: path.into() })
    }

    /// The tokenizer of a model's folder; `None` where it has no `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::open`].
    pub fn find(folder: &Path) -> Result<Option<Self>, ModelError> {
        let path = folder.join("tokenizer.json");
        if path.exists() { Self::open(&path).map(Some) } else { Ok(None) }
    }

    /// The texts of all tokens.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The tokens of `text`, with those the tokenizer puts around a text.
    ///
    /// # Errors
    ///
    /// The tokenizer has no token for some part of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, ModelError> {
        let encoding = self.inner.encode_fast(text, true).map_err(|error| fail(&error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `tokens`, without special tokens; bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    ///
    /// The tokenizer's decoder fails.
    pub fn decode(&self, tokens: &[TokenId]) -> Result<String, ModelError> {
        self.inner.decode(tokens, true).map_err(|error| fail(&error.to_string()))
    }

    pub(crate) fn check_fits(&self, vocab: usize) -> Result<(), ModelError> {
        let size = self.vocabulary.len();
        let Some(token) = (vocab..size).find(|&id| self.vocabulary.text(id as TokenId).is_some()) else {
            return Ok(());
        };
        let token = token as TokenId;
        let text = self.vocabulary.text(token).unwrap_or_default().to_owned();
        Err(ModelError::TokenizerVocabulary { path: self.path.clone(), token, text, vocab })
    }
}

fn fail(message: &str) -> ModelError {
    ModelError::Tokenizer { message: message.to_owned() }
}

/// Text from tokens as they come: never half a character, never a character twice.
///
/// A token can hold part of a character, and what a token means can depend on the one before it. So the
/// last few tokens are decoded together, and text is given out when it ends in a whole character.
///
/// ```no_run
/// # use drafthorse_model::{TextStream, Tokenizer};
/// # use std::{path::Path, sync::Arc};
/// let mut stream = TextStream::new(Arc::new(Tokenizer::open(Path::new("tokenizer.json"))?));
/// for token in [17, 4, 99] {
///     print!("{}", stream.push(token)?);
/// }
/// print!("{}", stream.finish()?); // bytes that never became a character
/// # Ok::<(), drafthorse_model::ModelError>(())
/// ```
#[derive(Debug)]
pub struct TextStream {
    tokenizer: Arc<Tokenizer>,
    tokens: Vec<TokenId>,
    /// `tokens[..shown]` are given out; `tokens[context..]` are decoded together.
    context: usize,
    shown: usize,
}

impl TextStream {
    /// A stream at the beginning of a text.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, tokens: Vec::new(), context: 0, shown: 0 }
    }

    /// A stream that goes on after `prompt`, whose text is not given out again.
    pub fn after(tokenizer: Arc<Tokenizer>, prompt: &[TokenId]) -> Self {
        // A few tokens before the end settle how the first new one is to be read.
        let tokens = prompt[prompt.len().saturating_sub(8)..].to_vec();
        Self { tokenizer, context: 0, shown: tokens.len(), tokens }
    }

    /// Takes a token; returns the text that is complete with it, often that of the token, sometimes
    /// none.
    ///
    /// # Errors
    ///
    /// The tokenizer's decoder fails.
    pub fn push(&mut self, token: TokenId) -> Result<String, ModelError> {
        self.tokens.push(token);
        let text = self.pending()?;
        if text.is_empty() || text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        self.context = self.shown;
        self.shown = self.tokens.len();
        Ok(text)
    }

    /// What is left: bytes that never became a character, as U+FFFD.
    ///
    /// # Errors
    ///
    /// The tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<String, ModelError> {
        let text = self.pending()?;
        self.shown = self.tokens.len();
        self.context = self.shown;
        Ok(text)
    }

    /// The text of the tokens not yet given out.
    fn pending(&self) -> Result<String, ModelError> {
        let before = self.tokenizer.decode(&self.tokens[self.context..self.shown])?;
        let mut all = self.tokenizer.decode(&self.tokens[self.context..])?;
        // The common case: what was given out is the beginning of the whole.
        if all.starts_with(&before) {
            return Ok(all.split_off(before.len()));
        }
        let common = before.chars().zip(all.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8());
        let common: usize = common.sum();
        Ok(all.split_off(common))
    }
}
