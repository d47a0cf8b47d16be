use crate::{ModelError, TokenBytes, Vocabulary};
use drafthorse_logits::TokenId;
use std::{collections::HashMap, sync::Arc};

/// The longest text of a token that is looked for in bytes, in bytes.
const LONGEST: usize = 128;

/// How a tokenizer turns a text into tokens.
pub trait TextCoder: Send + Sync {
    /// The tokens of `text`, without those that stand around a text.
    ///
    /// # Errors
    ///
    /// The tokenizer has no token for some part of the text.
    fn encode(&self, text: &str) -> Result<Vec<TokenId>, ModelError>;
}

/// How a model's tokens spell texts: the bytes of every token, and which tokens a text becomes.
///
/// ```
/// use drafthorse_model::{Spelling, Vocabulary};
///
/// let spelling = Spelling::plain(Vocabulary::new(["a", "b", "ab"].map(|text| Some(text.to_owned()))));
/// assert_eq!(spelling.write(b"aab"), Some(vec![0, 2]));
/// assert_eq!(spelling.write(b"abc"), None);
/// assert_eq!(spelling.read(&[2, 1]), Some(b"abb".to_vec()));
/// ```
#[derive(Clone)]
pub struct Spelling {
    vocabulary: Vocabulary,
    tokens: Arc<[TokenBytes]>,
    /// The token of a text; of several that spell the same, the one that a tokenizer would write.
    ids: Arc<HashMap<Box<[u8]>, TokenId>>,
    longest: usize,
    coder: Option<Arc<dyn TextCoder>>,
    begin: Vec<TokenId>,
    ends: Vec<TokenId>,
    spaced: bool,
}

impl std::fmt::Debug for Spelling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spelling {{ {} tokens, {} texts }}", self.tokens.len(), self.ids.len())
    }
}

impl Spelling {
    /// A spelling by the bytes of tokens; a text becomes as few tokens as can be.
    pub fn new(vocabulary: Vocabulary, tokens: Vec<TokenBytes>) -> Self {
        let mut ids: HashMap<Box<[u8]>, TokenId> = HashMap::new();
        for (token, bytes) in (0..).zip(&tokens) {
            let Some(bytes) = bytes.text().filter(|bytes| !bytes.is_empty()) else { continue };
            // A character can have a token of its own beside that of its byte, which is for emergencies.
            let byte = |token| vocabulary.text(token).is_some_and(|text| text.starts_with("<0x"));
            match ids.get(bytes) {
                Some(&first) if !byte(first) || byte(token) => {}
                _ => drop(ids.insert(bytes.into(), token)),
            }
        }
        let longest = ids.keys().map(|bytes| bytes.len()).max().unwrap_or(0).min(LONGEST);
        let (begin, ends, coder) = (Vec::new(), Vec::new(), None);
        Self {
            vocabulary,
            tokens: tokens.into(),
            ids: ids.into(),
            longest,
            coder,
            begin,
            ends,
            spaced: false,
        }
    }

    /// A spelling of tokens that are plain text.
    pub fn plain(vocabulary: Vocabulary) -> Self {
        let bytes = |text: Option<&str>| {
            text.map_or(TokenBytes::Unknown, |text| TokenBytes::Text(text.as_bytes().into()))
        };
        let tokens = (0..vocabulary.len() as TokenId).map(|token| bytes(vocabulary.text(token))).collect();
        Self::new(vocabulary, tokens)
    }

    /// The same with a tokenizer that says which tokens a text becomes.
    #[must_use]
    pub fn coded(mut self, coder: Arc<dyn TextCoder>) -> Self {
        let probe = coder.encode("a").ok().and_then(|tokens| self.read(&tokens));
        self.spaced = probe.is_some_and(|bytes| bytes == b" a");
        self.coder = Some(coder);
        self
    }

    /// The same with tokens that stand in front of every text.
    #[must_use]
    pub fn beginning_with(self, begin: Vec<TokenId>) -> Self {
        Self { begin, ..self }
    }

    /// The same with tokens that end a text, the usual one first.
    #[must_use]
    pub fn ending_with(self, ends: Vec<TokenId>) -> Self {
        Self { ends, ..self }
    }

    /// The texts of the tokens, as the tokenizer writes them.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// What each token adds to a text.
    pub fn tokens(&self) -> &[TokenBytes] {
        &self.tokens
    }

    /// What stands in front of every text.
    pub fn begin(&self) -> &[TokenId] {
        &self.begin
    }

    /// What ends a text.
    pub fn ends(&self) -> &[TokenId] {
        &self.ends
    }

    /// Whether a space is written in front of every text.
    pub fn is_spaced(&self) -> bool {
        self.spaced
    }

    /// What `token` adds to a text.
    pub fn token(&self, token: TokenId) -> &TokenBytes {
        self.tokens.get(token as usize).unwrap_or(&TokenBytes::Unknown)
    }

    /// The token with these bytes.
    pub fn find(&self, bytes: &[u8]) -> Option<TokenId> {
        self.ids.get(bytes).copied()
    }

    /// The bytes of `tokens`; `None` where one of them is no text.
    pub fn read(&self, tokens: &[TokenId]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for &token in tokens {
            bytes.extend_from_slice(self.token(token).text()?);
        }
        Some(bytes)
    }

    /// Tokens with exactly these bytes: those the tokenizer writes, where there is one and it loses nothing;
    /// otherwise, and for bytes that are no characters, as few as can be. `None` where there are none.
    pub fn write(&self, bytes: &[u8]) -> Option<Vec<TokenId>> {
        let whole = match std::str::from_utf8(bytes) {
            Ok(_) => bytes.len(),
            Err(error) => error.valid_up_to(),
        };
        let (text, rest) = bytes.split_at(whole);
        let mut tokens = self.encode(text).or_else(|| self.fewest(text))?;
        tokens.extend(self.fewest(rest)?);
        Some(tokens)
    }

