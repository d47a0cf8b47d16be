//! Linear layers.
//!
//! With few rows the weights come from memory once and meet every row while they are at hand: time is that
//! of reading them. With many rows a few weight rows are widened and stay in the nearest cache while all
//! rows pass by: time is that of the multiply-adds.

use super::{
    out::Out,
    simd::{Simd, simd_dispatch},
    stored::{Full, Matrix, Rows, Stored, with_rows},
    team,
    tile::dot,
};
use std::cell::RefCell;

/// Bytes of weights a thread takes at a time when they come from memory: enough for a steady stream.
const STREAM: usize = 1 << 20;

/// Up to this many rows weights are used as they come.
const FEW: usize = 16;

/// Weight rows a thread takes at a time when there are many rows; a multiple of [`TALL`] and [`SHORT`].
const SHARE: usize = 24;

/// Bytes of rows that pass by at a time: so that they come from the second cache.
const PASSING: usize = 1 << 19;

/// Weight rows and rows of `x` of a tile of the product of many rows: their sums fill 24 of 32 registers.
const TALL: usize = 6;
/// See [`TALL`].
const WIDE: usize = 4;
/// Weight rows of such a tile where there are 16 registers.
const SHORT: usize = 3;

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

#[inline(always)]
pub(super) fn few_rows_of<S: Simd>(
    simd: S,
    factors: Factors<'_>,
    columns: std::ops::Range<usize>,
    out: &Out<'_>,
) {
    with_rows!(factors.weight, rows => few(simd, factors, rows, columns, out));
}

/// A tile of weight rows meets all rows of `x`, in passes of as equal a size as can be, before the next
/// comes: as many weight rows as leave registers for the sums of a pass.
#[inline(always)]
fn few<S: Simd, W: Rows>(
    simd: S,
    factors: Factors<'_>,
    weight: W,
    columns: std::ops::Range<usize>,
    out: &Out<'_>,
) {
    let most = match (S::MANY_REGISTERS, W::Form::PADDED) {
        (true, false) => 6,
        (true, true) => 8,
        (false, _) => 4,
    };
    let passes = factors.m.div_ceil(most);
    let count = factors.m.div_ceil(passes);
    let shape = Shape::of::<S, W>(count, factors.k);
    let width = shape.width();
    let mut column = columns.start;
    while column + width <= columns.end {
        let (mut row, mut left) = (0, passes);
        while left > 0 {
            let count = (factors.m - row).div_ceil(left);
            let at = At { row, column };
            match shape {
                Shape::Stream => tile::<S, W, 2, 1>(simd, factors, weight, at, out),
                Shape::Wide => wide::<S, W>(simd, factors, weight, at, count, out),
                Shape::Tall => tall::<S, W>(simd, factors, weight, at, count, out),
                Shape::Narrow => narrow::<S, W>(simd, factors, weight, at, count, out),
                Shape::Small => small::<S, W>(simd, factors, weight, at, count, out),
            }
            row += count;
            left -= 1;
        }
        column += width;
    }
    while column < columns.end {
        for row in 0..factors.m {
            tile::<S, W, 1, 1>(simd, factors, weight, At { row, column }, out);
        }
        column += 1;
    }
}

/// From this length on two rows are stream enough; shorter ones are over before adding up is paid for.
const LONG: usize = 512;

/// The tiles of a product of few rows.
#[derive(Clone, Copy)]
enum Shape {
    /// Two weight rows and one row: memory likes few streams.
    Stream,
    Wide,
    Tall,
    Narrow,
    Small,
}

impl Shape {
    /// For passes of `count` rows: as many sums as there are registers, less what unpacking takes.
    #[inline(always)]
    fn of<S: Simd, W: Rows>(count: usize, k: usize) -> Self {
        match count {
            1 if !W::Form::PADDED && k >= LONG => Self::Stream,
            _ if !S::MANY_REGISTERS => Self::Small,
            ..=4 => Self::Wide,
            _ if W::Form::DEAR => Self::Narrow,
            ..=6 => Self::Wide,
            _ => Self::Tall,
        }
    }

    /// Weight rows.
    #[inline(always)]
    fn width(self) -> usize {
        match self {
            Self::Stream | Self::Narrow => 2,
            Self::Tall | Self::Small => 3,
            Self::Wide => 4,
        }
    }
}

