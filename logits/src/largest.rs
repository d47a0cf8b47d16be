use crate::TokenId;
use std::cmp::Ordering;

/// Up to so many values are kept in order while a row is passed; of more, a row is selected from.
const FEW: usize = 64;

/// The `count` largest values of a row with their tokens, best first, the lowest id first among equals.
///
/// ```
/// assert_eq!(drafthorse_logits::largest(&[0.5, 2.0, -1.0, 2.0], 3), [(1, 2.0), (3, 2.0), (0, 0.5)]);
/// ```
pub fn largest<T: Copy + Into<f64>>(row: &[T], count: usize) -> Vec<(TokenId, T)> {
    let count = count.min(row.len());
    if count <= FEW { kept(row, count) } else { selected(row, count) }
}

/// Nearly no value of a long row gets among a few best, so that one pass with comparisons does.
fn kept<T: Copy + Into<f64>>(row: &[T], count: usize) -> Vec<(TokenId, T)> {
    let mut best: Vec<(TokenId, T)> = Vec::with_capacity(count + 1);
    if count == 0 {
        return best;
    }
    for entry in (0..).zip(row.iter().copied()) {
        if best.len() == count && order(&best[count - 1], &entry) != Ordering::Greater {
            continue;
        }
        let at = best.partition_point(|other| order(other, &entry) == Ordering::Less);
        best.insert(at, entry);
        best.truncate(count);
    }
    best
}

fn selected<T: Copy + Into<f64>>(row: &[T], count: usize) -> Vec<(TokenId, T)> {
    let mut best: Vec<(TokenId, T)> = (0..).zip(row.iter().copied()).collect();
    if count < best.len() {
        best.select_nth_unstable_by(count, order);
        best.truncate(count);
    }
    best.sort_unstable_by(order);
    best
}

/// The larger value first, then the lower id. Both zeros are equal, and even NaN has a place.
fn order<T: Copy + Into<f64>>((a, x): &(TokenId, T), (b, y): &(TokenId, T)) -> Ordering {
    let value = |v: T| -> f64 { v.into() + 0.0 };
    value(*y).total_cmp(&value(*x)).then(a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_ways_are_those_of_the_sorted_row(row in prop::collection::vec(-3i32..3, 1..200), count in 0usize..250) {
            let mut sorted: Vec<_> = (0u32..).zip(row.iter().copied()).collect();
            sorted.sort_by_key(|&(token, value)| (-value, token));
            sorted.truncate(count);
            let count = count.min(row.len());
            prop_assert_eq!(&largest(&row, count), &sorted);
            prop_assert_eq!(&kept(&row, count), &sorted);
            prop_assert_eq!(&selected(&row, count), &sorted);
        }
    }

    #[test]
    fn odd_numbers_have_a_place() {
        let row = [-0.0, f32::NEG_INFINITY, 0.0, f32::INFINITY];
        for way in [kept, selected] {
            assert_eq!(way(&row, 4).iter().map(|(token, _)| *token).collect::<Vec<_>>(), [3, 0, 2, 1]);
            assert_eq!(way(&[f32::NAN; 3], 2).len(), 2);
        }
        assert_eq!(largest(&row, 0), []);
        assert_eq!(largest::<f64>(&[], 5), []);
    }

    /// As many of a vocabulary as one may ask for.
    #[test]
    fn many_of_a_long_row() {
        let row: Vec<f32> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32).collect();
        let start = std::time::Instant::now();
        let found = largest(&row, 50_000);
        println!("50,000 of 100,000: {:?}", start.elapsed());
        let few = std::time::Instant::now();
        assert_eq!(kept(&row, 500), found[..500]);
        println!("500 of them in order of their coming: {:?}", few.elapsed());
        assert!(found.is_sorted_by(|a, b| order(a, b) == Ordering::Less));
    }
}
