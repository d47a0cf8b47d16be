use crate::{
    KeepRule, Kept, Kind, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::Scores;
use std::sync::Arc;

/// Speculative cascade by Chow's rule for logarithmic loss: the expert is asked where the drafter's entropy is
/// high.
///
/// * Law: p where `H(q) > lenience`, q elsewhere (H raw, in nats; laws as sampled). Exact with respect to that law.
/// * Beyond the logarithm of the vocabulary's size the text is the drafter's; at 0 a certain drafter keeps its say.
///
/// Source: Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, appendix D, with entropies for expected losses.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct CascadeChowLog {
    /// The dial alpha, in nats, from 0 on (nearly always the expert).
    pub lenience: f64,
}

const LENIENCE: Dial = Dial::new("lenience", "entropy in nats up to which the drafter decides", 1.0)
    .within(0.0, f64::MAX, "0 or more (nats)")
    .sweeping(&[0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 20.0]);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "cascade-chow-log",
    kind: Kind::Cascade,
    about: "the drafter's distribution where its entropy is low, else the expert's",
    dials: &[LENIENCE],
    make: |values| Arc::new(CascadeChowLog { lenience: at(values, 0, &LENIENCE) }),
};

impl KeepRule for CascadeChowLog {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&LENIENCE, self.lenience)]
    }

    fn kept<'a>(&self, draft: &'a Scores, _expert: &'a Scores) -> Kept<'a> {
        if draft.raw_entropy() > self.lenience { Kept::Nothing } else { Kept::All }
    }

    fn needs_calibrated_draft(&self) -> bool {
        true
    }
}
