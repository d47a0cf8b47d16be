use crate::{GrammarError, error::plain};
use drafthorse_logits::TokenId;
use drafthorse_model::TokenBytes;
use llguidance::{ParserFactory, panic_utils::catch_unwind};
use std::{collections::HashMap, sync::Arc};
use toktrie::{ApproximateTokEnv, InferenceCapabilities, TokRxInfo, TokTrie};

/// The longest token that can be part of a text, in bytes.
const LONGEST: usize = 1000;

/// The bytes of every token of a vocabulary, in the form grammars need. Copies share it.
///
/// Making it costs time once a model; compiling a grammar over it is quick.
#[derive(Clone)]
pub struct TokenTable {
    inner: Arc<Inner>,
    encoder: Option<Encoder>,
}

/// The tokens that a tokenizer makes of a text, without any around it; `None` where it cannot.
pub(crate) type Encoder = Arc<dyn Fn(&str) -> Option<Vec<TokenId>> + Send + Sync>;

struct Inner {
    factory: ParserFactory,
    vocab: usize,
    /// Tokens that are written like an earlier one, with that one.
    twins: Vec<(TokenId, TokenId)>,
}

impl std::fmt::Debug for TokenTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenTable {{ {} tokens }}", self.vocab_size())
    }
}

impl TokenTable {
    /// The table of these tokens, from 0.
    ///
    /// Tokens of more than 1000 bytes, without bytes, or beginning with the byte 0xFF, which no text has, are never
    /// allowed. Special tokens are allowed where a Lark grammar names them.
    ///
    /// # Errors
    ///
    /// [`GrammarError::Table`]: no token has text, or there are more tokens than the parser can hold.
    pub fn new(tokens: &[TokenBytes]) -> Result<Self, GrammarError> {
        let vocab = tokens.len();
        if tokens.iter().all(|token| token.text().is_none_or(<[u8]>::is_empty)) {
            return Err(GrammarError::Table(format!("none of the {vocab} tokens has a text")));
        }
        let mut twins = Vec::new();
        let mut first: HashMap<Vec<u8>, TokenId> = HashMap::new();
        let mut words = Vec::with_capacity(vocab + 1);
        for (token, bytes) in (0..).zip(tokens) {
            let word = word(bytes);
            let twin = if word.is_empty() { None } else { first.get(&word).copied() };
            words.push(if twin.is_some() { Vec::new() } else { word.clone() });
            match twin {
                Some(twin) => twins.push((token, twin)),
                None => drop(first.insert(word, token)),
            }
        }
        // One more, which no model has: in a mask it says that the text may end.
        words.push(Vec::new());
        let factory = factory(&words).map_err(GrammarError::Table)?;
        Ok(Self { inner: Arc::new(Inner { factory, vocab, twins }), encoder: None })
    }

    /// The table of tokens that are what their texts say; an empty text is a token without one.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn of_texts(texts: &[&str]) -> Result<Self, GrammarError> {
        let token = |text: &&str| TokenBytes::Text(text.as_bytes().into());
        Self::new(&texts.iter().map(token).collect::<Vec<_>>())
    }

    /// The same table with a tokenizer, by which texts that a grammar forces are drafted as the model is used to see
    /// them. Without one they are drafted in the longest tokens. What is allowed does not depend on it.
    #[must_use]
    pub fn with_encoder(
        mut self,
        encode: impl Fn(&str) -> Option<Vec<TokenId>> + Send + Sync + 'static,
    ) -> Self {
        self.encoder = Some(Arc::new(encode));
        self
    }

    pub(crate) fn encoder(&self) -> Option<&Encoder> {
        self.encoder.as_ref()
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab
    }

    pub(crate) fn factory(&self) -> &ParserFactory {
        &self.inner.factory
    }

    /// The id that stands in masks for the end of the text.
    pub(crate) fn end(&self) -> TokenId {
        self.inner.vocab as TokenId
    }

    pub(crate) fn twins(&self) -> &[(TokenId, TokenId)] {
        &self.inner.twins
    }

    /// The token that stands for `token` in the parser; `None` for one that it does not know.
    pub(crate) fn representative(&self, token: TokenId) -> Option<TokenId> {
        if token >= self.end() {
            return None;
        }
        let found = self.inner.twins.binary_search_by_key(&token, |&(twin, _)| twin);
        let token = found.map_or(token, |index| self.inner.twins[index].1);
        (!self.word(token).is_empty()).then_some(token)
    }

    /// The bytes of a token; none where it has no text.
    pub(crate) fn bytes(&self, token: TokenId) -> &[u8] {
        let word = self.representative(token).map_or(&[][..], |token| self.word(token));
        if word.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) { &[] } else { word }
    }

    fn word(&self, token: TokenId) -> &[u8] {
        self.inner.factory.tok_env().tok_trie().token(token)
    }
}

/// How the parser writes a token: a special one behind a mark, none at all for one that has no place in texts.
fn word(token: &TokenBytes) -> Vec<u8> {
    let mark = TokTrie::SPECIAL_TOKEN_MARKER;
    match token {
        TokenBytes::Text(bytes) if bytes.first() != Some(&mark) && bytes.len() <= LONGEST => bytes.to_vec(),
        TokenBytes::Special(name) if name.starts_with('<') && name.ends_with('>') && name.len() < 100 => {
            [&[mark], name.as_bytes()].concat()
        }
        TokenBytes::Text(_) | TokenBytes::Special(_) | TokenBytes::Unknown => Vec::new(),
    }
}

fn factory(words: &[Vec<u8>]) -> Result<ParserFactory, String> {
    let build = || {
        let info = TokRxInfo::new(words.len() as u32, words.len() as u32 - 1);
        // Not canonical: any way to cut the text into tokens is allowed, so that the law is the model's own.
        let tokens = Arc::new(ApproximateTokEnv::new(TokTrie::from(&info, words)));
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&(tokens as _), InferenceCapabilities::default(), &slices)?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(factory)
    };
    catch_unwind(build).map_err(|error| plain(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_without_a_place_in_texts_have_no_bytes() {
        let text = |bytes: &[u8]| TokenBytes::Text(bytes.into());
        let tokens = [
            text(b"a"),
            TokenBytes::Special("<s>".into()),
            text(b"a"),
            TokenBytes::Unknown,
            text(&[0xFF, 1]),
        ];
        let table = TokenTable::new(&tokens).expect("a table");
        assert_eq!((table.vocab_size(), table.twins()), (5, &[(2, 0)][..]));
        let bytes: Vec<_> = (0..7).map(|token| table.bytes(token)).collect();
        assert_eq!(bytes, [&b"a"[..], b"", b"a", b"", b"", b"", b""]);
        let known: Vec<_> = (0..6).map(|token| table.representative(token)).collect();
        assert_eq!(known, [Some(0), Some(1), Some(0), None, None, None]);
    }

    #[test]
    fn a_vocabulary_without_text_is_refused() {
        let nothing = TokenTable::of_texts(&["", ""]).expect_err("nothing to write with");
        assert_eq!(nothing.to_string(), "no table of tokens: none of the 2 tokens has a text");
        assert!(TokenTable::new(&[]).is_err());
        let long =
            TokenTable::new(&[TokenBytes::Text(vec![b'a'; 5000].into()), TokenBytes::Text([b'a'].into())]);
        assert!(long.is_ok_and(|table| table.bytes(0).is_empty()), "a token too long for the parser");
    }
}
