use crate::{ModelError, Tokenizer};
use drafthorse_logits::TokenId;
use std::sync::Arc;

/// What a decoder puts in the place of bytes that are no character, or not yet one.
const BROKEN: char = char::REPLACEMENT_CHARACTER;

/// Tokens of a prompt that are decoded with the first new one.
const BEFORE: usize = 8;

/// The most tokens of a character, less one.
const UNFINISHED: usize = 3;

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
    /// `tokens[context..]` are decoded together.
    context: usize,
    /// What was given out of them.
    given: String,
    /// A later place where a character ends: the next context.
    boundary: usize,
}

impl TextStream {
    /// A stream at the beginning of a text.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, tokens: Vec::new(), context: 0, given: String::new(), boundary: 0 }
    }

    /// A stream that goes on after `prompt`, whose text is not given out again.
    pub fn after(tokenizer: Arc<Tokenizer>, prompt: &[TokenId]) -> Self {
        let text = |tokens: &[TokenId]| tokenizer.decode(tokens).unwrap_or_default();
        // The window must begin with a character: some decoders give up a whole run of bytes for one that
        // does not.
        let last = prompt.len().saturating_sub(BEFORE);
        let begins = |&start: &usize| {
            let ends = start + 1..=prompt.len().min(start + UNFINISHED + 1);
            ends.into_iter().any(|end| !text(&prompt[start..end]).contains(BROKEN))
        };
        let start = (last.saturating_sub(UNFINISHED)..=last).rev().find(begins).unwrap_or(last);
        let tokens = prompt[start..].to_vec();
        // A character that the prompt leaves unfinished belongs to what follows.
        let given = (0..=UNFINISHED.min(tokens.len()))
            .map(|cut| text(&tokens[..tokens.len() - cut]).trim_end_matches(BROKEN).to_owned())
            .max_by_key(String::len)
            .unwrap_or_default();
        let boundary = if text(&tokens).ends_with(BROKEN) { 0 } else { tokens.len() };
        Self { tokenizer, tokens, context: 0, given, boundary }
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
        if text.is_empty() || text.ends_with(BROKEN) {
            return Ok(String::new());
        }
        self.context = self.boundary;
        self.boundary = self.tokens.len();
        self.given = self.tokenizer.decode(&self.tokens[self.context..])?;
        Ok(text)
    }

    /// What is left: bytes that never became a character, as U+FFFD.
    ///
    /// # Errors
    ///
    /// The tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<String, ModelError> {
        let text = self.pending()?;
        self.boundary = self.tokens.len();
        self.context = self.boundary;
        self.given.clear();
        Ok(text)
    }

    /// The text of the context that was not given out.
    fn pending(&self) -> Result<String, ModelError> {
        let mut all = self.tokenizer.decode(&self.tokens[self.context..])?;
        let same = self.given.chars().zip(all.chars()).take_while(|(a, b)| a == b);
        let common: usize = same.map(|(a, _)| a.len_utf8()).sum();
        Ok(all.split_off(common))
    }
}
