//! Choosing among many numbers without sorting them all.

use crate::{buffer::Buffer, scan};

/// Numbers that are sorted rather than put into buckets first.
const SORTED: usize = 1024;

/// The `k`-th largest value, from 1; the least where there are fewer.
///
/// # Panics
///
/// If there are no values or `k` is 0.
pub(crate) fn kth_largest(row: &[f32], k: usize) -> f32 {
    let k = k.min(row.len());
    assert!(k > 0, "the values are counted from 1");
    if k > row.len() / 8 || k > 1 << 14 {
        let mut row = Buffer::copy(row);
        return *row.as_mut_slice().select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1;
    }
    // The largest so far wait until they are so many that the best k of them say what is too small.
    let room = (4 * k).max(256);
    let mut kth = f32::NEG_INFINITY;
    let waiting = Buffer::fill(room + scan::CHUNK, |waiting| {
        let mut floor = f32::NEG_INFINITY;
        scan::each_chunk_above(row, &mut floor, |chunk, floor| {
            waiting.extend(chunk.iter().copied().filter(|x| *x > *floor));
            if waiting.len() >= room {
                *floor = *waiting.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1;
                waiting.truncate(k);
            }
        });
        if waiting.len() >= k {
            kth = *waiting.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1;
        }
    });
    drop(waiting);
    kth
}

/// Things in order of a key, each with a mass.
pub(crate) trait Masses {
    /// How many there are.
    fn len(&self) -> usize;
    /// What they are put in order of, the least first.
    fn key(&self, index: usize) -> f64;
    /// What is added up.
    fn mass(&self, index: usize) -> f64;
    /// For each a number below [`BUCKETS`] that never falls where the key rises.
    fn buckets(&self, out: &mut Vec<u32>);
}

/// One more than the highest number of a bucket.
pub(crate) const BUCKETS: usize = 1024;

/// The key of the last of the first things whose masses together reach `wanted`; the largest key where they
/// never do.
///
/// # Panics
///
/// If there is nothing.
pub(crate) fn edge_of_mass(things: &impl Masses, wanted: f64) -> f64 {
    if things.len() <= SORTED {
        return walk(things, 0..things.len(), 0.0, wanted).1;
    }
    let buckets = Buffer::fill(things.len(), |buckets| things.buckets(buckets));
    let mut masses = [[0.0; 2]; BUCKETS];
    // In two sums, so that neighbours need not wait for each other.
    for (index, bucket) in buckets.iter().enumerate() {
        masses[*bucket as usize][index % 2] += things.mass(index);
    }
    let (mut reached, mut edge) = (0.0, f64::NEG_INFINITY);
    for ([even, odd], bucket) in masses.into_iter().zip(0..) {
        let mass = even + odd;
        if reached + mass >= wanted {
            // A sum in another order may miss by a rounding error; the next bucket then goes on.
            let inside = (0..things.len()).filter(|&index| buckets[index] == bucket);
            (reached, edge) = walk(things, inside, reached, wanted);
            if reached >= wanted {
                return edge;
            }
        } else {
            reached += mass;
        }
    }
    // Rounding kept the mass from being reached.
    (0..things.len()).map(|index| things.key(index)).fold(edge, f64::max)
}

/// Adds up the masses of some things in order until they reach `wanted`; what was reached, and the last key.
fn walk(things: &impl Masses, which: impl Iterator<Item = usize>, before: f64, wanted: f64) -> (f64, f64) {
    let mut order = Buffer::fill(SORTED, |order| order.extend(which.map(|index| index as u32)));
    let key = |index: u32| things.key(index as usize);
    order.as_mut_slice().sort_unstable_by(|a, b| key(*a).total_cmp(&key(*b)));
    let (mut reached, mut edge) = (before, f64::NEG_INFINITY);
    for &index in order.iter() {
        edge = key(index);
        reached += things.mass(index as usize);
        if reached >= wanted {
            break;
        }
    }
    (reached, edge)
}

