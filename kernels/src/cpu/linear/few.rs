//! Few rows: weights are used as they come from memory.

use super::{
    super::{
        out::Out,
        simd::Simd,
        stored::{Rows, Stored, with_rows},
        tile::dot,
    },
    At, Factors, finish,
};

#[inline(always)]
pub(in super::super) fn few_rows_of<S: Simd>(
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
        if count == 1 && !W::Form::PADDED && k >= LONG {
            Self::Stream
        } else if !S::MANY_REGISTERS {
            Self::Small
        } else if count <= if W::Form::DEAR { 4 } else { 6 } {
            Self::Wide
        } else if W::Form::DEAR {
            Self::Narrow
        } else {
            Self::Tall
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
        );
    }
    finish::<C, R>(factors, at, out);
}
