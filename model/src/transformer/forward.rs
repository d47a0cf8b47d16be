//! One forward over ragged segments: rows of all of them laid end to end.

use super::{Transformer, TransformerCache, rope, weights::Layer};
use crate::{KvCache, ModelError, Segment};
use burn::tensor::{DType, Int, Tensor, TensorData, s};
use drafthorse_kernels::{AttentionShape, append, attention, linear, rms_norm, rope as rotate, silu_mul};
use drafthorse_logits::Logits;

type Segments<'a> = [Segment<'a, TransformerCache>];

/// The angles of every row.
struct Angles {
    cos: Tensor<2>,
    sin: Tensor<2>,
}

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
            x = x + linear(silu_mul(linear(hidden, &layer.gate_up, None)), &layer.down, None);
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
        self.weights.embedding.clone().select(0, ids).cast(DType::F32)
    }

    fn angles(&self, segments: &Segments<'_>) -> Angles {
        let positions = segments.iter().flat_map(|s| s.cache.len()..s.cache.len() + s.tokens.len());
        let (cos, sin) = rope::angles(&self.frequencies, positions);
        let shape = [cos.len() / self.frequencies.len(), self.frequencies.len()];
        let tensor = |values| Tensor::from_data(TensorData::new(values, shape), self.device.burn());
        Angles { cos: tensor(cos), sin: tensor(sin) }
    }

    /// The attention half of a layer, residual included.
    fn attend(
        &self,
        index: usize,
        layer: &Layer,
        x: Tensor<2>,
        angles: &Angles,
        segments: &mut Segments<'_>,
    ) -> Tensor<2> {
        let config = &self.config;
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let hidden = rms_norm(x.clone(), &layer.attention_norm, config.norm_epsilon);
        let qkv = linear(hidden, &layer.qkv, layer.qkv_bias.as_ref());
        let part = |range: std::ops::Range<usize>| qkv.clone().slice(s![.., range]);
        let (mut query, mut keys, values) = (part(0..q), part(q..q + kv), part(q + kv..q + 2 * kv));
        if let Some((query_norm, key_norm)) = &layer.qk_norm {
            query = self.norm_heads(query, query_norm);
            keys = self.norm_heads(keys, key_norm);
        }
        query = rotate(query, &angles.cos, &angles.sin);
        keys = rotate(keys, &angles.cos, &angles.sin);
        let mut first = 0;
        let mut outputs = Vec::with_capacity(segments.len());
        for segment in segments {
            let rows = first..first + segment.tokens.len();
            first = rows.end;
            let of = |tensor: &Tensor<2>| tensor.clone().slice(s![rows.clone(), ..]);
            let start = segment.cache.position();
            let (cached_keys, cached_values) = &mut segment.cache.layers[index];
            append(cached_keys, of(&keys), start);
            append(cached_values, of(&values), start);
            outputs.push(attention(of(&query), cached_keys, cached_values, self.shape(index, start)));
        }
        let output = if outputs.len() == 1 { outputs.remove(0) } else { Tensor::cat(outputs, 0) };
        x + linear(output, &layer.output, layer.output_bias.as_ref())
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

    fn norm_heads(&self, x: Tensor<2>, weight: &Tensor<1>) -> Tensor<2> {
        let ([rows, width], d) = (x.dims(), self.config.head_dim);
        let heads = x.reshape([rows * width / d, d]);
        rms_norm(heads, weight, self.config.norm_epsilon).reshape([rows, width])
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
