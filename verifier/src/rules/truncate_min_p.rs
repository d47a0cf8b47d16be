use super::truncated;
use crate::{
    AcceptanceRule, Kind, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::{Probs, Scores};
use std::{borrow::Cow, sync::Arc};

/// The expert with min-p truncation, drafted for without loss: what [`CascadeTokenV3`](crate::CascadeTokenV3) has to
/// be compared with.
///
/// * Law: p among tokens with `p(v) >= min_p max p` (raw), normalised. Exact with respect to that law, of which the
///   drafter is no part. At 0 it is p, at 1 the most probable token.
///
/// Source: Nguyen et al., "Turning Up the Heat: Min-p Sampling", 2024; `min_p = 1 - lenience` is the set that the
/// cascade keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct TruncateMinP {
    /// Share of the highest probability that a token must have, from 0 to 1.
    pub min_p: f64,
}

const MIN_P: Dial = Dial::new("min-p", "share of the highest probability that a token must have", 0.1)
    .within(0.0, 1.0, "0 to 1")
    .sweeping(&[0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0]);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "truncate-min-p",
    kind: Kind::ExpertLaw,
    about: "the expert's distribution among tokens not too far below its best",
    dials: &[MIN_P],
    make: |values| Arc::new(TruncateMinP { min_p: at(values, 0, &MIN_P) }),
};

impl AcceptanceRule for TruncateMinP {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn target<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        self.undrafted(expert)
    }

    fn undrafted<'a>(&self, expert: &'a Scores) -> Cow<'a, Probs> {
        truncated(expert, self.min_p * expert.raw_max())
    }

    fn kind(&self) -> Kind {
        INFO.kind
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&MIN_P, self.min_p)]
    }
}
