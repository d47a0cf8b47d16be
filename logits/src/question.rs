use crate::{LogitsError, Probs, TokenId, math};

/// What is wanted of a row of logits where the row itself is not: a few numbers instead of a vocabulary.
///
/// Rows that lie on a device then need not leave it. [`RowQuestion::answer`] is what every device has to
/// say, up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct RowQuestion {
    /// A token whose probability is wanted, and which is left out of the draw.
    pub drafted: Option<TokenId>,
    /// Where in the cumulative distribution the token is drawn, in `[0, 1)`.
    pub noise: f64,
}

/// What a row says to a [`RowQuestion`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct RowAnswer {
    /// Probability of the drafted token; 0 where nothing was drafted.
    pub probability: f64,
    /// A token drawn from the row's distribution without the drafted token.
    pub token: TokenId,
}

impl RowQuestion {
    /// The answer of `row` at a temperature: 0 is a point mass on the most probable token, the lowest id
    /// among equals.
    ///
    /// The numbers are those of [`Sampler::scores`](crate::Sampler::scores), [`Probs::residual`] and
    /// [`Probs::quantile`], bit for bit.
    ///
    /// # Errors
    ///
    /// A NaN or `+inf` among the logits, or a row in which every token is excluded.
    ///
    /// ```
    /// use drafthorse_logits::RowQuestion;
    ///
    /// let question = RowQuestion { drafted: Some(1), noise: 0.9 };
    /// let answer = question.answer(&[0.0, 1f32.ln(), 2f32.ln()], 1.0)?;
    /// assert!((answer.probability - 0.25).abs() < 1e-6);
    /// assert_eq!(answer.token, 2);
    /// # Ok::<(), drafthorse_logits::LogitsError>(())
    /// ```
    pub fn answer(&self, row: &[f32], temperature: f32) -> Result<RowAnswer, LogitsError> {
        math::check(row)?;
        let probs = match temperature {
            0.0 => Probs::point(math::argmax(row), row.len()),
            1.0 => Probs::softmax(row),
            _ => math::Normalizer::at(row, temperature).softmax(row),
        };
        let Some(drafted) = self.drafted else {
            return Ok(RowAnswer { probability: 0.0, token: probs.quantile(self.noise) });
        };
        let residual = probs.residual(&Probs::point(drafted, row.len()));
        let token = residual.as_ref().unwrap_or(&probs).quantile(self.noise);
        Ok(RowAnswer { probability: probs.get(drafted), token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Sampler, SamplingOptions};
    use proptest::prelude::*;

    proptest! {
        /// The answer is what scores, residual and quantile say, to the bit.
        #[test]
        fn answers_are_those_of_the_scores(
            row in prop::collection::vec(prop_oneof![-9.0..9.0f32, Just(f32::NEG_INFINITY), Just(2.0f32)], 2..9),
            temperature in prop_oneof![Just(0.0f32), Just(1.0f32), 0.1..3.0f32],
            noise in 0.0..1.0f64,
            drafted in 0u32..9,
        ) {
            let drafted = drafted % row.len() as TokenId;
            let options = SamplingOptions { temperature, ..Default::default() };
            let scores = Sampler::new(&options).unwrap().scores(&Context::new(&[], 0), &row);
            let whole = RowQuestion { drafted: None, noise }.answer(&row, temperature);
            let without = RowQuestion { drafted: Some(drafted), noise }.answer(&row, temperature);
            match scores {
                Ok(scores) => {
                    let probs = scores.probs();
                    prop_assert_eq!(whole, Ok(RowAnswer { probability: 0.0, token: probs.quantile(noise) }));
                    let rest = probs.residual(&Probs::point(drafted, row.len()));
                    let token = rest.as_ref().unwrap_or(probs).quantile(noise);
                    prop_assert_eq!(without, Ok(RowAnswer { probability: probs.get(drafted), token }));
                }
                Err(error) => prop_assert_eq!((whole, without), (Err(error.clone()), Err(error))),
            }
        }
    }

    #[test]
    fn unusable_rows_are_refused() {
        for temperature in [0.0, 0.5, 1.0] {
            let ask = |row: &[f32]| RowQuestion::default().answer(row, temperature).unwrap_err();
            assert!(matches!(ask(&[0.0, f32::NAN]), LogitsError::NotFinite { token: 1, .. }));
            assert!(matches!(ask(&[f32::INFINITY, 1.0]), LogitsError::NotFinite { token: 0, .. }));
            assert_eq!(ask(&[f32::NEG_INFINITY; 3]), LogitsError::NothingLeft { vocab: 3 });
        }
    }
}
