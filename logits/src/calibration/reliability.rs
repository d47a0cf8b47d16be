use super::{CalibrationError, EDGE, Judged, check};

/// A reliability diagram: how sure, and how often right, in bins of confidence.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reliability {
    /// The bins that hold something, from low to high confidence.
    pub bins: Vec<Bin>,
}

/// A bin of a [`Reliability`] diagram.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Bin {
    /// Its number among all bins, from 0.
    pub index: usize,
    /// Where it begins: above this, but that the first bin of equal width holds 0 and bins of equal mass hold it.
    pub low: f64,
    /// Where it ends, this included.
    pub high: f64,
    /// Pairs in it.
    pub count: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share that was right.
    pub accuracy: f64,
}

impl Bin {
    fn of(index: usize, (low, high): (f64, f64), pairs: &[Judged]) -> Self {
        let count = pairs.len();
        let right = pairs.iter().filter(|(_, right)| *right).count();
        let confidence = pairs.iter().map(|(c, _)| c).sum::<f64>() / count as f64;
        Self { index, low, high, count, confidence, accuracy: right as f64 / count as f64 }
    }

    /// How far confidence and accuracy are apart.
    pub fn gap(&self) -> f64 {
        (self.accuracy - self.confidence).abs()
    }
}

impl Reliability {
    /// Bins `(b / bins, (b + 1) / bins]`.
    ///
    /// # Errors
    ///
    /// No pairs, a confidence that is no probability, no bins.
    ///
    /// Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015.
    pub fn equal_width(pairs: &[Judged], bins: usize) -> Result<Self, CalibrationError> {
        let sorted = sorted(pairs, bins)?;
        let edge = |b: usize| b as f64 / bins as f64;
        let of = |confidence: f64| {
            let near = ((confidence * bins as f64) as usize).min(bins - 1);
            // Where rounding put it on the wrong side of an edge.
            let down = if near > 0 && confidence <= edge(near) { near - 1 } else { near };
            if down + 1 < bins && confidence > edge(down + 1) { down + 1 } else { down }
        };
        let chunks = sorted.chunk_by(|a, b| of(a.0) == of(b.0));
        let bin = |pairs: &[Judged]| {
            let index = of(pairs[0].0);
            Bin::of(index, (edge(index), edge(index + 1)), pairs)
        };
        Ok(Self { bins: chunks.map(bin).collect() })
    }

    /// Bins of about as many pairs each, and never more bins than pairs. Equal confidences share a bin, whatever their
    /// number.
    ///
    /// # Errors
    ///
    /// No pairs, a confidence that is no probability, no bins.
    ///
    /// Source: Nixon et al., "Measuring Calibration in Deep Learning", 2019.
    pub fn equal_mass(pairs: &[Judged], bins: usize) -> Result<Self, CalibrationError> {
        let sorted = sorted(pairs, bins)?;
        let bins = bins.min(sorted.len());
        let mut made = Vec::new();
        let mut start = 0;
        for index in 0..bins {
            let ideal = ((index + 1) * sorted.len()).div_ceil(bins);
            let Some(last) = ideal.checked_sub(1).filter(|last| *last >= start) else { continue };
            let end = sorted.partition_point(|(c, _)| *c <= sorted[last].0);
            made.push(Bin::of(index, (sorted[start].0, sorted[last].0), &sorted[start..end]));
            start = end;
        }
        Ok(Self { bins: made })
    }

    /// Expected calibration error: the mean gap over all pairs.
    pub fn ece(&self) -> f64 {
        let pairs: usize = self.bins.iter().map(|bin| bin.count).sum();
        self.bins.iter().map(|bin| bin.count as f64 * bin.gap()).sum::<f64>() / pairs as f64
    }

    /// Maximum calibration error: the widest gap.
    pub fn mce(&self) -> f64 {
        self.bins.iter().map(Bin::gap).fold(0.0, f64::max)
    }
}

/// Mean squared distance between confidence and outcome (1 or 0).
///
/// # Errors
///
/// No pairs, or a confidence that is no probability.
///
/// Source: Brier, "Verification of Forecasts Expressed in Terms of Probability", 1950.
pub fn brier(pairs: &[Judged]) -> Result<f64, CalibrationError> {
    check(pairs)?;
    let square = |&(c, right): &Judged| (c - f64::from(u8::from(right))).powi(2);
    Ok(pairs.iter().map(square).sum::<f64>() / pairs.len() as f64)
}

/// Mean negative log-likelihood of the outcomes in nats; confidences count as at least 1e-12 away from 0 and 1.
///
/// # Errors
///
/// No pairs, or a confidence that is no probability.
pub fn nll(pairs: &[Judged]) -> Result<f64, CalibrationError> {
    check(pairs)?;
    let surprise = |&(c, right): &Judged| {
        let c = c.clamp(EDGE, 1.0 - EDGE);
        if right { -c.ln() } else { -(-c).ln_1p() }
    };
    Ok(pairs.iter().map(surprise).sum::<f64>() / pairs.len() as f64)
}

fn sorted(pairs: &[Judged], bins: usize) -> Result<Vec<Judged>, CalibrationError> {
    check(pairs)?;
    if bins == 0 {
        return Err(CalibrationError::NoBins);
    }
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(sorted)
}
