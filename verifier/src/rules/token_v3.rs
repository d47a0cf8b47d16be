use crate::{
    KeepRule, Kept, Kind, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::Scores;
use std::sync::Arc;

/// Token-wise speculative cascade, third version: the one the paper recommends.
///
/// * Law: `pi(v) = q(v) [v kept] + eta p(v)`, eta being the drafter's mass on tokens that are not kept; kept are
///   those with `p(v) >= (1 - lenience) max p` (raw). Exact with respect to that law.
/// * Below 0 the text is the expert's, at 1 the drafter's. At 0 it is sharper than the expert's, which is *not*
///   lossless. At temperature 0 this is the lenience of Leviathan et al.: a token stands that the expert finds at least
///   `1 - lenience` times as probable as its best.
///
/// Source: Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, equations 11 and 15.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct CascadeTokenV3 {
    /// The dial alpha, up to 1 (always the drafter); below 0 always the expert.
    pub lenience: f64,
}

const LENIENCE: Dial =
    Dial::new("lenience", "how much less probable than the expert's best, relatively, a token may be", 0.9)
        .within(f64::MIN, 1.0, "up to 1")
        .sweeping(&[-1.0, 0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0]);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "cascade-token-v3",
    kind: Kind::Cascade,
    about: "the drafter decides over tokens at least 1 - lenience times as probable to the expert as its best",
    dials: &[LENIENCE],
    make: |values| Arc::new(CascadeTokenV3 { lenience: at(values, 0, &LENIENCE) }),
};

impl KeepRule for CascadeTokenV3 {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&LENIENCE, self.lenience)]
    }

    fn kept<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Kept<'a> {
        Kept::Raw(expert, (1.0 - self.lenience) * expert.raw_max())
    }
}
