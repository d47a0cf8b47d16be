//! The controller of a draft length that adapts.

use super::{
    Adaptive, DraftCosts,
    acceptance::Acceptance,
    account::{Account, Entry},
    costs::{Costs, Times},
    marginal::Marginal,
    report::Speculation,
};
use std::sync::Arc;

/// By how much a draft must promise to be better than none.
const MARGIN: f64 = 1.02;
/// While it drafts, a plain round every so many rounds: what drafts are compared with changes too.
const PLAIN_EVERY: u32 = 64;
/// While it drafts, another length every so many rounds,
const OTHER_EVERY: u32 = 16;
/// if it promises to lose no more than this share.
const OTHER_LOSS: f64 = 0.1;
/// Rounds between two attempts while it does not draft, at first and at most.
const PAUSES: (u32, u32) = (8, 1024);
/// Texts between two whose prompt the drafter reads while it does not draft, at most.
const TEXTS: u32 = 16;
/// As if it had been measured so often: what was given.
const GIVEN: f64 = 8.0;
/// About so many rounds are remembered of the rate that is reached.
const RATE_MEMORY: f64 = 32.0;

/// What a round may draft.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// The most tokens.
    pub(crate) max: usize,
    /// What ends the draft before.
    pub(crate) stop: Option<Arc<Marginal>>,
    /// Whether confidences are wanted, to learn from.
    pub(crate) confidences: bool,
    pub(crate) why: Why,
}

/// Why a round drafts what it drafts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Why {
    /// There is no room for more.
    #[default]
    Room,
    /// To know what a round without drafts costs.
    Plain,
    /// It pays.
    Pays,
    /// It did not pay; perhaps it does now.
    Probe,
    /// It does not pay.
    Idle,
}

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
}

/// Decides how much is drafted, and learns what comes of it.
#[derive(Clone, Debug)]
pub(crate) struct Controller {
    max: usize,
    frozen: bool,
    /// Whether confidences are to be had without reading rows for them.
    rows_are_there: bool,
    costs: Costs,
    acceptance: Acceptance,
    account: Account,
    pays: bool,
    since_plain: u32,
    since_other: u32,
    upwards: bool,
    pause: u32,
    wait: u32,
    texts: u32,
    skipped: u32,
    /// Tokens and seconds of rounds with drafts, as means.
    reached: (f64, f64),
}

impl Controller {
    pub(crate) fn new(adaptive: &Adaptive, rows_are_there: bool) -> Self {
        let given = adaptive.costs.as_ref();
        Self {
            max: adaptive.max,
            frozen: adaptive.frozen,
            rows_are_there,
            costs: given.map_or_else(Costs::default, |costs| Costs::seeded(costs, GIVEN, adaptive.frozen)),
            acceptance: given
                .map_or_else(Acceptance::default, |costs| Acceptance::seeded(&costs.acceptance, GIVEN)),
            account: Account::default(),
            pays: true,
            since_plain: 0,
            since_other: 0,
            upwards: true,
            pause: PAUSES.0,
            wait: 0,
            texts: 1,
            skipped: 0,
            reached: (0.0, 0.0),
        }
    }

    /// Whether the drafter should read a prompt: not where it is not expected to be asked.
    pub(crate) fn prepares(&mut self) -> bool {
        if self.pays {
            self.texts = 1;
            return true;
        }
        self.skipped += 1;
        let again = self.skipped > self.texts;
        if again {
            (self.skipped, self.texts) = (0, (2 * self.texts).min(TEXTS));
        }
        again
    }

    /// Learns what reading a prompt cost the drafter.
    pub(crate) fn prepared(&mut self, tokens: usize, seconds: f64) {
        if !self.frozen {
            self.costs.learn_reading(tokens, seconds);
        }
    }

