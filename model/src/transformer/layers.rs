//! What the model says before its last layer.

use super::{
    Transformer, TransformerCache,
    forward::{commit, wanted},
    guarded, rows, rows_of,
};
use crate::{LayerLogits, LayerStates, LayeredModel, ModelError, Segment, layered::check_layers};
use burn::tensor::Tensor;
use drafthorse_logits::Logits;

type Segments<'a> = [Segment<'a, TransformerCache>];

impl Transformer {
    /// Reads every segment as [`forward`](crate::LanguageModel::forward) does, and gives the hidden states of the
    /// wanted rows after each of `layers`: 0 is the embedding, as many as the model has the state before the final
    /// norm.
    ///
    /// # Errors
    ///
    /// As [`forward`](crate::LanguageModel::forward); a layer the model does not have.
    pub fn layer_states(
        &self,
        segments: &mut Segments<'_>,
        layers: &[usize],
    ) -> Result<Vec<LayerStates>, ModelError> {
        check_layers(layers, self.config.layers + 1)?;
        let (width, states) = (self.config.hidden_size, |states| states);
        let parts = self.compute_layers(segments, layers, width, states)?;
        Ok(parts.into_iter().map(LayerStates::new).collect())
    }

    /// Reads segments and makes something of the states of their wanted rows after each of `layers`, `[rows, width]`:
    /// for each segment, for each layer.
    fn compute_layers(
        &self,
        segments: &mut Segments<'_>,
        layers: &[usize],
        width: usize,
        make: impl FnOnce(Tensor<2>) -> Tensor<2> + Send,
    ) -> Result<Vec<Vec<Logits>>, ModelError> {
        self.check(segments)?;
        let rows = rows_of(segments);
        if segments.is_empty() {
            return Ok(Vec::new());
        }
        let work = || {
            let mut taken = vec![None; layers.len()];
            let mut take = |at: usize, x: &Tensor<2>, segments: &Segments<'_>| {
                for (_, state) in layers.iter().zip(&mut taken).filter(|(layer, _)| **layer == at) {
                    *state = wanted(x, segments);
                }
            };
            let x = self.hidden(self.ids(segments), segments, &mut take);
            take(self.config.layers, &x, segments);
            let taken: Vec<_> = taken.into_iter().flatten().collect();
            let made = (!taken.is_empty()).then(|| make(Tensor::cat(taken, 0)));
            // Layer after layer, and within a layer segment after segment.
            let out = rows::read(made, &rows.repeat(layers.len()), width)?;
            commit(segments);
            Ok(out)
        };
        let mut parts = self.device.run(|| guarded(work))?.into_iter();
        let mut out = vec![Vec::with_capacity(layers.len()); rows.len()];
        for _ in layers {
            out.iter_mut().zip(&mut parts).for_each(|(segment, part)| segment.push(part));
        }
        Ok(out)
    }
}

impl LayeredModel for Transformer {
    fn layers(&self) -> usize {
        self.config.layers
    }

    fn tied_head(&self) -> bool {
        self.config.tied_head
    }

    fn forward_layers(
        &self,
        segments: &mut Segments<'_>,
        layers: &[usize],
    ) -> Result<Vec<LayerLogits>, ModelError> {
        check_layers(layers, self.config.layers)?;
        let asked = [layers, &[self.config.layers]].concat();
        let parts =
            self.compute_layers(segments, &asked, self.config.vocab_size, |states| self.head(states))?;
        let vocab = self.config.vocab_size;
        let split = |mut early: Vec<Logits>| {
            let last = early.pop().unwrap_or_else(|| Logits::new(Vec::new(), vocab));
            LayerLogits { last, early }
        };
        Ok(parts.into_iter().map(split).collect())
    }
}
