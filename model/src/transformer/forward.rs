//! One forward over ragged segments: rows of all of them laid end to end.

use super::{Transformer, TransformerCache, rope, weights::Layer};
use crate::{KvCache, ModelError, Segment};
use burn::tensor::{Int, Tensor, TensorData, s};
use drafthorse_kernels::{
    AttentionShape, HeadNorms, attention, embed, gated_linear, linear, linear_add, rms_norm, rope_and_append,
};
use drafthorse_logits::Logits;

type Segments<'a> = [Segment<'a, TransformerCache>];

impl Transformer {
    pub(super) fn run(
        &self,
        segments: &mut [Segment<'_, TransformerCache>],
    ) -> Result<Vec<Logits>, ModelError> {
        let (config, weights) = (&self.config, &self.weights);
        let angles = self.angles(segments);
        let mut x = self.embed(segments);
        for segment in segments.iter_mut() {
            segment.cache.begin(segment.tokens.len(), config, self.device.burn());
        }
        for (index, layer) in weights.layers.iter().enumerate() {
            x = self.attend(index, layer, x, &angles, segments);
            let hidden = rms_norm(x.clone(), &layer.feed_forward_norm, config.norm_epsilon);
            x = linear_add(gated_linear(hidden, &layer.gate_up), &layer.down, None, x);
        }
        let logits = self.head(&x, segments)?;
        for segment in segments {
            segment.cache.commit(segment.tokens.len());
        }
        Ok(logits)
    }

    fn embed(&self, segments: &Segments<'_>) -> Tensor<2> {
        let ids: Vec<i32> =
            segments.iter().flat_map(|s| s.tokens.iter().map(|&token| token.cast_signed())).collect();
        let count = ids.len();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [count]), self.device.burn());
        embed(&self.weights.embedding, ids)
    }

    /// Cosines and sines of every row, `[rows, head_dim]`.
    fn angles(&self, segments: &Segments<'_>) -> Tensor<2> {
        let positions = segments.iter().flat_map(|s| s.cache.len()..s.cache.len() + s.tokens.len());
        let angles = rope::angles(&self.frequencies, positions);
        let width = 2 * self.frequencies.len();
        let shape = [angles.len() / width, width];
        Tensor::from_data(TensorData::new(angles, shape), self.device.burn())
    }

    /// The attention half of a layer, residual included.
    fn attend(
        &self,
        index: usize,
        layer: &Layer,
        x: Tensor<2>,
        angles: &Tensor<2>,
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
        for segment in segments {
            let rows = first..first + segment.tokens.len();
            first = rows.end;
            let of = |tensor: &Tensor<2>| {
                if whole { tensor.clone() } else { tensor.clone().slice(s![rows.clone(), ..]) }
            };
            let shape = self.shape(index, segment.cache.position());
            let cache = segment.cache.take(index);
            let (query, cache) = rope_and_append(of(&qkv), &of(angles), norms, cache, shape);
            outputs.push(attention(query, &cache.0, &cache.1, None, shape));
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

    /// Logits of the rows that are wanted, and of no others.
    fn head(&self, x: &Tensor<2>, segments: &Segments<'_>) -> Result<Vec<Logits>, ModelError> {
        let vocab = self.config.vocab_size;
        let mut end = 0;
        let mut wanted = Vec::new();
        for segment in segments {
            end += segment.tokens.len();
            if segment.rows > 0 {
                wanted.push(x.clone().slice(s![end - segment.rows..end, ..]));
            }
        }
        if wanted.is_empty() {
            return Ok(segments.iter().map(|_| Logits::new(Vec::new(), vocab)).collect());
        }
        let x = if wanted.len() == 1 { wanted.remove(0) } else { Tensor::cat(wanted, 0) };
        let hidden = rms_norm(x, &self.weights.norm, self.config.norm_epsilon);
        let logits = linear(hidden, self.weights.head.as_ref().unwrap_or(&self.weights.embedding), None);
        let failed = |message: String| ModelError::Backend { message };
        let data = logits.try_into_data().map_err(|error| failed(format!("{error:?}")))?;
        let mut rest: Vec<f32> = data.try_into_vec().map_err(|error| failed(format!("{error:?}")))?;
        // No copy for the last segment, which as a rule is the only one.
        let mut take = |rows: usize| {
            let after = rest.split_off(rows * vocab);
            Logits::new(std::mem::replace(&mut rest, after), vocab)
        };
        Ok(segments.iter().map(|segment| take(segment.rows)).collect())
    }
}
