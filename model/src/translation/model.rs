use super::Translation;
use crate::{ModelError, SequenceModel, Vocabulary, cached::check_rows, language_model::answer_rows};
use drafthorse_logits::{Logits, LogitsError, RowAnswer, RowQuestion, TokenId, argmax};
use std::sync::Arc;

/// A model that speaks the tokens of another: what it says of the tokens that both share, in the other's ids.
///
/// It reads a sequence token by token ([`Translation::tokens`]), so that what it has read stays read when the sequence
/// grows, and each of its rows is a function of the sequence alone. A token that is not shared has the logit `-inf`, so
/// that a row says the model's own law, restricted to the shared tokens and normalized.
///
/// Source: Timor et al., "Accelerating LLM Inference with Lossless Speculative Decoding Algorithms for Heterogeneous
/// Vocabularies", 2025, Algorithm 4 (token-level intersection).
pub struct TranslatedModel {
    model: Box<dyn SequenceModel>,
    translation: Arc<Translation>,
    /// The shared tokens that the model has rows for: the expert's ids and its own.
    pairs: Box<[(TokenId, TokenId)]>,
}

impl std::fmt::Debug for TranslatedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TranslatedModel {{ {} shared tokens }}", self.pairs.len())
    }
}

impl TranslatedModel {
    /// `model`, whose tokens the translation calls the drafter's, speaks the expert's.
    ///
    /// # Errors
    ///
    /// [`ModelError::Translation`]: the model lacks tokens of its own tokenizer, or none is shared.
    pub fn new(model: Box<dyn SequenceModel>, translation: Arc<Translation>) -> Result<Self, ModelError> {
        translation.check(model.vocab_size())?;
        if translation.map.pairs().is_empty() {
            let message = "they share no token; draft as text instead".into();
            return Err(ModelError::Translation { message });
        }
        let pairs = translation.map.pairs().into();
        Ok(Self { model, translation, pairs })
    }

    /// The translation.
    pub fn translation(&self) -> &Arc<Translation> {
        &self.translation
    }

    /// A row of the model's, in the expert's ids.
    fn speak(&self, own: &[f32], row: &mut [f32]) -> Result<(), LogitsError> {
        let mut said = false;
        for &(token, partner) in &self.pairs {
            let (logit, id) = (own[partner as usize], token);
            if logit.is_nan() || logit == f32::INFINITY {
                return Err(LogitsError::NotFinite { token: id, value: logit });
            }
            said |= logit > f32::NEG_INFINITY;
            row[token as usize] = logit;
        }
        if !said {
            // Of what is shared it excludes everything.
            self.shrug(row);
        }
        Ok(())
    }

    /// Where it has nothing to say, all that is shared is alike.
    fn shrug(&self, row: &mut [f32]) {
        self.pairs.iter().for_each(|pair| row[pair.0 as usize] = 0.0);
    }
}

impl Translation {
    /// How many more tokens, each of them shared, a model with a context of `context` can read after the expert's
    /// `sequence` token by token; `None` where it cannot read that.
    pub fn room(&self, sequence: &[TokenId], context: usize) -> Option<usize> {
        let length = self.tokens(sequence).len();
        context.checked_sub(length).filter(|_| length > 0)
    }

    /// Whether a model has rows for all tokens that its tokenizer writes.
    ///
    /// # Errors
    ///
    /// [`ModelError::Translation`]: it has not.
    pub fn check(&self, vocab: usize) -> Result<(), ModelError> {
        let tokens = self.drafter.vocabulary().len();
        if tokens <= vocab {
            return Ok(());
        }
        let message = format!(
            "the drafter's tokenizer has {tokens} tokens, its model {vocab}; both must be of one model"
        );
        Err(ModelError::Translation { message })
    }
}

impl SequenceModel for TranslatedModel {
    fn vocab_size(&self) -> usize {
        self.translation.expert.tokens().len()
    }

    /// No limit: how much it can read depends on the text ([`Translation::room`]).
    fn context_len(&self) -> usize {
        usize::MAX
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        Some(self.translation.expert.vocabulary())
    }

    fn logits(&mut self, sequence: &[TokenId], rows: usize) -> Result<Logits, ModelError> {
        check_rows(sequence, rows)?;
        let read = self.translation.tokens(sequence);
        let (vocab, last) = (self.vocab_size(), &sequence[sequence.len() - rows..]);
        let mut lengths: Vec<usize> = last.iter().map(|&token| self.translation.token(token).len()).collect();
        // From the lengths of the tokens to where each ends.
        lengths.iter_mut().rev().fold(read.len(), |end, length| end - std::mem::replace(length, end));
        let Some(first) = lengths.first().copied() else {
            return self.model.logits(&read, 0).map(|_| Logits::new(Vec::new(), vocab));
        };
        let first = first.max(1);
        let own = self.model.logits(&read, (read.len() + 1).saturating_sub(first))?;
        let mut data = vec![f32::NEG_INFINITY; rows * vocab];
        for (end, row) in lengths.iter().zip(data.chunks_exact_mut(vocab)) {
            match end.checked_sub(first) {
                Some(at) => self.speak(own.row(at), row)?,
                // Nothing it can read stands there.
                None => self.shrug(row),
            }
        }
        Ok(Logits::new(data, vocab))
    }

