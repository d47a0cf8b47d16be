use crate::{
    KvCache, LanguageModel, LayerLogits, LayeredModel, ModelError, Segment, Vocabulary,
    language_model::{check_answers, check_shape},
    layered::check_layered,
};
use drafthorse_logits::{Logits, RowAnswer, RowQuestion, TokenId};
use std::sync::Arc;

/// The most tokens read in one forward: a long prompt is read in pieces of this size, so that memory
/// for activations does not grow with it.
const CHUNK: usize = 512;

/// A model with a cache, as a pure function of the sequence that remembers.
///
/// There is no call to roll back: each call finds the longest common prefix with the tokens it holds,
/// forgets the rest and reads what is new. Nothing can leak from one request into another, the next
/// turn of a conversation reads only what was added, and a call that failed is repaired by the next.
#[derive(Debug)]
pub struct CachedModel<M: LanguageModel> {
    model: Arc<M>,
    cache: M::Cache,
    tokens: Vec<TokenId>,
}

impl<M: LanguageModel> CachedModel<M> {
    /// Wraps a model; nothing is read yet.
    pub fn new(model: Arc<M>) -> Self {
        let cache = model.new_cache();
        Self { model, cache, tokens: Vec::new() }
    }

    /// The model.
    pub fn model(&self) -> &Arc<M> {
        &self.model
    }

    /// Logits after each of the last `rows` tokens of `sequence`.
    ///
    /// # Shapes
    ///
    /// `[rows, vocab]`.
    ///
    /// # Errors
    ///
    /// An empty sequence, more rows than tokens, a token outside the vocabulary, a sequence longer than
    /// the context, or a failure of the device.
    pub fn logits(&mut self, sequence: &[TokenId], rows: usize) -> Result<Logits, ModelError> {
        self.read(sequence, rows, |model, segment| {
            let rows = segment[0].rows;
            let logits = model.forward(segment)?.pop();
            let logits = logits.unwrap_or_else(|| Logits::new(Vec::new(), model.vocab_size()));
            check_shape(&logits, rows, model.vocab_size())?;
            Ok(logits)
        })
    }

    /// What the rows after each of the last `questions.len()` tokens of `sequence` say at a temperature.
    ///
    /// # Errors
    ///
    /// As [`logits`](Self::logits), and rows from which no token can be drawn.
    pub fn answers(
        &mut self,
        sequence: &[TokenId],
        questions: &[RowQuestion],
        temperature: f32,
    ) -> Result<Vec<RowAnswer>, ModelError> {
        let (rows, vocab) = (questions.len(), self.model.vocab_size());
        self.read(sequence, rows, |model, segment| {
            let answers = model.answer(segment, questions, temperature)?;
            check_answers(&answers, rows, vocab)?;
            Ok(answers)
        })
    }

    /// The `count` most probable tokens after `sequence`, each after those before it.
    ///
    /// # Errors
    ///
    /// As [`answers`](Self::answers); the context must have room for all but the last.
    pub fn continue_greedily(
        &mut self,
        sequence: &[TokenId],
        count: usize,
    ) -> Result<Vec<TokenId>, ModelError> {
        let Some(more) = count.checked_sub(1) else { return Ok(Vec::new()) };
        let (length, context) = (sequence.len().saturating_add(more), self.model.context_len());
        if length > context {
            return Err(ModelError::ContextFull { length, context });
        }
        let vocab = self.model.vocab_size();
        let out = self.read(sequence, 1, |model, segment| {
            let [Segment { tokens, rows, cache }] = segment else { return Ok(Vec::new()) };
            let out = model.continue_greedily(Segment { tokens, rows: *rows, cache }, count)?;
            let answers: Vec<_> = out.iter().map(|&token| RowAnswer { probability: 1.0, token }).collect();
            check_answers(&answers, count, vocab)?;
            Ok(out)
        })?;
        self.tokens.extend_from_slice(&out[..more]);
        Ok(out)
    }

