//! One drafter with one rule: what was observed, predicted and measured.

use drafthorse::{
    DraftLength, Stats,
    cost::{Observed, RoundCosts},
};
use std::time::Duration;

/// A drafter with a rule on trial.
pub(super) struct Trial {
    /// Its number among the drafters.
    pub(super) part: usize,
    pub(super) drafter: String,
    pub(super) rule: String,
    /// Texts with the longest drafts.
    pub(super) observed: Observed,
    pub(super) predicted: Option<Predicted>,
    /// The lengths worth measuring: the predicted one, and the adaptive one.
    pub(super) runs: Vec<Run>,
}

/// What follows from acceptance and costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Predicted {
    /// The best draft length; 0 where none pays.
    pub(super) k: usize,
    pub(super) speedup: f64,
    pub(super) draft_cost: f64,
}

/// Texts with a draft length, in turn with plain decoding.
pub(super) struct Run {
    pub(super) length: DraftLength,
    pub(super) own: Speed,
    pub(super) plain: Speed,
}

/// Tokens, and the best time of each text.
#[derive(Clone, Debug, Default)]
pub(super) struct Speed {
    /// For each prompt: tokens, and the least time they took.
    best: Vec<Option<(u64, Duration)>>,
}

impl Speed {
    pub(super) fn add(&mut self, prompt: usize, stats: &Stats) {
        self.best.resize(self.best.len().max(prompt + 1), None);
        let (tokens, time) = (stats.emitted, stats.decode_time());
        let best = &mut self.best[prompt];
        // Texts may differ from turn to turn when they are sampled: the time of a token counts.
        let per_token = |(tokens, time): (u64, Duration)| time.as_secs_f64() / tokens.max(1) as f64;
        if best.is_none_or(|old| per_token((tokens, time)) < per_token(old)) {
            *best = Some((tokens, time));
        }
    }

    pub(super) fn tokens_per_second(&self) -> Option<f64> {
        let (tokens, time) = self
            .best
            .iter()
            .flatten()
            .fold((0, Duration::ZERO), |sum, best| (sum.0 + best.0, sum.1 + best.1));
        (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
    }
}

impl Run {
    pub(super) fn new(length: impl Into<DraftLength>) -> Self {
        Self { length: length.into(), own: Speed::default(), plain: Speed::default() }
    }

    /// Tokens per second over those of plain decoding of the same prompts.
    pub(super) fn speedup(&self) -> Option<f64> {
        Some(self.own.tokens_per_second()? / self.plain.tokens_per_second()?)
    }
}

impl Trial {
    /// Says what to expect, where a step of the expert takes `step` seconds.
    pub(super) fn predict(&mut self, step: f64, costs: &RoundCosts) {
        let draft_cost = self.observed.draft_cost(step).unwrap_or(0.0);
        let (k, speedup) = self.observed.best(&costs.clone().with_draft_cost(draft_cost));
        self.predicted = Some(Predicted { k, speedup, draft_cost });
    }

    /// The draft length with the greatest measured speedup.
    pub(super) fn best(&self) -> Option<(&Run, f64)> {
        let runs = self.runs.iter().filter_map(|run| Some((run, run.speedup()?)));
        runs.max_by(|a, b| a.1.total_cmp(&b.1))
    }
}
