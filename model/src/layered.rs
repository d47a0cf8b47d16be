use crate::{LanguageModel, ModelError, Segment, language_model::check_shape};
use drafthorse_logits::Logits;

/// What a model says after some of its layers, of one segment.
///
/// # Shapes
///
/// Every member has a row for each of the segment's wanted tokens, `[rows, vocab]`.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct LayerLogits {
    /// The model's own logits, after all layers.
    pub last: Logits,
    /// After each of the layers that were asked for, in the order of the question.
    pub early: Vec<Logits>,
}

/// Hidden states of one segment after some of a model's layers.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerStates(Vec<Logits>);

impl LayerStates {
    #[cfg(feature = "transformer")]
    pub(crate) fn new(states: Vec<Logits>) -> Self {
        Self(states)
    }

    /// The state of a wanted row, from 0, after the `index`-th of the layers that were asked for.
    ///
    /// # Panics
    ///
    /// If there is no such row, or no such layer was asked for.
    pub fn row(&self, index: usize, row: usize) -> &[f32] {
        self.0[index].row(row)
    }
}

/// A model that can say what it thinks before its last layer: the state after a layer, through the final norm and
/// the head.
///
/// Layer `n` is the state after `n` layers; 0 is the embedding.
///
/// Source: nostalgebraist, "interpreting GPT: the logit lens", 2020; early exits: Elhoushi et al., "`LayerSkip`",
/// 2024.
pub trait LayeredModel: LanguageModel {
    /// Number of layers: all may be asked for but the last, which is what [`LanguageModel::forward`] says.
    fn layers(&self) -> usize;

    /// Whether head and embedding are one matrix, so that layer 0 says nothing but the token that was read.
    fn tied_head(&self) -> bool {
        false
    }

    /// Reads every segment as [`LanguageModel::forward`] does, and says of the same rows what the model thought
    /// after each of `layers`.
    ///
    /// The logits after all layers are those of [`LanguageModel::forward`].
    ///
    /// # Errors
    ///
    /// As [`LanguageModel::forward`]; a layer the model does not have, or the last.
    fn forward_layers(
        &self,
        segments: &mut [Segment<'_, Self::Cache>],
        layers: &[usize],
    ) -> Result<Vec<LayerLogits>, ModelError>;
}

/// Whether a model has these layers before its last.
pub(crate) fn check_layers(asked: &[usize], layers: usize) -> Result<(), ModelError> {
    match asked.iter().find(|&&layer| layer >= layers) {
        Some(&layer) => Err(ModelError::Layer { layer, layers }),
        None => Ok(()),
    }
}

/// Whether a model returned what it was asked for.
pub(crate) fn check_layered(
    found: &LayerLogits,
    rows: usize,
    layers: usize,
    vocab: usize,
) -> Result<(), ModelError> {
    check_shape(&found.last, rows, vocab)?;
    if found.early.len() != layers {
        let message = format!("it said something of {} layers, of {layers} it was asked", found.early.len());
        return Err(ModelError::Backend { message });
    }
    found.early.iter().try_for_each(|logits| check_shape(logits, rows, vocab))
}
