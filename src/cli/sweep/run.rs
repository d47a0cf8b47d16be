//! What is kept of a text.

use super::metric::Qualities;
use drafthorse::{SequentialStats, Stats};
use serde::{Deserialize, Serialize};

/// One text of one point: a line of runs.jsonl.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    /// The start of the program in which it was measured, from 1: its time is compared with the expert's in
    /// the same.
    pub(super) session: usize,
    pub(super) task: String,
    pub(super) prompt: usize,
    pub(super) point: String,
    pub(super) counts: Counts,
    /// Time of everything after the prompt.
    pub(super) seconds: f64,
    pub(super) prompt_seconds: f64,
    pub(super) quality: Qualities,
    pub(super) text: String,
}

/// Everything of a text that can be added up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    pub(super) emitted: u64,
    pub(super) expert_passes: u64,
    /// Tokens the models read after the prompt.
    pub(super) expert_rows: u64,
    pub(super) drafter_rows: u64,
    pub(super) drafted: u64,
    pub(super) examined: u64,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    /// Positions at which the drafter could have decided alone, and of them those at which the expert was
    /// asked.
    pub(super) decisions: u64,
    pub(super) deferred: u64,
    /// Positions at which the law was compared with the expert's, and sums over them.
    pub(super) positions: u64,
    pub(super) total_variation: f64,
    /// Of them, those at which the divergence is finite, and its sum in nats.
    pub(super) finite: u64,
    pub(super) divergence: f64,
}

impl Counts {
    pub(super) fn speculative(stats: &Stats) -> Self {
        Self {
            emitted: stats.emitted,
            expert_passes: stats.rounds,
            drafted: stats.drafted,
            examined: stats.examined,
            accepted: stats.accepted,
            rejected: stats.replaced,
            decisions: stats.price.decisions,
            deferred: stats.price.deferred,
            positions: stats.price.positions,
            total_variation: stats.price.total_variation,
            finite: stats.price.positions - stats.price.unsupported,
            divergence: stats.price.divergence,
            ..Self::default()
        }
    }

    pub(super) fn sequential(stats: &SequentialStats) -> Self {
        Self {
            emitted: stats.emitted,
            expert_passes: stats.expert_passes,
            decisions: stats.emitted,
            deferred: stats.deferred,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.emitted, other.emitted),
            (&mut self.expert_passes, other.expert_passes),
            (&mut self.expert_rows, other.expert_rows),
            (&mut self.drafter_rows, other.drafter_rows),
            (&mut self.drafted, other.drafted),
            (&mut self.examined, other.examined),
            (&mut self.accepted, other.accepted),
            (&mut self.rejected, other.rejected),
            (&mut self.decisions, other.decisions),
            (&mut self.deferred, other.deferred),
            (&mut self.positions, other.positions),
            (&mut self.finite, other.finite),
        ];
        for (sum, value) in pairs {
            *sum += value;
        }
        self.total_variation += other.total_variation;
        self.divergence += other.divergence;
    }
}
