//! Linear layers.
//!
//! With few rows the weights come from memory once and meet every row while they are at hand: time is that
//! of reading them. With many rows a few weight rows are widened and stay in the nearest cache while all
//! rows pass by: time is that of the multiply-adds.

mod few;
mod many;

pub(super) use few::few_rows_of;
pub(super) use many::many_rows_of;

use super::{
    out::Out,
    simd::{Simd, simd_dispatch},
    stored::{Matrix, with_rows},
    team,
};
use many::widen;
use std::cell::RefCell;

/// Bytes of weights a thread takes at a time when they come from memory: enough for a steady stream.
const STREAM: usize = 1 << 20;

/// Up to this many rows weights are used as they come.
const FEW: usize = 16;

/// Weight rows a thread takes at a time when there are many rows; a whole number of tiles.
const SHARE: usize = 24;

/// What is multiplied: `x` `[m, k]` and a weight `[n, k]`; what is added.
#[derive(Clone, Copy)]
pub(super) struct Factors<'a> {
    pub(super) x: &'a [f32],
    /// Values between the beginnings of two rows of `x`.
    pub(super) stride: usize,
    pub(super) weight: Matrix<'a>,
    pub(super) m: usize,
    pub(super) k: usize,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) residual: Option<&'a [f32]>,
}

/// `residual + x @ weight^T + bias`, `[m, n]`, into `out`.
pub(super) fn linear(factors: Factors<'_>, n: usize, out: &mut [f32]) {
    let Factors { x, stride, weight, m, k, bias, residual } = factors;
    // What the loops below rely on.
    assert!(
        x.len() == m * k && stride == k && out.len() == m * n && weight.rows(k) >= n,
        "shapes of a product"
    );
    assert!(bias.is_none_or(|bias| bias.len() == n), "length of the bias");
    assert!(residual.is_none_or(|residual| residual.len() == m * n), "shape of the residual");
    if m == 0 {
        return;
    }
    let few = m <= FEW;
    let share = if few {
        // Shares enough that a thread that was held up has less to do in the end, and a whole number of
        // tiles of any width (2, 3 and 4 rows).
        let share = (STREAM / weight.row_bytes(k).max(1)).min(n.div_ceil(3 * team::threads()));
        share.max(1).next_multiple_of(12)
    } else {
        SHARE
    };
    let out = Out::new(out, n);
    let run = |factors: Factors<'_>| {
        team::each(n.div_ceil(share), m * n * k, |unit| {
            let columns = unit * share..((unit + 1) * share).min(n);
            if few { few_rows(factors, columns, &out) } else { many_rows(factors, columns, &out) }
        });
    };
    if m == 1 { run(factors) } else { with_lines(x, k, |x, stride| run(Factors { x, stride, ..factors })) }
}

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

const LINE: usize = 16;

/// Calls `work` with the rows of `x`, of `k` values each, laid so that each begins with a cache line: a load
/// that straddles two lines costs two. With the rows, how far apart they are.
fn with_lines(x: &[f32], k: usize, work: impl FnOnce(&[f32], usize)) {
    thread_local! {
        static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    }
    let lines = k.div_ceil(LINE);
    LINES.with_borrow_mut(|buffer| {
        buffer.clear();
        buffer.resize(x.len() / k.max(1) * lines, Line([0.0; LINE]));
        for (row, lines) in x.chunks_exact(k.max(1)).zip(buffer.chunks_exact_mut(lines.max(1))) {
            for (line, values) in lines.iter_mut().zip(row.chunks(LINE)) {
                line.0[..values.len()].copy_from_slice(values);
            }
        }
        // SAFETY: a line is 16 values one behind the other, with nothing between.
        let values =
            unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<f32>(), buffer.len() * LINE) };
        work(values, lines * LINE);
    });
}

simd_dispatch! {
    /// Some columns of the result, for few rows.
    fn few_rows(factors: Factors<'_>, columns: std::ops::Range<usize>, out: &Out<'_>) = few_rows_of
}

simd_dispatch! {
    /// Some columns of the result, for many rows.
    fn many_rows(factors: Factors<'_>, columns: std::ops::Range<usize>, out: &Out<'_>) = many_rows_of
}

/// Where a tile stands in the result.
#[derive(Clone, Copy)]
struct At {
    row: usize,
    column: usize,
}

/// Adds what is to be added to `C` columns of `R` rows.
#[inline(always)]
fn finish<const C: usize, const R: usize>(factors: Factors<'_>, at: At, out: &Out<'_>) {
    if factors.bias.is_none() && factors.residual.is_none() {
        return;
    }
    let columns = at.column..at.column + C;
    for row in at.row..at.row + R {
        // SAFETY: this thread alone has these columns.
        let values = unsafe { out.part(row, columns.clone()) };
        if let Some(bias) = factors.bias {
            for (value, bias) in values.iter_mut().zip(&bias[columns.clone()]) {
                *value += bias;
            }
        }
        if let Some(residual) = factors.residual {
            let residual = &residual[row * out.width() + columns.start..][..C];
            for (value, residual) in values.iter_mut().zip(residual) {
                *value += residual;
            }
        }
    }
}

simd_dispatch! {
    /// Row `index` of a matrix as numbers, as many as `out` has room for.
    pub(super) fn widen_row(matrix: Matrix<'_>, index: usize, out: &mut [f32]) = widen_row_of
}

#[inline(always)]
fn widen_row_of<S: Simd>(simd: S, matrix: Matrix<'_>, index: usize, out: &mut [f32]) {
    with_rows!(matrix, rows => widen(simd, rows, index, out));
}
