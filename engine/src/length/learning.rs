//! What a controller learns from rounds, and what it makes of it.

use super::{
    DraftCosts,
    account::Entry,
    controller::{Controller, MARGIN, Plan, Why},
    costs::Times,
    report::{Speculation, Standing},
    trees::TreeOutcome,
};

/// Rounds between two attempts while it does not draft, at first and at most.
pub(super) const PAUSES: (u32, u32) = (8, 1024);
/// Drafts that cost no more than this share of a plain round are free.
pub(super) const FREE: f64 = 0.01;
/// Drafts by which it is said that they do not pay.
const SURE: f64 = 6.0;
/// Drafts of one token before anything is concluded.
const OPENING: u32 = 3;
/// Where their drafter takes longer than so many plain rounds, fewer say enough.
const DEAR: f64 = 1.0;
/// What the machine does for the first time, or was interrupted in, is not the drafter's: a round counts as so many
/// times what is usual at most.
const HICCUP: f64 = 2.0;
/// About so many rounds are remembered of the rate that is reached.
const RATE_MEMORY: f64 = 32.0;

/// What became of a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) drafted: usize,
    pub(crate) examined: usize,
    pub(crate) accepted: usize,
    /// Tokens that a constraint forced, which had rows too.
    pub(crate) forced: usize,
    /// Tokens the drafter had missed when it was asked.
    pub(crate) lag: usize,
    pub(crate) times: Times,
    /// How sure the drafter was of its first tokens, where that is known.
    pub(crate) confidences: &'a [f64],
    /// Whether the draft was there at once, with confidences; `None` where there was none.
    pub(crate) offers: Option<bool>,
    /// What became of the tree, where one was drafted.
    pub(crate) tree: Option<TreeOutcome<'a>>,
}

impl Controller {
    /// Learns from a round.
    pub(crate) fn learn(&mut self, plan: &Plan, outcome: &Outcome<'_>) {
        let asked = plan.max > 0;
        let times = if self.frozen { self.modelled(asked, outcome) } else { outcome.times };
        let plain = self.costs.round(0);
        if let Some(tree) = outcome.tree {
            self.learn_tree(tree, outcome);
        } else if !self.frozen {
            self.costs.learn(
                1 + outcome.forced + outcome.drafted,
                asked.then_some(outcome.drafted),
                outcome.lag,
                times,
            );
            if !asked && times.draft > 0.0 {
                self.costs.learn_scores(times.draft);
            }
        }
        if !self.costs.knows_plain() || plain == 0.0 {
            return;
        }
        if asked {
            let without = self.costs.draft(0) + self.costs.rest(1 + outcome.forced);
            // Where nothing came, only the asking is speculation's.
            let rest = if outcome.drafted > 0 { times.rest } else { self.costs.rest(1 + outcome.forced) };
            let usual = self.usual(outcome);
            let took = (times.draft + rest).min(usual * HICCUP);
            if self.opening.is_none() || outcome.drafted == 0 {
                self.account.book(Entry { plain, took, saved: outcome.accepted, without });
            }
            self.learn_rate(plan, outcome, took);
            self.open(outcome.drafted > 0);
        } else {
            self.account.rest(plain, self.costs.reading());
        }
        if outcome.tree.is_none() {
            self.acceptance.learn(outcome.examined, outcome.accepted, outcome.confidences);
        }
        if plan.why == Why::Probe {
            self.learn_probe(outcome);
        }
        self.offers = outcome.offers.unwrap_or(self.offers);
    }

    /// What a round like this takes.
    fn usual(&self, outcome: &Outcome<'_>) -> f64 {
        let draft = match (outcome.tree, &self.trees) {
            (Some(tree), Some(trees)) => trees.draft(tree.depth, &self.costs),
            _ if outcome.drafted > 0 => self.costs.draft(outcome.drafted),
            _ => self.costs.asking(),
        };
        self.costs.rest(1 + outcome.forced + outcome.drafted) + draft + self.costs.catch_up(outcome.lag)
    }

    /// Counts the drafts of the beginning, and ends it.
    fn open(&mut self, came: bool) {
        let Some((asked, drafts)) = self.opening else { return };
        let (asked, drafts) = (asked + 1, drafts + u32::from(came));
        let dear = drafts >= 2 && self.costs.draft(1) > DEAR * self.costs.round(0);
        self.opening = (drafts < OPENING && !dear).then_some((asked, drafts));
    }

    /// What a round took where costs are given.
    fn modelled(&self, asked: bool, outcome: &Outcome<'_>) -> Times {
        let draft = if asked { self.costs.draft(outcome.drafted) } else { self.costs.draft(0) };
        Times { draft, rest: self.costs.rest(1 + outcome.forced + outcome.drafted) }
    }

    fn learn_rate(&mut self, plan: &Plan, outcome: &Outcome<'_>, took: f64) {
        let stays = 1.0 - 1.0 / RATE_MEMORY;
        let with = |(tokens, seconds): (f64, f64)| {
            (stays * tokens + (outcome.accepted + 1) as f64, stays * seconds + took)
        };
        self.overall = with(self.overall);
        if plan.why == Why::Pays && outcome.drafted > 0 {
            self.reached = with(self.reached);
        }
    }

    /// Attempts that fail are made ever less often.
    fn learn_probe(&mut self, outcome: &Outcome<'_>) {
        if outcome.drafted == 0 && self.costs.asking() <= 0.01 * self.costs.round(0) {
            return;
        }
        if outcome.drafted > 0 && outcome.accepted == outcome.drafted {
            (self.pause, self.wait) = (PAUSES.0, 0);
        } else if !self.pays || self.offers {
            self.pause = (2 * self.pause).min(PAUSES.1);
            self.wait = self.pause;
        }
    }

    /// What was learnt.
    pub(crate) fn draft_costs(&self) -> Option<DraftCosts> {
        let costs = self.costs.to_public()?;
        let seen = self.costs.knows_drafts();
        Some(if seen { costs.with_acceptance(self.acceptance.by_position(self.max)) } else { costs })
    }

    fn standing(&self, promise: f64) -> Standing {
        match (self.pays, promise > MARGIN) {
            _ if self.opening.is_some() => Standing::Unsure,
            (true, _) => Standing::Pays,
            (false, true) => Standing::Waits,
            (false, false) if self.costs.drafts() < SURE => Standing::Unsure,
            (false, false) => Standing::Loses,
        }
    }

    /// Whether speculation pays, and why.
    pub(crate) fn speculation(&self) -> Option<Speculation> {
        if !self.costs.knows_plain() || !self.costs.knows_drafts() {
            return None;
        }
        let plain = self.costs.round(0);
        let longest = if self.frozen { self.max } else { self.max.min(self.costs.longest()).max(1) };
        let rates = self.rates(longest);
        let best = (1..rates.len()).max_by(|a, b| rates[*a].total_cmp(&rates[*b]))?;
        Some(Speculation {
            pays: self.pays,
            standing: self.standing(rates[best] * plain),
            draft_cost: (self.costs.draft(best) - self.costs.draft(0)) / best as f64 / plain,
            verify_cost: self.costs.rest(best + 1) / self.costs.rest(1),
            acceptance: self.acceptance.first(),
            length: best,
            speedup: rates[best].max(if self.pays { self.reached_rate() } else { 0.0 }) * plain,
        })
    }
}
