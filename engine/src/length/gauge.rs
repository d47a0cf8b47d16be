//! Means of measured times.

/// Values of which the median counts before there is a mean.
const FIRST: usize = 5;
/// About so many values are remembered.
const MEMORY: f64 = 32.0;
/// How far from the mean a single value counts, as a factor.
const REACH: f64 = 1.6;

/// A mean that follows what changes and is not moved by single outliers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gauge {
    first: Vec<f64>,
    mean: f64,
    count: f64,
}

impl Gauge {
    /// A value that is known already, as if it had been measured so often.
    pub(super) fn of(value: f64, count: f64) -> Self {
        Self { first: vec![value; FIRST], mean: value, count }
    }

    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.first.len() < FIRST {
            let at = self.first.partition_point(|known| *known < value);
            self.first.insert(at, value);
            self.mean = self.first[(self.first.len() - 1) / 2];
            return;
        }
        let near = value.clamp(self.mean / REACH, self.mean * REACH);
        self.mean += (near - self.mean) / self.count.min(MEMORY);
    }

    pub(super) fn value(&self) -> Option<f64> {
        (self.count > 0.0).then_some(self.mean)
    }

    pub(super) fn count(&self) -> f64 {
        self.count
    }
}

/// Times by a number of tokens, which never fall; between what was measured they are straight.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Curve {
    points: Vec<Point>,
}

#[derive(Clone, Debug, PartialEq)]
struct Point {
    x: usize,
    gauge: Gauge,
    fitted: f64,
}

impl Curve {
    pub(super) fn add(&mut self, x: usize, value: f64) {
        self.gauge(x).add(value);
        self.fit();
    }

    pub(super) fn set(&mut self, x: usize, gauge: Gauge) {
        *self.gauge(x) = gauge;
        self.fit();
    }

    fn gauge(&mut self, x: usize) -> &mut Gauge {
        let at = self.points.partition_point(|point| point.x < x);
        if self.points.get(at).is_none_or(|point| point.x != x) {
            self.points.insert(at, Point { x, gauge: Gauge::default(), fitted: 0.0 });
        }
        &mut self.points[at].gauge
    }

    /// Neighbours that would fall share their mean.
    fn fit(&mut self) {
        let mut pools: Vec<(f64, f64, usize)> = Vec::new();
        for point in &self.points {
            let mut pool = (point.gauge.mean, point.gauge.count.min(MEMORY), 1);
            while let Some(before) = pools.pop_if(|before| before.0 >= pool.0) {
                let weight = before.1 + pool.1;
                pool = ((before.0 * before.1 + pool.0 * pool.1) / weight, weight, before.2 + pool.2);
            }
            pools.push(pool);
        }
        let values = pools.iter().flat_map(|(value, _, points)| std::iter::repeat_n(*value, *points));
        self.points.iter_mut().zip(values).for_each(|(point, value)| point.fitted = value);
    }

    /// How often a number was measured.
    pub(super) fn count(&self, x: usize) -> f64 {
        self.points.iter().find(|point| point.x == x).map_or(0.0, |point| point.gauge.count())
    }

    /// What was measured, by number.
    pub(super) fn known(&self) -> impl Iterator<Item = (usize, f64)> {
        self.points.iter().map(|point| (point.x, point.fitted))
    }

    /// The value at `x`, where anything is known. Where only one is, the curve rises from it by `slope` of it a token.
    pub(super) fn at(&self, x: usize, slope: f64) -> Option<f64> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        let above = self.points.partition_point(|point| point.x < x);
        let line = |from: &Point, rise: f64| from.fitted + rise * (x as f64 - from.x as f64);
        let rise = |a: &Point, b: &Point| (b.fitted - a.fitted) / (b.x - a.x) as f64;
        let value = match (above.checked_sub(1).map(|i| &self.points[i]), self.points.get(above)) {
            (_, Some(point)) if point.x == x => point.fitted,
            (Some(from), Some(to)) => line(from, rise(from, to)),
            (None, _) => line(first, slope * first.fitted),
            (Some(_), None) if self.points.len() == 1 => line(last, slope * last.fitted),
            (Some(_), None) => {
                let steepest = rise(first, last).max(rise(&self.points[self.points.len() - 2], last));
                line(last, steepest)
            }
        };
        Some(value.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_hardly_moves_a_mean_and_a_change_does() {
        let mut gauge = Gauge::default();
        gauge.add(100.0);
        (0..20).for_each(|_| gauge.add(1.0));
        assert_eq!(gauge.value(), Some(1.0), "what comes first may be an outlier too");
        gauge.add(1000.0);
        assert!(gauge.value().is_some_and(|value| value < 1.05));
        (0..200).for_each(|_| gauge.add(3.0));
        assert!(gauge.value().is_some_and(|value| (value - 3.0).abs() < 0.05));
        assert_eq!(Gauge::default().value(), None);
    }

    #[test]
    fn a_curve_is_straight_between_what_is_known_and_never_falls() {
        let mut curve = Curve::default();
        assert_eq!(curve.at(1, 0.1), None);
        curve.add(1, 2.0);
        assert_eq!(curve.at(6, 0.1), Some(3.0), "by the slope that is assumed");
        curve.add(5, 4.0);
        let values: Vec<_> = [1, 3, 5, 9].map(|x| curve.at(x, 0.1)).to_vec();
        assert_eq!(values, [Some(2.0), Some(3.0), Some(4.0), Some(6.0)]);
        curve.add(3, 5.0);
        assert_eq!(
            [3, 4, 5].map(|x| curve.at(x, 0.1)),
            [Some(4.5); 3],
            "neighbours that would fall are pooled"
        );
    }
}
