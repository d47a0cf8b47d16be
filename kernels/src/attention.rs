//! Attention over a preallocated cache.

use crate::{
    backend::{AncestorsOf, DecodeOps, HeadNormsOf},
    is_ours, portable,
};
use burn::{
    backend::Dispatch,
    tensor::{Int, Tensor, s},
};

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
    /// Row of the cache that belongs to the first query row, which is also the number of tokens before it.
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

    /// Width of a query row.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of a row of the cache.
    pub(crate) fn cache_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    fn check(&self, rows: usize, keys: [usize; 2], values: [usize; 2]) {
        let Self { heads, kv_heads, start, window, .. } = *self;
        assert!(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "{heads} query heads on {kv_heads} key heads"
        );
        assert_eq!((keys[1], values), (self.cache_width(), keys), "shape of the cache");
        assert!(start + rows <= keys[0], "rows {start}+{rows} exceed a cache of {} positions", keys[0]);
        assert!(window != Some(0), "a window of no positions");
    }
}

/// Norms of single query heads and key heads, before they are rotated (Qwen3).
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct HeadNorms<'a> {
    /// `[head_dim]`.
    pub query: &'a Tensor<1>,
    /// `[head_dim]`.
    pub key: &'a Tensor<1>,
    /// Added to the mean square.
    pub epsilon: f64,
}

/// Rotates queries and keys by their positions, halves of a head against each other as in Hugging Face
/// checkpoints, and writes keys and values into the cache from row `shape.start` on: one pass over what
/// the joined projection gave.
///
/// The cache is taken and given back: where nobody else holds it, it is written in place.
///
/// # Shapes
///
/// `qkv` `[m, (heads + 2 kv_heads) * d]` f32, queries first; `angles` `[m, d]`, cosines in the first half
/// and sines in the second, a row a position; `cache` keys and values `[capacity, kv_heads * d]` f32 or f16
/// -> rotated queries `[m, heads * d]`, and the cache.
///
/// # Panics
///
/// If the shapes disagree or the rows do not fit.
///
/// Source: Su et al., "`RoFormer`", 2021, equation 34.
pub fn rope_and_append(
    qkv: Tensor<2>,
    angles: &Tensor<2>,
    norms: Option<HeadNorms<'_>>,
    cache: (Tensor<2>, Tensor<2>),
    shape: AttentionShape,
) -> (Tensor<2>, (Tensor<2>, Tensor<2>)) {
    let ([m, width], (keys, values)) = (qkv.dims(), cache);
    shape.check(m, keys.dims(), values.dims());
    assert_eq!(width, shape.query_width() + 2 * shape.cache_width(), "width of queries, keys and values");
    assert_eq!(angles.dims(), [m, shape.head_dim], "shape of the angles");
    assert!(shape.head_dim.is_multiple_of(2), "an odd head length");
    if !is_ours(&qkv.device()) {
        return portable::rope_and_append(qkv, angles, norms, (keys, values), shape);
    }
    let norms = norms.map_or(HeadNormsOf::None, |norms| HeadNormsOf::Some {
        query: norms.query.clone().into_dispatch(),
        key: norms.key.clone().into_dispatch(),
        epsilon: norms.epsilon,
    });
    let (query, keys, values) = Dispatch::dh_rope_and_append(
        qkv.into_dispatch(),
        angles.clone().into_dispatch(),
        norms,
        keys.into_dispatch(),
        values.into_dispatch(),
        shape,
    );
    (Tensor::from_dispatch(query), (Tensor::from_dispatch(keys), Tensor::from_dispatch(values)))
}

/// Causal attention of grouped queries over a preallocated cache.
///
/// Query row `i` belongs to row `start + i` of the cache. Without `ancestors` it sees that position and
/// those before it. With them it sees every position before `start`, and of the segment's own rows those
/// whose column is not 0 in its row of `ancestors`, itself among them: a tree of drafts. Its position is
/// then `start` plus the number of rows of the segment it sees, less one. With a window it sees none
/// `window` or more positions before its own.
///
/// # Shapes
///
/// `query` `[m, heads * d]` f32, `keys` and `values` `[capacity, kv_heads * d]` f32 or f16, of which the
/// first `start + m` rows are filled, `ancestors` `[m, m]` -> `[m, heads * d]` f32.
///
/// # Panics
///
/// If the shapes disagree.
///
/// Source: Ainslie et al., "GQA", 2023; the mask: Miao et al., "`SpecInfer`", 2024, section 4.2.
pub fn attention(
    query: Tensor<2>,
    keys: &Tensor<2>,
    values: &Tensor<2>,
    ancestors: Option<&Tensor<2, Int>>,
    shape: AttentionShape,
) -> Tensor<2> {
    let [m, width] = query.dims();
    shape.check(m, keys.dims(), values.dims());
    assert_eq!(width, shape.query_width(), "width of the queries");
    assert!(ancestors.is_none_or(|tree| tree.dims() == [m, m]), "shape of the ancestors");
    if !is_ours(&query.device()) {
        return portable::attention(query, keys, values, ancestors, shape);
    }
    let ancestors =
        ancestors.map_or(AncestorsOf::Chain, |tree| AncestorsOf::Tree(tree.clone().into_dispatch()));
    let (keys, values) = (keys.clone().into_dispatch(), values.clone().into_dispatch());
    Tensor::from_dispatch(Dispatch::dh_attention(query.into_dispatch(), keys, values, ancestors, shape))
}

/// Writes `rows` into `cache` from row `start` on, in place where nobody else holds the cache.
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
    let rows = rows.cast(cache.dtype());
    cache.inplace(|cache| cache.slice_assign(s![start..start + m, ..], rows));
}
