//! How far confidence can be trusted.

use serde::{Deserialize, Serialize};

/// A prediction: how sure it was, and whether it was right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Outcome {
    /// From 0 to 1.
    pub confidence: f64,
    /// Whether it was right.
    pub correct: bool,
}

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
    /// Their mean confidence; none without predictions.
    pub confidence: Option<f64>,
    /// The share that was right.
    pub accuracy: Option<f64>,
}

/// Confidence against accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Reliability {
    /// What the predictions are, in words.
    pub source: String,
    /// How many.
    pub count: usize,
    /// Expected calibration error: the mean distance between confidence and accuracy of the bins, weighed by their
    /// counts.
    ///
    /// Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, Equation 3.
    pub ece: f64,
    /// Bins of the same width.
    pub bins: Vec<Bin>,
}

impl Reliability {
    /// Of these predictions in `bins` bins; `None` without predictions or bins.
    ///
    /// ```
    /// use drafthorse::inspect::{Outcome, Reliability};
    ///
    /// let outcomes = [(0.9, true), (0.8, false), (0.2, false)];
    /// let outcomes = outcomes.map(|(confidence, correct)| Outcome { confidence, correct });
    /// let reliability = Reliability::of("three guesses", &outcomes, 2).unwrap();
    /// assert!((reliability.ece - (2.0 * 0.35 + 0.2) / 3.0).abs() < 1e-12);
    /// ```
    pub fn of(source: impl Into<String>, outcomes: &[Outcome], bins: usize) -> Option<Self> {
        if outcomes.is_empty() || bins == 0 {
            return None;
        }
        let mut members = vec![Vec::new(); bins];
        for outcome in outcomes {
            let bin = (outcome.confidence * bins as f64) as usize;
            members[bin.min(bins - 1)].push(*outcome);
        }
        let edge = |bin: usize| bin as f64 / bins as f64;
        let bins: Vec<_> = (0..).zip(members).map(|(n, all)| Bin::of(edge(n), edge(n + 1), &all)).collect();
        let gap = |bin: &Bin| Some(bin.count as f64 * (bin.confidence? - bin.accuracy?).abs());
        let ece = bins.iter().filter_map(gap).sum::<f64>() / outcomes.len() as f64;
        Some(Self { source: source.into(), count: outcomes.len(), ece, bins })
    }
}

impl Bin {
    fn of(low: f64, high: f64, outcomes: &[Outcome]) -> Self {
        let count = outcomes.len();
        let mean = |value: fn(&Outcome) -> f64| {
            (count > 0).then(|| outcomes.iter().map(value).sum::<f64>() / count as f64)
        };
        let (confidence, accuracy) =
            (mean(|outcome| outcome.confidence), mean(|outcome| f64::from(u8::from(outcome.correct))));
        Self { low, high, count, confidence, accuracy }
    }
}
