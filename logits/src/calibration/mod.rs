//! Calibration: from what a model says it is sure of to how often it is right.
//!
//! A [`Calibrator`] is fitted to pairs of a confidence and whether it was right, and turns a confidence into the
//! probability of being right. [`Reliability`] measures how far the two are apart.

mod acceptance;
mod isotonic;
mod platt;
mod reliability;
mod temperature;

pub use acceptance::AcceptanceEstimate;
pub use isotonic::Isotonic;
pub use platt::Platt;
pub use reliability::{Bin, Reliability, brier, nll};
pub use temperature::TemperatureScaling;

use crate::TokenId;
use std::{fmt, str::FromStr};

/// A confidence, from 0 to 1, and whether it was right.
pub type Judged = (f64, bool);

/// Confidences nearer to 0 or 1 than this count as this near: their logarithms must be finite.
const EDGE: f64 = 1e-12;

/// Why there is no calibration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// Nothing was given.
    #[error("no pairs of confidence and outcome; at least one is needed")]
    Empty,
    /// A confidence is not a probability.
    #[error("confidence {value} of pair {index} (from 0) is not between 0 and 1")]
    Confidence {
        /// Which pair, from 0.
        index: usize,
        /// The confidence.
        value: f64,
    },
    /// From outcomes that are all alike no curve can be learned.
    #[error("all {pairs} outcomes are {outcome}; both kinds are needed, so give more pairs")]
    OneKind {
        /// How many pairs there are.
        pairs: usize,
        /// What all of them are.
        outcome: &'static str,
    },
    /// A row of logits and the token that came do not go together, or the row holds NaN or `+inf`.
    #[error("row {index} (from 0) gives token {token} no finite logit")]
    Row {
        /// Which row, from 0.
        index: usize,
        /// The token that came.
        token: TokenId,
    },
    /// A diagram of no bins.
    #[error("0 bins; at least 1 is needed")]
    NoBins,
    /// A text that is no calibrator.
    #[error(
        "`{text}` is no calibrator: {reason}; write `temperature:T`, `platt:SLOPE,OFFSET` or `isotonic:CONFIDENCE=PROBABILITY,...`"
    )]
    Text {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// A curve from confidence to the probability of being right.
///
/// As text it is `temperature:1.3`, `platt:1.2,-0.3` or `isotonic:0.1=0.05,0.5=0.4`, which [`FromStr`] reads back to
/// the last bit.
///
/// ```
/// use drafthorse_logits::calibration::Calibrator;
///
/// let sharper: Calibrator = "temperature:0.5".parse()?;
/// assert!(sharper.apply(0.8) > 0.9 && sharper.apply(0.5) == 0.5);
/// assert_eq!(sharper.to_string(), "temperature:0.5");
/// # Ok::<(), drafthorse_logits::calibration::CalibrationError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Calibrator {
    /// Log-odds divided by a number.
    Temperature(TemperatureScaling),
    /// A straight line through log-odds.
    Platt(Platt),
    /// Any curve that never falls.
    Isotonic(Isotonic),
}

impl Calibrator {
    /// The calibrated probability of being right, from 0 to 1; NaN of NaN.
    pub fn apply(&self, confidence: f64) -> f64 {
        match self {
            Self::Temperature(scaling) => scaling.apply(confidence),
            Self::Platt(platt) => platt.apply(confidence),
            Self::Isotonic(isotonic) => isotonic.apply(confidence),
        }
    }

    /// The calibrator that `text` describes.
    ///
    /// # Errors
    ///
    /// [`CalibrationError::Text`].
    pub fn parse(text: &str) -> Result<Self, CalibrationError> {
        let wrong = |reason| CalibrationError::Text { text: text.to_owned(), reason };
        let (kind, values) = text.split_once(':').ok_or_else(|| wrong("it has no colon"))?;
        let number = |value: &str| match value.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(wrong("a finite number is missing")),
        };
        match kind.trim() {
            "temperature" => TemperatureScaling::new(number(values)?)
                .map(Self::Temperature)
                .ok_or_else(|| wrong("a temperature is above 0")),
            "platt" => {
                let pair = values.split_once(',').ok_or_else(|| wrong("two numbers are needed"))?;
                Ok(Self::Platt(Platt::new(number(pair.0)?, number(pair.1)?)))
            }
            "isotonic" => {
                let knot = |part: &str| {
                    let (x, y) =
                        part.split_once('=').ok_or_else(|| wrong("a knot is CONFIDENCE=PROBABILITY"))?;
                    Ok((number(x)?, number(y)?))
                };
                let knots: Result<Vec<_>, _> = values.split(',').map(knot).collect();
                Isotonic::new(knots?)
                    .map(Self::Isotonic)
                    .ok_or_else(|| wrong("knots rise from left to right, and both numbers are from 0 to 1"))
            }
            _ => Err(wrong("its kind is unknown")),
        }
    }
}

impl fmt::Display for Calibrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Temperature(scaling) => write!(f, "temperature:{}", scaling.temperature()),
            Self::Platt(platt) => write!(f, "platt:{},{}", platt.slope(), platt.offset()),
            Self::Isotonic(isotonic) => {
                f.write_str("isotonic:")?;
                for (at, (x, y)) in isotonic.knots().iter().enumerate() {
                    write!(f, "{}{x}={y}", if at == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for Calibrator {
    type Err = CalibrationError;

    fn from_str(text: &str) -> Result<Self, CalibrationError> {
        Self::parse(text)
    }
}

impl From<TemperatureScaling> for Calibrator {
    fn from(scaling: TemperatureScaling) -> Self {
        Self::Temperature(scaling)
    }
}

impl From<Platt> for Calibrator {
    fn from(platt: Platt) -> Self {
        Self::Platt(platt)
    }
}

impl From<Isotonic> for Calibrator {
    fn from(isotonic: Isotonic) -> Self {
        Self::Isotonic(isotonic)
    }
}

/// `ln(c / (1 - c))`.
fn log_odds(confidence: f64) -> f64 {
    let c = confidence.clamp(EDGE, 1.0 - EDGE);
    c.ln() - (-c).ln_1p()
}

/// The probability of these log-odds.
fn sigmoid(x: f64) -> f64 {
    // The form whose exponential cannot overflow.
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// Whether all confidences are probabilities, of which there are some.
fn check(pairs: &[Judged]) -> Result<(), CalibrationError> {
    if pairs.is_empty() {
        return Err(CalibrationError::Empty);
    }
    match pairs.iter().position(|(c, _)| !(0.0..=1.0).contains(c)) {
        Some(index) => Err(CalibrationError::Confidence { index, value: pairs[index].0 }),
        None => Ok(()),
    }
}

/// Whether a curve can be fitted to them, too.
fn check_fit(pairs: &[Judged]) -> Result<(), CalibrationError> {
    check(pairs)?;
    let right = pairs.iter().filter(|(_, right)| *right).count();
    let outcome = match right {
        0 => "wrong",
        _ if right == pairs.len() => "right",
        _ => return Ok(()),
    };
    Err(CalibrationError::OneKind { pairs: pairs.len(), outcome })
}
