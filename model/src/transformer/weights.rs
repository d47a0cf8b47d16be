//! From a checkpoint to tensors on a device.

use super::{
    checkpoint::{Checkpoint, Weight},
    config::ModelConfig,
};
use crate::ModelError;
use burn::tensor::{DType, Device, Element, Tensor, TensorData};
use half::f16;

/// The type in which weight matrices are held. Activations, norms, biases and the cache are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits; half the memory traffic.
    F16,
}

/// All tensors of a transformer, weight matrices as `[out, in]`.
pub(super) struct Weights {
    pub(super) embedding: Tensor<2>,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Tensor<1>,
    /// `None`: the embedding serves.
    pub(super) head: Option<Tensor<2>>,
}

pub(super) struct Layer {
    pub(super) attention_norm: Tensor<1>,
    /// Query, key and value projections, joined.
    pub(super) qkv: Tensor<2>,
    pub(super) qkv_bias: Option<Tensor<1>>,
    /// Norms of query heads and key heads.
    pub(super) qk_norm: Option<(Tensor<1>, Tensor<1>)>,
    pub(super) output: Tensor<2>,
    pub(super) output_bias: Option<Tensor<1>>,
    pub(super) feed_forward_norm: Tensor<1>,
    /// Gate and up projections, joined.
    pub(super) gate_up: Tensor<2>,
    pub(super) down: Tensor<2>,
}

impl Weights {
    pub(super) fn load(
        checkpoint: Checkpoint,
        config: &ModelConfig,
        device: &Device,
        weight_type: WeightType,
    ) -> Result<Self, ModelError> {
        let mut loader = Loader { checkpoint, device, weight_type };
        let (d, v) = (config.hidden_size, config.vocab_size);
        let embedding = loader.matrix(&["model.embed_tokens.weight"], &[v], d)?;
        let layers = (0..config.layers).map(|layer| loader.layer(layer, config)).collect::<Result<_, _>>()?;
        let norm = loader.vector(&["model.norm.weight"], &[d])?;
        let tied = config.tied_head;
        let head = if tied { None } else { Some(loader.matrix(&["lm_head.weight"], &[v], d)?) };
        loader.checkpoint.finish(tied)?;
        Ok(Self { embedding, layers, norm, head })
    }
}

struct Loader<'a> {
    checkpoint: Checkpoint,
    device: &'a Device,
    weight_type: WeightType,
}

impl Loader<'_> {
    fn layer(&mut self, index: usize, config: &ModelConfig) -> Result<Layer, ModelError> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let (d, f, h) = (config.hidden_size, config.intermediate_size, config.head_dim);
        let (q, kv) = (config.heads * h, config.kv_heads * h);
        let qkv_parts = |suffix: &str| ["q", "k", "v"].map(|p| name(&format!("self_attn.{p}_proj.{suffix}")));
        let qkv_bias = config.qkv_bias.then(|| self.vector(&qkv_parts("bias"), &[q, kv, kv])).transpose()?;
        let output_bias =
            config.output_bias.then(|| self.vector(&[name("self_attn.o_proj.bias")], &[d])).transpose()?;
        let qk_norm = if config.qk_norm {
            let query = self.vector(&[name("self_attn.q_norm.weight")], &[h])?;
            Some((query, self.vector(&[name("self_attn.k_norm.weight")], &[h])?))
        } else {
            None
        };
        Ok(Layer {
            attention_norm: self.vector(&[name("input_layernorm.weight")], &[d])?,
            qkv: self.matrix(&qkv_parts("weight"), &[q, kv, kv], d)?,
            qkv_bias,
            qk_norm,
            output: self.matrix(&[name("self_attn.o_proj.weight")], &[d], q)?,
            output_bias,
            feed_forward_norm: self.vector(&[name("post_attention_layernorm.weight")], &[d])?,
            gate_up: self.matrix(&[name("mlp.gate_proj.weight"), name("mlp.up_proj.weight")], &[f, f], d)?,
            down: self.matrix(&[name("mlp.down_proj.weight")], &[d], f)?,
        })
    }

    /// Matrices of `rows[i]` rows, laid below each other.
    fn matrix(
        &mut self,
        names: &[impl AsRef<str>],
        rows: &[usize],
        columns: usize,
    ) -> Result<Tensor<2>, ModelError> {
        let shapes: Vec<_> = rows.iter().map(|&rows| vec![rows, columns]).collect();
        let shape = [rows.iter().sum(), columns];
        match self.weight_type {
            WeightType::F32 => self.tensor::<f32, 2>(names, &shapes, shape, DType::F32),
            WeightType::F16 => self.tensor::<f16, 2>(names, &shapes, shape, DType::F16),
        }
    }

    /// Vectors, one after the other.
    fn vector(&mut self, names: &[impl AsRef<str>], lengths: &[usize]) -> Result<Tensor<1>, ModelError> {
        let shapes: Vec<_> = lengths.iter().map(|&length| vec![length]).collect();
        self.tensor::<f32, 1>(names, &shapes, [lengths.iter().sum()], DType::F32)
    }

    fn tensor<T: Weight + Element, const D: usize>(
        &mut self,
        names: &[impl AsRef<str>],
        shapes: &[Vec<usize>],
        shape: [usize; D],
        dtype: DType,
    ) -> Result<Tensor<D>, ModelError> {
        let mut values: Vec<T> = Vec::new();
        for (name, shape) in names.iter().zip(shapes) {
            self.checkpoint.read(name.as_ref(), shape, &mut values)?;
        }
        Ok(Tensor::from_data(TensorData::new(values, shape), (self.device, dtype)))
    }
}
