use super::lenience::refused;
use super::lenience_balanced::{balance, balanced, balanced_by};
use crate::{
    AcceptanceRule, Kind, Needs, RuleInfo,
    catalogue::{Dial, at},
    ratio,
};
use drafthorse_logits::{Probs, Scores, TokenId};
use std::{borrow::Cow, cell::RefCell, sync::Arc};

/// Mentored decoding: as many drafted tokens as a budget of divergence allows.
///
/// * Law: of all with `KL(p || pi) <= budget` (nats) the one nearest to q in total variation. It is
///   `pi = max(min(q, p / m), p / beta)`, beta such that it sums to 1, m such that the budget is used up; q itself
///   where that is within the budget. Exact with respect to that law. At 0 it is p.
/// * m is solved for at each position. With more than 512 tokens it is found with tokens of nearly one ratio taken
///   together, which uses up the budget to within about a hundred-thousandth.
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

/// Tokens, or tokens taken together that have nearly one ratio `p / q`.
#[derive(Clone, Copy)]
struct Mass {
    p: f64,
    q: f64,
    /// `p ln(p / q)`.
    divergence: f64,
}

thread_local! {
    /// Where the masses of a position are put, again and again.
    static MASSES: RefCell<Vec<Mass>> = const { RefCell::new(Vec::new()) };
}

/// Up to this many tokens each counts by itself.
const SINGLE: usize = 512;

/// Ratios from 2^-16 to 2^16 are told apart; what is beyond goes to the ends, where no multiplier is looked for.
const OCTAVES: u64 = 16;
/// Bits of the mantissa by which they are told apart.
const BITS: u32 = 6;
const BINS: usize = (2 * OCTAVES as usize + 1) << BITS;

/// Where there are more tokens those are taken together whose ratios agree in six bits of the mantissa, so that the
/// search need not go over the vocabulary again and again.
fn collect_masses(draft: &Probs, expert: &Probs, masses: &mut Vec<Mass>) {
    let (q, p) = (draft.row(), expert.row());
    let pairs = p.iter().copied().zip(q.iter().copied());
    let mass = |p, q| Mass { p, q, divergence: 0.0 };
    masses.clear();
    if p.len() <= SINGLE {
        masses.extend(pairs.map(|(p, q)| mass(p, q)));
    } else {
        let lowest = (1023 - OCTAVES) << BITS;
        masses.resize(BINS, mass(0.0, 0.0));
        for (p, q) in pairs {
            let bin = ((p / q).to_bits() >> (52 - BITS)).saturating_sub(lowest) as usize;
            let mass = &mut masses[bin.min(BINS - 1)];
            mass.p += p;
            mass.q += q;
        }
        masses.retain(|mass| mass.p > 0.0 || mass.q > 0.0);
    }
    for mass in masses.iter_mut().filter(|mass| mass.p > 0.0) {
        mass.divergence = mass.p * (mass.p / mass.q).ln();
    }
}

/// The divergence of the law with multiplier `m` from p, in nats.
struct Point {
    m: f64,
    kl: f64,
}

impl Point {
    fn at(m: f64, masses: &[Mass]) -> Self {
        let refused: f64 = masses.iter().map(|mass| (mass.q - mass.p / m).max(0.0)).sum();
        let s = balanced_by(1.0 / m, refused, |s| {
            masses.iter().fold((0.0, 0.0), |(slope, below), mass| {
                let above = f64::from(u8::from(s * mass.p > mass.q));
                (slope + above * mass.p, below + above * mass.q)
            })
        });
        // Where the law is p / m, where it is p / beta, and where it is q.
        let (low, high) = (m.ln(), -s.ln());
        let term = |mass: &Mass| match (mass.p < m * mass.q, s * mass.p > mass.q) {
            (_, true) => mass.p * high,
            (true, false) => mass.p * low,
            (false, false) => mass.divergence,
        };
        Self { m, kl: masses.iter().map(term).sum() }
    }
}

impl Mentored {
    /// The multiplier that uses up the budget; `None` where q itself is within it.
    fn multiplier(self, draft: &Probs, expert: &Probs) -> Option<f64> {
        MASSES.with_borrow_mut(|masses| {
            collect_masses(draft, expert, masses);
            self.solve(masses)
        })
    }

    fn solve(self, masses: &[Mass]) -> Option<f64> {
        let whole: f64 = masses.iter().map(|mass| mass.divergence).sum();
        if whole <= self.budget {
            return None;
        }
        // The divergence falls with m: `low` is within the budget, `high` is not. With 1 the law is p, which no sum
        // is needed for: rounding could lose what the drafter lacks altogether, and the divergence be infinite.
        let (mut low, mut high) = (Point { m: 1.0, kl: 0.0 }, Point::at(0.5, masses));
        while high.kl < self.budget {
            if high.m < 1e-9 {
                return Some(high.m);
            }
            let next = Point::at(high.m / 16.0, masses);
            (low, high) = (high, next);
        }
        // The Illinois variant of the secant method, in ln m.
        let (mut below, mut above) = (low.kl - self.budget, high.kl - self.budget);
        for _ in 0..100 {
            let (a, b) = (low.m.ln(), high.m.ln());
            if below == 0.0 || a - b < 1e-14 {
                break;
            }
            let guess = (b - above * (b - a) / (above - below)).exp();
            let inside = guess < low.m && guess > high.m;
            let next = Point::at(if inside { guess } else { f64::midpoint(low.m, high.m) }, masses);
            let error = next.kl - self.budget;
            if error.abs() < 1e-14 {
                return Some(next.m);
            }
            if error > 0.0 {
                (high, above, below) = (next, error, below / 2.0);
            } else {
                (low, below, above) = (next, error, above / 2.0);
            }
        }
        Some(low.m)
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
        match self.multiplier(q, p) {
            None => Cow::Borrowed(q),
            Some(1.0) => Cow::Borrowed(p),
            Some(m) => balanced(m, balance(q, p, refused(m, q, p), 1.0 / m), q, p),
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
        self.multiplier(draft.probs(), expert.probs()).map_or(1.0, |m| ratio(p / m, q))
    }

    fn needs_draft_after(&self) -> bool {
        true
    }

    fn needs(&self) -> Needs {
        Needs::Sampled
    }
}
