//! The operations as an extension of Burn's backends; what each means stands at the functions of the
//! crate root.

// The macros below write public items without documentation.
#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

use crate::{AttentionShape, BlockFormat};
use burn::backend::{
    Backend, ExtensionType, backend_extension,
    tensor::{FloatTensor, IntTensor},
};

/// A [`crate::Weight`] on its way to a backend.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum WeightOf<B: Backend> {
    /// `[n, k]` f32 or f16.
    Dense(FloatTensor<B>),
    /// `quants` `[n, words]` u32 and `scales` `[n, blocks]`, see [`crate::Weight`].
    Blocks { quants: IntTensor<B>, scales: FloatTensor<B>, format: BlockFormat, columns: usize },
}

/// What is added to the product of a linear layer.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum Epilogue<B: Backend> {
    None,
    /// `[n]`.
    Bias(FloatTensor<B>),
    /// `[m, n]`.
    Residual(FloatTensor<B>),
    /// Bias, residual.
    Both(FloatTensor<B>, FloatTensor<B>),
}

/// Norms of single heads, `[head_dim]` each.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum HeadNormsOf<B: Backend> {
    None,
    Some { query: FloatTensor<B>, key: FloatTensor<B>, epsilon: f64 },
}

/// Which rows of a segment see which.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum AncestorsOf<B: Backend> {
    /// Every row sees those before it.
    Chain,
    /// `[m, m]`, not 0 where the row sees the column.
    Tree(IntTensor<B>),
}

/// The drafter's distributions.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum DraftOf<B: Backend> {
    /// Drafted tokens were certain.
    Point,
    /// `[m, vocabulary]` probabilities.
    Probs(FloatTensor<B>),
}

#[backend_extension(Cube: cfg(feature = "gpu"), Flex: cfg(feature = "cpu"), Fusion: cfg(feature = "fusion"))]
pub trait DecodeOps: Backend {
    #[fusion(dtype = x, shape = result::rows_by(x, result::outputs(weight)))]
    fn dh_linear(
        x: FloatTensor<Self>,
        #[extension_type] weight: WeightOf<Self>,
        #[extension_type] epilogue: Epilogue<Self>,
    ) -> FloatTensor<Self>;
    #[fusion(dtype = x, shape = result::rows_by(x, result::outputs(weight) / 2))]
    fn dh_gated_linear(x: FloatTensor<Self>, #[extension_type] weight: WeightOf<Self>) -> FloatTensor<Self>;
    #[fusion(meta = |weight, ids| result::embedded(weight, ids))]
    fn dh_embed(#[extension_type] weight: WeightOf<Self>, ids: IntTensor<Self>) -> FloatTensor<Self>;
    #[fusion(default)]
    fn dh_silu_mul(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let sigmoid = Self::sigmoid(gate.clone());
        Self::float_mul(Self::float_mul(gate, sigmoid), up)
    }
    #[fusion(dtype = x, shape = x)]
    fn dh_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self>;
    #[fusion(meta = |qkv, _, _, keys, values, shape| (result::with_columns(qkv, shape.query_width()), keys.clone(), values.clone()))]
    fn dh_rope_and_append(
        qkv: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        #[extension_type] norms: HeadNormsOf<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
    #[fusion(dtype = query, shape = query)]
    fn dh_attention(
        query: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        #[extension_type] ancestors: AncestorsOf<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self>;
    #[fusion(dtype = logits, shape = result::rows_by(logits, crate::RowStatistics::WIDTH))]
    fn dh_verify(
        logits: FloatTensor<Self>,
        drafted: IntTensor<Self>,
        noise: FloatTensor<Self>,
        #[extension_type] draft: DraftOf<Self>,
        temperature: f64,
    ) -> FloatTensor<Self>;
}

/// Shapes of results, which a lazy backend wants to know before it computes them.
#[cfg(feature = "fusion")]
mod result {
    use super::WeightOfMetadata;
    use burn::{
        backend::fusion::custom::TensorSpec,
        tensor::{DType, Shape},
    };

    /// Rows of the weight.
    pub(super) fn outputs(weight: &WeightOfMetadata) -> usize {
        match weight {
            WeightOfMetadata::Dense(tensor) => tensor.shape[0],
            WeightOfMetadata::Blocks { quants, .. } => quants.shape[0],
        }
    }

    /// As many rows as `like`, of `columns` values.
    pub(super) fn rows_by(like: &Shape, columns: usize) -> Shape {
        Shape::new([like[0], columns])
    }

    /// The same with `columns` values in a row.
    pub(super) fn with_columns(like: &TensorSpec, columns: usize) -> TensorSpec {
        TensorSpec::new(rows_by(&like.shape, columns), like.dtype)
    }

    /// Rows of a weight, widened.
    pub(super) fn embedded(weight: &WeightOfMetadata, ids: &TensorSpec) -> TensorSpec {
        let columns = match weight {
            WeightOfMetadata::Dense(tensor) => tensor.shape[1],
            WeightOfMetadata::Blocks { columns, .. } => *columns,
        };
        TensorSpec::new(Shape::new([ids.shape[0], columns]), DType::F32)
    }
}
