use crate::{
    AcceptanceRule, Calibrated, Confidence, ConfidenceRule, KeepRule, Kept, Kind, RuleError, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::Scores;
use std::sync::Arc;

/// Speculative cascade by Chow's rule: the expert is asked where the drafter is not confident.
///
/// * Law: p where `max q < 1 - lenience`, q elsewhere (q and p as sampled, the test on raw distributions).
///   Exact with respect to that law.
/// * At 1 the text is the drafter's. At 0 it is *not* quite the expert's: a drafter that is certain keeps its say.
///
/// Source: Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, equations 2 and 6.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct CascadeChow {
    /// The dial alpha, from 0 (nearly always the expert) to 1 (always the drafter).
    pub lenience: f64,
}

const LENIENCE: Dial = Dial::new("lenience", "how unsure the drafter may be and still decide", 0.4)
    .within(0.0, 1.0, "0 to 1")
    .sweeping(&[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "cascade-chow",
    kind: Kind::Cascade,
    about: "the drafter's distribution where it is confident, else the expert's",
    dials: &[LENIENCE],
    make: |values| Arc::new(CascadeChow { lenience: at(values, 0, &LENIENCE) }),
};

impl KeepRule for CascadeChow {
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

impl ConfidenceRule for CascadeChow {
    fn kept_by<'a>(&self, confidence: &Confidence, draft: &'a Scores, _expert: &'a Scores) -> Kept<'a> {
        if confidence.draft(draft) < 1.0 - self.lenience { Kept::Nothing } else { Kept::All }
    }

    fn reads_expert(&self) -> bool {
        false
    }
}
