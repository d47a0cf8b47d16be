use super::{
    automaton::{Automaton, DEPTH, Place},
    paths::Path,
};
use crate::suffix::paths::{Branch, Search};
use drafthorse_logits::TokenId;
use std::{
    collections::VecDeque,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

/// In how many parts a store forgets.
const PARTS: usize = 4;

/// Texts of earlier requests, ready to be looked up: what [`SuffixDrafter`](crate::SuffixDrafter)s share.
///
/// It never holds more bytes than its bound. When it is full, the oldest quarter is forgotten at once, which takes no
/// longer than freeing it. A token takes 60 to 150 bytes.
#[derive(Debug)]
pub struct SuffixStore {
    bound: usize,
    inner: RwLock<Inner>,
}

/// How much memory something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreMemory {
    /// Bytes held.
    pub held: usize,
    /// The most bytes it will hold.
    pub bound: usize,
    /// Tokens held.
    pub tokens: usize,
}

#[derive(Debug, Default)]
struct Inner {
    /// The oldest first.
    parts: VecDeque<Part>,
    next: u64,
}

/// Some of the texts.
#[derive(Debug)]
pub(crate) struct Part {
    id: u64,
    automaton: Automaton,
    tokens: Vec<TokenId>,
    /// Where in `tokens` each text ends.
    ends: Vec<usize>,
}

/// Where a sequence stands in a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    id: u64,
    /// Tokens of the part when it was found.
    seen: usize,
    /// Tokens of the sequence that were read.
    read: usize,
    place: Place,
}

impl Default for SuffixStore {
    /// At most 64 MiB, about half a million tokens.
    fn default() -> Self {
        Self { bound: 64 << 20, inner: RwLock::default() }
    }
}

impl SuffixStore {
    /// The least bound, in bytes.
    pub const MIN_BYTES: usize = 1 << 20;

    /// A store of at most `bytes` bytes; `None` below [`MIN_BYTES`](Self::MIN_BYTES).
    pub fn new(bytes: usize) -> Option<Self> {
        (bytes >= Self::MIN_BYTES).then(|| Self { bound: bytes, inner: RwLock::default() })
    }

    /// Remembers a text. Of one that does not fit as a whole, the end is kept.
    pub fn add(&self, text: &[TokenId]) {
        if !text.is_empty() {
            let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
            inner.add(text, self.bound / PARTS);
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).parts.clear();
    }

    /// The bytes and tokens held.
    pub fn memory(&self) -> StoreMemory {
        let inner = self.read();
        let held = inner.parts.iter().map(Part::bytes).sum();
        let tokens = inner.parts.iter().map(|part| part.tokens.len()).sum();
        StoreMemory { held, bound: self.bound, tokens }
    }

    /// The texts, the oldest first. One that was cut when a part was full comes in pieces.
    pub fn texts(&self) -> Vec<Vec<TokenId>> {
        self.read().parts.iter().flat_map(Part::texts).map(<[_]>::to_vec).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The best path after `sequence`, if it is better than `best`. Of the tokens that `cursors` have read, `kept` still
    /// stand.
    pub(crate) fn path(
        &self,
        sequence: &[TokenId],
        kept: usize,
        cursors: &mut Vec<Cursor>,
        search: Search<'_>,
        best: &mut Path,
    ) {
        self.each(sequence, kept, cursors, |part, place| search.path(part, place, best));
    }

    /// As [`path`](Self::path), for a tree.
    pub(crate) fn tree(
        &self,
        sequence: &[TokenId],
        kept: usize,
        cursors: &mut Vec<Cursor>,
        search: Search<'_>,
        best: &mut (f64, u32, Vec<Branch>),
    ) {
        self.each(sequence, kept, cursors, |part, place| search.tree(part, place, best));
    }

    /// Where `sequence` stands in each part, the newest first.
    fn each(
        &self,
        sequence: &[TokenId],
        kept: usize,
        cursors: &mut Vec<Cursor>,
        mut visit: impl FnMut(&Automaton, Place),
    ) {
        let inner = self.read();
        let found = inner.parts.iter().rev().map(|part| {
            let known =
                cursors.iter().find(|cursor| cursor.id == part.id).filter(|cursor| cursor.read <= kept);
            part.place(sequence, known.copied())
        });
        let found: Vec<_> = found.collect();
        for (part, cursor) in inner.parts.iter().rev().zip(&found) {
            visit(&part.automaton, cursor.place);
        }
        *cursors = found;
    }
}

impl Inner {
    fn add(&mut self, text: &[TokenId], share: usize) {
        self.begin(share);
        for &token in text {
            let Some(part) = self.parts.back_mut() else { return };
            if part.is_full(share) {
                part.end();
                self.add_part();
                self.begin(share);
            }
            let Some(part) = self.parts.back_mut() else { return };
            part.tokens.push(token);
            part.automaton.push(token);
        }
        if let Some(part) = self.parts.back_mut() {
            part.end();
        }
    }

