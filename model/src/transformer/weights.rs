//! From a checkpoint to tensors on a device.

use super::{
    checkpoint::{Checkpoint, Stored},
    config::ModelConfig,
};
use crate::ModelError;
use burn::tensor::{DType, Device, Element, Tensor, TensorData};
use drafthorse_kernels::{BlockFormat, HostBlocks, Weight};
use half::f16;

/// The type in which weight matrices are held. Activations, norms and biases are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits; half the memory traffic.
    F16,
    /// Blocks of 32 signed bytes with a 16-bit scale (`Q8_0`): 8.5 bits a weight.
    Q8,
    /// Blocks of 32 half bytes with a 16-bit scale (`Q4_0`): 4.5 bits a weight; embedding and head in
    /// [`WeightType::Q8`], as they lose most.
    Q4,
}

impl WeightType {
    /// Every type.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Q8, Self::Q4];

    /// The type of embedding and head.
    #[must_use]
    pub fn of_head(self) -> Self {
        if self == Self::Q4 { Self::Q8 } else { self }
    }

    /// Bits a weight takes, scales included.
    pub fn bits(self) -> f64 {
        match self {
            Self::F32 => 32.0,
            Self::F16 => 16.0,
            Self::Q8 => 8.5,
            Self::Q4 => 4.5,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }
}

/// The type in which keys and values are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheType {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits: half the memory, and half the traffic in long texts.
    F16,
}

impl CacheType {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

/// How a model is held in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs)]
pub struct LoadOptions {
    /// Type of weight matrices.
    pub weights: WeightType,
    /// Type of keys and values.
    pub cache: CacheType,
}

impl From<WeightType> for LoadOptions {
    fn from(weights: WeightType) -> Self {
        Self { weights, ..Self::default() }
    }
}

/// All tensors of a transformer, weight matrices as `[out, in]`. A clone shares them.
#[derive(Clone)]
pub(super) struct Weights {
    pub(super) embedding: Weight,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Tensor<1>,
    /// `None`: the embedding serves.
    pub(super) head: Option<Weight>,
}

#[derive(Clone)]
pub(super) struct Layer {
    pub(super) attention_norm: Tensor<1>,
    /// Query, key and value projections, joined.
    pub(super) qkv: Weight,
    pub(super) qkv_bias: Option<Tensor<1>>,
    /// Norms of query heads and key heads.
    pub(super) qk_norm: Option<(Tensor<1>, Tensor<1>)>,
    pub(super) output: Weight,
    pub(super) output_bias: Option<Tensor<1>>,
    pub(super) feed_forward_norm: Tensor<1>,
    /// Gate and up projections, joined.
    pub(super) gate_up: Weight,
    pub(super) down: Weight,
}

impl Weights {
    pub(super) fn load(
        checkpoint: Checkpoint,
        config: &ModelConfig,
        device: &Device,
        weight_type: WeightType,
        in_place: bool,
    ) -> Result<Self, ModelError> {
        let mut loader = Loader { checkpoint, device, weight_type, in_place };
        let (d, v) = (config.hidden_size, config.vocab_size);
        let embedding = loader.matrix_as(weight_type.of_head(), &["model.embed_tokens.weight"], &[v], d)?;
        let layers = (0..config.layers).map(|layer| loader.layer(layer, config)).collect::<Result<_, _>>()?;
        let norm = loader.vector(&["model.norm.weight"], &[d])?;
        let tied = config.tied_head;
        let head = if tied {
            None
        } else {
            Some(loader.matrix_as(weight_type.of_head(), &["lm_head.weight"], &[v], d)?)
        };
        loader.checkpoint.finish(tied)?;
        Ok(Self { embedding, layers, norm, head })
    }
}

struct Loader<'a> {
    checkpoint: Checkpoint,
    device: &'a Device,
    weight_type: WeightType,
    /// The device computes where the checkpoint is mapped: what has the right type needs no copy.
    in_place: bool,
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
    ) -> Result<Weight, ModelError> {
        self.matrix_as(self.weight_type, names, rows, columns)
    }

    fn matrix_as(
        &mut self,
        weight_type: WeightType,
        names: &[impl AsRef<str>],
        rows: &[usize],
        columns: usize,
    ) -> Result<Weight, ModelError> {
        let shapes: Vec<_> = rows.iter().map(|&rows| vec![rows, columns]).collect();
        let shape = [rows.iter().sum(), columns];
        let format = match weight_type {
            WeightType::F32 => return self.dense::<f32>(names, &shapes, shape, DType::F32),
            WeightType::F16 => return self.dense::<f16>(names, &shapes, shape, DType::F16),
            WeightType::Q8 => BlockFormat::Q8,
            WeightType::Q4 => BlockFormat::Q4,
        };
        let mut blocks = HostBlocks::new(format, columns);
        let mut values: Vec<f32> = Vec::new();
        for (name, shape) in names.iter().zip(&shapes) {
            values.clear();
            self.checkpoint.read(name.as_ref(), shape, &mut values)?;
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                let message = format!(
                    "tensor `{}` holds {value}, which no block of {} can; hold the weights in f32",
                    name.as_ref(),
                    weight_type.name()
                );
                return Err(self.checkpoint.error(message));
            }
            blocks.push_rows(&values);
        }
        Ok(blocks.on(self.device))
    }

    /// As they lie in the checkpoint where that will do, else converted and joined.
    fn dense<T: Stored + Element>(
        &mut self,
        names: &[impl AsRef<str>],
        shapes: &[Vec<usize>],
        shape: [usize; 2],
        dtype: DType,
    ) -> Result<Weight, ModelError> {
        if self.in_place {
            let mapped: Option<Vec<_>> =
                names.iter().zip(shapes).map(|(n, s)| self.checkpoint.mapped::<T>(n.as_ref(), s)).collect();
            if let Some(mapped) = mapped {
                let tensor = |(bytes, shape): (_, &Vec<usize>)| {
                    let data = TensorData::from_bytes(bytes, [shape[0], shape[1]], dtype);
                    Weight::Dense(Tensor::from_data(data, (self.device, dtype)))
                };
                return Ok(Weight::parts(mapped.into_iter().zip(shapes).map(tensor).collect()));
            }
        }
        Ok(Weight::dense(self.values::<T>(names, shapes)?, shape[1], self.device))
    }

    /// Vectors, one after the other.
    fn vector(&mut self, names: &[impl AsRef<str>], lengths: &[usize]) -> Result<Tensor<1>, ModelError> {
        let shapes: Vec<_> = lengths.iter().map(|&length| vec![length]).collect();
        let values = self.values::<f32>(names, &shapes)?;
        let count = values.len();
        Ok(Tensor::from_data(TensorData::new(values, [count]), (self.device, DType::F32)))
    }

    /// Tensors, one after the other.
    fn values<T: Stored>(
        &mut self,
        names: &[impl AsRef<str>],
        shapes: &[Vec<usize>],
    ) -> Result<Vec<T>, ModelError> {
        let mut values = Vec::new();
        for (name, shape) in names.iter().zip(shapes) {
            self.checkpoint.read(name.as_ref(), shape, &mut values)?;
        }
        Ok(values)
    }
}
