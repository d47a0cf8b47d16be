//! A model on a device from which no row is read.

use drafthorse::{
    LanguageModel, ModelError,
    logits::{Logits, RowAnswer, RowQuestion},
    model::Segment,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A model whose rows cannot be read, only asked.
pub(crate) struct Far<M> {
    model: M,
    /// Numbers that were answered.
    pub(crate) numbers: AtomicUsize,
    /// What is made of a question before it is answered.
    change: fn(RowQuestion) -> RowQuestion,
}

impl<M: LanguageModel> Far<M> {
    pub(crate) fn new(model: M) -> Arc<Self> {
        Self::wrong(model, |question| question)
    }

    pub(crate) fn wrong(model: M, change: fn(RowQuestion) -> RowQuestion) -> Arc<Self> {
        Arc::new(Self { model, numbers: AtomicUsize::new(0), change })
    }
}

impl<M: LanguageModel> LanguageModel for Far<M> {
    type Cache = M::Cache;

    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.model.context_len()
    }

    fn new_cache(&self) -> M::Cache {
        self.model.new_cache()
    }

    fn forward(&self, segments: &mut [Segment<'_, M::Cache>]) -> Result<Vec<Logits>, ModelError> {
        assert!(segments.iter().all(|segment| segment.rows == 0), "a row is read");
        self.model.forward(segments)
    }

    fn keeps_rows(&self) -> bool {
        true
    }

    fn answer(
        &self,
        segments: &mut [Segment<'_, M::Cache>],
        questions: &[RowQuestion],
        temperature: f32,
    ) -> Result<Vec<RowAnswer>, ModelError> {
        let rows: usize = segments.iter().map(|segment| segment.rows).sum();
        assert_eq!(questions.len(), rows);
        // A probability and a token.
        self.numbers.fetch_add(2 * rows, Ordering::Relaxed);
        let questions: Vec<_> = questions.iter().map(|question| (self.change)(*question)).collect();
        self.model.answer(segments, &questions, temperature)
    }
}
