use crate::{
    KeepRule, Kept, Kind, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::Scores;
use std::sync::Arc;

/// Speculative cascade by the difference of entropies.
///
/// * Law: p where `H(q) > H(p) + lenience`, q elsewhere (H raw, in nats; laws as sampled). Exact with respect to
///   that law.
/// * Beyond minus and plus the logarithm of the vocabulary's size the text is the expert's and the drafter's.
///
/// Source: Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, appendix D, with entropies for expected losses.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct CascadeDiffLog {
    /// The dial alpha, in nats: any number.
    pub lenience: f64,
}

const LENIENCE: Dial =
    Dial::new("lenience", "nats by which the expert's entropy must be lower to be asked", 0.5)
        .sweeping(&[-20.0, -2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0, 20.0]);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "cascade-diff-log",
    kind: Kind::Cascade,
    about: "the drafter's distribution unless the expert's entropy is lower",
    dials: &[LENIENCE],
    make: |values| Arc::new(CascadeDiffLog { lenience: at(values, 0, &LENIENCE) }),
};

impl KeepRule for CascadeDiffLog {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&LENIENCE, self.lenience)]
    }

    fn kept<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Kept<'a> {
        if draft.raw_entropy() > expert.raw_entropy() + self.lenience { Kept::Nothing } else { Kept::All }
    }

    fn needs_calibrated_draft(&self) -> bool {
        true
    }
}
