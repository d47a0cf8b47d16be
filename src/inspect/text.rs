//! How tokens read.

use drafthorse_logits::TokenId;
use drafthorse_model::{ModelError, TextStream, TokenBytes, Tokenizer};
use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    fmt::Write,
    sync::Arc,
};

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
    /// The bytes of all tokens, once a part of a character was met.
    bytes: OnceCell<Vec<TokenBytes>>,
}

impl Names {
    /// By this tokenizer; without one tokens are named by their ids.
    pub fn new(tokenizer: Option<Arc<Tokenizer>>) -> Self {
        let before = tokenizer.as_ref().and_then(|tokenizer| {
            let token = *tokenizer.encode("a").ok()?.last()?;
            Some((token, tokenizer.decode(&[token]).ok()?))
        });
        Self { tokenizer, before, known: RefCell::default(), bytes: OnceCell::new() }
    }

    /// The token as text. Bytes that are no text by themselves (parts of a character) are written as `<E6>`, and special
    /// tokens as the tokenizer names them.
    pub fn name(&self, id: TokenId) -> String {
        let make = || self.decode(id).unwrap_or_else(|| format!("#{id}"));
        self.known.borrow_mut().entry(id).or_insert_with(make).clone()
    }

    /// A token with bytes that are no text.
    fn part(&self, tokenizer: &Tokenizer, id: TokenId) -> Option<String> {
        let bytes = self.bytes.get_or_init(|| tokenizer.token_bytes().unwrap_or_default());
        let bytes = bytes.get(id as usize)?.text().filter(|bytes| std::str::from_utf8(bytes).is_err())?;
        let mut text = String::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            for byte in chunk.invalid() {
                // A String takes everything.
                let _ = write!(text, "<{byte:02X}>");
            }
        }
        Some(text)
    }

    fn decode(&self, id: TokenId) -> Option<String> {
        let tokenizer = self.tokenizer.as_ref()?;
        let text = self.before.as_ref().and_then(|(before, letter)| {
            let text = tokenizer.decode(&[*before, id]).ok()?;
            Some(text.strip_prefix(letter.as_str())?.to_owned())
        });
        let readable = |text: &String| !text.is_empty() && !text.contains(char::REPLACEMENT_CHARACTER);
        let named = || tokenizer.vocabulary().text(id).map(str::to_owned);
        text.filter(readable).or_else(|| self.part(tokenizer, id)).or_else(named)
    }
}
