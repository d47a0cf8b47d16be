use crate::{
    AcceptanceRule, Calibrated, Confidence, ConfidenceRule, KeepRule, Kept, Kind, RuleError, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::Scores;
use std::sync::Arc;

/// Speculative cascade by the optimal rule: the expert decides where its confidence is worth a rejection.
///
/// * Law: p where `max q < max p - lenience TV(p, q)`, q elsewhere; confidences are raw, TV and laws as sampled.
///   Exact with respect to that law.
/// * Large negative values give the expert's text, large ones the drafter's. The more the two differ, the *less*
///   the expert is asked: a draft that is confident and wrong stands.
///
/// Source: Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, equations 6 and 10.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct CascadeOpt {
    /// The dial alpha: any number; large negative ones always ask the expert where the two differ.
    pub lenience: f64,
}

const LENIENCE: Dial = Dial::new("lenience", "confidence that a certain rejection must be worth", 0.5)
    .sweeping(&[-4.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0]);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "cascade-opt",
    kind: Kind::Cascade,
    about: "the drafter's distribution unless the expert is more confident by the price of a rejection",
    dials: &[LENIENCE],
    make: |values| Arc::new(CascadeOpt { lenience: at(values, 0, &LENIENCE) }),
};

impl KeepRule for CascadeOpt {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&LENIENCE, self.lenience)]
    }

    fn kept<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Kept<'a> {
        self.kept_by(&Confidence::default(), draft, expert)
    }

    fn needs_calibrated_draft(&self) -> bool {
        true
    }

    fn calibrated(&self, confidence: Confidence) -> Result<Arc<dyn AcceptanceRule>, RuleError> {
        Calibrated::arc(*self, confidence)
    }
}

impl ConfidenceRule for CascadeOpt {
    fn kept_by<'a>(&self, confidence: &Confidence, draft: &'a Scores, expert: &'a Scores) -> Kept<'a> {
        let gain = confidence.expert(expert) - confidence.draft(draft);
        let defer = super::worth_a_rejection(gain, self.lenience, draft, expert);
        if defer { Kept::Nothing } else { Kept::All }
    }

    fn reads_expert(&self) -> bool {
        true
    }
}
