//! Means of measured times.

/// Values of which the median counts before there is a mean.
const FIRST: f64 = 5.0;
/// About so many values are remembered.
const MEMORY: f64 = 32.0;
/// What is so far off as none of so many is an outlier; what comes twice among them is not.
const RECENT: usize = 12;

/// A mean that follows what changes and is not moved by single outliers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gauge {
    recent: Vec<f64>,
    mean: f64,
    count: f64,
}

impl Gauge {
    /// A value that is known already, as if it had been measured so often.
    pub(super) fn of(value: f64, count: f64) -> Self {
        Self { recent: vec![value; RECENT / 2], mean: value, count }
    }

    /// Learns a value; says as what it counts.
    pub(super) fn add(&mut self, value: f64) -> f64 {
        self.count += 1.0;
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        self.recent.push(value);
        let mut sorted = self.recent.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted[(sorted.len() - 1) / 2];
        if self.count <= FIRST {
            self.mean = middle;
            return middle;
        }
        let near = value.clamp(sorted[1], sorted[sorted.len() - 2]);
        self.mean += (near - self.mean) / self.count.min(MEMORY);
        near
    }

    pub(super) fn value(&self) -> Option<f64> {
        (self.count > 0.0).then_some(self.mean)
    }

    pub(super) fn count(&self) -> f64 {
        self.count
    }
}

/// As if what is expected of a number had been measured so often, at first,
const EXPECTED: f64 = 1.0;
/// and until it was measured so often indeed.
const ENOUGH: f64 = 4.0;

/// Times by a number of tokens, which never fall; between what was measured they are straight.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curve {
    points: Vec<Point>,
    /// By which share of the first the others are expected to rise, a token; without, as many times as there are tokens.
    slope: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
struct Point {
    x: usize,
    gauge: Gauge,
    fitted: f64,
}

impl Curve {
    pub(super) fn new(slope: Option<f64>) -> Self {
        Self { points: Vec::new(), slope }
    }

    /// Learns a value; says as what it counts.
    pub(super) fn add(&mut self, x: usize, value: f64) -> f64 {
        let counted = self.gauge(x).add(value);
        self.fit();
        counted
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
            let mut pool = (self.likely(point), point.gauge.count.min(MEMORY), 1);
            while let Some(before) = pools.pop_if(|before| before.0 >= pool.0) {
                let weight = before.1 + pool.1;
                pool = ((before.0 * before.1 + pool.0 * pool.1) / weight, weight, before.2 + pool.2);
            }
            pools.push(pool);
        }
        let values = pools.iter().flat_map(|(value, _, points)| std::iter::repeat_n(*value, *points));
        self.points.iter_mut().zip(values).for_each(|(point, value)| point.fitted = value);
    }

    /// What is measured of a point, with what is expected of it as long as that was not often.
    fn likely(&self, point: &Point) -> f64 {
        let Point { x, gauge, .. } = point;
        let weight = EXPECTED * (1.0 - gauge.count / ENOUGH).max(0.0);
        match self.points.iter().find(|first| first.x > 0) {
            Some(first) if first.x < *x => {
                let expected = first.gauge.mean * (1.0 + self.steepness(first) * (x - first.x) as f64);
                (gauge.mean * gauge.count + expected * weight) / (gauge.count + weight)
            }
            _ => gauge.mean,
        }
    }

    /// The same as far as it was measured.
    fn steepness(&self, first: &Point) -> f64 {
        let own = self.rise(first.x);
        let mut sum = (own * EXPECTED, EXPECTED);
        for point in self.points.iter().filter(|point| point.x > first.x && first.gauge.mean > 0.0) {
            let weight = point.gauge.count.min(MEMORY) * (point.x - first.x) as f64;
            let rise = (point.gauge.mean / first.gauge.mean - 1.0) / (point.x - first.x) as f64;
            sum = (sum.0 + weight * rise.clamp(0.0, 4.0 * own), sum.1 + weight);
        }
        sum.0 / sum.1
    }

    /// By which share of the value at `first` it is expected to rise, a token.
    fn rise(&self, first: usize) -> f64 {
        self.slope.unwrap_or(1.0 / first.max(1) as f64)
    }

    /// How often a number was measured.
    pub(super) fn count(&self, x: usize) -> f64 {
        self.points.iter().find(|point| point.x == x).map_or(0.0, |point| point.gauge.count())
    }

    /// What was measured, by number.
    pub(super) fn known(&self) -> impl Iterator<Item = (usize, f64)> {
        self.points.iter().map(|point| (point.x, point.fitted))
    }

    /// The value at `x`, where anything is known.
    pub(super) fn at(&self, x: usize) -> Option<f64> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        let slope = self.rise(first.x);
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
        for _ in 0..20 {
            gauge.add(1.0);
        }
        assert_eq!(gauge.value(), Some(1.0), "what comes first may be an outlier too");
        gauge.add(1000.0);
        assert!(gauge.value().is_some_and(|value| value < 1.05));
        for _ in 0..200 {
            gauge.add(3.0);
        }
        assert!(gauge.value().is_some_and(|value| (value - 3.0).abs() < 0.05));
        assert_eq!(Gauge::default().value(), None);
    }

    #[test]
    fn what_cost_nothing_may_cost_something() {
        let mut gauge = Gauge::default();
        for value in [0.0, 0.0, 0.0, 1.0, 1.0] {
            gauge.add(value);
        }
        assert_eq!(gauge.value(), Some(0.0));
        for _ in 0..200 {
            gauge.add(1.0);
        }
        assert!(gauge.value().is_some_and(|value| value > 0.99), "{gauge:?}");
    }

    /// Seven cheap rounds and three dear ones cost what they cost on average.
    #[test]
    fn costs_of_two_kinds_are_averaged() {
        let mut gauge = Gauge::default();
        let mut sum = 0.0;
        for round in 0..1000 {
            gauge.add(if round * 7 % 10 < 3 { 10.0 } else { 1.0 });
            sum += gauge.value().filter(|_| round >= 200).unwrap_or(0.0);
        }
        assert!((sum / 800.0 / 3.7 - 1.0).abs() < 0.05, "{}", sum / 800.0);
    }

    #[test]
    fn a_curve_is_straight_between_what_is_known_and_never_falls() {
        let mut curve = Curve::new(Some(0.1));
        assert_eq!(curve.at(1), None);
        curve.add(1, 2.0);
        assert_eq!(curve.at(6), Some(3.0), "by the slope that is assumed");
        curve.add(5, 4.0);
        assert!(curve.at(5).is_some_and(|value| value > 2.8 && value < 4.0), "one value is little");
        curve.set(5, Gauge::of(4.0, 8.0));
        let values: Vec<_> = [1, 3, 5, 9].map(|x| curve.at(x)).to_vec();
        assert_eq!(values, [Some(2.0), Some(3.0), Some(4.0), Some(6.0)]);
        curve.set(3, Gauge::of(5.0, 8.0));
        assert_eq!([3, 4, 5].map(|x| curve.at(x)), [Some(4.5); 3], "neighbours that would fall are pooled");
    }
}
