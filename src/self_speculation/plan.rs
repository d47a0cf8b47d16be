//! Which shortcuts are tried, and what is to be expected of each.

use super::Agreement;
use crate::{
    cost::RoundCosts,
    model::{ModelError, Shortcut},
};
use std::fmt;

/// How many numbers of skipped layers in a row may be worse than the best before the search ends.
const PATIENCE: usize = 2;

/// What can be measured of shortcuts through a model.
pub(super) trait Subject {
    /// How much each of them shares with the whole model.
    fn agreement(&mut self, shortcuts: &[Shortcut]) -> Result<Vec<Agreement>, ModelError>;

    /// What rounds cost in which it drafts.
    fn costs(&mut self, shortcut: &Shortcut) -> Result<RoundCosts, ModelError>;
}

/// A shortcut that was measured.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Candidate {
    /// Which.
    pub shortcut: Shortcut,
    /// Layers of the whole model.
    pub layers: usize,
    /// The mean of the sum of min(p, q).
    pub agreement: f64,
    /// Time of drafting a token / time of a step of the expert.
    pub draft_cost: f64,
    /// Time of verifying a draft of `draft_length` tokens / time of a step of the expert.
    pub verify_cost: f64,
    /// The best draft length.
    pub draft_length: usize,
    /// Tokens of a round with this draft length.
    pub tokens_per_round: f64,
    /// Predicted tokens per second / those without drafts.
    pub speedup: f64,
}

impl Candidate {
    /// At the draft length at which it is best, up to `max_draft` (at least 1).
    fn new(
        shortcut: Shortcut,
        layers: usize,
        agreement: &Agreement,
        costs: &RoundCosts,
        max_draft: usize,
    ) -> Self {
        let tokens = |k| 1.0 + (1..=k).map(|count| agreement.survival(count)).sum::<f64>();
        let speedup = |k| tokens(k) / costs.round(k);
        // The shortest of equals.
        let best = |best, k| if speedup(k) > speedup(best) { k } else { best };
        let k = (2..=max_draft).fold(1, best);
        Self {
            shortcut,
            layers,
            agreement: agreement.mean(),
            draft_cost: costs.draft(k) / k as f64,
            verify_cost: costs.verify(k + 1),
            draft_length: k,
            tokens_per_round: tokens(k),
            speedup: speedup(k),
        }
    }
}

impl fmt::Display for Candidate {
    /// What it is and why it is where it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shortcut {
            Shortcut::Exit(layer) => write!(f, "exit after layer {layer} of {}", self.layers)?,
            Shortcut::Skip(skipped) => {
                let (name, plural) = (self.shortcut.to_string(), if skipped.len() > 1 { "s" } else { "" });
                write!(f, "layer{plural} {} of {} skipped", name.trim_start_matches("skip:"), self.layers)?;
            }
        }
        write!(
            f,
            ": agreement {:.2}, a drafted token costs {:.2} and a pass over {} rows {:.2} of an expert step: \
             predicted speedup {:.2} with drafts of {}",
            self.agreement,
            self.draft_cost,
            self.draft_length + 1,
            self.verify_cost,
            self.speedup,
            self.draft_length
        )
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Search {
    /// All that were measured, the fastest first.
    pub candidates: Vec<Candidate>,
    /// In how many positions agreement was measured.
    pub positions: usize,
    /// Whether the search came to its end; else its budget was spent.
    pub complete: bool,
}

impl Search {
    /// The fastest, if it is faster than no drafts at all.
    pub fn best(&self) -> Option<&Candidate> {
        self.candidates.first().filter(|candidate| candidate.speedup > 1.0)
    }
}

/// Tries every exit, those that promise most first, and then sets of layers to skip, one layer more at a time, while
/// there is time.
pub(super) fn search(
    subject: &mut dyn Subject,
    layers: usize,
    max_draft: usize,
    has_time: &dyn Fn() -> bool,
) -> Result<Search, ModelError> {
    let mut plan = Plan { subject, layers, max_draft, has_time, found: Vec::new(), positions: 0 };
    let complete = plan.exits()? && plan.skips()?;
    plan.found.sort_by(|a, b| b.speedup.total_cmp(&a.speedup));
    Ok(Search { candidates: plan.found, positions: plan.positions, complete })
}

struct Plan<'a> {
    subject: &'a mut dyn Subject,
    layers: usize,
    max_draft: usize,
    has_time: &'a dyn Fn() -> bool,
    found: Vec<Candidate>,
    positions: usize,
}

impl Plan<'_> {
    /// Whether there was time for all of them.
    fn exits(&mut self) -> Result<bool, ModelError> {
        let exits: Vec<_> = Shortcut::exits(self.layers).collect();
        if exits.is_empty() || !(self.has_time)() {
            return Ok(exits.is_empty());
        }
        let measured = self.subject.agreement(&exits)?;
        self.positions = measured[0].positions();
        let mut exits: Vec<_> = exits.into_iter().zip(measured).collect();
        // As if a draft cost its share of the layers, and nothing else anything.
        let promise = |(shortcut, agreement): &(Shortcut, Agreement)| {
            let Shortcut::Exit(layer) = shortcut else { return 0.0 };
            let share = *layer as f64 / self.layers as f64;
            agreement.mean() / share
        };
        exits.sort_by(|a, b| promise(b).total_cmp(&promise(a)));
        for (shortcut, agreement) in exits {
            if !(self.has_time)() {
                return Ok(false);
            }
            let costs = self.subject.costs(&shortcut)?;
            self.add(shortcut, &agreement, &costs);
        }
        Ok(true)
    }

    /// Whether there was time for all of them.
    fn skips(&mut self) -> Result<bool, ModelError> {
        let (mut skipped, mut best, mut worse) = (Vec::new(), 0.0, 0);
        while skipped.len() + 2 < self.layers && worse < PATIENCE {
            let Some((layer, speedup)) = self.skip_one_more(&skipped)? else { return Ok(false) };
            skipped.push(layer);
            worse = if speedup > best { 0 } else { worse + 1 };
            best = speedup.max(best);
        }
        Ok(true)
    }

    /// Tries every layer on top of those that are skipped; the one that is best. `None` where there was no time.
    fn skip_one_more(&mut self, skipped: &[usize]) -> Result<Option<(usize, f64)>, ModelError> {
        let mut best: Option<(usize, f64)> = None;
        let mut costs: Option<RoundCosts> = None;
        for layer in (2..self.layers).filter(|layer| !skipped.contains(layer)) {
            if !(self.has_time)() {
                return Ok(None);
            }
            let mut set = [skipped, &[layer]].concat();
            set.sort_unstable();
            let shortcut = Shortcut::Skip(set);
            // As many layers cost as much, whichever they are.
            let costs = match &costs {
                Some(costs) => costs.clone(),
                None => costs.insert(self.subject.costs(&shortcut)?).clone(),
            };
            for agreement in self.subject.agreement(std::slice::from_ref(&shortcut))? {
                self.positions = agreement.positions();
                let speedup = self.add(shortcut.clone(), &agreement, &costs);
                best = best.filter(|(_, best)| *best >= speedup).or(Some((layer, speedup)));
            }
        }
        Ok(best)
    }

    fn add(&mut self, shortcut: Shortcut, agreement: &Agreement, costs: &RoundCosts) -> f64 {
        let candidate = Candidate::new(shortcut, self.layers, agreement, costs, self.max_draft);
        let speedup = candidate.speedup;
        self.found.push(candidate);
        speedup
    }
}

#[cfg(test)]
mod tests;