/// Four weight rows and up to six rows.
#[inline(always)]
fn wide<S: Simd, W: Rows>(simd: S, of: Factors<'_>, weight: W, at: At, count: usize, out: &Out<'_>) {
    match count {
        1 => tile::<S, W, 4, 1>(simd, of, weight, at, out),
        2 => tile::<S, W, 4, 2>(simd, of, weight, at, out),
        3 => tile::<S, W, 4, 3>(simd, of, weight, at, out),
        4 => tile::<S, W, 4, 4>(simd, of, weight, at, out),
        5 => tile::<S, W, 4, 5>(simd, of, weight, at, out),
        _ => tile::<S, W, 4, 6>(simd, of, weight, at, out),
    }
}

/// Three weight rows and six to eight rows.
#[inline(always)]
fn tall<S: Simd, W: Rows>(simd: S, of: Factors<'_>, weight: W, at: At, count: usize, out: &Out<'_>) {
    match count {
        6 => tile::<S, W, 3, 6>(simd, of, weight, at, out),
        7 => tile::<S, W, 3, 7>(simd, of, weight, at, out),
        _ => tile::<S, W, 3, 8>(simd, of, weight, at, out),
    }
}

/// Two weight rows and four to eight rows.
#[inline(always)]
fn narrow<S: Simd, W: Rows>(simd: S, of: Factors<'_>, weight: W, at: At, count: usize, out: &Out<'_>) {
    match count {
        4 => tile::<S, W, 2, 4>(simd, of, weight, at, out),
        5 => tile::<S, W, 2, 5>(simd, of, weight, at, out),
        6 => tile::<S, W, 2, 6>(simd, of, weight, at, out),
        7 => tile::<S, W, 2, 7>(simd, of, weight, at, out),
        _ => tile::<S, W, 2, 8>(simd, of, weight, at, out),
    }
}

/// Three weight rows and up to four rows, for sixteen registers.
#[inline(always)]
fn small<S: Simd, W: Rows>(simd: S, of: Factors<'_>, weight: W, at: At, count: usize, out: &Out<'_>) {
    match count {
        1 => tile::<S, W, 3, 1>(simd, of, weight, at, out),
        2 => tile::<S, W, 3, 2>(simd, of, weight, at, out),
        3 => tile::<S, W, 3, 3>(simd, of, weight, at, out),
        _ => tile::<S, W, 3, 4>(simd, of, weight, at, out),
    }
}

/// Where a tile stands in the result.
#[derive(Clone, Copy)]
struct At {
    row: usize,
    column: usize,
}

/// `C` columns of `R` rows of the result.
#[inline(always)]
fn tile<S: Simd, W: Rows, const C: usize, const R: usize>(
    simd: S,
    factors: Factors<'_>,
    weight: W,
    at: At,
    out: &Out<'_>,
) {
    let (k, x, stride) = (factors.k, factors.x, factors.stride);
    let mut stored = [weight.row(at.column, k); C];
    for c in 0..C {
        stored[c] = weight.row(at.column + c, k);
    }
    let mut rows = [x.as_ptr(); R];
    for r in 0..R {
        rows[r] = x[(at.row + r) * stride..(at.row + r) * stride + k].as_ptr();
    }
    // SAFETY: every pointer is that of a row of `k` numbers, and this thread alone has these columns.
    unsafe {
        dot::<S, W::Form, C, R, true>(
            simd,
            stored,
            rows,
            k,
            out.place(at.row..at.row + R, at.column..at.column + C),
        )
    };
    finish::<C, R>(factors, at, out);
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

#[inline(always)]
pub(super) fn many_rows_of<S: Simd>(
    simd: S,
    factors: Factors<'_>,
    columns: std::ops::Range<usize>,
    out: &Out<'_>,
) {
    with_rows!(factors.weight, rows => many(simd, factors, rows, columns, out));
}

simd_dispatch! {
    /// Row `index` of a matrix as numbers, as many as `out` has room for.
    pub(super) fn widen_row(matrix: Matrix<'_>, index: usize, out: &mut [f32]) = widen_row_of
}

#[inline(always)]
fn widen_row_of<S: Simd>(simd: S, matrix: Matrix<'_>, index: usize, out: &mut [f32]) {
    with_rows!(matrix, rows => widen(simd, rows, index, out));
}

/// Row `index` as numbers.
#[inline(always)]
fn widen<S: Simd, W: Rows>(simd: S, rows: W, index: usize, out: &mut [f32]) {
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
            let weight = match weight.full(column..column + count, k) {
                Some(weight) => weight,
                None => {
                    for (c, out) in widened.chunks_exact_mut(k.max(1)).take(count).enumerate() {
                        widen(simd, weight, column + c, out);
                    }
                    &widened
                }
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
        )
    };
    finish::<C, R>(factors, at, out);
}