    /// A place for another text.
    fn begin(&mut self, share: usize) {
        if self.parts.back().is_none_or(|part| part.is_full(share)) {
            self.add_part();
        }
        if let Some(part) = self.parts.back_mut() {
            part.automaton.begin();
        }
    }

    fn add_part(&mut self) {
        if self.parts.len() == PARTS {
            self.parts.pop_front();
        }
        let (automaton, tokens, ends) = (Automaton::default(), Vec::new(), Vec::new());
        self.parts.push_back(Part { id: self.next, automaton, tokens, ends });
        self.next += 1;
    }
}

impl Part {
    fn bytes(&self) -> usize {
        let ends = self.ends.capacity() * size_of::<usize>();
        self.automaton.bytes() + self.tokens.capacity() * size_of::<TokenId>() + ends
    }

    /// Whether the next token could take more than `share` bytes.
    fn is_full(&self, share: usize) -> bool {
        let room = self.automaton.has_room()
            && self.tokens.len() < self.tokens.capacity()
            && self.ends.len() < self.ends.capacity();
        // What grows doubles, or begins small.
        !room && 2 * self.bytes() + (1 << 14) > share
    }

    fn end(&mut self) {
        if self.ends.last().copied().unwrap_or(0) < self.tokens.len() {
            self.ends.push(self.tokens.len());
        }
    }

    fn texts(&self) -> impl Iterator<Item = &[TokenId]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.tokens[start..end])
    }

    fn place(&self, sequence: &[TokenId], known: Option<Cursor>) -> Cursor {
        let (seen, tail) = (self.tokens.len(), sequence.len().saturating_sub(DEPTH as usize));
        // Where texts came in between, it may stand there longer by now.
        let known = known.filter(|cursor| cursor.seen == seen && cursor.read >= tail);
        let (place, from) = known.map_or((Place::default(), tail), |cursor| (cursor.place, cursor.read));
        let place = place.read(&self.automaton, &sequence[from..]);
        Cursor { id: self.id, seen, read: sequence.len(), place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// The bound holds after every text, and what is kept is the end of what was given.
        #[test]
        fn memory_is_bounded_and_the_oldest_goes_first(
            seed in 0u32..1000, vocab in 2u32..5000, texts in prop::collection::vec(1usize..4000, 1..40)
        ) {
            let store = SuffixStore::new(SuffixStore::MIN_BYTES).unwrap();
            let (mut state, mut all) = (seed, Vec::new());
            for length in texts {
                let text: Vec<TokenId> = (0..length).map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) % vocab
                }).collect();
                store.add(&text);
                all.extend(text);
                let StoreMemory { held, bound, tokens } = store.memory();
                prop_assert!(held <= bound, "{held} of {bound}");
                let kept = store.texts().concat();
                prop_assert_eq!(kept.len(), tokens);
                prop_assert!(all.ends_with(&kept));
            }
            // It is used, too: no less than a third is full once something was forgotten.
            let memory = store.memory();
            prop_assert!(memory.tokens == all.len() || memory.held * 3 > memory.bound);
        }
    }

    #[test]
    fn a_bound_that_is_too_small_is_refused() {
        assert!(SuffixStore::new(1000).is_none());
        let store = SuffixStore::default();
        store.add(&[]);
        assert_eq!(store.texts().len(), 0);
        store.add(&[1, 2]);
        store.add(&[3]);
        assert_eq!(store.texts(), [vec![1, 2], vec![3]]);
        store.clear();
        assert_eq!(store.memory().tokens, 0);
    }
}
