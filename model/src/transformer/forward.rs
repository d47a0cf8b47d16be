//! One forward over ragged segments: rows of all of them laid end to end.

use super::{Transformer, TransformerCache, rope, rows, weights::Layer};
use crate::{KvCache, ModelError, Segment};
use burn::tensor::{Int, Tensor, TensorData, s};
use drafthorse_kernels::{
    AttentionShape, HeadNorms, argmax_of, attention, embed, gated_linear, linear, linear_add, rms_norm,
    rope_and_append,
};
use drafthorse_logits::{RowQuestion, TokenId};

type Segments<'a> = [Segment<'a, TransformerCache>];

impl Transformer {
    /// Reads the segments, whose tokens are also on the device; `finish` gets the logits of all wanted rows,
    /// `[rows, vocab]`, on the device, if there are any.
    pub(super) fn run<T>(
        &self,
        ids: Tensor<1, Int>,
        segments: &mut Segments<'_>,
        finish: impl FnOnce(Option<Tensor<2>>) -> Result<T, ModelError>,
    ) -> Result<T, ModelError> {
        let x = self.hidden(ids, segments, |_, _, _| {});
        let out = finish(wanted(&x, segments).map(|x| self.head(x)))?;
        commit(segments);
        Ok(out)
    }

    /// The state of every row after all layers, `[rows, hidden_size]`. `tap` sees it before each of them. The caches
    /// do not hold the segments before they are committed.
    pub(super) fn hidden(
        &self,
        ids: Tensor<1, Int>,
        segments: &mut Segments<'_>,
        tap: impl FnMut(usize, &Tensor<2>, &Segments<'_>),
    ) -> Tensor<2> {
        self.through(embed(&self.weights.embedding, ids), segments, tap)
    }

    /// As [`hidden`](Self::hidden), from the states that go into the first layer.
    pub(super) fn through(
        &self,
        mut x: Tensor<2>,
        segments: &mut Segments<'_>,
        mut tap: impl FnMut(usize, &Tensor<2>, &Segments<'_>),
    ) -> Tensor<2> {
        let (config, weights) = (&self.config, &self.weights);
        let (angles, ancestors) = (self.angles(segments), self.ancestors(segments));
        for segment in segments.iter_mut() {
            segment.cache.begin(segment.tokens.len(), config, self.device.burn());
        }
        for (index, layer) in weights.layers.iter().enumerate() {
            tap(index, &x, segments);
            x = self.attend(index, layer, x, (&angles, &ancestors), segments);
            let hidden = rms_norm(x.clone(), &layer.feed_forward_norm, config.norm_epsilon);
            x = linear_add(gated_linear(hidden, &layer.gate_up), &layer.down, None, x);
        }
        x
    }

    /// The tokens of the segments, on the device.
    pub(super) fn ids(&self, segments: &Segments<'_>) -> Tensor<1, Int> {
        let ids: Vec<i32> =
            segments.iter().flat_map(|s| s.tokens.iter().map(|&token| token.cast_signed())).collect();
        let count = ids.len();
        Tensor::from_data(TensorData::new(ids, [count]), self.device.burn())
    }

    /// [`continue_greedily`](crate::LanguageModel::continue_greedily) with one synchronisation: each token goes
    /// from the head to the embedding without leaving the device. `None` where a row looks unusable.
    pub(super) fn chain(
        &self,
        segment: &mut Segment<'_, TransformerCache>,
        count: usize,
    ) -> Result<Option<Vec<TokenId>>, ModelError> {
        let mut ids = self.ids(std::slice::from_ref(segment));
        let mut tokens = segment.tokens;
        let mut found = Vec::with_capacity(count);
        for _ in 0..count {
            let mut step = [Segment::new(tokens, 1, &mut *segment.cache)];
            let Some(logits) = self.run(ids, &mut step, Ok)? else { return Ok(None) };
            let statistics = rows::statistics(logits, &[RowQuestion::default()], 1.0);
            ids = argmax_of(&statistics);
            found.push(statistics);
            // Which token it is the device knows; here only their number counts.
            tokens = &[0];
        }
        rows::greedy(Tensor::cat(found, 0))
    }

    /// Cosines and sines of every row, `[rows, head_dim]`.
    fn angles(&self, segments: &Segments<'_>) -> Tensor<2> {
        let positions = segments.iter().flat_map(|segment| {
            let start = segment.cache.len();
            depths(segment).into_iter().map(move |depth| start + depth)
        });
        let angles = rope::angles(&self.frequencies, positions);
        let width = 2 * self.frequencies.len();
        let shape = [angles.len() / width, width];
        Tensor::from_data(TensorData::new(angles, shape), self.device.burn())
    }

    /// Which rows of each segment see which, `[rows, rows]`; `None` where they come one after the other.
    fn ancestors(&self, segments: &Segments<'_>) -> Vec<Option<Tensor<2, Int>>> {
        let of = |segment: &Segment<'_, TransformerCache>| {
            let parents = segment.parents.filter(|parents| !is_chain(parents))?;
            let m = parents.len();
            let mut sees = vec![0i32; m * m];
            for (row, parent) in parents.iter().enumerate() {
                if let Some(parent) = parent {
                    sees.copy_within(parent * m..(parent + 1) * m, row * m);
                }
                sees[row * m + row] = 1;
            }
            Some(Tensor::from_data(TensorData::new(sees, [m, m]), self.device.burn()))
        };
        segments.iter().map(of).collect()
    }

    /// The attention half of a layer, residual included.
    fn attend(
        &self,
        index: usize,
        layer: &Layer,
        x: Tensor<2>,
        (angles, ancestors): (&Tensor<2>, &[Option<Tensor<2, Int>>]),
        segments: &mut Segments<'_>,
    ) -> Tensor<2> {
        let hidden = rms_norm(x.clone(), &layer.attention_norm, self.config.norm_epsilon);
        let qkv = linear(hidden, &layer.qkv, layer.qkv_bias.as_ref());
        let norms = layer.qk_norm.as_ref().map(|(query, key)| HeadNorms {
            query,
            key,
            epsilon: self.config.norm_epsilon,
        });
        let (mut first, whole) = (0, segments.len() == 1);
        let mut outputs = Vec::with_capacity(segments.len());
        for (segment, ancestors) in segments.iter_mut().zip(ancestors) {
            let rows = first..first + segment.tokens.len();
            first = rows.end;
            let of = |tensor: &Tensor<2>| {
                if whole { tensor.clone() } else { tensor.clone().slice(s![rows.clone(), ..]) }
            };
            let shape = self.shape(index, segment.cache.position());
            let cache = segment.cache.take(index);
            let (query, cache) = rope_and_append(of(&qkv), &of(angles), norms, cache, shape);
            outputs.push(attention(query, &cache.0, &cache.1, ancestors.as_ref(), shape));
            segment.cache.put(index, cache);
        }
        let output = if whole { outputs.remove(0) } else { Tensor::cat(outputs, 0) };
        linear_add(output, &layer.output, layer.output_bias.as_ref(), x)
    }

    fn shape(&self, layer: usize, start: usize) -> AttentionShape {
        let config = &self.config;
        AttentionShape {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            start,
            window: config.windows[layer],
        }
    }

    /// Logits of states, `[rows, vocab]`.
    pub(super) fn head(&self, x: Tensor<2>) -> Tensor<2> {
        let hidden = rms_norm(x, &self.weights.norm, self.config.norm_epsilon);
        linear(hidden, self.weights.head.as_ref().unwrap_or(&self.weights.embedding), None)
    }
}

/// How many tokens of its segment come before each.
fn depths(segment: &Segment<'_, TransformerCache>) -> Vec<usize> {
    // Parents were checked before.
    let tree = segment.tree().filter(|tree| !is_chain(tree.parents)).and_then(|tree| tree.depths().ok());
    tree.unwrap_or_else(|| (0..segment.tokens.len()).collect())
}

fn is_chain(parents: &[Option<usize>]) -> bool {
    parents.iter().enumerate().all(|(index, parent)| *parent == index.checked_sub(1))
}

/// The rows of all segments for which logits are wanted, and no others; `None` where there are none.
pub(super) fn wanted(x: &Tensor<2>, segments: &Segments<'_>) -> Option<Tensor<2>> {
    let mut end = 0;
    let mut wanted = Vec::new();
    for segment in segments {
        end += segment.tokens.len();
        if segment.rows > 0 {
            wanted.push(x.clone().slice(s![end - segment.rows..end, ..]));
        }
    }
    match wanted.len() {
        0 => None,
        1 => wanted.pop(),
        _ => Some(Tensor::cat(wanted, 0)),
    }
}

/// The caches hold the segments from now on.
pub(super) fn commit(segments: &mut Segments<'_>) {
    for segment in segments {
        segment.cache.commit(segment.tokens.len());
    }
}
