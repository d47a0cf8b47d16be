use crate::{
    KeepRule, Kept, Kind, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::Scores;
use std::sync::Arc;

/// Token-wise speculative cascade, second version.
///
/// * Law: `pi(v) = q(v) [v kept] + eta p(v)`, eta being the drafter's mass on tokens that are not kept; kept are
///   those with `p(v) >= max p - lenience` (raw). Exact with respect to that law.
/// * At -1 the text is the expert's, at 1 the drafter's. At 0 it is sharper than the expert's, which is *not*
///   lossless.
///
/// Source: Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, equations 11 and 14.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct CascadeTokenV2 {
    /// The dial alpha, from -1 (always the expert) to 1 (always the drafter).
    pub lenience: f64,
}

const LENIENCE: Dial =
    Dial::new("lenience", "how far below the expert's best a token's probability may be", 0.4)
        .within(-1.0, 1.0, "-1 to 1")
        .sweeping(&[-1.0, 0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9, 1.0]);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "cascade-token-v2",
    kind: Kind::Cascade,
    about: "the drafter decides over tokens about as probable to the expert as its best",
    dials: &[LENIENCE],
    make: |values| Arc::new(CascadeTokenV2 { lenience: at(values, 0, &LENIENCE) }),
};

impl KeepRule for CascadeTokenV2 {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&LENIENCE, self.lenience)]
    }

    fn kept<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Kept<'a> {
        Kept::Raw(expert, expert.raw_max() - self.lenience)
    }
}
