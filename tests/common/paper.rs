//! The law of every rule at a position, written down from its source a second time, in f64 and without care
//! for cost.

use crate::law::{edge_of_nucleus, normalized, sorted, warped};
use drafthorse::SamplingOptions;

/// What drafter and expert say at a position: sampled, and raw.
pub(crate) struct Position<'a> {
    pub(crate) q: Vec<f64>,
    pub(crate) p: Vec<f64>,
    pub(crate) raw_q: Vec<f64>,
    pub(crate) raw_p: Vec<f64>,
    pub(crate) sampling: &'a SamplingOptions,
}

fn max(law: &[f64]) -> f64 {
    sorted(law)[0]
}

fn entropy(law: &[f64]) -> f64 {
    law.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

pub(crate) fn total_variation(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).max(0.0)).sum()
}

pub(crate) fn divergence(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).filter(|(a, _)| **a > 0.0).map(|(a, b)| a * (a / b).ln()).sum()
}

fn only(law: &[f64], keep: impl Fn(usize) -> bool) -> Vec<f64> {
    normalized((0..law.len()).map(|v| if keep(v) { law[v] } else { 0.0 }).collect())
}

impl Position<'_> {
    /// The law of the rule of this name with its dials at these values.
    pub(crate) fn law(&self, rule: &str, dials: &[f64]) -> Vec<f64> {
        let Self { q, p, raw_q, raw_p, .. } = self;
        let dial = |number: usize| dials[number];
        let (sure_q, sure_p) = (max(raw_q), max(raw_p));
        let gain = entropy(raw_q) - entropy(raw_p);
        let distance = total_variation(p, q);
        match rule {
            "lossless" | "block" | "exact-match" | "coupled-noise" => p.clone(),
            "cascade-chow" => self.either(sure_q < 1.0 - dial(0)),
            "cascade-diff" => self.either(sure_q < sure_p - dial(0)),
            "cascade-opt" => self.either(sure_q < sure_p - dial(0) * distance),
            "cascade-chow-log" => self.either(entropy(raw_q) > dial(0)),
            "cascade-diff-log" => self.either(gain > dial(0)),
            "cascade-opt-log" => self.either(gain > dial(0) * distance),
            "cascade-token-v1" => self.keeping(p, |v| raw_q[v] >= sure_p - dial(0)),
            "cascade-token-v2" => self.keeping(p, |v| raw_p[v] >= sure_p - dial(0)),
            "cascade-token-v3" => self.keeping(p, |v| raw_p[v] >= (1.0 - dial(0)) * sure_p),
            "typical" => self.keeping(p, |v| p[v] > dial(0).min(dial(1) * (-entropy(p)).exp())),
            "top-k" => {
                let best = |v: usize| raw_p[v] >= sorted(raw_p)[(dial(0) as usize).min(p.len()) - 1];
                self.keeping(&only(p, best), best)
            }
            "bild" if sure_q < dial(1) => p.clone(),
            "bild" => self.keeping(p, |v| -raw_p[v].ln() <= dial(0)),
            "truncate-min-p" => only(p, |v| raw_p[v] >= dial(0) * sure_p),
            "truncate-top-p" => only(p, |v| raw_p[v] >= edge_of_nucleus(&sorted(raw_p), dial(0))),
            "interpolation" => q.iter().zip(p).map(|(q, p)| dial(0) * q + (1.0 - dial(0)) * p).collect(),
            "lenience" => self.lenient(1.0 - dial(0)),
            "lenience-balanced" => self.balanced(1.0 - dial(0)),
            "mentored" => self.mentored(dial(0)),
            "contrastive" => self.contrastive(dial(0), dial(1)),
            _ => panic!("rule {rule} has no law on paper"),
        }
    }

    /// Equation 6 of Narasimhan et al.
    fn either(&self, deferred: bool) -> Vec<f64> {
        if deferred { self.p.clone() } else { self.q.clone() }
    }

    /// Equation 11 of Narasimhan et al., with `r` in the place of p.
    fn keeping(&self, r: &[f64], keep: impl Fn(usize) -> bool) -> Vec<f64> {
        let eta: f64 = (0..r.len()).filter(|&v| !keep(v)).map(|v| self.q[v]).sum();
        (0..r.len()).map(|v| if keep(v) { self.q[v] } else { 0.0 } + eta * r[v]).collect()
    }

    /// What is accepted with `min(1, p / (l q))`, by token.
    fn accepted(&self, l: f64) -> Vec<f64> {
        self.q.iter().zip(&self.p).map(|(q, p)| q.min(p / l)).collect()
    }

    /// A refused token is replaced from `norm(max(0, p - q))`.
    fn lenient(&self, l: f64) -> Vec<f64> {
        let (accepted, more) = (self.accepted(l), total_variation(&self.p, &self.q));
        let refused = 1.0 - accepted.iter().sum::<f64>();
        let residual = |v: usize| if more > 0.0 { (self.p[v] - self.q[v]).max(0.0) / more } else { 0.0 };
        (0..accepted.len()).map(|v| accepted[v] + refused * residual(v)).collect()
    }

    /// Lemma 2 of Narasimhan et al., with `1 / beta` by bisection.
    fn balanced(&self, l: f64) -> Vec<f64> {
        let accepted = self.accepted(l);
        let law = |s: f64| accepted.iter().zip(&self.p).map(|(a, p)| a.max(s * p)).collect::<Vec<_>>();
        let (mut low, mut high) = (0.0, 1.0 / l);
        for _ in 0..200 {
            let middle = f64::midpoint(low, high);
            if law(middle).iter().sum::<f64>() < 1.0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        law(high)
    }

    /// The smallest m with `KL(p || pi) <= budget`, by bisection: the more is accepted, the more it diverges.
    fn mentored(&self, budget: f64) -> Vec<f64> {
        if divergence(&self.p, &self.q) <= budget {
            return self.q.clone();
        }
        let (mut low, mut high) = (1e-9, 1.0);
        for _ in 0..200 {
            let middle = f64::midpoint(low, high);
            if divergence(&self.p, &self.balanced(middle)) <= budget {
                high = middle;
            } else {
                low = middle;
            }
        }
        self.balanced(high)
    }

    /// The row of the difference is f32, as rows are.
    fn contrastive(&self, strength: f64, plausibility: f64) -> Vec<f64> {
        let (p, q) = (&self.raw_p, &self.raw_q);
        let score = |v: usize| ((1.0 + strength) * p[v].ln() - strength * q[v].ln()) as f32;
        let plausible = |v: usize| p[v] >= plausibility * max(p);
        let row: Vec<_> =
            (0..p.len()).map(|v| if plausible(v) { score(v) } else { f32::NEG_INFINITY }).collect();
        warped(&row, self.sampling)
    }
}
