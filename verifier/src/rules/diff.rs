use crate::{
    AcceptanceRule, Calibrated, Confidence, ConfidenceRule, KeepRule, Kept, Kind, RuleError, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::Scores;
use std::sync::Arc;

/// Speculative cascade by the difference of confidences: the expert decides where it is surer than the drafter.
///
/// * Law: p where `max q < max p - lenience`, q elsewhere (q and p as sampled, the test on raw distributions).
///   Exact with respect to that law, which no cascade can reach that must decide before it asks.
/// * At -1 the text is the expert's, at 1 the drafter's.
///
/// Source: Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, equations 5 and 6.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct CascadeDiff {
    /// The dial alpha, from -1 (always the expert) to 1 (always the drafter).
    pub lenience: f64,
}

const LENIENCE: Dial =
    Dial::new("lenience", "by how much the expert must be more confident to be asked", 0.2)
        .within(-1.0, 1.0, "-1 to 1")
        .sweeping(&[-1.0, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0]);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "cascade-diff",
    kind: Kind::Cascade,
    about: "the drafter's distribution unless the expert is more confident",
    dials: &[LENIENCE],
    make: |values| Arc::new(CascadeDiff { lenience: at(values, 0, &LENIENCE) }),
};

impl KeepRule for CascadeDiff {
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

impl ConfidenceRule for CascadeDiff {
    fn kept_by<'a>(&self, confidence: &Confidence, draft: &'a Scores, expert: &'a Scores) -> Kept<'a> {
        if confidence.draft(draft) < confidence.expert(expert) - self.lenience {
            Kept::Nothing
        } else {
            Kept::All
        }
    }

    fn reads_expert(&self) -> bool {
        true
    }
}
