use super::{CalibrationError, Judged, check_fit, log_odds, sigmoid};

/// Platt scaling: `sigmoid(slope s + offset)`, `s` being the log-odds of the confidence. Slope 1 and offset 0 change
/// nothing.
///
/// Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999, with his softened outcomes, so that data
/// which a line separates have a finite slope; the search of Lin, Lin, Weng, "A Note on Platt's Probabilistic Outputs",
/// 2007.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Platt {
    slope: f64,
    offset: f64,
}

/// An outcome's log-odds and softened value.
type Point = (f64, f64);

impl Platt {
    /// A given line; finite numbers are wanted.
    pub fn new(slope: f64, offset: f64) -> Self {
        Self { slope, offset }
    }

    /// The line of least negative log-likelihood of the outcomes.
    ///
    /// # Errors
    ///
    /// No pairs, a confidence that is no probability, or outcomes that are all alike.
    pub fn fit(pairs: &[Judged]) -> Result<Self, CalibrationError> {
        check_fit(pairs)?;
        let right = pairs.iter().filter(|(_, right)| *right).count() as f64;
        let wrong = pairs.len() as f64 - right;
        let (high, low) = ((right + 1.0) / (right + 2.0), 1.0 / (wrong + 2.0));
        let points: Vec<Point> =
            pairs.iter().map(|&(c, right)| (log_odds(c), if right { high } else { low })).collect();
        let mut line = Self { slope: 0.0, offset: ((right + 1.0) / (wrong + 1.0)).ln() };
        let mut loss = line.loss(&points);
        for _ in 0..100 {
            let Some((better, less)) = line.descend(&points, loss) else { break };
            let gain = loss - less;
            (line, loss) = (better, less);
            if gain <= 1e-14 * loss.abs() {
                break;
            }
        }
        Ok(line)
    }

    /// The slope.
    pub fn slope(self) -> f64 {
        self.slope
    }

    /// The offset.
    pub fn offset(self) -> f64 {
        self.offset
    }

    /// The calibrated probability of being right.
    pub fn apply(self, confidence: f64) -> f64 {
        sigmoid(self.slope * log_odds(confidence) + self.offset)
    }

    /// One of Newton's steps, shortened until the loss falls; `None` at the bottom.
    fn descend(self, points: &[Point], loss: f64) -> Option<(Self, f64)> {
        let (mut gs, mut go, mut ss, mut so, mut oo) = (0.0, 0.0, 1e-12, 0.0, 1e-12);
        for &(s, y) in points {
            let p = sigmoid(self.slope * s + self.offset);
            let (error, weight) = (p - y, p * (1.0 - p));
            gs += error * s;
            go += error;
            ss += weight * s * s;
            so += weight * s;
            oo += weight;
        }
        let determinant = ss * oo - so * so;
        let (ds, d_o) = ((oo * gs - so * go) / determinant, (ss * go - so * gs) / determinant);
        if !(ds.is_finite() && d_o.is_finite()) {
            return None;
        }
        std::iter::successors(Some(1.0), |step| Some(0.5 * step)).take(40).find_map(|step| {
            let next = Self { slope: self.slope - step * ds, offset: self.offset - step * d_o };
            let less = next.loss(points);
            (less < loss).then_some((next, less))
        })
    }

    /// Negative log-likelihood.
    fn loss(self, points: &[Point]) -> f64 {
        let of = |&(s, y): &Point| {
            let x = self.slope * s + self.offset;
            // ln(1 + exp(x)) - y x, without overflow.
            x.max(0.0) + (-x.abs()).exp().ln_1p() - y * x
        };
        points.iter().map(of).sum()
    }
}
