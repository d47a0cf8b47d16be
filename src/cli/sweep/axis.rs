//! From numbers to places on a picture.

/// A range of numbers over a range of the picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    /// Where `low` and `high` lie.
    from: f64,
    to: f64,
}

impl Axis {
    /// Room for all finite values, and a little more.
    pub(super) fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let room = if high > low { 0.05 * (high - low) } else { (0.05 * high.abs()).max(0.05) };
        Self { low: low - room, high: high + room, from, to }
    }

    /// Where a value lies.
    pub(super) fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values to mark, and how they read.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        const ABOUT: f64 = 7.0;
        let raw = (self.high - self.low) / ABOUT;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|s| s * power).find(|step| *step >= raw);
        let step = step.unwrap_or(10.0 * power);
        let digits = (-step.log10().floor()).max(0.0) as usize;
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|i| i as f64 * step).map(|value| (value, format!("{value:.digits$}"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_between_the_ends() {
        let axis = Axis::over([2.0, f64::NAN, 4.0].into_iter(), 100.0, 0.0);
        assert!((axis.at(3.0) - 50.0).abs() < 1e-9);
        assert!(axis.at(2.0) < 100.0 && axis.at(4.0) > 0.0 && axis.at(2.0) > axis.at(4.0));
        let labels: Vec<_> = axis.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["2.0", "2.5", "3.0", "3.5", "4.0"]);
    }

    #[test]
    fn one_value_or_none_has_an_axis_too() {
        for values in [vec![], vec![7.0], vec![0.0, 0.0]] {
            let axis = Axis::over(values.into_iter(), 0.0, 10.0);
            assert!(axis.at(axis.low).is_finite() && (2..20).contains(&axis.ticks().len()), "{axis:?}");
        }
    }
}
