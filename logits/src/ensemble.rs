//! Logits made of several models of one vocabulary.

use crate::{
    LogitsError,
    simd::layers::{LogRow, Number, log_add_exp},
};

/// How much each of several models counts: finite numbers, none below 0, not all 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights(Vec<f64>);

impl Weights {
    /// A weight for each model, in their order.
    ///
    /// # Errors
    ///
    /// [`LogitsError::OutOfRange`]: no weights, one below 0 or not finite, or none above 0.
    pub fn new(weights: Vec<f64>) -> Result<Self, LogitsError> {
        let range = "0 or more, finite";
        if let Some(&value) = weights.iter().find(|w| !(**w >= 0.0 && w.is_finite())) {
            return Err(LogitsError::OutOfRange { name: "weight of a model", value, range });
        }
        let value = weights.iter().sum::<f64>();
        if value > 0.0 && value.is_finite() {
            return Ok(Self(weights));
        }
        Err(LogitsError::OutOfRange { name: "sum of the models' weights", value, range: "above 0, finite" })
    }

    /// The weight 1 for each of `models`.
    ///
    /// # Errors
    ///
    /// [`LogitsError::OutOfRange`]: no models.
    pub fn equal(models: usize) -> Result<Self, LogitsError> {
        Self::new(vec![1.0; models])
    }

    /// The weights in the order of the models.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    /// The same weights with the sum 1.
    fn shares(&self) -> impl Iterator<Item = f64> {
        let sum: f64 = self.0.iter().sum();
        self.0.iter().map(move |w| w / sum)
    }
}

/// A law made of the laws of several models of one vocabulary.
///
/// A token that one of the models excludes (logit `-inf`) is excluded, but for mixtures, where all must, and for the
/// amateur of a contrast.
///
/// Source: Genest, Zidek, "Combining Probability Distributions", 1986 (mixtures and geometric means); Hinton,
/// "Training Products of Experts by Minimizing Contrastive Divergence", 2002.
///
/// ```
/// use drafthorse_logits::{Combine, Probs, Weights};
///
/// let (p, q) = ([0.0, 1f32.ln(), 2f32.ln()], [0.0, 0.0, f32::NEG_INFINITY]);
/// let mixture = Combine::Mixture(Weights::new(vec![3.0, 1.0])?);
/// let law = Probs::softmax(&mixture.logits(&[&p, &q]));
/// assert!((law.get(2) - 0.75 * 0.5).abs() < 1e-6);
/// # Ok::<(), drafthorse_logits::LogitsError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Combine {
    /// Weighted mean of the logits: the geometric mean of the laws, normalised.
    LogitAverage(Weights),
    /// Weighted mean of the probabilities.
    Mixture(Weights),
    /// The product of the laws, each to the power of its weight, normalised.
    Product(Weights),
    /// What the first model, the expert, finds likelier than the second, the amateur: the logits
    /// `(1 + strength) ln p - strength ln q` among tokens with `p(v) >= plausibility max p`. A probability of the amateur
    /// counts as at least 1e-12.
    ///
    /// Source: Li et al., "Contrastive Decoding", 2023; the strength of O'Brien, Lewis, "Contrastive Decoding
    /// Improves Reasoning in Large Language Models", 2023.
    Contrast {
        /// How much the amateur's logarithms are taken away, 0 or more.
        strength: f64,
        /// Share of the expert's highest probability that a token must have, from 0 to 1.
        plausibility: f64,
    },
}

/// The least an amateur's probability counts as.
const AMATEUR_FLOOR: f64 = 1e-12;

impl Combine {
    /// Whether the law can be made of this many models.
    ///
    /// # Errors
    ///
    /// [`LogitsError::Models`]: another number of models; [`LogitsError::OutOfRange`]: a contrast's setting.
    pub fn check(&self, models: usize) -> Result<(), LogitsError> {
        let wanted = match self {
            Self::LogitAverage(weights) | Self::Mixture(weights) | Self::Product(weights) => weights.0.len(),
            Self::Contrast { strength, plausibility } => {
                let out = |name, value: f64, range| Err(LogitsError::OutOfRange { name, value, range });
                if !(*strength >= 0.0 && strength.is_finite()) {
                    return out("contrast strength", *strength, "0 or more, finite");
                }
                if !(0.0..=1.0).contains(plausibility) {
                    return out("contrast plausibility", *plausibility, "0 to 1");
                }
                2
            }
        };
        if models == wanted { Ok(()) } else { Err(LogitsError::Models { models, wanted }) }
    }

    /// A row of logits whose softmax is the law, of a row of each model.
    ///
    /// Where no law follows from one of the rows (a NaN, `+inf`, or nothing finite) the whole result is NaN, which
    /// every sampler refuses. Models that leave no token in common give a row of `-inf`.
    ///
    /// # Panics
    ///
    /// If [`check`](Self::check) refuses the number of rows, or the rows differ in length.
    pub fn logits(&self, rows: &[&[f32]]) -> Vec<f32> {
        single(self.law(rows), rows)
    }

