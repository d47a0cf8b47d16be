//! What rounds cost.

use super::{
    DraftLengthError,
    gauge::{Curve, Gauge},
};

/// What a machine needs for rounds of speculative decoding, and how drafts fare on it: what
/// [`Adaptive`](super::Adaptive) learns ([`Engine::draft_costs`](crate::Engine::draft_costs)) and can begin with.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DraftCosts {
    /// Seconds of a round without its drafting, by rows of the expert's pass: a round that verifies `k` tokens has `k + 1`.
    pub verify: Vec<(usize, f64)>,
    /// Seconds of drafting, by tokens drafted.
    pub draft: Vec<(usize, f64)>,
    /// How likely a drafted token is accepted where those before it in its draft were, by its position.
    pub acceptance: Vec<f64>,
}

impl DraftCosts {
    /// Costs of rounds and drafts, in seconds.
    pub fn new(verify: Vec<(usize, f64)>, draft: Vec<(usize, f64)>) -> Self {
        Self { verify, draft, acceptance: Vec::new() }
    }

    /// The same with what to expect of drafts before any was seen.
    #[must_use]
    pub fn with_acceptance(mut self, by_position: Vec<f64>) -> Self {
        self.acceptance = by_position;
        self
    }

    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// A time that is no positive number, an acceptance that is no probability, no time of one row.
    pub fn check(&self) -> Result<(), DraftLengthError> {
        let fail = |what, value| Err(DraftLengthError::Costs { what, value });
        if !self.verify.iter().any(|(rows, _)| *rows == 1) {
            return Err(DraftLengthError::NoPlainRound);
        }
        let seconds = |bad: &&(usize, f64), least: f64| !(bad.1.is_finite() && bad.1 >= least);
        if let Some((_, time)) = self.verify.iter().find(|pair| seconds(pair, f64::MIN_POSITIVE)) {
            return fail("seconds of a pass", *time);
        }
        if let Some((_, time)) = self.draft.iter().find(|pair| seconds(pair, 0.0)) {
            return fail("seconds of drafting", *time);
        }
        match self.acceptance.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            Some(value) => fail("acceptance", *value),
            None => Ok(()),
        }
    }
}

/// Times of a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Times {
    /// Seconds of drafting.
    pub(crate) draft: f64,
    /// Seconds of everything else.
    pub(crate) rest: f64,
}

/// What a row more costs as long as nothing is known, in passes of one row.
const SLOPE: f64 = 0.1;
/// Tokens that a drafter may lag behind in the usual course.
const USUAL_LAG: usize = 4;
/// What reading a token costs a drafter as long as nothing is known, in its own steps.
const READ: f64 = 0.2;
/// What is measured for the first time counts at most as so many times what was expected: much is only done once.
const NEW: f64 = 1.5;

/// What is known of the costs. All but the level is in units of the level, so that what slows everything down, a
/// longer context or a neighbour on the machine, slows down what is not measured at the moment as well.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Costs {
    /// About the seconds of a plain round; 0 before the first.
    level: f64,
    rows: Curve,
    draft: Curve,
    /// What it costs to ask and get nothing.
    asked: Gauge,
    /// What it costs the drafter to read a token that it missed.
    read: Gauge,
    /// Seconds a token of the first prompt, which is read before there is a level.
    prompt: Option<f64>,
    /// The first plain rounds, in seconds.
    starts: Vec<f64>,
    /// Whether the level was given.
    known: bool,
    /// Rows and seconds of the last rounds, as long as all of them took much longer than expected, or all much shorter.
    unusual: Vec<(usize, f64)>,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            level: 0.0,
            rows: Curve::new(Some(SLOPE)),
            draft: Curve::new(None),
            asked: Gauge::default(),
            read: Gauge::default(),
            prompt: None,
            starts: Vec::new(),
            known: false,
            unusual: Vec::new(),
        }
    }
}

/// Plain rounds before a level is believed: the first may have had to wait for anything.
const STARTS: usize = 3;
/// How fast the level follows what is measured.
const FOLLOWS: f64 = 0.0625;
/// Rounds of a number of rows before they say anything of the level.
const KNOWN: f64 = 3.0;
/// After so many rounds in a row that took more than
const TURN: usize = 5;
/// so many times as long as expected, or as many times less, the machine is another.
const UNUSUAL: f64 = 1.4;

impl Costs {
    /// What was given; where that is all there will be, drafts without times cost nothing.
    pub(super) fn seeded(costs: &DraftCosts, weight: f64, all: bool) -> Self {
        let one = costs.verify.iter().find(|(rows, _)| *rows == 1).map_or(0.0, |(_, time)| *time);
        let mut known = Self { level: one, known: true, ..Self::default() };
        for (rows, time) in &costs.verify {
            known.rows.set(*rows, Gauge::of(time / one, weight));
        }
        for (tokens, time) in &costs.draft {
            known.draft.set(*tokens, Gauge::of(time / one, weight));
        }
        if all && !known.knows_drafts() {
            known.draft.set(1, Gauge::of(0.0, weight));
        }
        known
    }

