use crate::{
    AcceptanceRule, Kind, Needs, RuleInfo,
    catalogue::{Dial, at},
    ratio,
};
use drafthorse_logits::{Probs, Scores, TokenId};
use std::{borrow::Cow, sync::Arc};

/// Lossy speculative decoding: the expert's probability counts for more than it is.
///
/// * A drafted token x stands with `min(1, p(x) / (l q(x)))`, `l = 1 - lenience`; a refused one is replaced from
///   `norm(max(0, p - q))`, as if nothing had changed.
/// * Law: `pi = min(q, p / l) + rho norm(max(0, p - q))`, with `rho` the mass that is missing. Exact with respect to
///   that law. At 0 it is p; towards 1 it becomes q, as far as p can say what q says.
/// * At temperature 0 this is strict; for leniency there see [`CascadeTokenV3`](crate::CascadeTokenV3).
///
/// Source: Leviathan et al., 2023, appendix A.5; the residual as in the code of Narasimhan et al., 2025.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Lenience {
    /// `1 - l`, from 0 (lossless) to below 1.
    pub lenience: f64,
}

pub(crate) const LENIENCE: Dial = Dial::new(
    "lenience",
    "1 - l: a token stands that the expert finds l times as probable as the drafter",
    0.2,
)
.within(0.0, BELOW_ONE, "0 to below 1")
.sweeping(&[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]);

const BELOW_ONE: f64 = 1.0 - f64::EPSILON;

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "lenience",
    kind: Kind::Lossy,
    about: "the expert's probabilities count for 1 / (1 - lenience) times as much",
    dials: &[LENIENCE],
    make: |values| Arc::new(Lenience { lenience: at(values, 0, &LENIENCE) }),
};

/// The mass that `min(q, p / l)` lacks, `sum(max(0, q - p / l))`.
pub(crate) fn refused(l: f64, draft: &Probs, expert: &Probs) -> f64 {
    draft.sum_with(expert, |q, p| (q - p / l).max(0.0))
}

impl AcceptanceRule for Lenience {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn target<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        let (q, p, l) = (draft.probs(), expert.probs(), 1.0 - self.lenience);
        let distance = p.total_variation(q);
        if p.as_point().is_some() || distance == 0.0 {
            return Cow::Borrowed(p);
        }
        let share = refused(l, q, p) / distance;
        let (q, p_row) = (q.row(), p.row());
        let law = q.iter().zip(p_row.iter()).map(|(&q, &p)| q.min(p / l) + share * (p - q).max(0.0));
        Probs::collect(q.len(), law).map_or(Cow::Borrowed(p), Cow::Owned)
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&LENIENCE, self.lenience)]
    }

    fn acceptance(&self, token: TokenId, draft: &Scores, expert: &Scores) -> f64 {
        ratio(expert.prob(token) / (1.0 - self.lenience), draft.prob(token))
    }

    fn needs_draft_after(&self) -> bool {
        true
    }

    fn needs(&self) -> Needs {
        Needs::Sampled
    }
}
