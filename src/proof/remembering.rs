//! A model that computes the same forward once.

use drafthorse_logits::{Logits, RowAnswer, RowQuestion, TokenId};
use drafthorse_model::{KvCache, LanguageModel, ModelError, Segment, Vocabulary};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// The most tokens read in one forward where nothing of it is wanted.
const CHUNK: usize = 512;

/// A model that remembers the rows of its last forwards, so that thousands of texts after the same prefix
/// cost little more than their draws.
///
/// What it gives is what the model gave: a forward is remembered by all tokens before and in it, by how many
/// of them it reads and for how many of them it has rows. Rows that stay on their device are not remembered.
pub struct Remembering<M> {
    model: Arc<M>,
    memory: Mutex<Memory>,
}

/// The tokens read, and what the model itself has read of them, or of an earlier text.
#[derive(Debug)]
pub struct RememberingCache<C> {
    tokens: Vec<TokenId>,
    read: Vec<TokenId>,
    cache: C,
}

/// The sequence, the tokens of it that were read in the forward, and the rows.
type Key = (Box<[TokenId]>, usize, usize);

/// Two generations: what is asked for again moves to the younger one, and the older one is forgotten when
/// the younger one is full.
#[derive(Default)]
struct Memory {
    young: HashMap<Key, Arc<[f32]>>,
    old: HashMap<Key, Arc<[f32]>>,
    /// Numbers in the younger one, and how many may be there.
    held: usize,
    room: usize,
}

impl Memory {
    fn get(&mut self, key: &Key) -> Option<Arc<[f32]>> {
        if let Some(rows) = self.young.get(key) {
            return Some(rows.clone());
        }
        let (key, rows) = self.old.remove_entry(key)?;
        self.put(key, rows.clone());
        Some(rows)
    }

    fn put(&mut self, key: Key, rows: Arc<[f32]>) {
        if self.held + rows.len() > self.room {
            (self.old, self.held) = (std::mem::take(&mut self.young), 0);
        }
        self.held += rows.len();
        self.young.insert(key, rows);
    }
}

impl<M> fmt::Debug for Remembering<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "Remembering {{ {} forwards }}", memory.young.len() + memory.old.len())
    }
}

impl<M: LanguageModel> Remembering<M> {
    /// Remembers up to `bytes` of rows.
    pub fn new(model: Arc<M>, bytes: usize) -> Self {
        let memory = Memory { room: bytes / size_of::<f32>() / 2, ..Memory::default() };
        Self { model, memory: Mutex::new(memory) }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the model read all that comes before the last `count` tokens, and gives the model's own segment of
    /// these to `forward`.
    fn read<T>(
        &self,
        cache: &mut RememberingCache<M::Cache>,
        count: usize,
        rows: usize,
        forward: impl FnOnce(&mut [Segment<'_, M::Cache>]) -> Result<T, ModelError>,
    ) -> Result<T, ModelError> {
        let RememberingCache { tokens, read, cache } = cache;
        let start = tokens.len() - count;
        let common = read.iter().zip(tokens.iter()).take_while(|(a, b)| a == b).count();
        cache.truncate(common.min(start));
        // A cache may have lost more than it was told to.
        read.truncate(cache.len());
        while read.len() < start {
            let tokens = &tokens[read.len()..start.min(read.len() + CHUNK)];
            self.model.forward(&mut [Segment::new(tokens, 0, &mut *cache)])?;
            read.extend_from_slice(tokens);
        }
        let result = forward(&mut [Segment::new(&tokens[start..], rows, &mut *cache)])?;
        read.extend_from_slice(&tokens[start..]);
        Ok(result)
    }

    fn rows(&self, segment: &mut Segment<'_, RememberingCache<M::Cache>>) -> Result<Logits, ModelError> {
        let (count, rows) = (segment.tokens.len(), segment.rows);
        if rows == 0 {
            return Ok(Logits::new(Vec::new(), self.vocab_size()));
        }
        let key = (segment.cache.tokens.clone().into(), count, rows);
        if let Some(known) = self.memory().get(&key) {
            return Ok(Logits::new(known.to_vec(), self.vocab_size()));
        }
        let logits = self.read(segment.cache, count, rows, |segments| {
            let logits = self.model.forward(segments)?.pop();
            Ok(logits.unwrap_or_else(|| Logits::new(Vec::new(), self.model.vocab_size())))
        })?;
        let all: Arc<[f32]> = logits.iter().flatten().copied().collect();
        self.memory().put(key, all);
        Ok(logits)
    }
}

impl<C: KvCache> KvCache for RememberingCache<C> {
    fn len(&self) -> usize {
        self.tokens.len()
    }

    fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
    }
}

impl<M: LanguageModel> LanguageModel for Remembering<M> {
    type Cache = RememberingCache<M::Cache>;

    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.model.context_len()
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.model.vocabulary()
    }

    fn new_cache(&self) -> Self::Cache {
        RememberingCache { tokens: Vec::new(), read: Vec::new(), cache: self.model.new_cache() }
    }

    fn forward(&self, segments: &mut [Segment<'_, Self::Cache>]) -> Result<Vec<Logits>, ModelError> {
        let one = |segment: &mut Segment<'_, Self::Cache>| {
            segment.check(self.vocab_size(), self.context_len())?;
            segment.cache.tokens.extend_from_slice(segment.tokens);
            self.rows(segment)
        };
        segments.iter_mut().map(one).collect()
    }

    fn keeps_rows(&self) -> bool {
        self.model.keeps_rows()
    }

    fn answer(
        &self,
        segments: &mut [Segment<'_, Self::Cache>],
        questions: &[RowQuestion],
        temperature: f32,
    ) -> Result<Vec<RowAnswer>, ModelError> {
        let (mut answers, mut asked) = (Vec::with_capacity(questions.len()), 0);
        for segment in segments {
            segment.check(self.vocab_size(), self.context_len())?;
            segment.cache.tokens.extend_from_slice(segment.tokens);
            let (count, rows) = (segment.tokens.len(), segment.rows);
            let own = questions.get(asked..asked + rows).unwrap_or_default();
            asked += rows;
            answers.extend(self.read(segment.cache, count, rows, |segments| {
                self.model.answer(segments, own, temperature)
            })?);
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_model::{CachedModel, TableModel};
    use proptest::prelude::*;

    proptest! {
        /// Whatever was asked before, and however little can be remembered, rows are the model's own.
        #[test]
        fn rows_are_those_of_the_model(
            calls in prop::collection::vec((prop::collection::vec(0u32..3, 1..8), 0usize..8), 1..20),
            bytes in prop_oneof![Just(0usize), Just(100), Just(1 << 20)],
        ) {
            let model = Arc::new(TableModel::random(3, 1.0, 9));
            let remembering = Arc::new(Remembering::new(model.clone(), bytes));
            let mut readers = [(); 2].map(|()| CachedModel::new(remembering.clone()));
            for (call, (sequence, rows)) in calls.into_iter().enumerate() {
                let rows = rows.min(sequence.len());
                let fresh = CachedModel::new(model.clone()).logits(&sequence, rows).unwrap();
                prop_assert_eq!(readers[call % 2].logits(&sequence, rows).unwrap(), fresh);
                let asked = vec![RowQuestion::default(); rows];
                let answers = CachedModel::new(model.clone()).answers(&sequence, &asked, 1.0).unwrap();
                prop_assert_eq!(readers[call % 2].answers(&sequence, &asked, 1.0).unwrap(), answers);
            }
        }
    }
}