    pub(super) fn to_public(&self) -> Option<DraftCosts> {
        let seconds = |curve: &Curve| curve.known().map(|(x, time)| (x, time * self.level)).collect();
        (self.level > 0.0).then(|| DraftCosts::new(seconds(&self.rows), seconds(&self.draft)))
    }

    /// Whether it is known what a plain round costs.
    pub(super) fn knows_plain(&self) -> bool {
        self.known || self.starts.len() >= STARTS
    }

    pub(super) fn knows_drafts(&self) -> bool {
        self.draft.known().any(|(tokens, _)| tokens > 0)
    }

    /// Seconds of a round without its drafting.
    pub(super) fn rest(&self, rows: usize) -> f64 {
        self.level * self.rows.at(rows).unwrap_or(1.0)
    }

    /// Seconds of drafting.
    pub(super) fn draft(&self, tokens: usize) -> f64 {
        let share = match self.draft.known().next() {
            // Nothing is drafted for nothing; where scores after nothing were asked for, that was measured.
            Some((first, time)) if tokens < first => time * tokens as f64 / first as f64,
            Some(_) => self.draft.at(tokens).unwrap_or(0.0),
            None => 0.0,
        };
        self.level * share
    }

    /// Seconds of a round.
    pub(super) fn round(&self, tokens: usize) -> f64 {
        self.draft(tokens) + self.rest(tokens + 1)
    }

    /// Seconds to read what a drafter missed.
    pub(super) fn catch_up(&self, lag: usize) -> f64 {
        let lag = lag.saturating_sub(USUAL_LAG) as f64;
        let read = self.read.value().map_or(READ * self.draft(1), |read| read * self.level);
        lag * read
    }

    /// Seconds to read one of them.
    pub(super) fn reading(&self) -> f64 {
        self.catch_up(USUAL_LAG + 1)
    }

    /// How many drafts were measured.
    pub(super) fn drafts(&self) -> f64 {
        self.draft.known().filter(|(tokens, _)| *tokens > 0).map(|(tokens, _)| self.draft.count(tokens)).sum()
    }

    /// The longest draft of which it is known what it costs.
    pub(super) fn longest(&self) -> usize {
        let rows = self.rows.known().last().map_or(0, |(rows, _)| rows - 1);
        self.draft.known().last().map_or(rows, |(tokens, _)| rows.max(tokens))
    }

    /// What it costs to ask and get nothing.
    pub(super) fn asking(&self) -> f64 {
        self.level * self.asked.value().unwrap_or(0.0)
    }

    /// Learns what reading a prompt cost the drafter.
    pub(super) fn learn_reading(&mut self, tokens: usize, seconds: f64) {
        if tokens <= USUAL_LAG {
            return;
        }
        let each = seconds / tokens as f64;
        if self.knows_plain() {
            self.read.add(each / self.level);
        } else {
            self.prompt = Some(each);
        }
    }

    /// Learns from a round that verified `rows` rows and was asked for drafts or not.
    pub(super) fn learn(&mut self, rows: usize, tokens: Option<usize>, lag: usize, times: Times) {
        self.learn_rest(rows, times.rest);
        let Some(tokens) = tokens else { return };
        let time = times.draft / self.level;
        let usual = self.draft(tokens) / self.level;
        // Where it took less than without reading, that was too dear.
        if lag > USUAL_LAG && time >= usual {
            self.read.add((time - usual) / (lag - USUAL_LAG) as f64);
        } else if tokens > 0 {
            let first = self.draft.count(tokens) == 0.0 && usual > 0.0;
            self.draft.add(tokens, if first { time.min(NEW * usual) } else { time });
        } else {
            self.asked.add(time);
        }
    }

    /// Learns what the scores after nothing cost, which some rules always need.
    pub(super) fn learn_scores(&mut self, seconds: f64) {
        if self.level > 0.0 {
            self.draft.add(0, seconds / self.level);
        }
    }

    fn learn_rest(&mut self, rows: usize, seconds: f64) {
        if !self.knows_plain() || self.level == 0.0 {
            let one = seconds / (1.0 + SLOPE * (rows - 1) as f64);
            self.starts.push(one);
            self.starts.sort_by(f64::total_cmp);
            self.level = self.starts[(self.starts.len() - 1) / 2];
            self.rows.set(1, Gauge::of(1.0, 1.0));
            if self.knows_plain()
                && let Some(each) = self.prompt.take()
            {
                self.read.add(each / self.level);
            }
            return;
        }
        let ratio = seconds / self.rest(rows);
        let before = self.unusual.last().map_or(ratio, |(rows, seconds)| seconds / self.rest(*rows));
        let same = (before > 1.0) == (ratio > 1.0);
        let known = self.rows.count(rows) >= KNOWN;
        if !known || !same || (1.0 / UNUSUAL..UNUSUAL).contains(&ratio) {
            self.believe();
            self.learn_usual(rows, seconds);
            return;
        }
        self.unusual.push((rows, seconds));
        if self.unusual.len() == TURN {
            let mut ratios: Vec<f64> =
                self.unusual.iter().map(|(rows, seconds)| seconds / self.rest(*rows)).collect();
            ratios.sort_by(f64::total_cmp);
            self.level *= ratios[TURN / 2];
            self.believe();
        }
    }

