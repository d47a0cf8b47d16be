use crate::{
    AcceptanceRule, Calibrated, Confidence, ConfidenceRule, KeepRule, Kept, Kind, RuleError, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::Scores;
use std::sync::Arc;

/// `BiLD`, the big little decoder: the drafter goes on while it is confident, and the expert takes back what it finds
/// too unlikely.
///
/// * Where the drafter's confidence `max q` is below `fallback`, the law is p. Elsewhere
///   `pi(v) = q(v) [-ln p(v) <= rollback] + eta p(v)`, eta being the drafter's mass on all other tokens; confidence
///   and the test are raw, laws as sampled. Exact with respect to that law.
/// * With fallback 1 or rollback 0 the text is the expert's, but for a drafter or an expert that is certain.
///
/// Source: Kim et al., "Speculative Decoding with Big Little Decoder", 2023. There an unconfident drafter also stops
/// drafting, which changes the speed and not the law, and what is taken back becomes the expert's most probable
/// token, as here at temperature 0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Bild {
    /// Surprise of the expert, in nats, up to which a drafted token stands.
    pub rollback: f64,
    /// Confidence of the drafter below which the expert decides.
    pub fallback: f64,
}

const ROLLBACK: Dial =
    Dial::new("rollback", "surprise of the expert, in nats, up to which a token stands", 5.0)
        .within(0.0, f64::MAX, "0 or more (nats)")
        .sweeping(&[0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0]);
const FALLBACK: Dial = Dial::new("fallback", "confidence of the drafter below which the expert decides", 0.6)
    .within(0.0, 1.0, "0 to 1");

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "bild",
    kind: Kind::Lossy,
    about: "the drafter decides where it is confident and the expert not too surprised",
    dials: &[ROLLBACK, FALLBACK],
    make: |values| Arc::new(Bild { rollback: at(values, 0, &ROLLBACK), fallback: at(values, 1, &FALLBACK) }),
};

impl KeepRule for Bild {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn kept<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Kept<'a> {
        self.kept_by(&Confidence::default(), draft, expert)
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&ROLLBACK, self.rollback), (&FALLBACK, self.fallback)]
    }

    fn kind(&self) -> Kind {
        INFO.kind
    }

    fn needs_calibrated_draft(&self) -> bool {
        true
    }

    fn calibrated(&self, confidence: Confidence) -> Result<Arc<dyn AcceptanceRule>, RuleError> {
        Calibrated::arc(*self, confidence)
    }
}

impl ConfidenceRule for Bild {
    fn kept_by<'a>(&self, confidence: &Confidence, draft: &'a Scores, expert: &'a Scores) -> Kept<'a> {
        if confidence.draft(draft) < self.fallback {
            return Kept::Nothing;
        }
        Kept::Raw(expert, (-self.rollback).exp())
    }

    fn reads_expert(&self) -> bool {
        false
    }
}
