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
pub enum WeightOf<B: Backend> {
    /// `[n, k]` f32 or f16.
    Dense(FloatTensor<B>),
    /// `quants` `[n, words]` u32 and `scales` `[n, blocks]`, see [`crate::Weight`].
    Blocks { quants: IntTensor<B>, scales: FloatTensor<B>, format: BlockFormat, columns: usize },
}

/// What is added to the product of a linear layer.
#[derive(ExtensionType)]
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
pub enum HeadNormsOf<B: Backend> {
    None,
    Some { query: FloatTensor<B>, key: FloatTensor<B>, epsilon: f64 },
}

/// Which rows of a segment see which.
#[derive(ExtensionType)]
pub enum AncestorsOf<B: Backend> {
    /// Every row sees those before it.
    Chain,
    /// `[m, m]`, not 0 where the row sees the column.
    Tree(IntTensor<B>),
}

/// The drafter's distributions.
#[derive(ExtensionType)]
pub enum DraftOf<B: Backend> {
    /// Drafted tokens were certain.
    Point,
    /// `[m, vocabulary]` probabilities.
    Probs(FloatTensor<B>),
}

#[backend_extension(Cube: cfg(feature = "gpu"), Flex: cfg(feature = "cpu"))]
pub trait DecodeOps: Backend {
    fn dh_linear(
        x: FloatTensor<Self>,
        #[extension_type] weight: WeightOf<Self>,
        #[extension_type] epilogue: Epilogue<Self>,
    ) -> FloatTensor<Self>;
    fn dh_gated_linear(x: FloatTensor<Self>, #[extension_type] weight: WeightOf<Self>) -> FloatTensor<Self>;
    fn dh_embed(#[extension_type] weight: WeightOf<Self>, ids: IntTensor<Self>) -> FloatTensor<Self>;
    fn dh_silu_mul(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let sigmoid = Self::sigmoid(gate.clone());
        Self::float_mul(Self::float_mul(gate, sigmoid), up)
    }
    fn dh_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self>;
    fn dh_rope_and_append(
        qkv: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        #[extension_type] norms: HeadNormsOf<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
    fn dh_attention(
        query: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        #[extension_type] ancestors: AncestorsOf<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self>;
    fn dh_verify(
        logits: FloatTensor<Self>,
        drafted: IntTensor<Self>,
        noise: FloatTensor<Self>,
        #[extension_type] draft: DraftOf<Self>,
        temperature: f64,
    ) -> FloatTensor<Self>;
}
