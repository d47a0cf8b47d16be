use crate::{
    KeepRule, Kept, Kind, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::Scores;
use std::sync::Arc;

/// Token-wise speculative cascade, first version.
///
/// * Law: `pi(v) = q(v) [v kept] + eta p(v)`, eta being the drafter's mass on tokens that are not kept; kept are
///   those with `q(v) >= max p - lenience` (raw). Exact with respect to that law.
/// * At -1 the text is the expert's, at 1 the drafter's.
///
/// Source: Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, equations 11 and 13.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct CascadeTokenV1 {
    /// The dial alpha, from -1 (always the expert) to 1 (always the drafter).
    pub lenience: f64,
}

const LENIENCE: Dial =
    Dial::new("lenience", "how far below the expert's confidence the drafter's of a token may be", 0.4)
        .within(-1.0, 1.0, "-1 to 1")
        .sweeping(&[-1.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9, 1.0]);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "cascade-token-v1",
    kind: Kind::Cascade,
    about: "the drafter decides over tokens of which it is about as sure as the expert of its best",
    dials: &[LENIENCE],
    make: |values| Arc::new(CascadeTokenV1 { lenience: at(values, 0, &LENIENCE) }),
};

impl KeepRule for CascadeTokenV1 {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&LENIENCE, self.lenience)]
    }

    fn kept<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Kept<'a> {
        Kept::Raw(draft, expert.raw_max() - self.lenience)
    }

    fn needs_calibrated_draft(&self) -> bool {
        true
    }
}
