//! Where the rows of the expert come from, with those of its layers or without.

use drafthorse_logits::TokenId;
use drafthorse_model::{CachedModel, LanguageModel, LayerLogits, LayeredModel, ModelError, SequenceModel};
use std::sync::Arc;

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
    model: CachedModel<M>,
    layers: Vec<usize>,
}

impl<M: LayeredModel> std::fmt::Debug for WithLayers<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WithLayers {{ {} layers }}", self.layers.len())
    }
}

impl<M: LayeredModel> WithLayers<M> {
    /// With all layers: 0 is the embedding.
    pub fn new(model: Arc<M>) -> Self {
        let layers = (0..model.layers()).collect();
        Self { model: CachedModel::new(model), layers }
    }
}

impl<M: LayeredModel> LayerSource for WithLayers<M> {
    fn vocab_size(&self) -> usize {
        SequenceModel::vocab_size(&self.model)
    }

    fn layers(&self) -> usize {
        self.layers.len()
    }

    fn read(&mut self, sequence: &[TokenId], rows: usize) -> Result<LayerLogits, ModelError> {
        self.model.layer_logits(sequence, rows, &self.layers)
    }
}
