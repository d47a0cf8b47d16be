use crate::Vocabulary;
use drafthorse_logits::TokenId;

/// What a token adds to a text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum TokenBytes {
    /// These bytes; characters can be cut between tokens.
    Text(Box<[u8]>),
    /// No text: a mark of the model's, by this name.
    Special(String),
    /// Nothing that is known: an id without meaning.
    Unknown,
}

impl TokenBytes {
    /// Its bytes, where it has some.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(bytes) => Some(bytes),
            Self::Special(_) | Self::Unknown => None,
        }
    }
}

/// How a tokenizer writes bytes in the texts of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ByteCoding {
    /// As they are: the text of a token is what it says.
    Plain,
    /// Every byte is a letter of its own, as GPT-2 does: a space is `Ġ`, a line end `Ċ`.
    ByteLevel,
    /// A space is `▁` and a byte without a character `<0x0A>`, as `SentencePiece` does.
    ByteFallback,
}

/// Whether a token was added to a tokenizer apart from its model: such tokens are written as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum AddedToken {
    /// It stands for its text.
    Text,
    /// It stands for no text.
    Special,
}

/// The bytes of every token of a vocabulary.
///
/// ```
/// use drafthorse_model::{ByteCoding, Vocabulary, token_bytes};
///
/// let vocabulary = Vocabulary::new(["Ġtoken", "Ċ"].map(|text| Some(text.to_owned())));
/// let bytes = token_bytes(&vocabulary, ByteCoding::ByteLevel, |_| None);
/// assert_eq!(bytes[0].text(), Some(&b" token"[..]));
/// assert_eq!(bytes[1].text(), Some(&b"\n"[..]));
/// ```
pub fn token_bytes(
    vocabulary: &Vocabulary,
    coding: ByteCoding,
    added: impl Fn(TokenId) -> Option<AddedToken>,
) -> Vec<TokenBytes> {
    let decode = |text: &str| match coding {
        ByteCoding::Plain => Some(text.as_bytes().into()),
        ByteCoding::ByteLevel => text.chars().map(byte_of).collect(),
        ByteCoding::ByteFallback => Some(fallback(text)),
    };
    let token = |token: TokenId| match (vocabulary.text(token), added(token)) {
        (None, _) => TokenBytes::Unknown,
        (Some(text), Some(AddedToken::Special)) => TokenBytes::Special(text.to_owned()),
        (Some(text), Some(AddedToken::Text)) => TokenBytes::Text(text.as_bytes().into()),
        // A text with a letter that stands for no byte cannot come of the tokenizer's model.
        (Some(text), None) => decode(text).map_or(TokenBytes::Unknown, TokenBytes::Text),
    };
    (0..vocabulary.len() as TokenId).map(token).collect()
}

/// The byte that a letter stands for in byte-level vocabularies: printable ones for themselves, all others
/// in order for the letters from U+0100 on.
fn byte_of(letter: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(letter) {
        code @ 0..=0xFF => Some(code as u8).filter(|&byte| printable(byte)),
        code => (0..=0xFF).filter(|&byte| !printable(byte)).nth(code as usize - 0x100),
    }
}

fn fallback(text: &str) -> Box<[u8]> {
    let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match hex.filter(|hex| hex.len() == 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => [byte].into(),
        None => text.replace('\u{2581}', " ").into_bytes().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn of(texts: &[&str], coding: ByteCoding) -> Vec<TokenBytes> {
        let vocabulary = Vocabulary::new(texts.iter().map(|text| Some((*text).to_owned())));
        token_bytes(&vocabulary, coding, |_| None)
    }

    fn text(bytes: &[u8]) -> TokenBytes {
        TokenBytes::Text(bytes.into())
    }

    #[test]
    fn every_byte_has_one_letter() {
        let letters = (0..0x200).filter_map(char::from_u32).filter_map(byte_of);
        let bytes: Vec<_> = letters.collect();
        assert_eq!(bytes.len(), 256);
        assert_eq!(bytes.into_iter().collect::<BTreeSet<_>>().len(), 256);
        assert_eq!((byte_of('Ā'), byte_of('Ġ'), byte_of('Ċ')), (Some(0), Some(b' '), Some(b'\n')));
        assert_eq!((byte_of('ÿ'), byte_of('Ń'), byte_of(' ')), (Some(0xFF), Some(0xAD), None));
    }

    #[test]
    fn byte_level_texts_are_bytes() {
        let bytes = of(&["Ġa", "Ã©", "\"}", "Ġ\u{2581}"], ByteCoding::ByteLevel);
        assert_eq!(bytes, [text(b" a"), text("é".as_bytes()), text(b"\"}"), TokenBytes::Unknown]);
    }

    #[test]
    fn fallback_bytes_and_spaces() {
        let bytes = of(&["▁The", "<0x0A>", "<0xFf>", "<0xQQ>", "<0x123>", "é"], ByteCoding::ByteFallback);
        let as_they_are = ["<0xQQ>", "<0x123>", "é"].map(|t| text(t.as_bytes()));
        assert_eq!(bytes[..3], [text(b" The"), text(b"\n"), text(&[0xFF])]);
        assert_eq!(bytes[3..], as_they_are);
    }

    #[test]
    fn added_tokens_are_written_as_they_are() {
        let vocabulary =
            Vocabulary::new([Some("a Ġ".into()), Some("<|end|>".into()), None, Some("b".into())]);
        let added = |token| [Some(AddedToken::Text), Some(AddedToken::Special), None, None][token as usize];
        let bytes = token_bytes(&vocabulary, ByteCoding::ByteLevel, added);
        assert_eq!(bytes[0], text("a Ġ".as_bytes()));
        assert_eq!(bytes[1], TokenBytes::Special("<|end|>".into()));
        assert_eq!((&bytes[2], &bytes[3]), (&TokenBytes::Unknown, &text(b"b")));
    }
}
