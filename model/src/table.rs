use crate::{KvCache, LanguageModel, ModelError, Segment, Vocabulary};
use drafthorse_logits::{Logits, TokenId};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

/// A tiny, exact language model: the logits after the last two tokens stand in a table.
///
/// It needs neither weights nor Burn, and its law over sequences can be computed on paper.
#[derive(Clone, Debug)]
pub struct TableModel {
    vocab: usize,
    context: usize,
    /// Rows for no token before, one, and two: `1 + vocab + vocab^2` rows.
    table: Vec<f32>,
    vocabulary: Option<Vocabulary>,
}

impl TableModel {
    /// A model whose logits are `row(last tokens)`, asked once for every context of up to two tokens.
    ///
    /// # Panics
    ///
    /// If a row does not have `vocab` logits, or `vocab` is 0.
    pub fn from_fn(vocab: usize, mut row: impl FnMut(&[TokenId]) -> Vec<f32>) -> Self {
        assert!(vocab > 0, "a vocabulary of no tokens");
        let ids = || 0..vocab as TokenId;
        let pairs = ids().flat_map(|a| ids().map(move |b| vec![a, b]));
        let contexts = std::iter::once(vec![]).chain(ids().map(|a| vec![a])).chain(pairs);
        let mut table = Vec::with_capacity((1 + vocab + vocab * vocab) * vocab);
        for context in contexts {
            let row = row(&context);
            assert_eq!(row.len(), vocab, "logits after {context:?}");
            table.extend(row);
        }
        Self { vocab, context: usize::MAX, table, vocabulary: None }
    }

    /// Logits drawn uniformly from `-spread..spread`, by `seed`.
    ///
    /// # Panics
    ///
    /// If `vocab` is 0.
    pub fn random(vocab: usize, spread: f32, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self::from_fn(vocab, |_| (0..vocab).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * spread).collect())
    }

    /// The same model with a context of `tokens`; without this it has no end.
    #[must_use]
    pub fn with_context(mut self, tokens: usize) -> Self {
        self.context = tokens;
        self
    }

    /// The same model with texts for its tokens.
    #[must_use]
    pub fn with_vocabulary(mut self, vocabulary: Vocabulary) -> Self {
        self.vocabulary = Some(vocabulary);
        self
    }

    /// The logits after `sequence`.
    ///
    /// # Panics
    ///
    /// If one of the last two tokens is outside the vocabulary.
    pub fn row(&self, sequence: &[TokenId]) -> &[f32] {
        let v = self.vocab;
        let index = match *sequence {
            [] => 0,
            [a] => 1 + a as usize,
            [.., a, b] => 1 + v + a as usize * v + b as usize,
        };
        &self.table[index * v..][..v]
    }
}

/// The tokens a [`TableModel`] has read, each with its row of the cache that comes before it.
#[derive(Clone, Debug, Default)]
pub struct TableCache(Vec<(TokenId, Option<usize>)>);

impl TableCache {
    /// The last two tokens up to a row, on its own path.
    fn context(&self, row: usize) -> Vec<TokenId> {
        let (token, before) = self.0[row];
        before.map(|before| self.0[before].0).into_iter().chain([token]).collect()
    }
}

impl KvCache for TableCache {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    fn keep_path(&mut self, start: usize, path: &[usize]) {
        let kept: Vec<_> =
            path.iter().filter_map(|index| self.0.get(start + index)).map(|row| row.0).collect();
        self.truncate(start);
        for token in kept {
            self.0.push((token, self.0.len().checked_sub(1)));
        }
    }
}

impl LanguageModel for TableModel {
    type Cache = TableCache;

    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn context_len(&self) -> usize {
        self.context
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.vocabulary.as_ref()
    }

    fn reads_trees(&self) -> bool {
        true
    }

    fn new_cache(&self) -> TableCache {
        TableCache::default()
    }

    fn forward(&self, segments: &mut [Segment<'_, TableCache>]) -> Result<Vec<Logits>, ModelError> {
        segments
            .iter_mut()
            .map(|segment| {
                segment.check(self.vocab, self.context)?;
                let start = segment.cache.0.len();
                for (index, &token) in segment.tokens.iter().enumerate() {
                    let chain = || index.checked_sub(1);
                    let parent = segment.parents.map_or_else(chain, |parents| parents[index]);
                    let before = parent.map_or(start.checked_sub(1), |parent| Some(start + parent));
                    segment.cache.0.push((token, before));
                }
                let read = &segment.cache;
                let rows = read.len() - segment.rows..read.len();
                let rows = rows.flat_map(|last| self.row(&read.context(last)).iter().copied());
                Ok(Logits::new(rows.collect(), self.vocab))
            })
            .collect()
    }
}
