//! How tokens read.

use drafthorse_logits::TokenId;
use drafthorse_model::{ModelError, TextStream, Tokenizer};
use std::{cell::RefCell, collections::HashMap, sync::Arc};

/// The text that becomes complete with each token, as it does while it is generated; together they are the whole text.
///
/// # Errors
///
/// The tokenizer's decoder fails.
pub fn pieces(tokenizer: &Arc<Tokenizer>, tokens: &[TokenId]) -> Result<Vec<String>, ModelError> {
    let mut stream = TextStream::new(tokenizer.clone());
    let mut pieces = tokens.iter().map(|&token| stream.push(token)).collect::<Result<Vec<_>, _>>()?;
    if let Some(last) = pieces.last_mut() {
        last.push_str(&stream.finish()?);
    }
    Ok(pieces)
}

/// The texts of tokens by themselves.
#[derive(Debug)]
pub struct Names {
    tokenizer: Option<Arc<Tokenizer>>,
    /// A letter to stand before: some decoders cut the space before the first token.
    before: Option<(TokenId, String)>,
    known: RefCell<HashMap<TokenId, String>>,
}

impl Names {
    /// By this tokenizer; without one tokens are named by their ids.
    pub fn new(tokenizer: Option<Arc<Tokenizer>>) -> Self {
        let before = tokenizer.as_ref().and_then(|tokenizer| {
            let token = *tokenizer.encode("a").ok()?.last()?;
            Some((token, tokenizer.decode(&[token]).ok()?))
        });
        Self { tokenizer, before, known: RefCell::default() }
    }

    /// The token as text. What is no text by itself (a part of a character, a special token) is named as the tokenizer
    /// does.
    pub fn name(&self, id: TokenId) -> String {
        let make = || self.decode(id).unwrap_or_else(|| format!("#{id}"));
        self.known.borrow_mut().entry(id).or_insert_with(make).clone()
    }

    fn decode(&self, id: TokenId) -> Option<String> {
        let tokenizer = self.tokenizer.as_ref()?;
        let text = self.before.as_ref().and_then(|(before, letter)| {
            let text = tokenizer.decode(&[*before, id]).ok()?;
            Some(text.strip_prefix(letter.as_str())?.to_owned())
        });
        let readable = |text: &String| !text.is_empty() && !text.contains(char::REPLACEMENT_CHARACTER);
        text.filter(readable).or_else(|| tokenizer.vocabulary().text(id).map(str::to_owned))
    }
}
