use super::table::{Entry, Follower, Table, key};
use crate::StoreMemory;
use drafthorse_logits::TokenId;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// The longest context, in tokens.
pub(crate) const ORDER: usize = 4;

/// What followed the last 1 to 4 tokens in all texts so far: what [`NgramMemoryDrafter`](crate::NgramMemoryDrafter)s
/// share.
///
/// It takes its memory once and never more; where it is full, contexts that were seen least of late are forgotten. A
/// context takes 40 bytes.
#[derive(Debug)]
pub struct NgramMemory {
    bound: usize,
    table: RwLock<Table>,
}

impl Default for NgramMemory {
    /// Of 16 MiB, about 400,000 contexts.
    fn default() -> Self {
        Self::with_bound(16 << 20)
    }
}

impl NgramMemory {
    /// The least bound, in bytes.
    pub const MIN_BYTES: usize = 1 << 12;

    /// A memory of at most `bytes` bytes; `None` below [`MIN_BYTES`](Self::MIN_BYTES).
    pub fn new(bytes: usize) -> Option<Self> {
        (bytes >= Self::MIN_BYTES).then(|| Self::with_bound(bytes))
    }

    fn with_bound(bytes: usize) -> Self {
        Self { bound: bytes, table: RwLock::new(Table::new(bytes)) }
    }

    /// Learns what follows what in `text`, from token `from` on.
    pub fn learn(&self, text: &[TokenId], from: usize) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for at in from.max(1)..text.len() {
            contexts(&text[..at]).for_each(|(_, context)| table.note(key(context), text[at]));
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Table::new(self.bound);
    }

    /// The bytes held; the tokens are those that followed, each in each of its contexts.
    pub fn memory(&self) -> StoreMemory {
        let table = self.read();
        let followers = |entry: &Entry| entry.counts.iter().filter(|count| **count > 0).count();
        StoreMemory { held: table.bytes(), bound: self.bound, tokens: table.entries().map(followers).sum() }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, entry: Entry) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).insert(entry);
    }
}

/// The contexts at the end of a text, the longest first, with their lengths.
fn contexts(text: &[TokenId]) -> impl Iterator<Item = (usize, &[TokenId])> {
    (1..=ORDER.min(text.len())).rev().map(|n| (n, &text[text.len() - n..]))
}

/// What follows `text`, by the longest context that passes.
pub(crate) fn next(
    table: &Table,
    text: &[TokenId],
    passes: impl Fn(usize, &Follower) -> bool,
) -> Option<Follower> {
    contexts(text).find_map(|(n, context)| table.best(key(context)).filter(|best| passes(n, best)))
}
