use super::store::SuffixStore;
use crate::{
    Fingerprint, StoreError,
    disk::{self, Kind, Reader},
};
use drafthorse_logits::TokenId;
use std::path::Path;

const KIND: Kind = b"DHSUFFIX";

impl SuffixStore {
    /// Saves the texts, in the place of what was saved there before. Whatever happens meanwhile, the file is whole: the
    /// old one or the new one. A process that is killed while it saves can leave a temporary file beside it, whose name
    /// begins with a dot.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn save(&self, path: impl AsRef<Path>, vocabulary: Fingerprint) -> Result<(), StoreError> {
        let texts = self.texts();
        let mut content = Vec::with_capacity(texts.iter().map(|text| 8 + 4 * text.len()).sum());
        for text in texts {
            content.extend_from_slice(&(text.len() as u64).to_le_bytes());
            content.extend(text.iter().flat_map(|token| token.to_le_bytes()));
        }
        disk::save(path.as_ref(), KIND, vocabulary, &content)
    }

    /// Loads what was saved into a store of at most `bytes` bytes; of more than fits, the latest is kept.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is damaged, or of another version or vocabulary; a bound below
    /// [`MIN_BYTES`](Self::MIN_BYTES).
    pub fn load(path: impl AsRef<Path>, vocabulary: Fingerprint, bytes: usize) -> Result<Self, StoreError> {
        let least = Self::MIN_BYTES;
        let store = Self::new(bytes).ok_or(StoreError::TooSmall { bytes, least })?;
        let path = path.as_ref();
        let content = disk::load(path, KIND, vocabulary)?;
        let mut reader = Reader(&content);
        while !reader.0.is_empty() {
            let text = read_text(&mut reader, vocabulary).ok_or_else(|| StoreError::Damaged {
                path: path.into(),
                reason: "a text in it breaks off or has a token outside its vocabulary".into(),
            })?;
            store.add(&text);
        }
        Ok(store)
    }
}

fn read_text(reader: &mut Reader<'_>, vocabulary: Fingerprint) -> Option<Vec<TokenId>> {
    let length = usize::try_from(reader.u64()?).ok().filter(|length| *length <= reader.0.len() / 4)?;
    (0..length).map(|_| reader.u32().filter(|&token| u64::from(token) < vocabulary.tokens)).collect()
}
