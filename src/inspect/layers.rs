//! Where the rows of the expert come from, with those of its layers or without.

use drafthorse_logits::TokenId;
use drafthorse_model::{
    CachedModel, KvCache, LanguageModel, LayerLogits, LayeredModel, ModelError, Segment, SequenceModel,
};
use std::sync::Arc;

/// Tokens read at a time of which no rows are wanted.
const AHEAD: usize = 512;

/// A model that says what it thinks after its layers, if it can.
pub trait LayerSource {
    /// Number of logits in a row.
    fn vocab_size(&self) -> usize;

    /// How many rows come with each of its own, one for every layer; 0 for a model that only speaks at its end.
    fn layers(&self) -> usize;

    /// The rows after each of the last `rows` tokens of `sequence`.
    ///
    /// # Errors
    ///
    /// As [`CachedModel::logits`].
    fn read(&mut self, sequence: &[TokenId], rows: usize) -> Result<LayerLogits, ModelError>;
}

impl<M: LanguageModel> LayerSource for CachedModel<M> {
    fn vocab_size(&self) -> usize {
        SequenceModel::vocab_size(self)
    }

    fn layers(&self) -> usize {
        0
    }

    fn read(&mut self, sequence: &[TokenId], rows: usize) -> Result<LayerLogits, ModelError> {
        Ok(LayerLogits { last: self.logits(sequence, rows)?, early: Vec::new() })
    }
}

/// A model with its layers.
pub struct WithLayers<M: LayeredModel> {
    model: Arc<M>,
    cache: M::Cache,
    tokens: Vec<TokenId>,
    layers: Vec<usize>,
}

impl<M: LayeredModel> std::fmt::Debug for WithLayers<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WithLayers {{ {} layers, {} tokens read }}", self.layers.len(), self.tokens.len())
    }
}

impl<M: LayeredModel> WithLayers<M> {
    /// With all layers: 0 is the embedding.
    pub fn new(model: Arc<M>) -> Self {
        let (cache, layers) = (model.new_cache(), (0..model.layers()).collect());
        Self { model, cache, tokens: Vec::new(), layers }
    }

    /// Reads tokens of which no rows are wanted.
    fn read_ahead(&mut self, sequence: &[TokenId], end: usize) -> Result<(), ModelError> {
        let common = sequence.iter().zip(&self.tokens).take_while(|(a, b)| a == b).count();
        self.cache.truncate(common.min(end));
        self.tokens.truncate(self.cache.len());
        while self.tokens.len() < end {
            let at = self.tokens.len();
            let tokens = &sequence[at..end.min(at + AHEAD)];
            self.model.forward(&mut [Segment { tokens, rows: 0, cache: &mut self.cache }])?;
            self.tokens.extend_from_slice(tokens);
        }
        Ok(())
    }
}

impl<M: LayeredModel> LayerSource for WithLayers<M> {
    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn layers(&self) -> usize {
        self.layers.len()
    }

    fn read(&mut self, sequence: &[TokenId], rows: usize) -> Result<LayerLogits, ModelError> {
        let ahead =
            sequence.len().checked_sub(rows).ok_or(ModelError::Rows { rows, tokens: sequence.len() })?;
        self.read_ahead(sequence, ahead)?;
        let tokens = &sequence[ahead..];
        let mut segment = [Segment { tokens, rows, cache: &mut self.cache }];
        let found = self.model.forward_layers(&mut segment, &self.layers)?.pop();
        self.tokens.extend_from_slice(tokens);
        found.ok_or_else(|| ModelError::Backend { message: "it said nothing of its layers".into() })
    }
}
