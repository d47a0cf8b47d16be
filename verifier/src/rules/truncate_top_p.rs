use super::truncated;
use crate::{
    AcceptanceRule, Kind, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::{Probs, Scores};
use std::{borrow::Cow, sync::Arc};

/// The expert with nucleus truncation, drafted for without loss.
///
/// * Law: p among the most probable tokens whose raw mass reaches `top_p`, normalised. Exact with respect to that
///   law, of which the drafter is no part. At 1 it is p.
///
/// Source: Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct TruncateTopP {
    /// Mass of the most probable tokens that stay, above 0 and up to 1.
    pub top_p: f64,
}

const TOP_P: Dial = Dial::new("top-p", "mass of the most probable tokens that stay", 0.9)
    .within(f64::MIN_POSITIVE, 1.0, "above 0 and at most 1")
    .sweeping(&[1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.2, 0.01]);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "truncate-top-p",
    kind: Kind::ExpertLaw,
    about: "the expert's distribution among its most probable tokens",
    dials: &[TOP_P],
    make: |values| Arc::new(TruncateTopP { top_p: at(values, 0, &TOP_P) }),
};

impl AcceptanceRule for TruncateTopP {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn target<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        self.undrafted(expert)
    }

    fn undrafted<'a>(&self, expert: &'a Scores) -> Cow<'a, Probs> {
        truncated(expert, expert.raw().nucleus(self.top_p))
    }

    fn kind(&self) -> Kind {
        INFO.kind
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&TOP_P, self.top_p)]
    }
}
