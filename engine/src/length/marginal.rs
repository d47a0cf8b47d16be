//! Along a draft: whether the next token pays.

use super::acceptance::Calibration;
use drafthorse_drafter::StopRule;
use drafthorse_logits::Proposal;

/// Ends a draft where no longer one would give more tokens for the time it takes than time usually gives.
///
/// It looks at the tokens that are drawn, how sure the drafter was of them, and decides over those behind them.
#[derive(Clone, Debug)]
pub(crate) struct Marginal {
    /// How likely tokens are accepted, by position.
    pub(super) acceptance: Vec<f64>,
    /// Seconds of a round, by tokens drafted.
    pub(super) rounds: Vec<f64>,
    /// Tokens a second that time is worth.
    pub(super) rate: f64,
    pub(super) calibration: Calibration,
}

impl Marginal {
    /// Whether more tokens pay behind tokens of these acceptances.
    pub(super) fn goes_on(&self, reached: f64, tokens: usize) -> bool {
        let mut reach = reached;
        let mut gain = 0.0;
        let longer = self.acceptance.iter().zip(self.rounds.iter().skip(1)).skip(tokens);
        let now = self.rounds.get(tokens).copied().unwrap_or(f64::INFINITY);
        longer.into_iter().any(|(acceptance, round)| {
            reach *= acceptance;
            gain += reach;
            gain > self.rate * (round - now)
        })
    }

    /// How many of the tokens of a draft that was there at once are worth a pass, by its confidences.
    pub(crate) fn best(&self, confidences: &[f64]) -> usize {
        let (mut reach, mut tokens) = (1.0, 1.0);
        let mut best = (0, self.worth(0, tokens));
        for (length, confidence) in (1..).zip(confidences) {
            reach *= self.calibration.acceptance(*confidence);
            tokens += reach;
            let worth = self.worth(length, tokens);
            if worth > best.1 {
                best = (length, worth);
            }
        }
        best.0
    }

    fn worth(&self, length: usize, tokens: f64) -> f64 {
        self.rounds.get(length).map_or(f64::NEG_INFINITY, |round| tokens - self.rate * round)
    }
}

impl StopRule for Marginal {
    fn ends(&self, draft: &Proposal) -> bool {
        let drawn = draft.tokens.iter().zip(&draft.scores).map(|(token, scores)| scores.raw_prob(*token));
        // What a constraint forced is certain, and no draft.
        let own = drawn.filter(|confidence| *confidence < 1.0);
        let (count, reached) = own.fold((0, 1.0), |(count, reached), confidence| {
            (count + 1, reached * self.calibration.acceptance(confidence))
        });
        !self.goes_on(reached, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_goes_on_as_long_as_that_pays() {
        let rule = Marginal {
            acceptance: vec![0.8; 4],
            rounds: vec![1.0, 1.3, 1.6, 1.9, 2.2],
            rate: 1.2,
            calibration: Calibration::default(),
        };
        // The next token costs .36 tokens: it pays behind what is reached with .45 or more.
        assert!(rule.goes_on(0.5, 1) && !rule.goes_on(0.4, 1));
        assert!(!rule.goes_on(1.0, 4), "the longest draft");
        assert_eq!(rule.best(&[0.9, 0.9, 0.2, 0.9]), 2);
        assert_eq!(rule.best(&[0.1]), 0);
    }

    #[test]
    fn a_step_in_the_costs_is_looked_beyond() {
        let rule = Marginal {
            acceptance: vec![0.9; 4],
            rounds: vec![1.0, 1.0, 2.0, 2.0, 2.0],
            rate: 1.0,
            calibration: Calibration::default(),
        };
        assert!(rule.goes_on(0.9, 1), "three tokens for the price of one");
        let short = Marginal { acceptance: vec![0.9; 2], rounds: vec![1.0, 1.0, 2.0], ..rule };
        assert!(!short.goes_on(0.9, 1));
    }
}
