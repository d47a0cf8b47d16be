mod tree;

use crate::{
    KvCache, LanguageModel, LayerLogits, LayeredModel, ModelError, Segment, Tree, Vocabulary,
    language_model::{check_answers, check_shape},
    layered::check_layered,
};
use drafthorse_logits::{Logits, RowAnswer, RowQuestion, TokenId};
use std::sync::Arc;
use tree::HeldTree;

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
    /// A tree that was read after the tokens; the cache holds it too.
    tree: Option<HeldTree>,
}

impl<M: LanguageModel> CachedModel<M> {
    /// Wraps a model; nothing is read yet.
    pub fn new(model: Arc<M>) -> Self {
        let cache = model.new_cache();
        Self { model, cache, tokens: Vec::new(), tree: None }
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
            let [Segment { tokens, rows, cache, .. }] = segment else { return Ok(Vec::new()) };
            let out = model.continue_greedily(Segment::new(tokens, *rows, cache), count)?;
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
        let mut at = self.rewind(sequence, rows.max(1));
        while sequence.len() - at > CHUNK.max(rows) {
            let tokens = &sequence[at..at + CHUNK.min(sequence.len() - at - rows)];
            self.model.forward(&mut [Segment::new(tokens, 0, &mut self.cache)])?;
            self.tokens.extend_from_slice(tokens);
            at += tokens.len();
        }
        let tokens = &sequence[at..];
        let out = last(&self.model, &mut [Segment::new(tokens, rows, &mut self.cache)])?;
        self.tokens.extend_from_slice(tokens);
        Ok(out)
    }

    /// Forgets what `sequence` does not begin with, and its last `again` tokens, which are to be read again for the sake
    /// of their rows; returns how many of its tokens are left.
    fn rewind(&mut self, sequence: &[TokenId], again: usize) -> usize {
        self.keep_branch(sequence);
        let common = sequence.iter().zip(&self.tokens).take_while(|(a, b)| a == b).count();
        self.cache.truncate(common.min(sequence.len() - again));
        // A cache may have lost more than it was told to: one in which a forward broke off is empty.
        self.tokens.truncate(self.cache.len());
        self.tokens.len()
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

    /// As [`LanguageModel::reads_trees`].
    fn reads_trees(&self) -> bool {
        false
    }

    /// Logits after each of the last `rows` of the tokens of `sequence` and, after them, of `tree`, `[rows, vocab]`.
    ///
    /// # Errors
    ///
    /// As [`CachedModel::tree_logits`]; a model that does not [read trees](Self::reads_trees).
    fn tree_logits(
        &mut self,
        _sequence: &[TokenId],
        _tree: Tree<'_>,
        _rows: usize,
    ) -> Result<Logits, ModelError> {
        Err(tree::unread())
    }

    /// The most probable token after each of the last `rows` of the tokens of `sequence` and, after them, of `tree`, the
    /// lowest id among equals.
    ///
    /// # Errors
    ///
    /// As [`tree_logits`](Self::tree_logits), and rows from which no token can be drawn.
    fn tree_argmax(
        &mut self,
        _sequence: &[TokenId],
        _tree: Tree<'_>,
        _rows: usize,
    ) -> Result<Vec<TokenId>, ModelError> {
        Err(tree::unread())
    }

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

    fn reads_trees(&self) -> bool {
        self.model.reads_trees()
    }

    fn tree_logits(
        &mut self,
        sequence: &[TokenId],
        tree: Tree<'_>,
        rows: usize,
    ) -> Result<Logits, ModelError> {
        CachedModel::tree_logits(self, sequence, tree, rows)
    }

    fn tree_argmax(
        &mut self,
        sequence: &[TokenId],
        tree: Tree<'_>,
        rows: usize,
    ) -> Result<Vec<TokenId>, ModelError> {
        let answers = self.tree_answers(sequence, tree, &vec![RowQuestion::default(); rows], 0.0)?;
        Ok(answers.into_iter().map(|answer| answer.token).collect())
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
mod tests;
