use super::{CalibrationError, Judged, check_fit, log_odds, sigmoid};
use crate::{TokenId, math};

/// Temperature scaling: logits, or the log-odds of a confidence, divided by one number.
///
/// Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TemperatureScaling {
    temperature: f64,
}

/// Temperatures are sought between `1 / MOST` and this: data that a model gets all right would have none.
const MOST: f64 = 50.0;

impl TemperatureScaling {
    /// A given temperature; `None` where it is not above 0 and finite.
    pub fn new(temperature: f64) -> Option<Self> {
        (temperature > 0.0 && temperature.is_finite()).then_some(Self { temperature })
    }

    /// The temperature of least negative log-likelihood of the outcomes, from 0.02 to 50.
    ///
    /// # Errors
    ///
    /// No pairs, a confidence that is no probability, or outcomes that are all alike.
    pub fn fit(pairs: &[Judged]) -> Result<Self, CalibrationError> {
        check_fit(pairs)?;
        let odds: Vec<(f64, f64)> =
            pairs.iter().map(|&(c, right)| (log_odds(c), f64::from(u8::from(right)))).collect();
        // The slope of the likelihood in 1 / T, which never falls.
        let slope = |w: f64| odds.iter().map(|(s, y)| s * (sigmoid(w * s) - y)).sum();
        Ok(Self { temperature: 1.0 / rising_root(slope) })
    }

    /// The temperature of least negative log-likelihood of tokens, each with the row of logits it came after, from
    /// 0.02 to 50: what the whole distribution is to be sampled at.
    ///
    /// # Errors
    ///
    /// No rows; a row with a NaN or `+inf`, or in which its token has no finite logit.
    pub fn fit_logits(rows: &[(&[f32], TokenId)]) -> Result<Self, CalibrationError> {
        if rows.is_empty() {
            return Err(CalibrationError::Empty);
        }
        for (index, &(row, token)) in rows.iter().enumerate() {
            let possible = row.get(token as usize).is_some_and(|x| x.is_finite());
            if math::check(row).is_err() || !possible {
                return Err(CalibrationError::Row { index, token });
            }
        }
        let slope = |w: f64| {
            rows.iter().map(|&(row, token)| mean_logit(row, w) - f64::from(row[token as usize])).sum()
        };
        Ok(Self { temperature: 1.0 / rising_root(slope) })
    }

    /// The temperature.
    pub fn temperature(self) -> f64 {
        self.temperature
    }

    /// The calibrated probability of being right.
    pub fn apply(self, confidence: f64) -> f64 {
        sigmoid(log_odds(confidence) / self.temperature)
    }
}

/// The mean of the logits under the softmax of `w` times them.
fn mean_logit(row: &[f32], w: f64) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for &x in row.iter().filter(|x| x.is_finite()) {
        let x = f64::from(x);
        let e = (w * (x - f64::from(max))).exp();
        sum += e;
        weighted += e * x;
    }
    weighted / sum
}

/// Where a function that never falls crosses 0, in `1 / MOST..=MOST`.
fn rising_root(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (-MOST.ln(), MOST.ln());
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        *(if f(middle.exp()) < 0.0 { &mut low } else { &mut high }) = middle;
    }
    (0.5 * (low + high)).exp()
}