    /// As [`logits`](Self::logits), of rows in either precision; `None` where no law follows from a row.
    ///
    /// # Panics
    ///
    /// As [`logits`](Self::logits).
    pub fn law<T: Copy + Into<f64>>(&self, rows: &[&[T]]) -> Option<Vec<f64>> {
        if let Err(error) = self.check(rows.len()) {
            panic!("{error}");
        }
        let rows = log_rows(rows)?;
        Some(match self {
            Self::LogitAverage(weights) => linear(rows.iter().zip(weights.shares())),
            Self::Product(weights) => linear(rows.iter().zip(weights.0.iter().copied())),
            Self::Mixture(weights) => mixture(rows.iter().zip(weights.shares())),
            Self::Contrast { strength, plausibility } => contrast(&rows, *strength, *plausibility),
        })
    }
}

/// Guidance without a classifier: away from what the model says without the part of the prompt that shall count.
///
/// The logits `ln p_u + scale (ln p_c - ln p_u)`, `p_c` being conditioned and `p_u` not, or on a negative prompt. A token
/// that one of the two excludes is excluded; at scale 1 the law is `p_c`, at 0 `p_u`, whatever the other says.
///
/// Source: Sanchez et al., "Stay on Topic with Classifier-Free Guidance", 2023.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    scale: f64,
}

impl Guidance {
    /// Guidance of this scale; 1 is none.
    ///
    /// # Errors
    ///
    /// [`LogitsError::OutOfRange`]: a scale outside 0 to 100.
    pub fn new(scale: f64) -> Result<Self, LogitsError> {
        if (0.0..=100.0).contains(&scale) {
            return Ok(Self { scale });
        }
        let (name, range) = ("guidance scale", "0 to 100 (1 is off)");
        Err(LogitsError::OutOfRange { name, value: scale, range })
    }

    /// The scale.
    pub fn scale(self) -> f64 {
        self.scale
    }

    /// The guided row.
    ///
    /// Where no law follows from one of the rows (a NaN, `+inf`, or nothing finite) the whole result is NaN, which
    /// every sampler refuses.
    ///
    /// # Panics
    ///
    /// If the rows differ in length.
    pub fn logits(self, conditioned: &[f32], unconditioned: &[f32]) -> Vec<f32> {
        let rows = [conditioned, unconditioned];
        let guided = |rows: Vec<LogRow<'_, f32>>| linear(rows.iter().zip([self.scale, 1.0 - self.scale]));
        single(log_rows(&rows).map(guided), &rows)
    }
}

/// Log-probabilities of a row of logits in nats; `-inf` for excluded tokens.
///
/// All of it is NaN where no law follows from the row: a NaN, `+inf`, or nothing finite.
///
/// ```
/// let row = drafthorse_logits::log_softmax(&[1e30, 1e30, 0.0]);
/// assert!((row[0] + 2f64.ln()).abs() < 1e-12 && row[2] < -1e29);
/// ```
pub fn log_softmax(row: &[f32]) -> Vec<f64> {
    match LogRow::of(row) {
        Some(log_row) => (0..row.len()).map(|token| log_row.log_prob(token)).collect(),
        None => vec![f64::NAN; row.len()],
    }
}

fn log_rows<'a, T: Number>(rows: &[&'a [T]]) -> Option<Vec<LogRow<'a, T>>> {
    for row in rows {
        assert_eq!(row.len(), rows[0].len(), "tokens of two models");
    }
    rows.iter().map(|row| LogRow::of(row)).collect()
}

/// In the precision of rows, shifted so that the best logit is 0 and none can overflow.
fn single(law: Option<Vec<f64>>, rows: &[&[f32]]) -> Vec<f32> {
    let Some(law) = law else { return vec![f32::NAN; rows.first().map_or(0, |row| row.len())] };
    let max = law.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shift = if max.is_finite() { max } else { 0.0 };
    law.iter().map(|&x| (x - shift) as f32).collect()
}

/// `sum(factor * log-probability)`; a token excluded by one of the rows that count is excluded.
fn linear<'a, T: Number + 'a>(rows: impl Iterator<Item = (&'a LogRow<'a, T>, f64)>) -> Vec<f64> {
    let mut sum: Vec<f64> = Vec::new();
    for (row, factor) in rows {
        sum.resize(row.row.len(), 0.0);
        if factor == 0.0 {
            continue;
        }
        for (sum, &x) in sum.iter_mut().zip(row.row) {
            let x = row.of_logit(x);
            // Below 0 a factor would make the best of what is excluded.
            *sum += if x == f64::NEG_INFINITY { x } else { factor * x };
        }
    }
    sum
}

/// `ln(sum(share * probability))`.
fn mixture<'a, T: Number + 'a>(rows: impl Iterator<Item = (&'a LogRow<'a, T>, f64)>) -> Vec<f64> {
    let mut law: Vec<f64> = Vec::new();
    for (row, share) in rows {
        law.resize(row.row.len(), f64::NEG_INFINITY);
        if share > 0.0 {
            log_add_exp(&mut law, row, share.ln());
        }
    }
    law
}

fn contrast<T: Number>(rows: &[LogRow<'_, T>], strength: f64, plausibility: f64) -> Vec<f64> {
    let (expert, amateur) = (rows[0], rows[1]);
    let vocab = 0..expert.row.len();
    let (least, floor) = (expert.best() + plausibility.ln(), AMATEUR_FLOOR.ln());
    let score = |v: usize| match expert.log_prob(v) {
        p if p >= least && p > f64::NEG_INFINITY => {
            (1.0 + strength) * p - strength * amateur.log_prob(v).max(floor)
        }
        _ => f64::NEG_INFINITY,
    };
    vocab.map(score).collect()
}
