use std::f64::consts::PI;

/// What a Kolmogorov-Smirnov test finds.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct KolmogorovSmirnov {
    /// The greatest distance between both cumulative distributions, from 0 to 1.
    pub distance: f64,
    /// How likely a distance at least as great is where both are the same; for independent values, and good from about
    /// ten values on.
    pub p_value: f64,
}

impl KolmogorovSmirnov {
    /// Whether `sample` follows the law of the cumulative distribution `cdf`; `None` of an empty sample or one with NaN.
    ///
    /// Source: Kolmogorov, 1933; the correction for few values of Stephens, "Use of the Kolmogorov-Smirnov,
    /// Cramer-Von Mises and Related Statistics Without Extensive Tables", 1970.
    pub fn against(sample: &[f64], cdf: impl Fn(f64) -> f64) -> Option<Self> {
        let sorted = sorted(sample)?;
        let n = sorted.len() as f64;
        let apart = sorted.iter().enumerate().map(|(i, &x)| {
            let p = cdf(x);
            (p - i as f64 / n).max((i + 1) as f64 / n - p)
        });
        Some(Self::of(apart.fold(0.0, f64::max), n))
    }

    /// Whether two samples follow one law; `None` where one is empty or has NaN.
    ///
    /// Source: Smirnov, 1939; Stephens, 1970.
    pub fn between(a: &[f64], b: &[f64]) -> Option<Self> {
        let (a, b) = (sorted(a)?, sorted(b)?);
        let (n, m) = (a.len() as f64, b.len() as f64);
        let share = |sorted: &[f64], x: f64| sorted.partition_point(|y| *y <= x) as f64 / sorted.len() as f64;
        let apart = a.iter().chain(&b).map(|&x| (share(&a, x) - share(&b, x)).abs());
        Some(Self::of(apart.fold(0.0, f64::max), n * m / (n + m)))
    }

    /// Of a distance that was found with as much evidence as `n` values have.
    pub(super) fn of(distance: f64, n: f64) -> Self {
        let root = n.sqrt();
        Self { distance, p_value: tail((root + 0.12 + 0.11 / root) * distance) }
    }
}

fn sorted(sample: &[f64]) -> Option<Vec<f64>> {
    if sample.is_empty() || sample.iter().any(|x| x.is_nan()) {
        return None;
    }
    let mut sorted = sample.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Some(sorted)
}

/// How likely Kolmogorov's distribution exceeds `x`.
fn tail(x: f64) -> f64 {
    if x < 0.2 {
        return 1.0;
    }
    if x < 1.0 {
        // The series of theta functions that converges where the other one does not.
        let term = |j: i32| (-f64::from((2 * j - 1).pow(2)) * PI * PI / (8.0 * x * x)).exp();
        return 1.0 - (2.0 * PI).sqrt() / x * (1..=4).map(term).sum::<f64>();
    }
    let term = |j: i32| f64::from(1 - 2 * ((j + 1) % 2)) * (-2.0 * f64::from(j * j) * x * x).exp();
    (2.0 * (1..=6).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_that_of_the_tables() {
        // Critical values of Kolmogorov's distribution.
        for (x, p) in [(1.2238, 0.10), (1.3581, 0.05), (1.6276, 0.01), (0.8276, 0.5), (1.9495, 0.001)] {
            assert!((tail(x) - p).abs() < 2e-4 * (1.0 + p / 0.1), "{x}: {}", tail(x));
        }
        assert!((tail(1.0 - 1e-9) - tail(1.0 + 1e-9)).abs() < 1e-8, "both series meet");
        assert_eq!((tail(0.0), tail(30.0)), (1.0, 0.0));
    }

    #[test]
    fn distances_on_paper() {
        let between = |a: &[f64], b: &[f64]| KolmogorovSmirnov::between(a, b).map(|test| test.distance);
        assert_eq!(between(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0]), Some(0.0));
        assert_eq!(between(&[1.0, 2.0], &[3.0, 4.0, 5.0]), Some(1.0));
        assert_eq!(between(&[1.0, 1.0, 2.0, 2.0], &[1.0, 2.0, 2.0, 2.0]), Some(0.25));
        let uniform = KolmogorovSmirnov::against(&[0.25, 0.5, 1.0], |x| x).map(|test| test.distance);
        assert!(uniform.is_some_and(|d| (d - 1.0 / 3.0).abs() < 1e-15));
        assert_eq!((between(&[], &[1.0]), between(&[f64::NAN], &[1.0])), (None, None));
    }
}
