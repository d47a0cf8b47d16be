//! Linear layers: every weight is read once for up to [`TILE`] rows.

use super::{
    parallel,
    simd::{Arithmetic, dot, simd_dispatch},
};
use half::{f16, slice::HalfFloatSliceExt};

/// Rows of `x` that share one read of a weight row.
const TILE: usize = 4;

/// A weight matrix `[n, k]`.
#[derive(Clone, Copy)]
pub(crate) enum Weight<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

/// `x @ weight^T + bias`, `x` `[m, k]` -> `[m, n]`.
pub(crate) fn linear(x: &[f32], weight: Weight<'_>, bias: Option<&[f32]>, [m, k, n]: [usize; 3]) -> Vec<f32> {
    // Column by column, so that threads own runs of the result; turned round at the end.
    let mut columns = vec![0.0; m * n];
    parallel::split(&mut columns, m, m * n * k, |first, out| block(x, weight, bias, k, first, out, m));
    if m == 1 { columns } else { transpose(&columns, n, m) }
}

simd_dispatch! {
    /// Columns `first..` of the result, as many as `out` has room for, each of `m` values.
    fn block(x: &[f32], weight: Weight<'_>, bias: Option<&[f32]>, k: usize, first: usize, out: &mut [f32], m: usize) = block_of
}

#[inline(always)]
fn block_of<A: Arithmetic, const L: usize>(
    x: &[f32],
    weight: Weight<'_>,
    bias: Option<&[f32]>,
    k: usize,
    first: usize,
    out: &mut [f32],
    m: usize,
) {
    let mut widened = vec![0.0; if matches!(weight, Weight::F16(_)) { 2 * k } else { 0 }];
    for (pair, out) in out.chunks_mut(2 * m).enumerate() {
        let column = first + 2 * pair;
        let count = out.len() / m;
        let at = column * k..(column + count) * k;
        let rows = match weight {
            Weight::F32(weight) => &weight[at],
            Weight::F16(weight) => {
                weight[at].convert_to_f32_slice(&mut widened[..count * k]);
                &widened[..count * k]
            }
        };
        let (one, two) = out.split_at_mut(m);
        if count == 2 {
            let (w1, w2) = rows.split_at(k);
            column_tiles::<A, L, 2>([w1, w2], x, k, [one, two]);
        } else {
            column_tiles::<A, L, 1>([rows], x, k, [one]);
        }
        if let Some(bias) = bias {
            for (values, bias) in out.chunks_mut(m).zip(&bias[column..]) {
                values.iter_mut().for_each(|value| *value += bias);
            }
        }
    }
}

/// The products of `C` weight rows with all rows of `x`.
#[inline(always)]
fn column_tiles<A: Arithmetic, const L: usize, const C: usize>(
    weights: [&[f32]; C],
    x: &[f32],
    k: usize,
    mut out: [&mut [f32]; C],
) {
    let m = out[0].len();
    let row = |r: usize| &x[r * k..(r + 1) * k];
    let mut r = 0;
    while r + TILE <= m {
        let tile = dot::<A, L, C, TILE>(weights, std::array::from_fn(|i| row(r + i)));
        for (out, tile) in out.iter_mut().zip(tile) {
            out[r..r + TILE].copy_from_slice(&tile);
        }
        r += TILE;
    }
    while r < m {
        let tile = dot::<A, L, C, 1>(weights, [row(r)]);
        for (out, tile) in out.iter_mut().zip(tile) {
            out[r] = tile[0];
        }
        r += 1;
    }
}

fn transpose(columns: &[f32], n: usize, m: usize) -> Vec<f32> {
    let mut rows = vec![0.0; m * n];
    for (r, row) in rows.chunks_exact_mut(n).enumerate() {
        for (value, column) in row.iter_mut().zip(columns.chunks_exact(m)) {
            *value = column[r];
        }
    }
    rows
}
