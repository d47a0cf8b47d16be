//! Rows of a text that is known, read in pieces.

use drafthorse_logits::{LogitsError, TokenId, log_sum_exp};
use drafthorse_model::{ModelError, SequenceModel};

/// Logits held at a time: 64 MiB of them.
const HELD: usize = 1 << 24;

/// How many rows of `vocab` logits are read at a time, where each comes with `layers` more.
pub(crate) fn rows_at_a_time(vocab: usize, layers: usize) -> usize {
    (HELD / (vocab.max(1) * (layers + 1))).clamp(1, 512)
}

/// Calls `visit` with the row after each of `tokens[first..]`, and with the index of the token it follows. Never
/// holds more than a few rows, however long the text.
pub(crate) fn each_row<E: From<ModelError>>(
    model: &mut dyn SequenceModel,
    tokens: &[TokenId],
    first: usize,
    mut visit: impl FnMut(usize, &[f32]) -> Result<(), E>,
) -> Result<(), E> {
    let step = rows_at_a_time(model.vocab_size(), 0);
    for start in (first..tokens.len()).step_by(step) {
        let end = tokens.len().min(start + step);
        let logits = model.logits(&tokens[..end], end - start)?;
        logits.iter().enumerate().try_for_each(|(row, logits)| visit(start + row, logits))?;
    }
    Ok(())
}

/// Log-probabilities of the tokens of a row in nats, at temperature 1.
pub(crate) struct LogProbsOfRow<'a> {
    row: &'a [f32],
    sum: f64,
}

impl<'a> LogProbsOfRow<'a> {
    /// # Errors
    ///
    /// A row that is no law.
    pub(crate) fn new(row: &'a [f32]) -> Result<Self, ModelError> {
        let unusable = |value: &f32| value.is_nan() || *value == f32::INFINITY;
        if let Some(token) = row.iter().position(unusable) {
            return Err(LogitsError::NotFinite { token: token as TokenId, value: row[token] }.into());
        }
        let sum = log_sum_exp(row);
        if sum == f64::NEG_INFINITY {
            return Err(LogitsError::NothingLeft { vocab: row.len() }.into());
        }
        Ok(Self { row, sum })
    }

    /// That of one token; `-inf` where the row excludes it.
    ///
    /// # Errors
    ///
    /// The row has no such token.
    pub(crate) fn get(&self, token: TokenId) -> Result<f64, ModelError> {
        let outside = ModelError::Token { token, vocab: self.row.len() };
        self.row.get(token as usize).map(|&logit| f64::from(logit) - self.sum).ok_or(outside)
    }
}

/// The log-probability of a token in nats, at temperature 1; `-inf` where the row excludes it.
///
/// # Errors
///
/// A row that is no law, or has no such token.
pub(crate) fn log_prob(row: &[f32], token: TokenId) -> Result<f64, ModelError> {
    LogProbsOfRow::new(row)?.get(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_model::{CachedModel, TableModel};
    use std::sync::Arc;

    #[test]
    fn every_row_is_visited_once_and_in_order() {
        let model = Arc::new(TableModel::random(3, 1.0, 5));
        let tokens: Vec<TokenId> = (0..1400).map(|i| (i * i / 7) % 3).collect();
        let mut seen = Vec::new();
        let mut cached = CachedModel::new(model.clone());
        each_row(&mut cached, &tokens, 100, |at, row| {
            assert_eq!(row, model.row(&tokens[..=at]));
            seen.push(at);
            Ok::<_, ModelError>(())
        })
        .expect("a table never fails");
        assert_eq!(seen, (100..1400).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_law_has_no_log_probabilities() {
        let infinity = f32::INFINITY;
        assert!((log_prob(&[0.0, 3f32.ln()], 0).expect("a law") - 0.25f64.ln()).abs() < 1e-7);
        assert_eq!(log_prob(&[0.0, -infinity], 1).expect("a law"), f64::NEG_INFINITY);
        for (row, token) in [([0.0, f32::NAN], 0), ([infinity, 0.0], 1), ([-infinity; 2], 0), ([0.0; 2], 2)] {
            assert!(log_prob(&row, token).is_err(), "{row:?}");
        }
    }
}
