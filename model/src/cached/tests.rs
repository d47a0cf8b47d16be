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
        let whole = model.forward(&mut [Segment::new(tokens, rows, &mut cache)]).unwrap();
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
                self.0.forward(&mut [Segment::new(tokens, 0, cache)])?;
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
