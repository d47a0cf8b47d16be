use crate::{
    AcceptanceRule, Kind, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::{Probs, Scores};
use std::{borrow::Cow, sync::Arc};

/// Contrastive decoding with the drafter as amateur: what the expert finds likelier than the drafter does.
///
/// * Law: among tokens with `p(v) >= plausibility max p`, the logits `(1 + strength) ln p - strength ln q` of the raw
///   distributions, sampled as the options say. Exact with respect to that law.
/// * At strength 0 it is p among the plausible tokens. A probability of the drafter counts as at least 1e-12.
///
/// Source: Li et al., "Contrastive Decoding", 2023; the strength of O'Brien, Lewis, "Contrastive Decoding Improves
/// Reasoning in Large Language Models", 2023; drawn speculatively: Yuan et al., "Speculative Contrastive
/// Decoding", 2023.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Contrastive {
    /// How much the drafter's logarithms are taken away, 0 or more.
    pub strength: f64,
    /// Share of the expert's highest probability that a token must have, above 0 and up to 1.
    pub plausibility: f64,
}

const STRENGTH: Dial = Dial::new("strength", "how much the drafter's log-probabilities are taken away", 0.5)
    .within(0.0, 100.0, "0 to 100")
    .sweeping(&[0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0]);
const PLAUSIBILITY: Dial =
    Dial::new("plausibility", "share of the expert's highest probability that a token must have", 0.1)
        .within(f64::MIN_POSITIVE, 1.0, "above 0 and at most 1");

/// The least a drafter's probability counts as.
const FLOOR: f64 = 1e-12;

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "contrastive",
    kind: Kind::ExpertLaw,
    about: "what the expert finds likelier than the drafter, among plausible tokens",
    dials: &[STRENGTH, PLAUSIBILITY],
    make: |values| {
        Arc::new(Contrastive {
            strength: at(values, 0, &STRENGTH),
            plausibility: at(values, 1, &PLAUSIBILITY),
        })
    },
};

impl AcceptanceRule for Contrastive {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn target<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        let least = self.plausibility * expert.raw_max();
        let (p, q) = (expert.raw().row(), draft.raw().row());
        let score = |(&p, &q): (&f64, &f64)| {
            if p < least {
                return f32::NEG_INFINITY;
            }
            ((1.0 + self.strength) * p.ln() - self.strength * q.max(FLOOR).ln()) as f32
        };
        Cow::Owned(expert.warp(p.iter().zip(q.iter()).map(score)))
    }

    fn kind(&self) -> Kind {
        INFO.kind
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&STRENGTH, self.strength), (&PLAUSIBILITY, self.plausibility)]
    }

    fn needs_calibrated_draft(&self) -> bool {
        true
    }

    fn needs_draft_after(&self) -> bool {
        true
    }
}