    /// What the next round may draft, where there is room for `room` tokens and the drafter missed `lag`.
    pub(crate) fn plan(&mut self, room: usize, lag: usize) -> Plan {
        let room = room.min(self.max);
        if room == 0 {
            return Plan::default();
        }
        if !self.costs.knows_plain() {
            return Plan { why: Why::Plain, ..Plan::default() };
        }
        if !self.costs.knows_drafts() {
            // What it costs is not known, so as little as possible.
            return self.probe(1, lag, self.costs.rest(1));
        }
        if !self.pays && self.wait > 0 {
            self.wait -= 1;
            return Plan { why: Why::Idle, ..Plan::default() };
        }
        let choice = self.choose(lag);
        if self.pays != choice.pays {
            self.turn(choice.pays);
        }
        match choice {
            Choice { pays: false, .. } if self.wait > 0 => Plan { why: Why::Idle, ..Plan::default() },
            Choice { pays: false, length } => self.probe(length.min(room), lag, 0.0),
            Choice { length: 0, .. } => Plan { why: Why::Idle, ..Plan::default() },
            Choice { length, .. } => self.draft(length.min(room), room, lag),
        }
    }

    /// A draft, now and then of another length or none.
    fn draft(&mut self, length: usize, room: usize, lag: usize) -> Plan {
        self.since_plain += 1;
        if self.since_plain >= PLAIN_EVERY {
            self.since_plain = 0;
            return Plan { why: Why::Plain, ..Plan::default() };
        }
        let confident = self.acceptance.calibration.helps();
        if confident {
            let longest = (length..=room).take_while(|&k| self.affords(k, lag)).last().unwrap_or(length);
            return self.planned(longest, Some(self.marginal(longest)), Why::Pays);
        }
        self.since_other += 1;
        if self.since_other >= OTHER_EVERY {
            self.since_other = 0;
            if let Some(other) = self.other(length, room, lag) {
                return self.planned(other, None, Why::Pays);
            }
        }
        self.planned(length, None, Why::Pays)
    }

    /// A neighbouring length that promises about as much, upwards and downwards in turn.
    fn other(&mut self, length: usize, room: usize, lag: usize) -> Option<usize> {
        self.upwards = !self.upwards;
        let other = if self.upwards { length + 1 } else { length - 1 };
        let allowed = (1..=room).contains(&other) && self.affords(other, lag);
        let rates = self.rates(other.max(length));
        let near = |rates: &[f64]| rates[other] > (1.0 - OTHER_LOSS) * rates[length];
        (allowed && near(&rates)).then_some(other)
    }

    fn probe(&mut self, length: usize, lag: usize, unknown: f64) -> Plan {
        let loss = self.loss(length, lag) + unknown;
        if length == 0 || !self.account.affords(loss, self.costs.round(0)) {
            return Plan { why: Why::Idle, ..Plan::default() };
        }
        self.planned(length, None, Why::Probe)
    }

    fn planned(&self, max: usize, stop: Option<Marginal>, why: Why) -> Plan {
        let calibration = &self.acceptance.calibration;
        let confidences = self.rows_are_there || !calibration.is_judged() || calibration.helps();
        Plan { max, stop: stop.map(Arc::new), confidences, why }
    }

    /// What is lost at most by a draft of which nothing is accepted.
    fn loss(&self, length: usize, lag: usize) -> f64 {
        self.costs.round(length) - self.costs.round(0) + self.costs.catch_up(lag)
    }

    fn affords(&self, length: usize, lag: usize) -> bool {
        self.account.affords(self.loss(length, lag), self.costs.round(0))
    }

    /// Tokens a second that are expected, by tokens drafted from 0.
    fn rates(&self, room: usize) -> Vec<f64> {
        let mut reach = 1.0;
        let mut tokens = 1.0;
        let mut rates = vec![1.0 / self.costs.round(0)];
        for (length, acceptance) in (1..).zip(self.acceptance.by_position(room)) {
            reach *= acceptance;
            tokens += reach;
            rates.push(tokens / self.costs.round(length));
        }
        rates
    }

    /// The best length, and whether it pays.
    fn choose(&self, lag: usize) -> Choice {
        let rates = self.rates(self.max);
        let plain = rates[0];
        let better = |a: &usize, b: &usize| rates[*a].total_cmp(&rates[*b]).then(b.cmp(a));
        let best = (1..=self.max).max_by(better).unwrap_or(0);
        let confident = self.acceptance.calibration.helps();
        let reached = if confident { self.reached_rate() } else { 0.0 };
        if rates[best].max(reached) <= MARGIN * plain {
            return Choice { pays: false, length: best };
        }
        let affordable = (1..=best).filter(|&length| self.affords(length, lag)).max_by(better);
        let length = affordable.filter(|&length| confident || rates[length] > plain).unwrap_or(0);
        Choice { pays: true, length }
    }

