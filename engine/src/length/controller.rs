//! The controller of a draft length that adapts.

use super::{
    Adaptive,
    acceptance::Acceptance,
    account::{Account, TRIAL},
    costs::Costs,
    learning::{FREE, PAUSES},
    marginal::Marginal,
};
use drafthorse_drafter::StopRule;
use std::sync::Arc;

/// By how much a draft must promise to be better than none.
pub(super) const MARGIN: f64 = 1.02;
/// While it drafts, a plain round every so many rounds, fewer where drafts promise more than
const PLAIN_EVERY: (u32, u32) = (8, 64);
/// so many times what plain rounds give: what drafts are compared with changes too.
const CLEAR: f64 = 1.2;
/// While it drafts, another length every so many rounds,
const OTHER_EVERY: u32 = 16;
/// if it promises to lose no more than this share.
const OTHER_LOSS: f64 = 0.1;
/// Texts between two whose prompt the drafter reads while it does not draft, at most.
const TEXTS: u32 = 16;
/// As if it had been measured so often: what was given.
const GIVEN: f64 = 8.0;
/// Drafts of one token at the beginning that are made whatever they take.
const FIRST: u32 = 2;
/// Longer drafts than any that was measured are at most so many times as long.
const LONGER: usize = 2;

/// What a round may draft.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// The most tokens.
    pub(crate) max: usize,
    /// What ends the draft before.
    pub(crate) stop: Option<Arc<dyn StopRule>>,
    /// Of a draft that is there at once, what says how much of it is verified, and how much is in any case.
    pub(crate) cut: Option<Arc<Marginal>>,
    pub(crate) least: usize,
    /// Whether confidences are wanted, to learn from.
    pub(crate) confidences: bool,
    pub(crate) why: Why,
}

/// How the rows come by which a drafter knows how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// They are there, because tokens are drawn from them.
    There,
    /// They would have to be looked at for this alone.
    Read,
    /// They would have to be fetched from a device, which costs more than they say.
    Away,
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

/// Decides how much is drafted, and learns what comes of it.
#[derive(Clone, Debug)]
pub(crate) struct Controller {
    pub(super) max: usize,
    pub(super) frozen: bool,
    pub(super) rows: Rows,
    pub(super) costs: Costs,
    pub(super) acceptance: Acceptance,
    pub(super) account: Account,
    pub(super) pays: bool,
    /// Drafts that were asked for and such that came, as long as too little is known of them.
    pub(super) opening: Option<(u32, u32)>,
    pub(super) since_plain: u32,
    pub(super) since_other: u32,
    /// How often another length was tried.
    pub(super) others: usize,
    pub(super) pause: u32,
    pub(super) wait: u32,
    pub(super) texts: u32,
    pub(super) skipped: u32,
    /// Tokens and seconds of rounds with drafts, as means.
    pub(super) reached: (f64, f64),
    /// The same of all rounds.
    pub(super) overall: (f64, f64),
    /// Whether drafts come at once, and with confidences.
    pub(super) offers: bool,
}