    /// Learns from the rounds that seemed unusual.
    fn believe(&mut self) {
        for (rows, seconds) in std::mem::take(&mut self.unusual) {
            self.learn_usual(rows, seconds);
        }
    }

    fn learn_usual(&mut self, rows: usize, seconds: f64) {
        let (count, expected) = (self.rows.count(rows), self.rest(rows) / self.level);
        let share = seconds / self.level;
        let counted = self.rows.add(rows, if count == 0.0 { share.min(NEW * expected) } else { share });
        if count >= KNOWN {
            // By its mean and not by that of its logarithm, or noise would drag it down.
            self.level *= 1.0 + FOLLOWS * ((counted / expected).clamp(0.5, 2.0) - 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt(rounds: &[(usize, f64, f64)]) -> Costs {
        let mut costs = Costs::default();
        for &(tokens, draft, rest) in rounds {
            costs.learn(tokens + 1, (tokens > 0).then_some(tokens), 0, Times { draft, rest });
        }
        costs
    }

    #[test]
    fn rounds_cost_what_was_measured() {
        let mut rounds = vec![(0, 0.0, 9.0), (0, 0.0, 2.0), (0, 0.0, 2.0)];
        rounds.extend([(1, 0.5, 2.2), (3, 1.5, 2.6)].repeat(100));
        let costs = learnt(&rounds);
        assert!((costs.round(0) - 2.0).abs() < 1e-9);
        assert!((costs.round(3) - 4.1).abs() < 1e-9);
        assert!((costs.round(2) - 3.4).abs() < 1e-9, "between");
        assert!((costs.draft(5) - 2.5).abs() < 1e-9 && (costs.rest(8) - 3.4).abs() < 1e-9, "beyond");
        let public = costs.to_public().expect("costs");
        assert_eq!(public.check(), Ok(()));
        let again = Costs::seeded(&public, 8.0, false);
        assert!((again.round(3) - 4.1).abs() < 1e-9 && (again.round(5) - costs.round(5)).abs() < 1e-9);
    }

    /// What slows everything down is seen by what is measured, and believed of the rest.
    #[test]
    fn a_slower_machine_is_slower_at_everything() {
        let mut costs = learnt(&[(0, 0.0, 2.0), (0, 0.0, 2.0), (0, 0.0, 2.0)]);
        let mut round = |rest: f64| costs.learn(4, Some(3), 0, Times { draft: 0.3 * rest, rest });
        (0..40).for_each(|_| round(3.0));
        (0..60).for_each(|_| round(6.0));
        assert!((costs.round(0) / 4.0 - 1.0).abs() < 0.25, "{}", costs.round(0));
        assert!((costs.round(3) / 7.8 - 1.0).abs() < 0.1, "{}", costs.round(3));
    }

    #[test]
    fn what_a_drafter_missed_is_no_cost_of_its_drafts() {
        let mut costs = learnt(&[(0, 0.0, 1.0), (0, 0.0, 1.0), (0, 0.0, 1.0), (1, 0.1, 1.0)]);
        costs.learn(2, Some(1), 104, Times { draft: 5.1, rest: 1.0 });
        assert!((costs.draft(1) - 0.1).abs() < 1e-9);
        assert!((costs.catch_up(54) - 2.5).abs() < 1e-9 && costs.catch_up(2) == 0.0);
    }

    #[test]
    fn a_prompt_shows_what_reading_costs() {
        let mut costs = Costs::default();
        costs.learn_reading(100, 2.0);
        (0..3).for_each(|_| costs.learn(1, None, 0, Times { draft: 0.0, rest: 1.0 }));
        assert!((costs.catch_up(54) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn costs_that_are_none_are_refused() {
        let costs =
            |verify: &[(usize, f64)], draft: &[(usize, f64)]| DraftCosts::new(verify.into(), draft.into());
        let refused = [
            (costs(&[], &[]), "one row"),
            (costs(&[(2, 1.0)], &[]), "one row"),
            (costs(&[(1, 0.0)], &[]), "seconds of a pass"),
            (costs(&[(1, 1.0), (2, f64::NAN)], &[]), "seconds of a pass"),
            (costs(&[(1, 1.0)], &[(1, -1.0)]), "seconds of drafting"),
            (costs(&[(1, 1.0)], &[]).with_acceptance(vec![1.5]), "acceptance"),
        ];
        for (costs, part) in refused {
            let error = costs.check().expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(costs(&[(1, 1.0)], &[(1, 0.0)]).check(), Ok(()));
    }
}