    fn reached_rate(&self) -> f64 {
        let (tokens, seconds) = self.reached;
        if seconds > 0.0 { tokens / seconds } else { 0.0 }
    }

    /// What decides along a draft.
    pub(crate) fn marginal(&self, room: usize) -> Marginal {
        let rates = self.rates(room);
        Marginal {
            acceptance: self.acceptance.by_position(room),
            rounds: (0..=room).map(|length| self.costs.round(length)).collect(),
            rate: rates.into_iter().fold(self.reached_rate(), f64::max),
            calibration: self.acceptance.calibration.clone(),
        }
    }

    /// It begins or ends to pay.
    fn turn(&mut self, pays: bool) {
        self.pays = pays;
        (self.since_plain, self.since_other) = (0, 0);
        if !pays {
            self.acceptance.fade();
            (self.pause, self.wait) = (PAUSES.0, PAUSES.0);
            self.reached = (0.0, 0.0);
        }
    }

    /// Learns from a round.
    pub(crate) fn learn(&mut self, plan: &Plan, outcome: &Outcome<'_>) {
        let asked = plan.max > 0;
        let times = if self.frozen { self.modelled(asked, outcome) } else { outcome.times };
        let (plain, expected) = (self.costs.round(0), self.expected(outcome));
        if !self.frozen {
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
            let took = times.draft + times.rest;
            let without = self.costs.draft(0) + self.costs.rest(1 + outcome.forced);
            let expected = if expected > 0.0 { expected } else { took };
            self.account.book(Entry { plain, expected, took, saved: outcome.accepted, without });
            self.learn_rate(plan, outcome, took);
        } else {
            self.account.rest(plain);
        }
        self.acceptance.learn(outcome.examined, outcome.accepted, outcome.confidences);
        if plan.why == Why::Probe {
            self.learn_probe(outcome);
        }
    }

    /// What a round like this was expected to take.
    fn expected(&self, outcome: &Outcome<'_>) -> f64 {
        let (rows, tokens) = (1 + outcome.forced + outcome.drafted, outcome.drafted);
        self.costs.rest(rows) + self.costs.draft(tokens) + self.costs.catch_up(outcome.lag)
    }

    /// What a round took where costs are given.
    fn modelled(&self, asked: bool, outcome: &Outcome<'_>) -> Times {
        let draft = if asked { self.costs.draft(outcome.drafted) } else { self.costs.draft(0) };
        Times { draft, rest: self.costs.rest(1 + outcome.forced + outcome.drafted) }
    }

    fn learn_rate(&mut self, plan: &Plan, outcome: &Outcome<'_>, took: f64) {
        if plan.why == Why::Pays && outcome.drafted > 0 {
            let stays = 1.0 - 1.0 / RATE_MEMORY;
            let gained = (outcome.accepted + 1) as f64;
            self.reached = (stays * self.reached.0 + gained, stays * self.reached.1 + took);
        }
    }

    /// Attempts that fail are made ever less often.
    fn learn_probe(&mut self, outcome: &Outcome<'_>) {
        if outcome.drafted == 0 && self.costs.asking() <= 0.01 * self.costs.round(0) {
            return;
        }
        if outcome.drafted > 0 && outcome.accepted == outcome.drafted {
            (self.pause, self.wait) = (PAUSES.0, 0);
        } else if !self.pays {
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

    /// Whether speculation pays, and why.
    pub(crate) fn speculation(&self) -> Option<Speculation> {
        if !self.costs.knows_plain() || !self.costs.knows_drafts() {
            return None;
        }
        let plain = self.costs.round(0);
        let rates = self.rates(self.max);
        let best = (1..rates.len()).max_by(|a, b| rates[*a].total_cmp(&rates[*b]))?;
        Some(Speculation {
            pays: self.pays,
            draft_cost: (self.costs.draft(best) - self.costs.draft(0)) / best as f64 / plain,
            verify_cost: self.costs.rest(best + 1) / self.costs.rest(1),
            acceptance: self.acceptance.first(),
            length: best,
            speedup: rates[best].max(if self.pays { self.reached_rate() } else { 0.0 }) * plain,
        })
    }
}

struct Choice {
    pays: bool,
    length: usize,
}
