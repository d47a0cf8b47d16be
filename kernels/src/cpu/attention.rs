//! Attention over the cache, one head of one row at a time.

use super::{
    parallel,
    simd::{Simd, dot, exp, simd_dispatch},
};
use crate::AttentionShape;

/// `query` `[m, heads * d]` against the first rows of `keys` and `values` `[capacity, kv_heads * d]`.
pub(crate) fn attention(query: &[f32], keys: &[f32], values: &[f32], shape: AttentionShape) -> Vec<f32> {
    let mut out = vec![0.0; query.len()];
    let rows = query.len() / (shape.heads * shape.head_dim);
    let cost = 2 * query.len() * (shape.start + rows);
    parallel::split(&mut out, shape.head_dim, cost, |first, out| {
        heads(query, keys, values, shape, first, out);
    });
    out
}

simd_dispatch! {
    /// The results of heads `first..`, counted through all rows, as many as `out` has room for.
    fn heads(query: &[f32], keys: &[f32], values: &[f32], shape: AttentionShape, first: usize, out: &mut [f32]) = heads_of
}

#[inline(always)]
pub(super) fn heads_of<S: Simd>(
    simd: S,
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    shape: AttentionShape,
    first: usize,
    out: &mut [f32],
) {
    let d = shape.head_dim;
    let mut scores = Vec::new();
    for (index, out) in out.chunks_exact_mut(d).enumerate() {
        let index = first + index;
        let (row, head) = (index / shape.heads, index % shape.heads);
        let offset = head / (shape.heads / shape.kv_heads) * d;
        let visible = shape.visible(shape.start + row);
        let at = |position: usize| position * shape.kv_heads * d + offset;
        let query = &query[index * d..(index + 1) * d];
        scores.clear();
        let row = |position: usize| &keys[at(position)..at(position) + d];
        let mut position = visible.start;
        while position + 4 <= visible.end {
            let four = [row(position), row(position + 1), row(position + 2), row(position + 3)];
            for [score] in dot(simd, four, [query]) {
                scores.push(score);
            }
            position += 4;
        }
        while position < visible.end {
            scores.push(dot(simd, [row(position)], [query])[0][0]);
            position += 1;
        }
        softmax(simd, &mut scores, 1.0 / (d as f32).sqrt());
        let stride = shape.kv_heads * d;
        weigh(simd, &scores, &values[at(visible.start)..], stride, out);
    }
}

/// The sum of rows of `values`, `stride` apart and as long as `out`, each times its weight.
#[inline(always)]
fn weigh<S: Simd>(simd: S, weights: &[f32], values: &[f32], stride: usize, out: &mut [f32]) {
    let mut first = 0;
    while first < out.len() {
        let rest = out.len() - first;
        let (values, out) = (&values[first..], &mut out[first..]);
        if rest >= 4 * S::LANES {
            weigh_vectors::<S, 4>(simd, weights, values, stride, out);
            first += 4 * S::LANES;
        } else if rest >= 2 * S::LANES {
            weigh_vectors::<S, 2>(simd, weights, values, stride, out);
            first += 2 * S::LANES;
        } else if rest >= S::LANES {
            weigh_vectors::<S, 1>(simd, weights, values, stride, out);
            first += S::LANES;
        } else {
            out[0] = 0.0;
            for (row, &weight) in weights.iter().enumerate() {
                out[0] = simd.scalar(weight, values[row * stride], out[0]);
            }
            first += 1;
        }
    }
}

/// The same for the first `V` vectors of a row, in registers; even and odd rows apart, so that one sum need
/// not wait for the other.
#[inline(always)]
fn weigh_vectors<S: Simd, const V: usize>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    stride: usize,
    out: &mut [f32],
) {
    let (mut even, mut odd) = ([simd.zero(); V], [simd.zero(); V]);
    let mut at = 0;
    for pair in weights.chunks(2) {
        let weight = simd.splat(pair[0]);
        for v in 0..V {
            even[v] = simd.multiply_add(weight, simd.load(&values[at + v * S::LANES..]), even[v]);
        }
        at += stride;
        if pair.len() == 2 {
            let weight = simd.splat(pair[1]);
            for v in 0..V {
                odd[v] = simd.multiply_add(weight, simd.load(&values[at + v * S::LANES..]), odd[v]);
            }
            at += stride;
        }
    }
    let one = simd.splat(1.0);
    for v in 0..V {
        let lanes = simd.lanes(simd.multiply_add(even[v], one, odd[v]));
        out[v * S::LANES..][..S::LANES].copy_from_slice(&lanes[..S::LANES]);
    }
}

#[inline(always)]
fn softmax<S: Simd>(simd: S, scores: &mut [f32], scale: f32) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = exp(simd, (*score - max) * scale);
    }
    // In order of position: the sum of a row depends on that row alone.
    let sum: f32 = scores.iter().sum();
    let inverse = 1.0 / sum;
    for score in scores.iter_mut() {
        *score *= inverse;
    }
}
