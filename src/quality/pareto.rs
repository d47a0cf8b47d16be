//! Which points are worth their cost.

/// Which points of (cost, quality) no other point beats: none is at most as dear and at least as good, and
/// better in one of the two.
///
/// A point with a number missing (NaN) is never among them.
///
/// ```
/// use drafthorse::quality::front;
/// assert_eq!(front(&[(1.0, 5.0), (0.5, 4.0), (0.7, 3.0)]), [true, true, false]);
/// ```
pub fn front(points: &[(f64, f64)]) -> Vec<bool> {
    let beats = |a: (f64, f64), b: (f64, f64)| a.0 <= b.0 && a.1 >= b.1 && (a.0 < b.0 || a.1 > b.1);
    points
        .iter()
        .map(|&point| {
            !point.0.is_nan() && !point.1.is_nan() && !points.iter().any(|&other| beats(other, point))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_by_hand() {
        let points = [(1.0, 10.0), (0.5, 8.0), (0.5, 9.0), (0.2, 1.0), (0.9, 9.0), (2.0, 11.0), (0.2, 1.0)];
        assert_eq!(front(&points), [true, false, true, true, false, true, true]);
        // The other way round it is another one.
        let worse: Vec<_> = points.iter().map(|(cost, quality)| (*cost, -quality)).collect();
        assert_ne!(front(&worse), front(&points));
        assert_eq!(front(&[(f64::NAN, 1.0), (1.0, f64::NAN), (3.0, 0.0)]), [false, false, true]);
        assert!(front(&[]).is_empty());
    }
}
