use super::lenience::refused;
use super::lenience_balanced::{balance, balanced};
use crate::{
    AcceptanceRule, Kind, Needs, RuleInfo,
    catalogue::{Dial, at},
    ratio,
};
use drafthorse_logits::{Probs, Scores, TokenId};
use std::{borrow::Cow, sync::Arc};

/// Mentored decoding: as many drafted tokens as a budget of divergence allows.
///
/// * Law: of all with `KL(p || pi) <= budget` (nats) the one nearest to q in total variation. It is
///   `pi = max(min(q, p / m), p / beta)`, beta such that it sums to 1, m such that the budget is used up; q itself
///   where that is within the budget. Exact with respect to that law, m to within 1e-12. At 0 it is p.
/// * m is solved for at each position, which makes this the dearest of the rules.
///
/// Source: Tran-Thien, "An optimal lossy variant of speculative decoding", 2023.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Mentored {
    /// The most that `KL(p || pi)` may be at a position, in nats.
    pub budget: f64,
}

const BUDGET: Dial = Dial::new("budget", "the most that KL(p || pi) may be at a position, in nats", 0.1)
    .within(0.0, f64::MAX, "0 or more (nats)")
    .sweeping(&[0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0]);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "mentored",
    kind: Kind::Lossy,
    about: "as near to the drafter as a budget of divergence from the expert allows",
    dials: &[BUDGET],
    make: |values| Arc::new(Mentored { budget: at(values, 0, &BUDGET) }),
};

/// The law with multiplier `m`: its `1 / beta`, and its divergence from p in nats.
struct Point {
    m: f64,
    s: f64,
    kl: f64,
}

impl Point {
    fn at(m: f64, draft: &Probs, expert: &Probs) -> Self {
        let s = balance(draft, expert, refused(m, draft, expert), 1.0 / m);
        let term = |p: f64, q: f64| {
            if p > 0.0 { p * (p / q.min(p / m).max(s * p)).ln() } else { 0.0 }
        };
        Self { m, s, kl: expert.sum_with(draft, term) }
    }
}

impl Mentored {
    /// The multiplier that uses up the budget, and its `1 / beta`; `None` where q itself is within it.
    fn solve(self, draft: &Probs, expert: &Probs) -> Option<Point> {
        if expert.kl(draft) <= self.budget {
            return None;
        }
        let (mut low, mut high) = (Point::at(1.0, draft, expert), Point::at(0.5, draft, expert));
        while high.kl < self.budget && high.m > 1e-9 {
            (low, high) = (Point::at(high.m, draft, expert), Point::at(high.m / 16.0, draft, expert));
        }
        if high.kl < self.budget {
            return Some(high);
        }
        // The Illinois variant of the secant method, in ln m; the divergence falls with m.
        let (mut below, mut above) = (low.kl - self.budget, high.kl - self.budget);
        for _ in 0..100 {
            let (a, b) = (low.m.ln(), high.m.ln());
            if below == 0.0 || (a - b).abs() < 1e-13 {
                break;
            }
            let next = (b - above * (b - a) / (above - below)).exp();
            let next = Point::at(
                if next < low.m && next > high.m { next } else { f64::midpoint(low.m, high.m) },
                draft,
                expert,
            );
            let error = next.kl - self.budget;
            if error.abs() < 1e-13 {
                return Some(next);
            }
            if error > 0.0 {
                (high, above, below) = (next, error, below / 2.0);
            } else {
                (low, below, above) = (next, error, above / 2.0);
            }
        }
        Some(low)
    }
}

impl AcceptanceRule for Mentored {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn target<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        let (q, p) = (draft.probs(), expert.probs());
        if self.budget <= 0.0 || p.as_point().is_some() {
            return Cow::Borrowed(p);
        }
        match self.solve(q, p) {
            None => Cow::Borrowed(q),
            Some(Point { m, s, .. }) => balanced(m, s, q, p),
        }
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&BUDGET, self.budget)]
    }

    fn acceptance(&self, token: TokenId, draft: &Scores, expert: &Scores) -> f64 {
        let (q, p) = (draft.prob(token), expert.prob(token));
        // The expert's own probability is never too little.
        if q <= p || self.budget <= 0.0 || expert.probs().as_point().is_some() {
            return ratio(p, q);
        }
        self.solve(draft.probs(), expert.probs()).map_or(1.0, |point| ratio(p / point.m, q))
    }

    fn needs_draft_after(&self) -> bool {
        true
    }

    fn needs(&self) -> Needs {
        Needs::Sampled
    }
}
