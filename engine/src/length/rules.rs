//! Rules that end a draft where the drafter is not sure. They see the token after which it ends, and decide over those
//! behind it.

use drafthorse_drafter::StopRule;
use drafthorse_logits::{Proposal, Scores};

/// Ends a draft where the drafter's highest probability is low.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsure {
    pub(super) threshold: f64,
}

impl StopRule for Unsure {
    fn ends(&self, draft: &Proposal) -> bool {
        last(draft).is_some_and(|scores| scores.raw_max() < self.threshold)
    }
}

/// Ends a draft where the drafter's entropy is high.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uncertain {
    pub(super) threshold: f64,
}

/// By which the entropy is scaled before its root bounds the total variation.
const SCALE: f64 = 0.15;

impl StopRule for Uncertain {
    fn ends(&self, draft: &Proposal) -> bool {
        last(draft).is_some_and(|scores| (SCALE * scores.raw_entropy()).sqrt() > self.threshold)
    }
}

/// The row of the last token.
pub(super) fn last(draft: &Proposal) -> Option<&Scores> {
    draft.scores.get(draft.tokens.len().checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_logits::Probs;

    fn draft(weights: &[f64]) -> Proposal {
        let probs = Probs::normalize(weights.to_vec()).expect("positive weights");
        Proposal { tokens: vec![0], scores: vec![Scores::from_probs(probs.clone(), probs)] }
    }

    #[test]
    fn a_draft_ends_where_the_drafter_is_not_sure() {
        let (sure, unsure) = (draft(&[9.0, 1.0]), draft(&[1.0, 1.0]));
        let confident = Unsure { threshold: 0.6 };
        assert!(!confident.ends(&sure) && confident.ends(&unsure));
        // sqrt(.15 ln 2) = .3225, and .9 against .1 has .325 nats, which is .2208.
        let certain = Uncertain { threshold: 0.3 };
        assert!(!certain.ends(&sure) && certain.ends(&unsure));
        assert!(!Uncertain { threshold: 0.33 }.ends(&unsure) && Uncertain { threshold: 0.22 }.ends(&sure));
        assert!(!confident.ends(&Proposal::empty()));
    }

    /// The row after the last token is none of the tokens'.
    #[test]
    fn the_last_token_decides() {
        let mut draft = draft(&[9.0, 1.0]);
        draft.scores.extend(self::draft(&[1.0, 1.0]).scores);
        assert!(!Unsure { threshold: 0.6 }.ends(&draft));
    }
}
