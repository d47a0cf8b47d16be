//! Burn operations for decoding with few rows.
//!
//! Every operation takes and returns ordinary Burn tensors and runs on every device. On the CPU device
//! all of them are our own code, on GPUs the linear layer and attention; the rest is composed of stock
//! Burn operations ([`portable`]), which are also the reference our own code is tested against.
//!
//! **Row independence.** On the CPU, row `i` of a result depends on row `i` of the input alone, bit for
//! bit: every sum runs in an order that depends neither on the number of rows nor on the number of
//! threads. A verify pass over k + 1 tokens therefore gives exactly the logits that k + 1 decode steps
//! give, and greedy speculative text equals plain greedy text.

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
pub mod portable;

#[cfg(feature = "cpu")]
pub use cpu::instruction_set;

use burn::tensor::{Device, Tensor, s};

/// Shape of one attention call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Length of a head.
    pub head_dim: usize,
    /// Position of the first query row, which is also the number of tokens before it.
    pub start: usize,
    /// How many positions a query sees, its own included (sliding window); `None` is all before it.
    pub window: Option<usize>,
}

impl AttentionShape {
    /// The positions visible at `position`.
    pub(crate) fn visible(&self, position: usize) -> std::ops::Range<usize> {
        let first = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        first..position + 1
    }

    fn check(&self, query: [usize; 2], keys: [usize; 2], values: [usize; 2]) {
        let Self { heads, kv_heads, head_dim, start, window } = *self;
        assert!(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "{heads} query heads on {kv_heads} key heads"
        );
        assert_eq!(query[1], heads * head_dim, "width of the queries");
        assert_eq!((keys[1], values), (kv_heads * head_dim, keys), "shape of the cache");
        assert!(
            start + query[0] <= keys[0],
            "rows {start}+{} exceed a cache of {} positions",
            query[0],
            keys[0]
        );
        assert!(window != Some(0), "a window of no positions");
    }
}

/// `x @ weight^T + bias`.
///
/// # Shapes
///
/// `x` `[m, k]` f32, `weight` `[n, k]` f32 or f16, `bias` `[n]` f32 -> `[m, n]` f32.
///
/// # Panics
///
/// If the shapes disagree.
pub fn linear(x: Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> Tensor<2> {
    assert_eq!(x.dims()[1], weight.dims()[1], "columns of x and of the weight");
    assert!(bias.is_none_or(|b| b.dims()[0] == weight.dims()[0]), "length of the bias");
    #[cfg(feature = "cpu")]
    if is_cpu(&x.device()) {
        return cpu::ops::linear(x, weight, bias);
    }
    #[cfg(feature = "gpu")]
    if is_gpu(&x.device()) {
        return gpu::linear(x, weight, bias);
    }
    portable::linear(x, weight, bias)
}

/// Root mean square normalisation of every row: `x / sqrt(mean(x^2) + epsilon) * weight`.
///
/// # Shapes
///
/// `x` `[m, k]` f32, `weight` `[k]` f32 -> `[m, k]`.
///
/// # Panics
///
/// If the shapes disagree.
///
/// Source: Zhang, Sennrich, "Root Mean Square Layer Normalization", 2019.
pub fn rms_norm(x: Tensor<2>, weight: &Tensor<1>, epsilon: f64) -> Tensor<2> {
    assert_eq!(x.dims()[1], weight.dims()[0], "length of the norm's weight");
    #[cfg(feature = "cpu")]
    if is_cpu(&x.device()) {
        return cpu::ops::rms_norm(x, weight, epsilon);
    }
    portable::rms_norm(x, weight, epsilon)
}

/// The gated activation of the feed-forward layer: `silu(gate) * up`.
///
/// # Shapes
///
/// `gate_up` `[m, 2f]`, the gate in the first half -> `[m, f]`.
///
/// # Panics
///
/// If the width is odd.
///
/// Source: Shazeer, "GLU Variants Improve Transformer", 2020.
pub fn silu_mul(gate_up: Tensor<2>) -> Tensor<2> {
    assert!(gate_up.dims()[1].is_multiple_of(2), "gate and up halves");
    #[cfg(feature = "cpu")]
    if is_cpu(&gate_up.device()) {
        return cpu::ops::silu_mul(gate_up);
    }
    portable::silu_mul(gate_up)
}

/// Rotary position embedding of every head, halves rotated against each other as in Hugging Face
/// checkpoints.
///
/// # Shapes
///
/// `x` `[m, heads * d]`, `cos` and `sin` `[m, d / 2]`, a row a position -> `[m, heads * d]`.
///
/// # Panics
///
/// If the shapes disagree.
///
/// Source: Su et al., "`RoFormer`", 2021, equation 34.
pub fn rope(x: Tensor<2>, cos: &Tensor<2>, sin: &Tensor<2>) -> Tensor<2> {
    let ([m, width], angles) = (x.dims(), cos.dims());
    assert!(
        angles == sin.dims() && angles[0] == m && width.is_multiple_of(2 * angles[1]),
        "shape of the angles"
    );
    #[cfg(feature = "cpu")]
    if is_cpu(&x.device()) {
        return cpu::ops::rope(x, cos, sin);
    }
    portable::rope(x, cos, sin)
}

/// Causal attention of grouped queries over a preallocated cache.
///
/// Query row `i` stands at position `start + i` and sees that position and those before it, at most
/// `window` of them.
///
/// # Shapes
///
/// `query` `[m, heads * d]`, `keys` and `values` `[capacity, kv_heads * d]`, of which the first
/// `start + m` rows are filled -> `[m, heads * d]`.
///
/// # Panics
///
/// If the shapes disagree.
///
/// Source: Ainslie et al., "GQA", 2023.
pub fn attention(query: Tensor<2>, keys: &Tensor<2>, values: &Tensor<2>, shape: AttentionShape) -> Tensor<2> {
    shape.check(query.dims(), keys.dims(), values.dims());
    #[cfg(feature = "cpu")]
    if is_cpu(&query.device()) {
        return cpu::ops::attention(query, keys, values, shape);
    }
    #[cfg(feature = "gpu")]
    if is_gpu(&query.device()) {
        return gpu::attention(query, keys, values, shape);
    }
    portable::attention(query, keys, values, shape)
}

/// Writes `rows` into `cache` from row `start` on, in place.
///
/// # Shapes
///
/// `cache` `[capacity, width]`, `rows` `[m, width]`.
///
/// # Panics
///
/// If the rows do not fit.
pub fn append(cache: &mut Tensor<2>, rows: Tensor<2>, start: usize) {
    let [m, _] = rows.dims();
    cache.inplace(|cache| cache.slice_assign(s![start..start + m, ..], rows));
}

#[cfg(feature = "cpu")]
fn is_cpu(device: &Device) -> bool {
    matches!(device.as_dispatch(), burn::backend::DispatchDevice::Flex(_))
}

#[cfg(feature = "gpu")]
fn is_gpu(device: &Device) -> bool {
    matches!(device.as_dispatch(), burn::backend::DispatchDevice::Cube(_))
}
