use super::{CalibrationError, Calibrator, Isotonic, Judged};

/// How likely drafted tokens are accepted, by how sure the drafter is of them: what a controller of the draft length
/// goes by.
///
/// ```
/// use drafthorse_logits::calibration::AcceptanceEstimate;
///
/// let estimate = AcceptanceEstimate::new("platt:1,0".parse()?);
/// assert!((estimate.expected_accepted(&[0.9, 0.5]) - (0.9 + 0.45)).abs() < 1e-9);
/// # Ok::<(), drafthorse_logits::calibration::CalibrationError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptanceEstimate {
    calibrator: Calibrator,
}

impl AcceptanceEstimate {
    /// By a calibrator from the drafter's confidence in a token to the probability that it is accepted.
    pub fn new(calibrator: Calibrator) -> Self {
        Self { calibrator }
    }

    /// By an isotonic curve, from the drafter's confidences in tokens that were looked at and whether they were accepted.
    /// It never falls: where surer proposals are accepted less often it is flat.
    ///
    /// # Errors
    ///
    /// No pairs, a confidence that is no probability, or outcomes that are all alike.
    pub fn fit(pairs: &[Judged]) -> Result<Self, CalibrationError> {
        Ok(Self::new(Isotonic::fit(pairs)?.into()))
    }

    /// The calibrator.
    pub fn calibrator(&self) -> &Calibrator {
        &self.calibrator
    }

    /// How likely a token of this confidence is accepted once it is looked at.
    pub fn acceptance(&self, confidence: f64) -> f64 {
        self.calibrator.apply(confidence)
    }

    /// How many tokens of a draft with these confidences are accepted on average: a token is looked at where all before
    /// it were accepted.
    pub fn expected_accepted(&self, confidences: &[f64]) -> f64 {
        let reached = confidences.iter().scan(1.0, |reached, &confidence| {
            *reached *= self.acceptance(confidence);
            Some(*reached)
        });
        reached.sum()
    }
}
