//! Many rows: widened weights stay at hand while the rows pass by.

use super::{
    super::{
        out::Out,
        simd::Simd,
        stored::{Full, Rows, Stored, with_rows},
        tile::dot,
    },
    At, Factors, finish,
};

/// Bytes of rows that pass by at a time: so that they come from the second cache.
const PASSING: usize = 1 << 19;

/// Weight rows and rows of `x` of a tile of the product of many rows: their sums fill 24 of 32 registers.
const TALL: usize = 6;
/// See [`TALL`].
const WIDE: usize = 4;
/// Weight rows of such a tile where there are 16 registers.
const SHORT: usize = 3;

#[inline(always)]
pub(in super::super) fn many_rows_of<S: Simd>(
    simd: S,
    factors: Factors<'_>,
    columns: std::ops::Range<usize>,
    out: &Out<'_>,
) {
    with_rows!(factors.weight, rows => many(simd, factors, rows, columns, out));
}

/// Row `index` as numbers.
#[inline(always)]
pub(super) fn widen<S: Simd, W: Rows>(simd: S, rows: W, index: usize, out: &mut [f32]) {
    let k = out.len();
    let row = rows.row(index, k);
    let blocks = k / crate::BLOCK;
    for b in 0..blocks {
        let mut v = 0;
        while v < crate::BLOCK / S::LANES {
            // SAFETY: block `b` lies in the row of `k` numbers and in `out`, which is as long.
            unsafe {
                let vector = W::Form::vector(simd, row, b, v);
                simd.store(vector, out.as_mut_ptr().add(b * crate::BLOCK + v * S::LANES));
            }
            v += 1;
        }
    }
    for (i, out) in out.iter_mut().enumerate().skip(blocks * crate::BLOCK) {
        // SAFETY: the row has `k` numbers.
        *out = unsafe { W::Form::element(row, i) };
    }
}

/// A tile of weight rows, widened, meets the rows of `x` that the second cache holds, and then the next
/// tile does.
#[inline(always)]
fn many<S: Simd, W: Rows>(
    simd: S,
    factors: Factors<'_>,
    weight: W,
    columns: std::ops::Range<usize>,
    out: &Out<'_>,
) {
    let (m, k) = (factors.m, factors.k);
    let tall = if S::MANY_REGISTERS { TALL } else { SHORT };
    let passing = (PASSING / (4 * k).max(1)).next_multiple_of(WIDE);
    let mut widened = vec![0.0; tall * k];
    for first in (0..m).step_by(passing) {
        let rows = first..(first + passing).min(m);
        let mut column = columns.start;
        while column < columns.end {
            let count = tall.min(columns.end - column);
            let weight = if let Some(weight) = weight.full(column..column + count, k) {
                weight
            } else {
                for (c, out) in widened.chunks_exact_mut(k.max(1)).take(count).enumerate() {
                    widen(simd, weight, column + c, out);
                }
                &widened
            };
            if count < tall {
                for c in 0..count {
                    let strip = Strip { weight: &weight[c * k..], column: column + c };
                    strips::<S, 1>(simd, factors, strip, rows.clone(), out);
                }
            } else if S::MANY_REGISTERS {
                strips::<S, TALL>(simd, factors, Strip { weight, column }, rows.clone(), out);
            } else {
                strips::<S, SHORT>(simd, factors, Strip { weight, column }, rows.clone(), out);
            }
            column += count;
        }
    }
}

/// Widened weight rows, and the column of the result that the first of them gives.
#[derive(Clone, Copy)]
struct Strip<'a> {
    weight: &'a [f32],
    column: usize,
}

/// `C` columns of some rows of the result.
#[inline(always)]
fn strips<S: Simd, const C: usize>(
    simd: S,
    factors: Factors<'_>,
    strip: Strip<'_>,
    rows: std::ops::Range<usize>,
    out: &Out<'_>,
) {
    let mut row = rows.start;
    while row < rows.end {
        let at = At { row, column: strip.column };
        match rows.end - row {
            1 => near::<S, C, 1>(simd, factors, strip.weight, at, out),
            2 => near::<S, C, 2>(simd, factors, strip.weight, at, out),
            3 => near::<S, C, 3>(simd, factors, strip.weight, at, out),
            _ => near::<S, C, WIDE>(simd, factors, strip.weight, at, out),
        }
        row += WIDE;
    }
}

/// `C` columns of `R` rows from the first `C` rows of `weight`.
#[inline(always)]
fn near<S: Simd, const C: usize, const R: usize>(
    simd: S,
    factors: Factors<'_>,
    weight: &[f32],
    at: At,
    out: &Out<'_>,
) {
    let k = factors.k;
    let weight = &weight[..C * k];
    let mut stored = [weight.as_ptr(); C];
    for c in 0..C {
        stored[c] = weight[c * k..].as_ptr();
    }
    let mut rows = [factors.x.as_ptr(); R];
    for r in 0..R {
        rows[r] = factors.x[(at.row + r) * factors.stride..][..k].as_ptr();
    }
    // SAFETY: every pointer is that of a row of `k` numbers, and this thread alone has these columns.
    unsafe {
        dot::<S, Full, C, R, false>(
            simd,
            stored,
            rows,
            k,
            out.place(at.row..at.row + R, at.column..at.column + C),
        );
    }
    finish::<C, R>(factors, at, out);
}
