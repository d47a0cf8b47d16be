//! Text to tokens and back.

use crate::{AddedToken, ByteCoding, ModelError, TokenBytes, Vocabulary, token_bytes};
use drafthorse_logits::TokenId;
use std::path::{Path, PathBuf};
use tokenizers::decoders::DecoderWrapper;

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
            .map_err(|error| fail(&format!("{} is damaged or of another format: {error}", path.display())))?;
        // A length set for training must not cut prompts or pad them.
        inner.with_truncation(None).map_err(|error| fail(&error.to_string()))?;
        inner.with_padding(None);
        let known = inner.get_vocab(true);
        let size = known.values().max().map_or(0, |&id| id as usize + 1);
        if size > 2 * known.len() + 1_000_000 {
            let message = format!(
                "{}: {} tokens with ids up to {}; the file is damaged",
                path.display(),
                known.len(),
                size - 1
            );
            return Err(fail(&message));
        }
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

    /// The tokens of `text` as a part of a longer one: without those the tokenizer puts around a text.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_plain(&self, text: &str) -> Result<Vec<TokenId>, ModelError> {
        let encoding = self.inner.encode_fast(text, false).map_err(|error| fail(&error.to_string()))?;
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

    /// What each token adds to a text.
    ///
    /// # Errors
    ///
    /// The tokenizer writes its tokens in a way from which their bytes do not follow.
    pub fn token_bytes(&self) -> Result<Vec<TokenBytes>, ModelError> {
        let decoder = self.inner.get_decoder();
        let coding = decoder.map_or(Ok(ByteCoding::Plain), |decoder| {
            coding(decoder).map(|coding| coding.unwrap_or(ByteCoding::Plain))
        });
        let coding = coding.map_err(|name| {
            let path = self.path.display();
            fail(&format!("{path}: a tokenizer with the decoder {name}, whose tokens are no bytes of a text"))
        })?;
        let added = self.inner.get_added_tokens_decoder();
        Ok(token_bytes(&self.vocabulary, coding, |token| {
            let special = added.get(&token)?.special;
            Some(if special { AddedToken::Special } else { AddedToken::Text })
        }))
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

/// How a decoder's tokens are written; `None` of one that does not say.
fn coding(decoder: &DecoderWrapper) -> Result<Option<ByteCoding>, &'static str> {
    match decoder {
        DecoderWrapper::ByteLevel(_) => Ok(Some(ByteCoding::ByteLevel)),
        DecoderWrapper::ByteFallback(_) | DecoderWrapper::Metaspace(_) => Ok(Some(ByteCoding::ByteFallback)),
        DecoderWrapper::Replace(replace) => Ok((replace.content == " ").then_some(ByteCoding::ByteFallback)),
        DecoderWrapper::Fuse(_) | DecoderWrapper::Strip(_) => Ok(None),
        DecoderWrapper::BPE(_) => Err("BPEDecoder"),
        DecoderWrapper::WordPiece(_) => Err("WordPiece"),
        DecoderWrapper::CTC(_) => Err("CTC"),
        DecoderWrapper::Sequence(all) => {
            let codings: Result<Vec<_>, _> = all.get_decoders().iter().map(coding).collect();
            Ok(codings?.into_iter().flatten().next())
        }
    }
}

fn fail(message: &str) -> ModelError {
    ModelError::Tokenizer { message: message.to_owned() }
}
