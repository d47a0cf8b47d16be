//! What was learnt of draft lengths, kept from text to text.

use super::{
    Adaptive, DraftCosts, DraftLength, Speculation,
    controller::{Controller, Plan, Rows, Why},
    learning::Outcome,
    trees::{Choices, Trees},
};
use drafthorse_drafter::StopRule;
use std::sync::Arc;

/// Ways to generate that are learnt apart, at most.
const KEPT: usize = 8;

/// A way to generate, whose costs and acceptances say little about others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Way {
    pub(crate) rule: String,
    /// How rows of the drafter come.
    pub(crate) rows: Rows,
    pub(crate) constrained: bool,
    /// Whether the expert's logits are looked at besides its scores.
    pub(crate) keeps_logits: bool,
    /// Whether the expert reads a negative prompt too.
    pub(crate) guided: bool,
    /// The trees that may be drafted in place of chains.
    pub(crate) trees: Option<Choices>,
}

/// The controllers of an engine.
#[derive(Debug, Default)]
pub(crate) struct Learnt {
    pub(super) kept: Vec<(Adaptive, Way, Controller)>,
    #[cfg(test)]
    pub(crate) clock: Option<tests::Clock>,
}

/// How the drafts of a session are kept in bounds.
#[derive(Debug)]
pub(crate) enum Bounds {
    /// By settings.
    Set { length: DraftLength, stop: Option<Arc<dyn StopRule>> },
    /// By the controller that stands last in the engine.
    Learnt,
}

impl Bounds {
    /// Whether anything may be drafted at all.
    pub(crate) fn drafts(&self) -> bool {
        !matches!(self, Self::Set { length, .. } if length.max() == 0)
    }
}

impl Learnt {
    /// What a session goes by.
    pub(crate) fn bounds(&mut self, length: &DraftLength, way: Way) -> Bounds {
        let DraftLength::Adaptive(adaptive) = length else {
            return Bounds::Set { length: length.clone(), stop: length.stop_rule() };
        };
        let at = self.kept.iter().position(|(known, of, _)| known == adaptive && *of == way);
        let known = at.map(|at| self.kept.remove(at)).filter(|_| !adaptive.frozen);
        let rows = way.rows;
        let new = || {
            let mut controller = Controller::new(adaptive, rows);
            controller.trees = way.trees.map(Trees::new);
            (adaptive.clone(), way, controller)
        };
        let controller = known.unwrap_or_else(new);
        if self.kept.len() == KEPT {
            self.kept.remove(0);
        }
        self.kept.push(controller);
        Bounds::Learnt
    }

    pub(crate) fn controller(&mut self) -> Option<&mut Controller> {
        self.kept.last_mut().map(|(_, _, controller)| controller)
    }

    /// What the next round may draft.
    pub(crate) fn plan(&mut self, bounds: &Bounds, room: usize, lag: usize) -> Plan {
        match (bounds, self.controller()) {
            (Bounds::Set { length, stop }, _) => {
                Plan { max: length.max().min(room), stop: stop.clone(), ..Plan::default() }
            }
            (Bounds::Learnt, Some(controller)) => {
                let plan = controller.plan(room, lag);
                controller.with_tree(plan)
            }
            (Bounds::Learnt, None) => Plan::default(),
        }
    }

    /// Learns from a round; says what it makes of speculation if that may have changed.
    pub(crate) fn learn(&mut self, plan: &Plan, outcome: Outcome<'_>) -> Option<Speculation> {
        #[cfg(test)]
        let outcome =
            Outcome { times: self.clock.as_mut().map_or(outcome.times, tests::Clock::read), ..outcome };
        let controller = self.controller()?;
        controller.learn(plan, &outcome);
        if plan.why == Why::Idle { None } else { controller.speculation() }
    }

    pub(crate) fn draft_costs(&self) -> Option<DraftCosts> {
        self.kept.last()?.2.draft_costs()
    }

    pub(crate) fn forget(&mut self) {
        self.kept.clear();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::costs::Times;

    /// Times that look random and are the same in every run.
    #[derive(Debug)]
    pub(crate) struct Clock(pub(crate) u64);

    impl Clock {
        pub(super) fn read(&mut self) -> Times {
            let mut next = || {
                self.0 =
                    self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (self.0 >> 40) as f64 / (1_u64 << 24) as f64
            };
            Times { draft: 0.2 * next(), rest: 0.5 + next() }
        }
    }
}