    fn keeps_rows(&self) -> bool {
        false
    }

    fn answers(
        &mut self,
        sequence: &[TokenId],
        questions: &[RowQuestion],
        temperature: f32,
    ) -> Result<Vec<RowAnswer>, ModelError> {
        let logits = self.logits(sequence, questions.len())?;
        Ok(answer_rows(&[logits], questions, temperature)?)
    }

    fn continue_greedily(&mut self, sequence: &[TokenId], count: usize) -> Result<Vec<TokenId>, ModelError> {
        let mut text = sequence.to_vec();
        for _ in 0..count {
            let logits = self.logits(&text, 1)?;
            text.push(argmax(logits.row(0)));
        }
        Ok(text.split_off(sequence.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CachedModel, Spelling, TableModel};

    fn spelling(texts: &[&str]) -> Spelling {
        Spelling::plain(Vocabulary::new(texts.iter().map(|text| Some((*text).to_owned()))))
    }

    fn model(table: &Arc<TableModel>) -> TranslatedModel {
        let translation = Translation::new(spelling(&["a", "b", "ab", "z"]), spelling(&["c", "b", "a"]));
        TranslatedModel::new(Box::new(CachedModel::new(table.clone())), Arc::new(translation)).unwrap()
    }

    #[test]
    fn rows_are_those_of_the_shared_tokens_whatever_was_asked_before() {
        let table = Arc::new(TableModel::random(4, 1.0, 5));
        let mut model = model(&table);
        let sequence = [0, 2, 3, 1, 2];
        let expected = |n: usize| {
            let row = table.row(&[2, 2, 1, 1, 2, 1][..[1, 3, 3, 4, 6][n]]);
            [row[2], row[1], f32::NEG_INFINITY, f32::NEG_INFINITY]
        };
        for rows in [0, 1, 5, 3, 2, 4] {
            let logits = model.logits(&sequence, rows).unwrap();
            let found: Vec<_> = logits.iter().map(<[f32]>::to_vec).collect();
            assert_eq!(found, (5 - rows..5).map(|n| expected(n).to_vec()).collect::<Vec<_>>(), "{rows} rows");
        }
        let best = model.continue_greedily(&sequence, 2).unwrap();
        let first = argmax(&expected(4));
        assert_eq!(best[0], first);
        assert_eq!(best[1], argmax(model.logits(&[&sequence[..], &[first]].concat(), 1).unwrap().row(0)));
        let answer = model.answers(&sequence, &[RowQuestion::default()], 0.0).unwrap();
        assert_eq!(answer[0].token, first);
    }

    #[test]
    fn where_nothing_can_be_read_nothing_is_preferred() {
        let table = Arc::new(TableModel::random(3, 1.0, 5));
        let logits = model(&table).logits(&[3, 0], 2).unwrap();
        let inf = f32::NEG_INFINITY;
        assert_eq!(logits.row(0), [0.0, 0.0, inf, inf]);
        assert_eq!(logits.row(1)[..2], [table.row(&[2])[2], table.row(&[2])[1]]);
    }

    #[test]
    fn a_model_that_excludes_all_that_is_shared_does_not_choose() {
        let inf = f32::NEG_INFINITY;
        let mut model = model(&Arc::new(TableModel::from_fn(3, |_| vec![0.0, inf, inf])));
        assert_eq!(model.logits(&[0], 1).unwrap().row(0), [0.0, 0.0, inf, inf]);
        let mut model = self::model(&Arc::new(TableModel::from_fn(3, |_| vec![0.0, f32::NAN, inf])));
        assert!(matches!(
            model.logits(&[0], 1),
            Err(ModelError::Logits(LogitsError::NotFinite { token: 1, .. }))
        ));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let table = Arc::new(TableModel::random(3, 1.0, 5).with_context(4));
        let mut model = model(&table);
        let room = |sequence: &[TokenId]| model.translation().room(sequence, 4);
        assert_eq!((room(&[0, 2]), room(&[2, 2]), room(&[2, 2, 0])), (Some(1), Some(0), None));
        assert_eq!(room(&[3]), None, "nothing to read is left of it");
        assert!(matches!(model.logits(&[3], 1), Err(ModelError::EmptySequence)));
        assert!(matches!(model.logits(&[0], 2), Err(ModelError::Rows { rows: 2, tokens: 1 })));
        assert!(matches!(
            model.logits(&[2, 2, 0], 1),
            Err(ModelError::ContextFull { length: 5, context: 4 })
        ));
        let small = || Box::new(CachedModel::new(Arc::new(TableModel::random(2, 1.0, 1))));
        let translation = |drafter| Arc::new(Translation::new(spelling(&["a"]), drafter));
        let error = TranslatedModel::new(small(), translation(spelling(&["a", "b", "c"]))).unwrap_err();
        assert!(error.to_string().contains("tokenizer has 3 tokens, its model 2"), "{error}");
        let error = TranslatedModel::new(small(), translation(spelling(&["b", "c"]))).unwrap_err();
        assert!(error.to_string().contains("share no token"), "{error}");
    }
}