impl Controller {
    pub(crate) fn new(adaptive: &Adaptive, rows: Rows) -> Self {
        let given = adaptive.costs.as_ref();
        Self {
            max: adaptive.max,
            frozen: adaptive.frozen,
            rows,
            costs: given.map_or_else(Costs::default, |costs| Costs::seeded(costs, GIVEN, adaptive.frozen)),
            acceptance: given
                .map_or_else(Acceptance::default, |costs| Acceptance::seeded(&costs.acceptance, GIVEN)),
            account: Account::default(),
            pays: true,
            opening: given.is_none_or(|costs| costs.draft.is_empty() && !adaptive.frozen).then_some((0, 0)),
            since_plain: 0,
            since_other: 0,
            others: 0,
            pause: PAUSES.0,
            wait: 0,
            texts: 1,
            skipped: 0,
            reached: (0.0, 0.0),
            overall: (0.0, 0.0),
            offers: false,
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
        if self.frozen {
            return;
        }
        self.costs.learn_reading(tokens, seconds);
        if !self.pays {
            self.account.lose(seconds, self.costs.round(0));
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
        if let Some((asked, _)) = self.opening {
            // What it costs is not known, so as little as possible, and more than once: the first of all may have had to
            // wait for anything.
            let unknown = if self.costs.knows_drafts() { 0.0 } else { self.costs.rest(1) };
            return if asked < FIRST {
                self.planned(1, None, Why::Probe)
            } else {
                self.probe(1, lag, unknown)
            };
        }
        if self.offers && self.costs.draft(1).max(self.costs.asking()) <= FREE * self.costs.round(0) {
            return self.look(room, lag);
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

    /// Where drafts are free and come with confidences, those decide once there is one.
    fn look(&mut self, room: usize, lag: usize) -> Plan {
        let longest = (1..=room).take_while(|&length| self.affords(length, lag)).last().unwrap_or(0);
        self.wait = self.wait.saturating_sub(1);
        let least = usize::from(self.wait == 0);
        let why = if least > 0 { Why::Probe } else { Why::Pays };
        let rate = rate(self.overall).max(1.0 / self.costs.round(0));
        let cut = Marginal { rate, ..self.marginal(longest) };
        Plan { least: least.min(longest), cut: Some(Arc::new(cut)), ..self.planned(longest, None, why) }
    }

    /// A draft, now and then of another length or none.
    fn draft(&mut self, length: usize, room: usize, lag: usize) -> Plan {
        self.since_plain += 1;
        let rates = self.rates(length);
        let clear = rates[length] > CLEAR * rates[0];
        let every = if clear { PLAIN_EVERY.1 } else { PLAIN_EVERY.0 };
        if self.since_plain >= every && !self.frozen {
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
        self.others += 1;
        let other = if self.others.is_multiple_of(2) { length + 1 } else { length - 1 };
        let allowed = (1..=room).contains(&other) && self.affords(other, lag);
        let rates = self.rates(other.max(length));
        let near = |rates: &[f64]| rates[other] > (1.0 - OTHER_LOSS) * rates[length];
        (allowed && near(&rates)).then_some(other)
    }

    fn probe(&mut self, length: usize, lag: usize, unknown: f64) -> Plan {
        let plain = self.costs.round(0);
        let loss = |length: usize| match length {
            1 => (self.loss(1, 0) + unknown).min(TRIAL * plain) + self.costs.catch_up(lag),
            _ => self.loss(length, lag) + unknown,
        };
        let pays = |length: &usize| self.account.affords(loss(*length), plain);
        match (1..=length).rev().find(pays) {
            Some(length) => self.planned(length, None, Why::Probe),
            None => Plan { why: Why::Idle, ..Plan::default() },
        }
    }

    fn planned(&self, max: usize, stop: Option<Marginal>, why: Why) -> Plan {
        let calibration = &self.acceptance.calibration;
        let confidences = match self.rows {
            Rows::There => true,
            Rows::Read => !calibration.is_judged() || calibration.helps(),
            Rows::Away => false,
        };
        Plan { max, stop: stop.map(|stop| Arc::new(stop) as _), confidences, why, ..Plan::default() }
    }

    /// What is lost at most by a draft of which nothing is accepted.
    fn loss(&self, length: usize, lag: usize) -> f64 {
        self.costs.round(length) - self.costs.round(0) + self.costs.catch_up(lag)
    }

    fn affords(&self, length: usize, lag: usize) -> bool {
        self.account.affords(self.loss(length, lag), self.costs.round(0))
    }

    /// Tokens a second that are expected, by tokens drafted from 0.
    pub(super) fn rates(&self, room: usize) -> Vec<f64> {
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
        let longest = if self.frozen { self.max } else { self.max.min(LONGER * self.costs.longest()) };
        let best = (1..=longest).max_by(better).unwrap_or(0);
        let confident = self.acceptance.calibration.helps();
        let reached = if confident { self.reached_rate() } else { 0.0 };
        if rates[best].max(reached) <= MARGIN * plain {
            return Choice { pays: false, length: best };
        }
        let affordable = (1..=best).filter(|&length| self.affords(length, lag)).max_by(better);
        let length = affordable.filter(|&length| confident || rates[length] > plain).unwrap_or(0);
        Choice { pays: true, length }
    }

    pub(super) fn reached_rate(&self) -> f64 {
        rate(self.reached)
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
}

/// Tokens a second.
pub(super) fn rate((tokens, seconds): (f64, f64)) -> f64 {
    if seconds > 0.0 { tokens / seconds } else { 0.0 }
}

struct Choice {
    pays: bool,
    length: usize,
}
