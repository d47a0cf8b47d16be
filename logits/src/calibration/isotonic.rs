use super::{CalibrationError, Judged, check_fit};

/// Isotonic regression: the curve that never falls and is nearest to the outcomes. Between its knots it is straight,
/// beyond them flat.
///
/// Source: Zadrozny, Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates", 2002; the
/// pooling of adjacent violators of Ayer et al., 1955.
#[derive(Clone, Debug, PartialEq)]
pub struct Isotonic {
    knots: Vec<(f64, f64)>,
}

/// Neighbouring pairs that share a value.
struct Pool {
    first: f64,
    last: f64,
    count: f64,
    right: f64,
}

impl Pool {
    fn value(&self) -> f64 {
        self.right / self.count
    }
}

impl Isotonic {
    /// A curve through knots of confidence and probability; `None` where there are none, one is not from 0 to 1, or they
    /// do not go up: confidences must rise, and probabilities must not fall.
    pub fn new(knots: Vec<(f64, f64)>) -> Option<Self> {
        let unit = 0.0..=1.0;
        let inside = knots.iter().all(|(x, y)| unit.contains(x) && unit.contains(y));
        let rising = knots.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        (inside && rising && !knots.is_empty()).then_some(Self { knots })
    }

    /// The curve of least squared distance from the outcomes; no other that never falls has a lower Brier score on
    /// these pairs.
    ///
    /// # Errors
    ///
    /// No pairs, a confidence that is no probability, or outcomes that are all alike.
    pub fn fit(pairs: &[Judged]) -> Result<Self, CalibrationError> {
        check_fit(pairs)?;
        let mut sorted = pairs.to_vec();
        sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut pools: Vec<Pool> = Vec::new();
        for same in sorted.chunk_by(|a, b| a.0 == b.0) {
            let right = same.iter().filter(|(_, right)| *right).count() as f64;
            let (first, last) = (same[0].0, same[0].0);
            let mut pool = Pool { first, last, count: same.len() as f64, right };
            while let Some(before) = pools.pop_if(|before| before.value() >= pool.value()) {
                pool.first = before.first;
                pool.count += before.count;
                pool.right += before.right;
            }
            pools.push(pool);
        }
        let ends = |pool: &Pool| {
            let ends = [(pool.first, pool.value()), (pool.last, pool.value())];
            ends.into_iter().take(if pool.first == pool.last { 1 } else { 2 })
        };
        Ok(Self { knots: pools.iter().flat_map(ends).collect() })
    }

    /// Its knots of confidence and probability, from left to right.
    pub fn knots(&self) -> &[(f64, f64)] {
        &self.knots
    }

    /// The calibrated probability of being right.
    pub fn apply(&self, confidence: f64) -> f64 {
        if confidence.is_nan() {
            return confidence;
        }
        let after = self.knots.partition_point(|(x, _)| *x < confidence);
        match (after.checked_sub(1).map(|at| self.knots[at]), self.knots.get(after)) {
            (Some((x0, y0)), Some(&(x1, y1))) if confidence < x1 => {
                (y0 + (y1 - y0) * ((confidence - x0) / (x1 - x0))).clamp(y0, y1)
            }
            (_, Some(&(_, y))) | (Some((_, y)), None) => y,
            (None, None) => confidence,
        }
    }
}
