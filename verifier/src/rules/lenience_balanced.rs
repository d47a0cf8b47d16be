use super::lenience::{LENIENCE, refused};
use crate::{
    AcceptanceRule, Kind, Needs, RuleInfo,
    catalogue::{Dial, at},
    ratio,
};
use drafthorse_logits::{Probs, Scores, TokenId};
use std::{borrow::Cow, sync::Arc};

/// Lossy speculative decoding with the residual that makes it a plain mixture.
///
/// * A drafted token x stands with `min(1, p(x) / (l q(x)))`, `l = 1 - lenience`, as with
///   [`Lenience`](crate::Lenience).
/// * Law: `pi = max(min(q, p / l), p / beta)`, with beta such that it sums to 1; a refused token is replaced from
///   `norm(max(0, p / beta - q))`. Exact with respect to that law. At 0 it is p; towards 1 it becomes q, as far as p can say what q says.
/// * At temperature 0 this is strict.
///
/// Source: Narasimhan et al., 2025, Lemma 2; Tran-Thien, 2023.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct LenienceBalanced {
    /// `1 - l`, from 0 (lossless) to below 1.
    pub lenience: f64,
}

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "lenience-balanced",
    kind: Kind::Lossy,
    about: "as lenience, with replacements from the residual that balances the masses",
    dials: &[LENIENCE],
    make: |values| Arc::new(LenienceBalanced { lenience: at(values, 0, &LENIENCE) }),
};

/// `s = 1 / beta` with `sum(max(0, s p - q)) = mass`, at most `limit`, where the sum is at least `mass`.
pub(crate) fn balance(draft: &Probs, expert: &Probs, mass: f64, limit: f64) -> f64 {
    balanced_by(limit, mass, |s| {
        let slope = expert.sum_with(draft, |p, q| if s * p > q { p } else { 0.0 });
        let below = expert.sum_with(draft, |p, q| if s * p > q { q } else { 0.0 });
        (slope, below)
    })
}

/// The same, of what is above the draft at `s`: the sums of `p` and of `q` over tokens with `s p > q`.
///
/// The sum is convex and piecewise linear in `s`, so Newton's steps from above end exactly.
pub(crate) fn balanced_by(limit: f64, mass: f64, above: impl Fn(f64) -> (f64, f64)) -> f64 {
    let mut s = limit;
    for _ in 0..64 {
        let (slope, below) = above(s);
        let next = (mass + below) / slope;
        // Nothing above the draft, or no step any more.
        if slope <= 0.0 || next >= s {
            break;
        }
        s = next;
    }
    s
}

/// `norm(max(min(q, p / l), s p))`.
pub(crate) fn balanced<'a>(l: f64, s: f64, draft: &Probs, expert: &'a Probs) -> Cow<'a, Probs> {
    let (q, p) = (draft.row(), expert.row());
    let law = q.iter().zip(p.iter()).map(|(&q, &p)| q.min(p / l).max(s * p));
    Probs::collect(q.len(), law).map_or(Cow::Borrowed(expert), Cow::Owned)
}

impl AcceptanceRule for LenienceBalanced {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn target<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        let (q, p, l) = (draft.probs(), expert.probs(), 1.0 - self.lenience);
        if p.as_point().is_some() {
            return Cow::Borrowed(p);
        }
        let s = balance(q, p, refused(l, q, p), 1.0 / l);
        balanced(l, s, q, p)
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
