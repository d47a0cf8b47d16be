use crate::{
    AcceptanceRule, Kind, Needs, RuleInfo,
    catalogue::{Dial, at},
    ratio,
};
use drafthorse_logits::{Probs, Scores, TokenId};
use std::{borrow::Cow, sync::Arc};

/// Interpolation: a fixed mixture of drafter and expert.
///
/// * Law: `pi = w q + (1 - w) p`. Exact with respect to that law. At 0 it is p, at 1 it is q.
///
/// Source: "collaborative decoding via speculation" (`CoS`), 2025; the probability mixture of ensembles.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Interpolation {
    /// `w`, the drafter's share, from 0 to 1.
    pub draft_weight: f64,
}

const DRAFT_WEIGHT: Dial = Dial::new("draft-weight", "the drafter's share of the mixture", 0.3)
    .within(0.0, 1.0, "0 to 1")
    .sweeping(&[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "interpolation",
    kind: Kind::Lossy,
    about: "a fixed mixture of both distributions",
    dials: &[DRAFT_WEIGHT],
    make: |values| Arc::new(Interpolation { draft_weight: at(values, 0, &DRAFT_WEIGHT) }),
};

impl AcceptanceRule for Interpolation {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn target<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        let (q, p, w) = (draft.probs(), expert.probs(), self.draft_weight);
        if w <= 0.0 || (p.as_point().is_some() && p.as_point() == q.as_point()) {
            return Cow::Borrowed(p);
        }
        let (q_row, p_row) = (q.row(), p.row());
        let law = q_row.iter().zip(p_row.iter()).map(|(q, p)| w * q + (1.0 - w) * p);
        Probs::collect(q_row.len(), law).map_or(Cow::Borrowed(p), Cow::Owned)
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&DRAFT_WEIGHT, self.draft_weight)]
    }

    fn acceptance(&self, token: TokenId, draft: &Scores, expert: &Scores) -> f64 {
        let (q, p, w) = (draft.prob(token), expert.prob(token), self.draft_weight);
        ratio(w * q + (1.0 - w) * p, q)
    }

    fn needs_calibrated_draft(&self) -> bool {
        true
    }

    fn needs_draft_after(&self) -> bool {
        true
    }

    fn needs(&self) -> Needs {
        Needs::Sampled
    }
}
