//! One drafter with one rule: what was observed, predicted and measured.

use drafthorse::{
    DraftLength, SessionOptions, Stats,
    cost::{Observed, RoundCosts},
    logits::{Branching, RankAcceptance, TreePlan, TreeShape},
};
use std::time::Duration;

/// The most nodes of a tree.
const NODES: usize = 16;

/// A drafter with a rule on trial.
pub(super) struct Trial {
    /// Its number among the drafters.
    pub(super) part: usize,
    pub(super) drafter: String,
    pub(super) rule: String,
    /// Texts with the longest drafts.
    pub(super) observed: Observed,
    pub(super) predicted: Option<Predicted>,
    /// How children are proposed, where trees can be drafted.
    pub(super) branching: Option<Branching>,
    /// The tree that is predicted to be the fastest, if one pays.
    pub(super) tree: Option<TreePlan>,
    /// What is worth measuring: the predicted length, the adaptive one, and the tree.
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

/// What is drafted a round.
#[derive(Clone, Debug)]
pub(super) enum Drafts {
    Chain(DraftLength),
    Tree(TreePlan),
}

impl Drafts {
    /// The length of an engine's drafts, and the options of its texts.
    pub(super) fn options(&self, options: &SessionOptions) -> (DraftLength, SessionOptions) {
        match self {
            Self::Chain(length) => (length.clone(), options.clone()),
            Self::Tree(plan) => {
                (DraftLength::default(), SessionOptions { tree: Some(plan.clone()), ..options.clone() })
            }
        }
    }

    pub(super) fn tree(&self) -> Option<&TreePlan> {
        match self {
            Self::Chain(_) => None,
            Self::Tree(plan) => Some(plan),
        }
    }

    /// As after `-k`.
    pub(super) fn length(&self) -> String {
        match self {
            Self::Chain(length) => length.to_string(),
            Self::Tree(_) => "auto".into(),
        }
    }
}

impl From<usize> for Drafts {
    fn from(tokens: usize) -> Self {
        Self::Chain(tokens.into())
    }
}

impl std::fmt::Display for Drafts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Chain(length) => length.fmt(f),
            Self::Tree(plan) => write!(f, "tree {}", plan.shape),
        }
    }
}

/// Texts with some drafts, in turn with plain decoding.
pub(super) struct Run {
    pub(super) drafts: Drafts,
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
    pub(super) fn new(drafts: Drafts) -> Self {
        Self { drafts, own: Speed::default(), plain: Speed::default() }
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

    /// A tree to observe which children stand; `None` where the drafter or the rule has none.
    pub(super) fn wide(&self) -> Option<TreePlan> {
        let branching = self.branching?;
        let shape = TreeShape::levels(&[3, 2, 1]).ok()?;
        Some(TreePlan { branching, shape })
    }

    /// Finds the tree with the least time a token, where drafting a level takes `level` steps of the expert.
    pub(super) fn predict_tree(&mut self, ranks: &RankAcceptance, level: f64, costs: &RoundCosts) {
        let verify: Vec<_> = (1..=NODES + 1).map(|rows| costs.verify(rows)).collect();
        let shape = ranks.fastest(3, 6, level, &verify).map(|(shape, _)| shape);
        let branching = shape.filter(|shape| shape.nodes() > shape.depth()).zip(self.branching);
        self.tree = branching.map(|(shape, branching)| TreePlan { branching, shape });
    }

    /// The drafts with the greatest measured speedup.
    pub(super) fn best(&self) -> Option<(&Run, f64)> {
        let runs = self.runs.iter().filter_map(|run| Some((run, run.speedup()?)));
        runs.max_by(|a, b| a.1.total_cmp(&b.1))
    }
}
