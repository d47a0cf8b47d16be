//! Exact laws: every random outcome of a procedure, with its probability.
//!
//! A procedure that takes its decisions from [`Draws`] can be run once for every way they can fall out.
//! On a tiny model the law of the whole engine over sequences then is a finite sum, and a test compares
//! it with the law on paper to within rounding instead of within sampling noise.

use crate::{Draws, Probs, Purpose, TokenId};
use std::{collections::HashMap, hash::Hash};

/// Runs `procedure` for every outcome of its draws; returns the law of what it returns.
///
/// The cost is one run an outcome, so it is for tiny vocabularies and few tokens.
///
/// ```
/// use drafthorse_logits::{Draws, Probs, Purpose, exact};
///
/// let die = Probs::normalize(vec![1.0; 6]).unwrap();
/// let law = exact::outcomes(|draws| {
///     let throw = |draws: &mut dyn Draws| draws.pick(0, Purpose::Target, &die) + 1;
///     throw(draws) + throw(draws)
/// });
/// assert!((law[&7] - 1.0 / 6.0).abs() < 1e-12);
/// ```
pub fn outcomes<T: Eq + Hash>(mut procedure: impl FnMut(&mut dyn Draws) -> T) -> HashMap<T, f64> {
    let mut law = HashMap::new();
    let mut path: Vec<Fork> = Vec::new();
    loop {
        let mut walk = Walk { path: &mut path, depth: 0, weight: 1.0 };
        let outcome = procedure(&mut walk);
        let (weight, depth) = (walk.weight, walk.depth);
        path.truncate(depth);
        *law.entry(outcome).or_insert(0.0) += weight;
        // Next leaf: drop the forks whose last branch was taken, advance the one above them.
        while path.last().is_some_and(|fork| fork.branch + 1 == fork.branches.len()) {
            path.pop();
        }
        match path.last_mut() {
            Some(fork) => fork.branch += 1,
            None => return law,
        }
    }
}

/// The largest absolute difference between two laws.
#[allow(clippy::implicit_hasher, reason = "the counterpart of what `outcomes` returns")]
pub fn distance<T: Eq + Hash>(a: &HashMap<T, f64>, b: &HashMap<T, f64>) -> f64 {
    let at = |law: &HashMap<T, f64>, key: &T| law.get(key).copied().unwrap_or(0.0);
    a.keys().chain(b.keys()).map(|key| (at(a, key) - at(b, key)).abs()).fold(0.0, f64::max)
}

/// A decision: its possible results with their probabilities, and which one this run takes.
struct Fork {
    branches: Vec<(TokenId, f64)>,
    branch: usize,
}

struct Walk<'a> {
    path: &'a mut Vec<Fork>,
    depth: usize,
    weight: f64,
}

impl Walk<'_> {
    fn choose(&mut self, branches: impl FnOnce() -> Vec<(TokenId, f64)>) -> TokenId {
        if self.depth == self.path.len() {
            self.path.push(Fork { branches: branches(), branch: 0 });
        }
        let fork = &self.path[self.depth];
        let (value, probability) = fork.branches[fork.branch];
        self.depth += 1;
        self.weight *= probability;
        value
    }
}

impl Draws for Walk<'_> {
    fn accept(&mut self, _position: usize, probability: f64) -> bool {
        if probability >= 1.0 || probability <= 0.0 {
            return probability >= 1.0;
        }
        self.choose(|| vec![(1, probability), (0, 1.0 - probability)]) == 1
    }

    fn pick(&mut self, _position: usize, _purpose: Purpose, probs: &Probs) -> TokenId {
        if let Some(token) = probs.as_point() {
            return token;
        }
        self.choose(|| {
            let all = probs.to_vec();
            all.iter().enumerate().filter(|(_, p)| **p > 0.0).map(|(v, p)| (v as TokenId, *p)).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_cover_everything_once() {
        let p = Probs::normalize(vec![0.5, 0.0, 0.5]).unwrap();
        let law = outcomes(|draws| {
            let first = draws.pick(0, Purpose::Draft, &p);
            // The number of later decisions depends on the first.
            let second = if first == 0 { draws.accept(1, 0.25) } else { false };
            (first, second)
        });
        let expected = HashMap::from([((0, true), 0.125), ((0, false), 0.375), ((2, false), 0.5)]);
        assert!(distance(&law, &expected) < 1e-15);
        assert!(distance(&law, &HashMap::new()) > 0.4, "distance must see a difference");
    }
}
