use crate::{
    KeepRule, Kept, Kind, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::Scores;
use std::sync::Arc;

/// Speculative cascade by the optimal rule for logarithmic loss.
///
/// * Law: p where `H(q) > H(p) + lenience TV(p, q)`, q elsewhere (H raw, in nats; TV and laws as sampled). Exact
///   with respect to that law.
///
/// Source: Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, appendix D, with entropies for expected losses.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct CascadeOptLog {
    /// The dial alpha, in nats: any number.
    pub lenience: f64,
}

const LENIENCE: Dial = Dial::new("lenience", "nats that a certain rejection must be worth", 1.0)
    .sweeping(&[-20.0, -4.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 4.0, 20.0]);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "cascade-opt-log",
    kind: Kind::Cascade,
    about: "the drafter's distribution unless the expert's entropy is lower by the price of a rejection",
    dials: &[LENIENCE],
    make: |values| Arc::new(CascadeOptLog { lenience: at(values, 0, &LENIENCE) }),
};

impl KeepRule for CascadeOptLog {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&LENIENCE, self.lenience)]
    }

    fn kept<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Kept<'a> {
        let gain = draft.raw_entropy() - expert.raw_entropy();
        let asked = |distance: f64| gain > self.lenience * distance;
        let defer = match (asked(0.0), asked(1.0)) {
            (a, b) if a == b => a,
            _ => asked(draft.probs().total_variation(expert.probs())),
        };
        if defer { Kept::Nothing } else { Kept::All }
    }

    fn needs_calibrated_draft(&self) -> bool {
        true
    }
}
