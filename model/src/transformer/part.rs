//! A model made of some layers of another.

use super::{Transformer, weights::Weights};
use crate::{ModelError, Shortcut};

impl Transformer {
    /// The model that is left where a shortcut is taken. It shares the weights: beside its caches it takes no memory.
    ///
    /// # Errors
    ///
    /// The shortcut is impossible in this model.
    pub fn shortened(&self, shortcut: &Shortcut) -> Result<Self, ModelError> {
        Ok(self.with_layers(&shortcut.layers(self.config.layers)?))
    }

    /// These layers, counted from 1, between embedding and head.
    pub(super) fn with_layers(&self, layers: &[usize]) -> Self {
        let mut config = self.config.clone();
        config.layers = layers.len();
        config.windows = layers.iter().map(|layer| self.config.windows[layer - 1]).collect();
        let Weights { embedding, layers: all, norm, head } = &self.weights;
        let weights = self.device.run(|| Weights {
            embedding: embedding.clone(),
            layers: layers.iter().map(|layer| all[layer - 1].clone()).collect(),
            norm: norm.clone(),
            head: head.clone(),
        });
        Self {
            config,
            weights,
            generation: self.generation.clone(),
            tokenizer: self.tokenizer.clone(),
            frequencies: self.frequencies.clone(),
            device: self.device.clone(),
            options: self.options,
        }
    }
}
