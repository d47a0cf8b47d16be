//! What drafters remember, on disk.
//!
//! A file is a header (kind, version, fingerprint of the vocabulary, length), what is remembered, and a CRC-32 of all of
//! it; numbers are little-endian. It is written beside the old one and takes its place when it is complete, so that a
//! crash at any time leaves the one or the other.

use drafthorse_model::Vocabulary;
use std::{
    fmt,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

const VERSION: u32 = 1;
const HEADER: usize = 8 + 4 + 3 * 8;
const CHECKSUM: usize = 4;

/// Which vocabulary the tokens of a store are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Fingerprint {
    /// Number of tokens.
    pub tokens: u64,
    /// A hash of their texts, or of whatever tells one tokenizer from another.
    pub hash: u64,
}

impl Fingerprint {
    /// Of a vocabulary of `tokens` tokens with a hash of the caller's own; 0 where nothing but the size is known.
    pub fn new(tokens: usize, hash: u64) -> Self {
        Self { tokens: tokens as u64, hash }
    }

    /// Of the texts of a vocabulary.
    ///
    /// ```
    /// use drafthorse_drafter::Fingerprint;
    /// use drafthorse_model::Vocabulary;
    /// let of = |texts: &[&str]| Fingerprint::of(&Vocabulary::new(texts.iter().map(|t| Some(t.to_string()))));
    /// assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
    /// assert_ne!(of(&["a", "b"]), of(&["ab", ""]));
    /// ```
    pub fn of(vocabulary: &Vocabulary) -> Self {
        // FNV-1a, of 64 bits.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        for token in 0..vocabulary.len() {
            let text = vocabulary.text(token as u32);
            text.unwrap_or_default().bytes().for_each(&mut add);
            // Neither is a byte of UTF-8.
            add(if text.is_some() { 0xff } else { 0xfe });
        }
        Self { tokens: vocabulary.len() as u64, hash }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens, hash {:016x}", self.tokens, self.hash)
    }
}

/// Why a store cannot be saved or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file could not be read or written. A file that was there before is as it was.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is not what was saved.
    #[error("{}: {reason}; delete it to begin with an empty store", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file is of another version of its format.
    #[error("{}: format version {found}, this program reads version {VERSION}; delete it to begin with an empty store", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file is of another vocabulary.
    #[error("{}: it is of a vocabulary of {stored}, this one has {expected}; name another file for each tokenizer", path.display())]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// The vocabulary it is of.
        stored: Fingerprint,
        /// The vocabulary it was to be loaded for.
        expected: Fingerprint,
    },
    /// The bound is too small to hold anything.
    #[error("a store of {bytes} bytes is too small; at least {least} are needed")]
    TooSmall {
        /// The bound given, in bytes.
        bytes: usize,
        /// The least possible, in bytes.
        least: usize,
    },
}

/// Eight bytes that say what is in a file.
pub(crate) type Kind = &'static [u8; 8];

/// Writes a file in the place of the old one, or leaves the old one as it is.
pub(crate) fn save(path: &Path, kind: Kind, of: Fingerprint, content: &[u8]) -> Result<(), StoreError> {
    let mut bytes = Vec::with_capacity(HEADER + content.len() + CHECKSUM);
    bytes.extend_from_slice(kind);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    for number in [of.tokens, of.hash, content.len() as u64] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(content);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    replace(path, &bytes).map_err(|source| StoreError::Io { action: "write", path: path.into(), source })
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static SAVES: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
    };
    let (process, save) = (std::process::id(), SAVES.fetch_add(1, Ordering::Relaxed));
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{process}-{save}.tmp"));
    let temporary = path.with_file_name(temporary);
    let written = write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    sync_folder(path)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the new name last, where folders can be opened.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Reads what was saved.
pub(crate) fn load(path: &Path, kind: Kind, expected: Fingerprint) -> Result<Vec<u8>, StoreError> {
    let bytes =
        fs::read(path).map_err(|source| StoreError::Io { action: "read", path: path.into(), source })?;
    let damaged = |reason: &str| StoreError::Damaged { path: path.into(), reason: reason.into() };
    let Some(magic) = bytes.get(..8) else { return Err(damaged("it is shorter than a store can be")) };
    if magic != kind {
        return Err(damaged("it is not a store of this kind"));
    }
    let mut reader = Reader(&bytes[8..]);
    let version = reader.u32().ok_or_else(|| damaged("it is shorter than a store can be"))?;
    if version != VERSION {
        return Err(StoreError::Version { path: path.into(), found: version });
    }
    let [Some(tokens), Some(hash), Some(length)] = [(); 3].map(|()| reader.u64()) else {
        return Err(damaged("it is shorter than a store can be"));
    };
    let Some(end) = bytes.len().checked_sub(CHECKSUM).filter(|end| *end >= HEADER) else {
        return Err(damaged("it is shorter than a store can be"));
    };
    if length != (end - HEADER) as u64 {
        let found = end - HEADER;
        return Err(damaged(&format!("it should hold {length} bytes and holds {found}")));
    }
    if bytes[end..] != crc32fast::hash(&bytes[..end]).to_le_bytes() {
        return Err(damaged("its checksum is wrong"));
    }
    let stored = Fingerprint { tokens, hash };
    if stored != expected {
        return Err(StoreError::Vocabulary { path: path.into(), stored, expected });
    }
    Ok(bytes[HEADER..end].to_vec())
}

/// What is left to read.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, left) = self.0.split_first_chunk()?;
        self.0 = left;
        Some(*taken)
    }
}
