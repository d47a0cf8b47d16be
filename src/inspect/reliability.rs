//! How far confidence can be trusted, as it is written and drawn.

use drafthorse_logits::calibration::{self, CalibrationError, Judged};
use serde::{Deserialize, Serialize};

/// Predictions of about the same confidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Bin {
    /// Where its confidences begin.
    pub low: f64,
    /// Where they end.
    pub high: f64,
    /// How many predictions.
    pub count: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share that was right.
    pub accuracy: f64,
}

/// Confidence against accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Reliability {
    /// What the predictions are, in words.
    pub source: String,
    /// How many.
    pub count: usize,
    /// Expected calibration error: the mean distance between confidence and accuracy, over all predictions.
    ///
    /// Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, Equation 3.
    pub ece: f64,
    /// The bins that hold something, from low to high confidence; all are equally wide.
    pub bins: Vec<Bin>,
}

impl Reliability {
    /// Of these predictions in `bins` bins, of which those that are empty are left out.
    ///
    /// # Errors
    ///
    /// No predictions, a confidence that is no probability, no bins.
    ///
    /// ```
    /// use drafthorse::inspect::Reliability;
    ///
    /// let reliability = Reliability::of("three guesses", &[(0.9, true), (0.8, false), (0.2, false)], 2)?;
    /// assert!((reliability.ece - (2.0 * 0.35 + 0.2) / 3.0).abs() < 1e-12);
    /// # Ok::<(), drafthorse::logits::calibration::CalibrationError>(())
    /// ```
    pub fn of(source: impl Into<String>, pairs: &[Judged], bins: usize) -> Result<Self, CalibrationError> {
        let found = calibration::Reliability::equal_width(pairs, bins)?;
        let bin = |bin: &calibration::Bin| {
            let calibration::Bin { low, high, count, confidence, accuracy, .. } = *bin;
            Bin { low, high, count, confidence, accuracy }
        };
        let (ece, bins) = (found.ece(), found.bins.iter().map(bin).collect());
        Ok(Self { source: source.into(), count: pairs.len(), ece, bins })
    }
}
