//! Linear layers: every weight is read from memory once, for up to eight rows from registers and for
//! more from the nearest cache.

use super::{
    parallel,
    simd::{Simd, Stored, dot, simd_dispatch},
};
use half::f16;

/// Weight rows multiplied at a time.
const COLUMNS: usize = 4;

/// A weight matrix `[n, k]`.
#[derive(Clone, Copy)]
pub(crate) enum Weight<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

/// What is multiplied: `x` `[m, k]` and a weight `[n, k]`.
#[derive(Clone, Copy)]
pub(crate) struct Factors<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: Weight<'a>,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) m: usize,
    pub(crate) k: usize,
}

/// `x @ weight^T + bias`, `[m, n]`.
pub(crate) fn linear(factors: Factors<'_>, n: usize) -> Vec<f32> {
    let m = factors.m;
    // Column by column, so that threads own runs of the result; turned round at the end.
    let mut columns = vec![0.0; m * n];
    parallel::split(&mut columns, m, m * n * factors.k, |first, out| block(factors, first, out));
    if m == 1 { columns } else { transpose(&columns, n, m) }
}

simd_dispatch! {
    /// Columns `first..` of the result, as many as `out` has room for, each of `m` values.
    fn block(factors: Factors<'_>, first: usize, out: &mut [f32]) = block_of
}

#[inline(always)]
pub(super) fn block_of<S: Simd>(simd: S, factors: Factors<'_>, first: usize, out: &mut [f32]) {
    match factors.weight {
        Weight::F32(weight) => block_rows(simd, factors, weight, first, out),
        Weight::F16(weight) => block_rows(simd, factors, weight, first, out),
    }
}

#[inline(always)]
fn block_rows<S: Simd, W: Stored>(
    simd: S,
    factors: Factors<'_>,
    weight: &[W],
    first: usize,
    out: &mut [f32],
) {
    let Factors { x, bias, m, k, .. } = factors;
    for (index, out) in out.chunks_mut(COLUMNS * m).enumerate() {
        let column = first + COLUMNS * index;
        let count = out.len() / m;
        let weights = &weight[column * k..(column + count) * k];
        if count == COLUMNS {
            tiles::<S, W, COLUMNS>(simd, Tile { weights, x, k, first: 0 }, out);
        } else {
            for (weights, out) in weights.chunks_exact(k).zip(out.chunks_mut(m)) {
                tiles::<S, W, 1>(simd, Tile { weights, x, k, first: 0 }, out);
            }
        }
        if let Some(bias) = bias {
            for (values, bias) in out.chunks_mut(m).zip(&bias[column..]) {
                for value in values {
                    *value += bias;
                }
            }
        }
    }
}

/// Weight rows, and the rows of `x` from `first` on.
#[derive(Clone, Copy)]
struct Tile<'a, W> {
    weights: &'a [W],
    x: &'a [f32],
    k: usize,
    first: usize,
}

/// The products of `C` weight rows with all rows of `x`, `[C, m]`.
#[inline(always)]
fn tiles<S: Simd, W: Stored, const C: usize>(simd: S, mut of: Tile<'_, W>, out: &mut [f32]) {
    let m = out.len() / C;
    // As many rows at a time as there are registers for their sums.
    let most = if S::LANES == 16 { 8 } else { 4 };
    while of.first < m {
        let rows = most.min(m - of.first);
        match rows {
            1 => tile::<S, W, C, 1>(simd, of, out),
            2 => tile::<S, W, C, 2>(simd, of, out),
            3 => tile::<S, W, C, 3>(simd, of, out),
            4 => tile::<S, W, C, 4>(simd, of, out),
            5 => tile::<S, W, C, 5>(simd, of, out),
            6 => tile::<S, W, C, 6>(simd, of, out),
            _ => wide::<S, W, C>(simd, of, out, rows),
        }
        of.first += rows;
    }
}

/// Seven or eight rows: two weight rows at a time.
#[inline(always)]
fn wide<S: Simd, W: Stored, const C: usize>(simd: S, of: Tile<'_, W>, out: &mut [f32], rows: usize) {
    let (m, k, width) = (out.len() / C, of.k, C.min(2));
    for c in (0..C).step_by(width) {
        let of = Tile { weights: &of.weights[c * k..(c + width) * k], ..of };
        let out = &mut out[c * m..(c + width) * m];
        match (width, rows) {
            (2, 7) => tile::<S, W, 2, 7>(simd, of, out),
            (2, _) => tile::<S, W, 2, 8>(simd, of, out),
            (_, 7) => tile::<S, W, 1, 7>(simd, of, out),
            _ => tile::<S, W, 1, 8>(simd, of, out),
        }
    }
}

#[inline(always)]
fn tile<S: Simd, W: Stored, const C: usize, const R: usize>(simd: S, of: Tile<'_, W>, out: &mut [f32]) {
    let Tile { weights, x, k, first } = of;
    let m = out.len() / C;
    let columns: [&[W]; C] = std::array::from_fn(|c| &weights[c * k..(c + 1) * k]);
    let rows: [&[f32]; R] = std::array::from_fn(|r| &x[(first + r) * k..(first + r + 1) * k]);
    for (c, values) in dot(simd, columns, rows).iter().enumerate() {
        out[c * m + first..][..R].copy_from_slice(values);
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
