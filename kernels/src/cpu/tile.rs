//! Dot products of a few rows with a few rows: the heart of linear layers and of attention.

use super::{
    simd::Simd,
    stored::{Full, Stored},
};
use crate::BLOCK;

/// Where the products of a tile go: the first row of them, and how far apart rows are.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) at: *mut f32,
    pub(super) stride: usize,
}

/// Dot products of `C` stored rows with `R` rows of f32, all of `k` numbers, `[R, C]`.
///
/// Lane `l` of every sum takes the elements at `l`, `l + LANES`, ... in order, whatever `C` and `R` are,
/// and the lanes are added in a fixed order; numbers beyond whole blocks have a sum of their own.
///
/// # Safety
///
/// All rows must hold `k` numbers (where blocks are stored, the last one whole), and `out` must be
/// writable, `R` rows of `C` values.
#[inline(always)]
pub(super) unsafe fn dot<S: Simd, W: Stored, const C: usize, const R: usize, const FAR: bool>(
    simd: S,
    stored: [W::Row; C],
    x: [*const f32; R],
    k: usize,
    out: Place,
) {
    // SAFETY: the caller's promise.
    unsafe {
        simd.dot_blocks::<W, C, R, FAR>(stored, x, k / BLOCK, out);
        if !k.is_multiple_of(BLOCK) {
            add_rest::<S, W, C, R>(simd, stored, x, k, out);
        }
    }
}

/// Adds the products of the last numbers of the rows, fewer than a block, filled up with zeros.
///
/// # Safety
///
/// As [`dot`].
#[inline(never)]
unsafe fn add_rest<S: Simd, W: Stored, const C: usize, const R: usize>(
    simd: S,
    stored: [W::Row; C],
    x: [*const f32; R],
    k: usize,
    out: Place,
) {
    let (blocks, whole) = (k / BLOCK, k / BLOCK * BLOCK);
    let mut rows = [[0.0f32; BLOCK]; R];
    for (row, x) in rows.iter_mut().zip(x) {
        for (i, value) in row[..k - whole].iter_mut().enumerate() {
            // SAFETY: the row has `k` numbers.
            *value = unsafe { x.add(whole + i).read() };
        }
    }
    let x = rows.each_ref().map(|row| row.as_ptr());
    let mut rest = [[0.0f32; C]; R];
    let place = Place { at: rest.as_mut_ptr().cast(), stride: C };
    if W::PADDED {
        // SAFETY: the last block is there as a whole, and the place is as large as the tile.
        unsafe {
            let stored = stored.map(|row| W::advance(row, blocks));
            simd.dot_blocks::<W, C, R, false>(stored, x, 1, place);
        }
    } else {
        let mut last = [[0.0f32; BLOCK]; C];
        for (last, row) in last.iter_mut().zip(stored) {
            for (i, value) in last[..k - whole].iter_mut().enumerate() {
                // SAFETY: the row has `k` numbers.
                *value = unsafe { W::element(row, whole + i) };
            }
        }
        let stored = last.each_ref().map(|row| row.as_ptr());
        // SAFETY: the arrays are as long as a block, and the place is as large as the tile.
        unsafe { simd.dot_blocks::<Full, C, R, false>(stored, x, 1, place) };
    }
    for (r, rest) in rest.iter().enumerate() {
        for (c, rest) in rest.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *out.at.add(r * out.stride + c) += rest };
        }
    }
}

