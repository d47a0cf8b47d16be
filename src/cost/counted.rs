//! How many rows a model computes.

use drafthorse_logits::{Logits, RowAnswer, RowQuestion, TokenId};
use drafthorse_model::{LanguageModel, ModelError, Segment, Vocabulary};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A model that counts the rows it computes, which is the tokens it reads: times its parameters, that is what
/// a text costs in arithmetic, however long it takes.
///
/// ```
/// use drafthorse::{LanguageModel, TableModel, cost::Counted, model::CachedModel};
/// use std::sync::Arc;
///
/// let counted = Arc::new(Counted::new(Arc::new(TableModel::random(4, 1.0, 1))));
/// let mut cached = CachedModel::new(counted.clone());
/// cached.logits(&[1, 2, 3], 1)?;
/// cached.logits(&[1, 2, 3, 0], 1)?; // reads what is new
/// assert_eq!(counted.rows(), 4);
/// # Ok::<(), drafthorse::ModelError>(())
/// ```
#[derive(Debug)]
pub struct Counted<M> {
    model: Arc<M>,
    rows: AtomicU64,
}

impl<M> Counted<M> {
    /// Counts from 0.
    pub fn new(model: Arc<M>) -> Self {
        Self { model, rows: AtomicU64::new(0) }
    }

    /// Rows computed so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    fn count(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }
}

fn tokens<C>(segments: &[Segment<'_, C>]) -> usize {
    segments.iter().map(|segment| segment.tokens.len()).sum()
}

impl<M: LanguageModel> LanguageModel for Counted<M> {
    type Cache = M::Cache;

    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.model.context_len()
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.model.vocabulary()
    }

    fn reads_trees(&self) -> bool {
        self.model.reads_trees()
    }

    fn new_cache(&self) -> M::Cache {
        self.model.new_cache()
    }

    fn forward(&self, segments: &mut [Segment<'_, M::Cache>]) -> Result<Vec<Logits>, ModelError> {
        self.count(tokens(segments));
        self.model.forward(segments)
    }

    fn keeps_rows(&self) -> bool {
        self.model.keeps_rows()
    }

    fn answer(
        &self,
        segments: &mut [Segment<'_, M::Cache>],
        questions: &[RowQuestion],
        temperature: f32,
    ) -> Result<Vec<RowAnswer>, ModelError> {
        self.count(tokens(segments));
        self.model.answer(segments, questions, temperature)
    }

    fn continue_greedily(
        &self,
        segment: Segment<'_, M::Cache>,
        count: usize,
    ) -> Result<Vec<TokenId>, ModelError> {
        self.count(segment.tokens.len() + count.saturating_sub(1));
        self.model.continue_greedily(segment, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_model::{CachedModel, TableModel};

    #[test]
    fn every_row_is_counted_once() {
        let counted = Arc::new(Counted::new(Arc::new(TableModel::random(4, 1.0, 1))));
        let mut cached = CachedModel::new(counted.clone());
        cached.logits(&[1, 2, 3], 0).unwrap();
        assert_eq!(counted.rows(), 3);
        let said = cached.continue_greedily(&[1, 2, 3, 0], 4).unwrap();
        assert_eq!(counted.rows(), 3 + 1 + 3, "the last is not read");
        cached.logits(&[&[1, 2, 3, 0], &said[..]].concat(), 3).unwrap();
        assert_eq!(counted.rows(), 7 + 3, "three rows were wanted, two of them anew");
        cached.answers(&[1, 2], &[RowQuestion::default()], 0.0).unwrap();
        assert_eq!(counted.rows(), 11);
    }
}
