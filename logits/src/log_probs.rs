use crate::{Scores, TokenId, largest, log_sum_exp};

/// Of which law log-probabilities are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LogProbsOf {
    /// The expert's own: the softmax of its logits (of layers, of several models, guided, if it is so) before any
    /// processor.
    #[default]
    Raw,
    /// The expert's after all processors, `-inf` for what they exclude. A rule with another law than the expert's may let
    /// such a token stand.
    Processed,
}

/// Which log-probabilities are wanted of each token of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct LogProbsOptions {
    /// So many of the most probable tokens too.
    pub top: usize,
    /// Of which law.
    pub of: LogProbsOf,
}

/// Log-probabilities at one position, in nats.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct LogProbs {
    /// Of the token that stands there; `-inf` where the law excludes it.
    pub chosen: f64,
    /// How many tokens are more probable, and one.
    pub rank: usize,
    /// The most probable tokens, best first, the lowest id first among equals; no excluded ones.
    pub top: Vec<(TokenId, f64)>,
}

impl LogProbs {
    /// What a row of logits says of `token`.
    ///
    /// ```
    /// use drafthorse_logits::LogProbs;
    /// let found = LogProbs::of_row(&[0.0, 1f32.ln(), 2f32.ln()], 1, 2);
    /// assert!((found.chosen - 0.25f64.ln()).abs() < 1e-6);
    /// assert_eq!((found.rank, found.top[0].0, found.top[1].0), (2, 2, 0));
    /// ```
    ///
    /// # Panics
    ///
    /// If the row has no such token.
    pub fn of_row(row: &[f32], token: TokenId, top: usize) -> Self {
        let total = log_sum_exp(row);
        let logit = row[token as usize];
        let log = |logit: f32| f64::from(logit) - total;
        let best = largest(row, top).into_iter().filter(|(_, logit)| *logit > f32::NEG_INFINITY);
        Self {
            chosen: log(logit),
            rank: 1 + row.iter().filter(|other| **other > logit).count(),
            top: best.map(|(token, logit)| (token, log(logit))).collect(),
        }
    }

    /// What is sampled says of `token`.
    ///
    /// # Panics
    ///
    /// If the scores have no such token.
    pub fn of_scores(scores: &Scores, token: TokenId, top: usize) -> Self {
        let chosen = scores.prob(token);
        let row = scores.probs().row();
        let best = largest(&row, top).into_iter().filter(|(_, p)| *p > 0.0);
        Self {
            chosen: chosen.ln(),
            rank: 1 + row.iter().filter(|other| **other > chosen).count(),
            top: best.map(|(token, p)| (token, p.ln())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Sampler, SamplingOptions};
    use proptest::prelude::*;

    proptest! {
        /// Raw and processed agree where nothing is processed.
        #[test]
        fn both_laws_are_one_at_temperature_1(row in prop::collection::vec(-9.0..9.0f32, 1..30), token in 0u32..30, top in 0usize..5) {
            let token = token % row.len() as u32;
            let options = SamplingOptions { temperature: 1.0, ..Default::default() };
            let scores = Sampler::new(&options).expect("valid").scores(&Context::new(&[], 0), &row).expect("finite");
            let (raw, processed) = (LogProbs::of_row(&row, token, top), LogProbs::of_scores(&scores, token, top));
            prop_assert!((raw.chosen - processed.chosen).abs() < 1e-12);
            prop_assert_eq!(raw.rank, processed.rank);
            prop_assert_eq!(raw.top.len(), processed.top.len());
            for (a, b) in raw.top.iter().zip(&processed.top) {
                prop_assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn what_is_excluded_has_no_place_among_the_best() {
        let row = [0.0, f32::NEG_INFINITY, 0.0];
        let found = LogProbs::of_row(&row, 1, 3);
        assert_eq!((found.chosen, found.rank, found.top.len()), (f64::NEG_INFINITY, 3, 2));
        let greedy = Sampler::new(&SamplingOptions::default()).expect("valid");
        let scores = greedy.scores(&Context::new(&[], 0), &row).expect("finite");
        let found = LogProbs::of_scores(&scores, 0, 3);
        assert_eq!(found, LogProbs { chosen: 0.0, rank: 1, top: vec![(0, 0.0)] });
        assert_eq!(LogProbs::of_scores(&scores, 2, 0).chosen, f64::NEG_INFINITY);
    }
}
