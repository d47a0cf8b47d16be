use crate::{LogitsError, Probs, TokenId, buffer::Buffer, candidates::Few, scan, simd};

/// Index of the largest value; the lowest index among equals. NaN never wins.
///
/// # Panics
///
/// If `row` is empty.
pub fn argmax(row: &[f32]) -> TokenId {
    assert!(!row.is_empty(), "argmax of an empty row");
    scan::position(row, simd::max(row)).unwrap_or(0) as TokenId
}

/// `ln(sum(exp(row)))` in nats, without overflow; `-inf` for an empty or fully excluded row.
pub fn log_sum_exp(row: &[f32]) -> f64 {
    let max = simd::max(row);
    if max == f32::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    f64::from(max) + simd::sum_exp(row, max, None).ln()
}

/// Refuses NaN and `+inf`, and rows in which nothing is left.
pub(crate) fn check(row: &[f32]) -> Result<(), LogitsError> {
    // One pass without branches decides the usual case: every value is a number below +inf.
    let (mut bad, mut alive) = (false, false);
    for &value in row {
        // NaN is not below infinity either.
        bad |= !value.lt(&f32::INFINITY);
        alive |= value > f32::NEG_INFINITY;
    }
    if bad {
        let token = row.iter().position(|x| x.is_nan() || *x == f32::INFINITY).unwrap_or(0);
        return Err(LogitsError::NotFinite { token: token as TokenId, value: row[token] });
    }
    if alive { Ok(()) } else { Err(LogitsError::NothingLeft { vocab: row.len() }) }
}

/// What makes a row of logits a distribution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normalizer {
    max: f32,
    /// Of [`Temperature`](crate::processors::Temperature), applied on the way; `None` where nothing is divided.
    temperature: Option<f32>,
    /// `1 / sum(exp(row - max))`.
    scale: f64,
    log_scale: f64,
}

impl Normalizer {
    /// Of a row that passed [`check`].
    pub(crate) fn of(row: &[f32]) -> Self {
        Self::new(row, None)
    }

    /// Of the same row at a temperature.
    pub(crate) fn at(row: &[f32], temperature: f32) -> Self {
        Self::new(row, Some(temperature))
    }

    fn new(row: &[f32], temperature: Option<f32>) -> Self {
        let max = simd::max(row);
        Self::with_sum(max, temperature, simd::sum_exp(row, max, temperature))
    }

    fn with_sum(max: f32, temperature: Option<f32>, sum: f64) -> Self {
        Self { max, temperature, scale: 1.0 / sum, log_scale: -sum.ln() }
    }

    /// Probability of a token with this logit: the number that [`Normalizer::softmax`] has there.
    pub(crate) fn prob(self, logit: f32) -> f64 {
        self.scale * simd::exp(simd::exponent(logit, self.max, self.temperature))
    }

    /// What is raised to for this logit: at most 0.
    pub(crate) fn exponent(&self, logit: f32) -> f64 {
        simd::exponent(logit, self.max, self.temperature)
    }

    /// The logarithm of the probability of a token with this logit.
    pub(crate) fn log_prob(&self, logit: f32) -> f64 {
        self.exponent(logit) + self.log_scale
    }

    /// Buckets of logits by what they are raised to, the largest first; `from` is where the first one begins.
    pub(crate) fn buckets(&self, logits: &[f32], from: f64, out: &mut Vec<u32>) {
        simd::write_buckets(logits, |logit| (self.exponent(logit) + from).abs(), out);
    }

    /// The largest logit.
    pub(crate) fn max(&self) -> f32 {
        self.max
    }

    /// Of some logits: the numbers that [`Normalizer::softmax`] has there.
    pub(crate) fn masses(&self, logits: &[f32]) -> Buffer<f64> {
        Buffer::fill(logits.len(), |out| simd::write_exp(logits, self.max, self.temperature, self.scale, out))
    }

    /// Softmax of a few tokens of a vocabulary.
    pub(crate) fn softmax_of(self, few: &Few, vocab: usize) -> Probs {
        let masses = self.masses(&few.logits);
        Probs::filled(vocab, |probs| {
            probs.resize(vocab, 0.0);
            for (&token, &mass) in few.tokens.iter().zip(masses.iter()) {
                probs[token as usize] = mass;
            }
        })
    }

    /// Of a row, perhaps at a temperature, with its entropy in nats.
    pub(crate) fn with_entropy(row: &[f32], temperature: Option<f32>) -> (Self, f64) {
        let max = simd::max(row);
        let (sum, weighted) = simd::sum_exp_and_x_exp(row, max, temperature);
        (Self::with_sum(max, temperature, sum), sum.ln() - weighted / sum)
    }

    /// The highest probability.
    pub(crate) fn max_prob(self) -> f64 {
        self.scale
    }

    /// Softmax in f64.
    pub(crate) fn softmax(self, row: &[f32]) -> Probs {
        Probs::filled(row.len(), |probs| simd::write_exp(row, self.max, self.temperature, self.scale, probs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extreme_rows() {
        assert_eq!(argmax(&[f32::NEG_INFINITY, 3.0, 3.0]), 1);
        let softmax = |row: &[f32]| Normalizer::of(row).softmax(row).to_vec();
        assert_eq!(softmax(&[1e30, -1e30, f32::NEG_INFINITY]), [1.0, 0.0, 0.0]);
        assert_eq!(softmax(&[7.0; 4]), [0.25; 4]);
        let row = [0.5, -3.25, f32::NEG_INFINITY, 2.0];
        let normalizer = Normalizer::of(&row);
        assert_eq!(row.map(|x| normalizer.prob(x)), softmax(&row)[..]);
        assert!((log_sum_exp(&[1000.0, 1000.0]) - (1000.0 + 2f64.ln())).abs() < 1e-9);
        assert_eq!(log_sum_exp(&[f32::NEG_INFINITY]), f64::NEG_INFINITY);
    }

    #[test]
    fn unusable_rows_are_refused() {
        let nan = check(&[0.0, f32::NAN]).unwrap_err();
        assert!(matches!(nan, LogitsError::NotFinite { token: 1, .. }), "{nan}");
        let inf = check(&[f32::INFINITY, f32::NAN]).unwrap_err();
        assert!(matches!(inf, LogitsError::NotFinite { token: 0, .. }), "{inf}");
        let none = check(&[f32::NEG_INFINITY; 3]).unwrap_err();
        assert_eq!(none, LogitsError::NothingLeft { vocab: 3 });
    }
}