    /// The tokenizer's tokens, if they have exactly these bytes.
    fn encode(&self, bytes: &[u8]) -> Option<Vec<TokenId>> {
        let (coder, text) = (self.coder.as_ref()?, std::str::from_utf8(bytes).ok()?);
        let exactly = |text: &str| {
            let tokens = coder.encode(text).ok()?;
            (self.read(&tokens)? == bytes).then_some(tokens)
        };
        // Where a space is put in front of every text, one that has it already goes without.
        let bare = text.strip_prefix(' ').filter(|_| self.spaced);
        bare.and_then(exactly).or_else(|| exactly(text))
    }

    /// The fewest tokens with these bytes; among equals, the longest first.
    fn fewest(&self, bytes: &[u8]) -> Option<Vec<TokenId>> {
        // For every place: how many tokens to the end, the first of them, and where it ends.
        let mut best: Vec<Option<(usize, TokenId, usize)>> = vec![None; bytes.len()];
        for start in (0..bytes.len()).rev() {
            let ends = (start + 1..=bytes.len().min(start + self.longest)).rev();
            let ways = ends.filter_map(|end| {
                let token = self.find(&bytes[start..end])?;
                let after = if end == bytes.len() { 0 } else { best[end]?.0 };
                Some((after + 1, token, end))
            });
            best[start] = ways.min_by_key(|way| way.0);
        }
        let (mut tokens, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let (_, token, end) = best[at]?;
            tokens.push(token);
            at = end;
        }
        Some(tokens)
    }
}

#[cfg(feature = "transformer")]
mod tokenizer {
    use super::{ModelError, Spelling, TextCoder, TokenId};
    use crate::Tokenizer;
    use std::sync::Arc;

    impl TextCoder for Tokenizer {
        fn encode(&self, text: &str) -> Result<Vec<TokenId>, ModelError> {
            self.encode_plain(text)
        }
    }

    impl Spelling {
        /// How a tokenizer spells.
        ///
        /// # Errors
        ///
        /// As [`Tokenizer::token_bytes`].
        pub fn of(tokenizer: &Arc<Tokenizer>) -> Result<Self, ModelError> {
            let plain = Self::new(tokenizer.vocabulary().clone(), tokenizer.token_bytes()?);
            // What stands around no text at all: most tokenizers put it in front, and what stands behind would
            // end a text that is to go on.
            let around = tokenizer.encode("")?;
            let behind = tokenizer.encode("a")?.pop().filter(|last| around.last() == Some(last));
            let front = &around[..around.len() - usize::from(behind.is_some())];
            Ok(plain
                .coded(tokenizer.clone())
                .beginning_with(front.to_vec())
                .ending_with(behind.into_iter().collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(texts: &[&str]) -> Vocabulary {
        Vocabulary::new(texts.iter().map(|text| Some((*text).to_owned())))
    }

    /// Puts a space in front, knows letters alone, and writes small ones only.
    struct Spaced(Spelling);

    impl TextCoder for Spaced {
        fn encode(&self, text: &str) -> Result<Vec<TokenId>, ModelError> {
            let text = format!(" {}", text.to_lowercase());
            Ok(text.bytes().filter_map(|byte| self.0.find(&[byte])).collect())
        }
    }

    #[test]
    fn as_few_tokens_as_can_be_the_longest_first() {
        let spelling = Spelling::plain(vocabulary(&["a", "b", "ab", "ba", "abb"]));
        assert_eq!(spelling.write(b"abab"), Some(vec![2, 2]));
        assert_eq!(spelling.write(b"aabb"), Some(vec![0, 4]));
        assert_eq!(spelling.write(b""), Some(vec![]));
        // Greedily from the left "abb" would leave nothing for the end.
        let spelling = Spelling::plain(vocabulary(&["a", "abb", "ab", "bc"]));
        assert_eq!(spelling.write(b"abbc"), Some(vec![2, 3]));
    }

    #[test]
    fn bytes_that_are_no_characters_are_spelt_too() {
        let tokens = [&b"a"[..], &[0xC3], &[0xA9], "é".as_bytes()];
        let tokens = tokens.iter().map(|bytes| TokenBytes::Text((*bytes).into())).collect();
        let spelling = Spelling::new(vocabulary(&["a", "x", "y", "é"]), tokens);
        assert_eq!(spelling.write("aé".as_bytes()), Some(vec![0, 3]));
        assert_eq!(spelling.write(b"a\xC3"), Some(vec![0, 1]));
        assert_eq!(spelling.write(b"\xA9a"), Some(vec![2, 0]));
    }

    #[test]
    fn a_tokenizers_tokens_count_where_they_lose_nothing() {
        let letters = Spelling::plain(vocabulary(&[" ", "a", "b", "ab", "A"]));
        let spelling = letters.clone().coded(Arc::new(Spaced(letters)));
        assert!(spelling.is_spaced());
        assert_eq!(spelling.write(b" ab"), Some(vec![0, 1, 2]), "as the tokenizer writes");
        assert_eq!(spelling.write(b"ab"), Some(vec![3]), "no space is added");
        assert_eq!(spelling.write(b" Ab"), Some(vec![0, 4, 2]), "no letter is changed");
    }

    #[test]
    fn a_character_is_not_written_as_a_byte() {
        let vocabulary = vocabulary(&["<0x41>", "A", "A"]);
        let text = || TokenBytes::Text(b"A"[..].into());
        assert_eq!(Spelling::new(vocabulary, vec![text(), text(), text()]).find(b"A"), Some(1));
    }
}