/// The least probability among the most probable of a distribution whose masses together reach `wanted`.
pub(crate) fn nucleus(probs: &[f64], wanted: f64) -> f64 {
    // All below this together have half of what may be missing: none of them is in the nucleus.
    let negligible = (1.0 - wanted) / (2 * probs.len()) as f64;
    let largest = Buffer::fill(0, |kept| {
        for chunk in probs.chunks(scan::CHUNK) {
            let mut any = false;
            for &p in chunk {
                any |= p >= negligible;
            }
            if any {
                kept.extend(chunk.iter().copied().filter(|p| *p >= negligible));
            }
        }
    });
    -edge_of_mass(&Largest(&largest), wanted)
}

/// Probabilities, the largest first.
pub(crate) struct Largest<'a>(pub(crate) &'a [f64]);

impl Masses for Largest<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn key(&self, index: usize) -> f64 {
        -self.0[index]
    }

    fn mass(&self, index: usize) -> f64 {
        self.0[index]
    }

    fn buckets(&self, out: &mut Vec<u32>) {
        // Exponent and upper bits of the fraction: 32 buckets for each halving from 1 on.
        const ONE: u32 = (1.0f64.to_bits() >> 47) as u32;
        let bucket = |p: &f64| ONE.saturating_sub((p.to_bits() >> 47) as u32).min(BUCKETS as u32 - 1);
        out.extend(self.0.iter().map(bucket));
    }
}

/// The least number up to `max` of which `holds` is true, where it is true of all numbers from some on; `max`
/// where it is true of none.
pub(crate) fn least(max: f32, holds: impl Fn(f32) -> bool) -> f32 {
    // Ordered as the numbers are; the same operation leads back.
    let flip = |bits: i32| bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed();
    let number = |key: i32| f32::from_bits(flip(key).cast_unsigned());
    let (mut low, mut high) = (flip(f32::MIN.to_bits().cast_signed()), flip(max.to_bits().cast_signed()));
    while low < high {
        let middle = ((i64::from(low) + i64::from(high)).div_euclid(2)) as i32;
        if holds(number(middle)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    number(high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(row: &[f32]) -> Vec<f32> {
        let mut sorted = row.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        sorted
    }

    proptest! {
        #[test]
        fn the_kth_is_that_of_the_sorted_row(
            row in prop::collection::vec(prop_oneof![9 => -9.0..9.0f32, 1 => Just(f32::NEG_INFINITY), 1 => Just(2.0f32)], 1..4000),
            k in 1usize..500,
        ) {
            prop_assert_eq!(kth_largest(&row, k), sorted(&row)[k.min(row.len()) - 1]);
        }

        #[test]
        fn the_edge_is_that_of_the_sorted_masses(
            weights in prop::collection::vec((-12.0..0.0f64).prop_map(f64::exp), 1..5000),
            wanted in 0.001..0.999f64,
        ) {
            let sum: f64 = weights.iter().sum();
            let masses: Vec<_> = weights.iter().map(|w| w / sum).collect();
            let mut sorted = masses.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let mut reached = 0.0;
            let edge = sorted.iter().find(|mass| { reached += **mass; reached >= wanted }).unwrap();
            let found = -edge_of_mass(&Largest(&masses), wanted);
            // The order of a sum may decide where it is reached to the last digit.
            let upto = |edge: f64| masses.iter().filter(|m| **m >= edge).sum::<f64>();
            prop_assert!(found == *edge || (upto(found) - upto(*edge)).abs() < 1e-3 && (reached - wanted).abs() < 1e-12);
        }

        #[test]
        fn least_finds_the_border(border in -1e30..1e30f32, max in -1e30..1e30f32) {
            prop_assert_eq!(least(max, |x| x >= border), border.min(max));
        }
    }

    #[test]
    fn borders_at_the_ends() {
        assert_eq!(least(3.0, |_| true), f32::MIN);
        assert_eq!(least(3.0, |_| false), 3.0);
        assert_eq!(kth_largest(&[f32::NEG_INFINITY; 4000], 3), f32::NEG_INFINITY);
        assert_eq!(kth_largest(&[7.0; 4000], 300), 7.0);
        assert_eq!(edge_of_mass(&Largest(&[0.5; 3]), 9.0), -0.5, "never reached: all");
        assert_eq!(edge_of_mass(&Largest(&vec![1e-4; 5000]), 9.0), -1e-4);
    }
}
