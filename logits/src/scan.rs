//! Passes over rows that look for a few numbers.

#![allow(clippy::inline_always, reason = "as in `simd`")]

use crate::simd::{LANES, total, wide};

/// Numbers that are looked at together where few of them matter.
pub(crate) const CHUNK: usize = 64;

/// Calls `found` for each chunk of a row that holds a number above `floor`, which `found` may raise.
#[inline]
pub(crate) fn each_chunk_above(row: &[f32], floor: &mut f32, mut found: impl FnMut(&[f32], &mut f32)) {
    let mut look = |chunk: &[f32]| {
        let least = *floor;
        let mut any = false;
        for &x in chunk {
            any |= x > least;
        }
        if any {
            found(chunk, floor);
        }
    };
    wide(
        #[inline(always)]
        || {
            let (chunks, rest) = row.as_chunks::<CHUNK>();
            for chunk in chunks {
                look(chunk);
            }
            look(rest);
        },
    );
}

/// Calls `found` for each chunk of a row that holds a number from `low` to `high`, with where it starts.
#[inline]
pub(crate) fn each_chunk_within(row: &[f32], low: f32, high: f32, mut found: impl FnMut(usize, &[f32])) {
    let mut look = |start: usize, chunk: &[f32]| {
        let mut any = false;
        for &x in chunk {
            any |= (low..=high).contains(&x);
        }
        if any {
            found(start, chunk);
        }
    };
    wide(
        #[inline(always)]
        || {
            let (chunks, rest) = row.as_chunks::<CHUNK>();
            for (chunk, start) in chunks.iter().zip((0..).step_by(CHUNK)) {
                look(start, chunk);
            }
            look(row.len() - rest.len(), rest);
        },
    );
}

/// Makes every number of a row that is not from `low` to `high` `-inf`.
pub(crate) fn exclude(row: &mut [f32], low: f32, high: f32) {
    wide(
        #[inline(always)]
        || {
            for x in row {
                *x = if *x >= low && *x <= high { *x } else { f32::NEG_INFINITY };
            }
        },
    );
}

/// How many numbers of a row are from `low` to `high`.
pub(crate) fn count_within(row: &[f32], low: f32, high: f32) -> usize {
    wide(
        #[inline(always)]
        || {
            let count = |part: &[f32]| {
                // Few enough at once for a count of 32 bits, which becomes vectors.
                let mut count = 0u32;
                for x in part {
                    count += u32::from((low..=high).contains(x));
                }
                count as usize
            };
            row.chunks(1 << 20).map(count).sum()
        },
    )
}

/// How many numbers of a row are above `-inf`, their mean and their variance.
pub(crate) fn moments(row: &[f32]) -> (usize, f64, f64) {
    let alive = |x: f32| x > f32::NEG_INFINITY;
    let count = sum_f32(row, |x| if alive(x) { 1.0 } else { 0.0 }) as usize;
    let mean = sum_f32(row, |x| if alive(x) { f64::from(x) } else { 0.0 }) / count as f64;
    let square = |x: f32| if alive(x) { (f64::from(x) - mean) * (f64::from(x) - mean) } else { 0.0 };
    (count, mean, sum_f32(row, square) / count as f64)
}

#[inline]
fn sum_f32(row: &[f32], term: impl Fn(f32) -> f64) -> f64 {
    wide(
        #[inline(always)]
        || {
            let mut lanes = [0.0; LANES];
            let (chunks, rest) = row.as_chunks::<LANES>();
            for chunk in chunks {
                for i in 0..LANES {
                    lanes[i] += term(chunk[i]);
                }
            }
            for (i, &x) in rest.iter().enumerate() {
                lanes[i] += term(x);
            }
            total(&lanes)
        },
    )
}

/// Where a number stands first.
pub(crate) fn position(row: &[f32], number: f32) -> Option<usize> {
    let start = wide(
        #[inline(always)]
        || {
            row.chunks(CHUNK).position(|chunk| {
                let mut any = false;
                for &x in chunk {
                    any |= x == number;
                }
                any
            })
        },
    )? * CHUNK;
    row[start..].iter().position(|x| *x == number).map(|index| start + index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn scans_agree_with_loops(
            row in prop::collection::vec(prop_oneof![9 => (-9i8..9).prop_map(f32::from), 1 => Just(f32::NEG_INFINITY)], 1..400),
            low in -9i8..9,
            width in 0i8..9,
        ) {
            let (low, high) = (f32::from(low), f32::from(low + width));
            let within = |x: &&f32| (low..=high).contains(*x);
            let mut found = Vec::new();
            each_chunk_within(&row, low, high, |start, chunk| {
                assert_eq!(chunk, &row[start..start + chunk.len()]);
                found.extend(chunk.iter().copied().filter(|x| within(&x)));
            });
            prop_assert_eq!(&found, &row.iter().filter(within).copied().collect::<Vec<_>>());
            prop_assert_eq!(count_within(&row, low, high), found.len());
            let mut excluded = row.clone();
            exclude(&mut excluded, low, high);
            let wanted = row.iter().map(|x| if within(&x) { *x } else { f32::NEG_INFINITY });
            prop_assert_eq!(excluded, wanted.collect::<Vec<_>>());
            prop_assert_eq!(position(&row, low), row.iter().position(|x| *x == low));
            let alive: Vec<_> = row.iter().filter(|x| x.is_finite()).map(|x| f64::from(*x)).collect();
            let (count, mean, variance) = moments(&row);
            prop_assert_eq!(count, alive.len());
            if count > 0 {
                let n = count as f64;
                let plain = alive.iter().sum::<f64>() / n;
                prop_assert!((mean - plain).abs() < 1e-12);
                let plain = alive.iter().map(|x| (x - plain) * (x - plain)).sum::<f64>() / n;
                prop_assert!((variance - plain).abs() < 1e-12);
            }
        }
    }
}
