use super::automaton::{Automaton, Next, Place, ROOT};
use crate::{SuffixOptions, suffix::fitting::Fitting};
use drafthorse_logits::{TokenId, TreeShape};
use std::{cmp::Ordering, collections::BinaryHeap};

/// Tokens that may follow, with what they are worth.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Path {
    pub(crate) tokens: Vec<TokenId>,
    /// The share of each token among those that followed the tokens before it.
    pub(crate) shares: Vec<f64>,
    /// How many of the tokens are expected to be right.
    pub(crate) score: f64,
    /// How many tokens before it were found.
    pub(crate) matched: u32,
}

/// A token of a draft tree.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Branch {
    /// The token.
    pub token: TokenId,
    /// The index of the branch it follows; `None` for one that follows the sequence.
    pub parent: Option<usize>,
    /// How probable it is that it and all before it are right, by the shares of what followed.
    pub probability: f64,
}

/// What is asked of a search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    pub(crate) options: &'a SuffixOptions,
    /// The most tokens.
    pub(crate) max: usize,
    /// The shape of a tree, and how deep it may be; without it, every tree is good.
    pub(crate) shape: Option<(&'a TreeShape, usize)>,
    /// Tokens from this one on are not known.
    pub(crate) vocab: usize,
}

impl Search<'_> {
    fn budget(&self, matched: u32) -> usize {
        let SuffixOptions { factor, offset, .. } = self.options;
        ((f64::from(matched) * factor + offset).max(0.0) as usize).min(self.max)
    }

    /// Puts the best path after `end` in the place of `best`, if it is better: the one with the greater score, the one
    /// after the longer match among equals.
    pub(crate) fn path(&self, automaton: &Automaton, end: Place, best: &mut Path) {
        for (state, matched) in suffixes(automaton, end) {
            let budget = self.budget(matched);
            if (budget as f64) < best.score || (budget as f64 == best.score && matched <= best.matched) {
                return;
            }
            let path = self.follow(automaton, state, matched, budget);
            let order = path.score.total_cmp(&best.score).then(path.matched.cmp(&best.matched));
            if order == Ordering::Greater && !path.tokens.is_empty() {
                *best = path;
            }
        }
    }

    /// The path of the most frequent tokens.
    fn follow(&self, automaton: &Automaton, state: u32, matched: u32, budget: usize) -> Path {
        let (mut path, mut state, mut probability) = (Path { matched, ..Path::default() }, state, 1.0);
        while path.tokens.len() < budget {
            let Some(next) = continuing(automaton, state, matched).and_then(|state| automaton.best(state))
            else {
                break;
            };
            probability *= next.share;
            if probability < self.options.min_probability {
                break;
            }
            path.tokens.push(next.token);
            path.shares.push(next.share);
            path.score += probability;
            state = next.state;
        }
        path
    }

    /// As [`path`](Self::path), for a tree: its most probable tokens first.
    pub(crate) fn tree(&self, automaton: &Automaton, end: Place, best: &mut (f64, u32, Vec<Branch>)) {
        for (state, matched) in suffixes(automaton, end) {
            let budget = self.budget(matched);
            if (budget as f64) < best.0 || (budget as f64 == best.0 && matched <= best.1) {
                return;
            }
            let tree = self.grow(automaton, state, matched, budget);
            let score: f64 = tree.iter().map(|branch| branch.probability).sum();
            if score > best.0 || (score == best.0 && matched > best.1 && !tree.is_empty()) {
                *best = (score, matched, tree);
            }
        }
    }

    fn grow(&self, automaton: &Automaton, state: u32, matched: u32, budget: usize) -> Vec<Branch> {
        let (mut tree, mut open) = (Vec::new(), BinaryHeap::new());
        let mut fitting = self.shape.map(|(shape, depth)| Fitting::new(shape, depth));
        let mut order = 0;
        let mut expand = |open: &mut BinaryHeap<Open>, state, parent, probability: f64| {
            let Some(state) = continuing(automaton, state, matched) else { return };
            for next in automaton.all(state) {
                order += 1;
                let probability = probability * next.share;
                if probability >= self.options.min_probability && (next.token as usize) < self.vocab {
                    open.push(Open { probability, order, parent, next });
                }
            }
        };
        expand(&mut open, state, None, 1.0);
        while tree.len() < budget
            && let Some(Open { probability, parent, next, .. }) = open.pop()
        {
            if !fitting.as_mut().is_none_or(|fitting| fitting.takes(parent)) {
                continue;
            }
            tree.push(Branch { token: next.token, parent, probability });
            expand(&mut open, next.state, Some(tree.len() - 1), probability);
        }
        tree
    }
}

/// A token that may be taken next.
#[derive(Clone, Copy)]
struct Open {
    probability: f64,
    /// When it was found: the earliest among equals.
    order: usize,
    parent: Option<usize>,
    next: Next,
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        self.probability.total_cmp(&other.probability).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Open {}

/// The suffixes of a place that are classes of their own, the longest first, with their lengths.
fn suffixes(automaton: &Automaton, end: Place) -> impl Iterator<Item = (u32, u32)> {
    let Place { mut state, mut len } = end.inner(automaton);
    std::iter::from_fn(move || {
        let found = (state != ROOT && len > 0).then_some((state, len))?;
        (state, len) = automaton.shorter(state);
        Some(found)
    })
}

/// The longest suffix of a state's runs that something followed, of `least` tokens at least: where a text ends, it may
/// go on as it did before.
fn continuing(automaton: &Automaton, mut state: u32, least: u32) -> Option<u32> {
    while automaton.best(state).is_none() {
        let (shorter, len) = automaton.shorter(state);
        if len < least.max(1) {
            return None;
        }
        state = shorter;
    }
    Some(state)
}