/// Dot products over whole blocks; see [`dot`]. Called through [`Simd::dot_blocks`]. `FAR` says that the
/// stored rows lie one behind the other in far memory, and that the next rows are wanted after them.
///
/// # Safety
///
/// All rows must hold as many blocks, and as [`dot`].
#[inline(always)]
pub(super) unsafe fn dot_blocks_of<S: Simd, W: Stored, const C: usize, const R: usize, const FAR: bool>(
    simd: S,
    stored: [W::Row; C],
    x: [*const f32; R],
    blocks: usize,
    out: Place,
) {
    // Loops and no closures: the instructions are inlined only into functions compiled for them, and a
    // closure is a function of its own.
    const { assert!(C <= 6, "sums are written for up to six columns") };
    let mut acc = [[simd.zero(); R]; C];
    for b in 0..blocks {
        if FAR {
            // The rows lie one behind the other, and so do those of the next call.
            let mut line = 0;
            while line < C * W::BYTES {
                W::prefetch(stored[0], C * (blocks + b) * W::BYTES + line);
                line += 64;
            }
        }
        let mut v = 0;
        while v < BLOCK / S::LANES {
            let mut w = [simd.zero(); C];
            for c in 0..C {
                // SAFETY: the caller's promise, for this and the loads below.
                w[c] = unsafe { W::vector(simd, stored[c], b, v) };
            }
            for r in 0..R {
                // SAFETY: as above.
                let x = unsafe { simd.load(x[r].add(b * BLOCK + v * S::LANES)) };
                for c in 0..C {
                    acc[c][r] = simd.multiply_add(w[c], x, acc[c][r]);
                }
            }
            v += 1;
        }
    }
    for r in 0..R {
        let [a, b, c, d] = [0, 1, 2, 3].map(|c| c.min(C - 1));
        let sums = simd.sums([acc[a][r], acc[b][r], acc[c][r], acc[d][r]]);
        for c in 0..C.min(4) {
            // SAFETY: the caller's promise.
            unsafe { out.at.add(r * out.stride + c).write(sums[c]) };
        }
    }
    if C > 4 {
        // Two columns are left: those of two rows at a time.
        for pair in 0..R.div_ceil(2) {
            let (r, next) = (2 * pair, (2 * pair + 1).min(R - 1));
            let (a, b) = (C.min(5) - 1, C.min(6) - 1);
            let sums = simd.sums([acc[a][r], acc[b][r], acc[a][next], acc[b][next]]);
            // SAFETY: the caller's promise.
            unsafe {
                out.at.add(r * out.stride + a).write(sums[0]);
                out.at.add(r * out.stride + b).write(sums[1]);
                out.at.add(next * out.stride + a).write(sums[2]);
                out.at.add(next * out.stride + b).write(sums[3]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            simd::{Portable, simd_dispatch},
            stored::Full,
        },
        *,
    };

    fn products<S: Simd>(simd: S, w: &[Vec<f32>], x: &[Vec<f32>]) -> Vec<u32> {
        let (k, mut out) = (x[0].len(), Vec::new());
        for group in w.chunks_exact(3) {
            let (w, x) = ([0, 1, 2].map(|c| group[c].as_ptr()), [0, 1].map(|r| x[r].as_ptr()));
            let mut tile = [[0.0f32; 3]; 2];
            let place = Place { at: tile.as_mut_ptr().cast(), stride: 3 };
            // SAFETY: all rows have `k` numbers, and the place is as large as the tile.
            unsafe { dot::<S, Full, 3, 2, true>(simd, w, x, k, place) };
            let [first, second] = tile;
            out.extend(first.into_iter().zip(second).flat_map(|(a, b)| [a.to_bits(), b.to_bits()]));
        }
        out
    }

    fn alone<S: Simd>(simd: S, w: &[Vec<f32>], x: &[Vec<f32>]) -> Vec<u32> {
        let mut out = Vec::new();
        for w in w {
            for x in &x[..2] {
                let mut product = 0.0f32;
                let place = Place { at: &raw mut product, stride: 1 };
                // SAFETY: all rows have as many numbers, and the place is one number.
                unsafe { dot::<S, Full, 1, 1, false>(simd, [w.as_ptr()], [x.as_ptr()], x.len(), place) };
                out.push(product.to_bits());
            }
        }
        out
    }

    simd_dispatch! {
        fn best_products(w: &[Vec<f32>], x: &[Vec<f32>]) -> Vec<u32> = products
    }

    simd_dispatch! {
        fn best_alone(w: &[Vec<f32>], x: &[Vec<f32>]) -> Vec<u32> = alone
    }

    #[test]
    fn a_dot_product_does_not_depend_on_its_neighbours() {
        // SAFETY: every machine has what it takes.
        let portable = unsafe { Portable::new() };
        for k in [1, 7, 16, 31, 32, 33, 64, 100] {
            let value = |seed: usize| ((seed * 7919 + 13) % 1009) as f32 / 500.0 - 1.0;
            let row = |r: usize| (0..k).map(|i| value(r * k + i)).collect::<Vec<_>>();
            let (w, x): (Vec<_>, Vec<_>) = ((0..6).map(row).collect(), (6..8).map(row).collect());
            assert_eq!(best_products(&w, &x), best_alone(&w, &x), "{k}");
            assert_eq!(products(portable, &w, &x), alone(portable, &w, &x), "{k}");
            for (ours, plain) in best_alone(&w, &x).into_iter().zip(alone(portable, &w, &x)) {
                assert!((f32::from_bits(ours) - f32::from_bits(plain)).abs() < 1e-4);
            }
        }
    }
}