    /// Reads what is new of `sequence`, the part with the wanted rows by `last`.
    fn read<T>(
        &mut self,
        sequence: &[TokenId],
        rows: usize,
        last: impl FnOnce(&M, &mut [Segment<'_, M::Cache>]) -> Result<T, ModelError>,
    ) -> Result<T, ModelError> {
        self.check(sequence, rows)?;
        let common = sequence.iter().zip(&self.tokens).take_while(|(a, b)| a == b).count();
        self.cache.truncate(common.min(sequence.len() - rows.max(1)));
        // A cache may have lost more than it was told to: one in which a forward broke off is empty.
        let mut at = self.cache.len();
        self.tokens.truncate(at);
        while sequence.len() - at > CHUNK.max(rows) {
            let tokens = &sequence[at..at + CHUNK.min(sequence.len() - at - rows)];
            self.model.forward(&mut [Segment { tokens, rows: 0, cache: &mut self.cache }])?;
            self.tokens.extend_from_slice(tokens);
            at += tokens.len();
        }
        let tokens = &sequence[at..];
        let out = last(&self.model, &mut [Segment { tokens, rows, cache: &mut self.cache }])?;
        self.tokens.extend_from_slice(tokens);
        Ok(out)
    }

    fn check(&self, sequence: &[TokenId], rows: usize) -> Result<(), ModelError> {
        check_rows(sequence, rows)?;
        // Known before the first chunk is read.
        let context = self.model.context_len();
        if sequence.len() > context {
            return Err(ModelError::ContextFull { length: sequence.len(), context });
        }
        Ok(())
    }
}

/// Whether there are tokens, and as many as rows are asked for.
pub(crate) fn check_rows(sequence: &[TokenId], rows: usize) -> Result<(), ModelError> {
    if sequence.is_empty() {
        return Err(ModelError::EmptySequence);
    }
    if rows > sequence.len() {
        return Err(ModelError::Rows { rows, tokens: sequence.len() });
    }
    Ok(())
}

impl<M: LayeredModel> CachedModel<M> {
    /// Logits after each of the last `rows` tokens of `sequence`, and what the model thought there after each of
    /// `layers`.
    ///
    /// # Errors
    ///
    /// As [`logits`](Self::logits); a layer the model does not have, or the last.
    pub fn layer_logits(
        &mut self,
        sequence: &[TokenId],
        rows: usize,
        layers: &[usize],
    ) -> Result<LayerLogits, ModelError> {
        self.read(sequence, rows, |model, segment| {
            let Some(found) = model.forward_layers(segment, layers)?.pop() else {
                return Err(ModelError::Backend { message: "it said nothing of its layers".into() });
            };
            check_layered(&found, rows, layers.len(), model.vocab_size())?;
            Ok(found)
        })
    }
}

/// A model as a function of the sequence, of whatever kind: what drafters, verifiers and engines hold.
pub trait SequenceModel: Send {
    /// Number of logits in a row.
    fn vocab_size(&self) -> usize;

    /// The most tokens a sequence may have.
    fn context_len(&self) -> usize;

    /// The text of each token, where it is known.
    fn vocabulary(&self) -> Option<&Vocabulary>;

    /// Logits after each of the last `rows` tokens of `sequence`, `[rows, vocab]`.
    ///
    /// # Errors
    ///
    /// As [`CachedModel::logits`].
    fn logits(&mut self, sequence: &[TokenId], rows: usize) -> Result<Logits, ModelError>;

    /// As [`LanguageModel::keeps_rows`].
    fn keeps_rows(&self) -> bool;

    /// What the rows after each of the last `questions.len()` tokens of `sequence` say at a temperature.
    ///
    /// # Errors
    ///
    /// As [`CachedModel::answers`].
    fn answers(
        &mut self,
        sequence: &[TokenId],
        questions: &[RowQuestion],
        temperature: f32,
    ) -> Result<Vec<RowAnswer>, ModelError>;

    /// The `count` most probable tokens after `sequence`, each after those before it.
    ///
    /// # Errors
    ///
    /// As [`CachedModel::continue_greedily`].
    fn continue_greedily(&mut self, sequence: &[TokenId], count: usize) -> Result<Vec<TokenId>, ModelError>;

    /// The most probable token after each of the last `rows` tokens of `sequence`, the lowest id among
    /// equals.
    ///
    /// # Errors
    ///
    /// As [`CachedModel::answers`].
    fn argmax(&mut self, sequence: &[TokenId], rows: usize) -> Result<Vec<TokenId>, ModelError> {
        let answers = self.answers(sequence, &vec![RowQuestion::default(); rows], 0.0)?;
        Ok(answers.into_iter().map(|answer| answer.token).collect())
    }
}

impl<M: LanguageModel> SequenceModel for CachedModel<M> {
    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.model.context_len()
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.model.vocabulary()
    }

    fn logits(&mut self, sequence: &[TokenId], rows: usize) -> Result<Logits, ModelError> {
        CachedModel::logits(self, sequence, rows)
    }

    fn keeps_rows(&self) -> bool {
        self.model.keeps_rows()
    }

    fn answers(
        &mut self,
        sequence: &[TokenId],
        questions: &[RowQuestion],
        temperature: f32,
    ) -> Result<Vec<RowAnswer>, ModelError> {
        CachedModel::answers(self, sequence, questions, temperature)
    }

    fn continue_greedily(&mut self, sequence: &[TokenId], count: usize) -> Result<Vec<TokenId>, ModelError> {
        CachedModel::continue_greedily(self, sequence, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableModel;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    proptest! {
        /// Whatever was asked before, the answer is that of a model that has read nothing.
        #[test]
        fn any_history_gives_what_a_fresh_model_gives(
            calls in prop::collection::vec((prop::collection::vec(0u32..3, 1..12), 1usize..12), 1..12)
        ) {
            let model = Arc::new(TableModel::random(3, 1.0, 9));
            let mut cached = CachedModel::new(model.clone());
            for (sequence, rows) in calls {
                let rows = rows.min(sequence.len());
                let fresh = CachedModel::new(model.clone()).logits(&sequence, rows).unwrap();
                prop_assert_eq!(cached.logits(&sequence, rows).unwrap(), fresh);
                prop_assert_eq!(cached.cache.len(), sequence.len());
            }
        }
    }

    #[test]
    fn a_continuation_is_what_steps_say() {
        let model = Arc::new(TableModel::random(5, 1.0, 8).with_context(12));
        let mut cached = CachedModel::new(model.clone());
        for (sequence, count) in [(vec![1, 2, 3], 4), (vec![1, 2, 3], 0), (vec![1, 2], 9), (vec![4; 12], 1)] {
            let mut expected = sequence.clone();
            for _ in 0..count {
                expected.push(drafthorse_logits::argmax(model.row(&expected)));
            }
            let out = cached.continue_greedily(&sequence, count).unwrap();
            assert_eq!(out, expected[sequence.len()..]);
            if count > 0 {
                assert_eq!(cached.tokens, expected[..expected.len() - 1], "the last is not read");
                assert_eq!(cached.cache.len(), cached.tokens.len());
            }
            let fresh = CachedModel::new(model.clone()).logits(&sequence, 1).unwrap();
            assert_eq!(cached.logits(&sequence, 1).unwrap(), fresh);
        }
        let error = cached.continue_greedily(&[1; 12], 2);
        assert!(matches!(error, Err(ModelError::ContextFull { length: 13, context: 12 })));
    }

    #[test]
    fn a_long_prompt_is_read_in_chunks_with_the_same_result() {
        let model = Arc::new(TableModel::random(4, 1.0, 3));
        let sequence: Vec<TokenId> = (0..1500).map(|i| (i * i + i / 3) % 4).collect();
        for rows in [1, 2, 511, 512, 513, 700, 1500] {
            let logits = CachedModel::new(model.clone()).logits(&sequence, rows).unwrap();
            let (mut cache, tokens) = (model.new_cache(), &sequence[..]);
            let whole = model.forward(&mut [Segment { tokens, rows, cache: &mut cache }]).unwrap();
            assert_eq!(logits, whole[0], "{rows} rows");
        }
    }

    #[test]
    fn a_failed_forward_is_repaired_by_the_next_call() {
        /// Reads half of what it is given, then fails.
        struct Flaky(TableModel, AtomicBool);
        impl LanguageModel for Flaky {
            type Cache = <TableModel as LanguageModel>::Cache;
            fn vocab_size(&self) -> usize {
                3
            }
            fn context_len(&self) -> usize {
                100
            }
            fn new_cache(&self) -> Self::Cache {
                self.0.new_cache()
            }
            fn forward(&self, segments: &mut [Segment<'_, Self::Cache>]) -> Result<Vec<Logits>, ModelError> {
                if self.1.swap(false, Ordering::Relaxed) {
                    let Segment { tokens, cache, .. } = &mut segments[0];
                    let tokens = &tokens[..tokens.len() / 2];
                    self.0.forward(&mut [Segment { tokens, rows: 0, cache }])?;
                    return Err(ModelError::Backend { message: "unplugged".into() });
                }
                self.0.forward(segments)
            }
        }
        let model = Arc::new(Flaky(TableModel::random(3, 1.0, 1), AtomicBool::new(false)));
        let mut cached = CachedModel::new(model.clone());
        cached.logits(&[0, 1], 1).unwrap();
        model.1.store(true, Ordering::Relaxed);
        assert!(cached.logits(&[0, 1, 2, 2, 1, 0], 1).is_err());
        let repaired = cached.logits(&[0, 1, 2, 2], 2).unwrap();
        assert_eq!(repaired, CachedModel::new(model).logits(&[0, 1, 2, 2], 2).unwrap());
    }

    #[test]
    fn logits_of_another_shape_are_refused() {
        struct Short(TableModel);
        impl LanguageModel for Short {
            type Cache = <TableModel as LanguageModel>::Cache;
            fn vocab_size(&self) -> usize {
                3
            }
            fn context_len(&self) -> usize {
                100
            }
            fn new_cache(&self) -> Self::Cache {
                self.0.new_cache()
            }
            fn forward(&self, segments: &mut [Segment<'_, Self::Cache>]) -> Result<Vec<Logits>, ModelError> {
                self.0.forward(segments)?;
                Ok(vec![Logits::new(vec![0.0; 4], 2)])
            }
        }
        let error = CachedModel::new(Arc::new(Short(TableModel::random(3, 1.0, 1)))).logits(&[0, 1], 1);
        assert!(matches!(
            error,
            Err(ModelError::LogitsShape { rows: 2, vocab: 2, expected_rows: 1, expected_vocab: 3 })
        ));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let mut cached = CachedModel::new(Arc::new(TableModel::random(3, 1.0, 1).with_context(4)));
        assert!(matches!(cached.logits(&[], 0), Err(ModelError::EmptySequence)));
        assert!(matches!(cached.logits(&[1], 2), Err(ModelError::Rows { rows: 2, tokens: 1 })));
        assert!(matches!(cached.logits(&[1, 3], 1), Err(ModelError::Token { token: 3, vocab: 3 })));
        assert!(matches!(cached.logits(&[0; 5], 1), Err(ModelError::ContextFull { length: 5, context: 4 })));
        assert!(cached.logits(&[0; 4], 1).is_ok());
    }
}
