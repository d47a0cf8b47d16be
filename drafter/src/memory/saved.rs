use super::{
    store::NgramMemory,
    table::{Entry, FOLLOWERS},
};
use crate::{
    Fingerprint, StoreError,
    disk::{self, Kind, Reader},
};
use std::path::Path;

const KIND: Kind = b"DHNGRAMS";

impl NgramMemory {
    /// Saves what is remembered, in the place of what was saved there before. Whatever happens meanwhile, the file is
    /// whole: the old one or the new one. A process that is killed while it saves can leave a temporary file beside it,
    /// whose name begins with a dot.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn save(&self, path: impl AsRef<Path>, vocabulary: Fingerprint) -> Result<(), StoreError> {
        let mut content = Vec::new();
        for entry in self.read().entries() {
            content.extend_from_slice(&entry.key.to_le_bytes());
            content.extend(entry.tokens.iter().flat_map(|token| token.to_le_bytes()));
            let counts = entry.counts.iter().chain([&entry.total, &entry.weight]);
            content.extend(counts.flat_map(|count| count.to_le_bytes()));
        }
        disk::save(path.as_ref(), KIND, vocabulary, &content)
    }

    /// Loads what was saved into a memory of at most `bytes` bytes.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is damaged, or of another version or vocabulary; a bound below
    /// [`MIN_BYTES`](Self::MIN_BYTES).
    pub fn load(path: impl AsRef<Path>, vocabulary: Fingerprint, bytes: usize) -> Result<Self, StoreError> {
        let least = Self::MIN_BYTES;
        let memory = Self::new(bytes).ok_or(StoreError::TooSmall { bytes, least })?;
        let path = path.as_ref();
        let content = disk::load(path, KIND, vocabulary)?;
        let mut reader = Reader(&content);
        while !reader.0.is_empty() {
            let entry = read_entry(&mut reader).filter(|entry| is_sound(entry, vocabulary));
            memory.insert(entry.ok_or_else(|| StoreError::Damaged {
                path: path.into(),
                reason: "an entry in it breaks off or cannot be".into(),
            })?);
        }
        Ok(memory)
    }
}

fn read_entry(reader: &mut Reader<'_>) -> Option<Entry> {
    let mut entry = Entry { key: reader.u64()?, ..Entry::default() };
    for token in &mut entry.tokens {
        *token = reader.u32()?;
    }
    for count in &mut entry.counts {
        *count = reader.u16()?;
    }
    (entry.total, entry.weight) = (reader.u16()?, reader.u16()?);
    Some(entry)
}

fn is_sound(entry: &Entry, vocabulary: Fingerprint) -> bool {
    let known = |at: usize| entry.counts[at] == 0 || u64::from(entry.tokens[at]) < vocabulary.tokens;
    let counted: u32 = entry.counts.iter().copied().map(u32::from).sum();
    entry.key != 0 && counted <= u32::from(entry.total) && (0..FOLLOWERS).all(known)
}
