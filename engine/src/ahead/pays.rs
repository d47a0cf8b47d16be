//! Whether drafting ahead pays, by the time of a token with it and without.

use super::AheadWhen;
use std::time::{Duration, Instant};

/// Rounds of one side at a time. The first of them still has to do with the other side and is not counted.
const STRETCH: u32 = 8;
/// Stretches of a comparison, both sides in turns: what else the machine does changes slowly, and hits both.
const STRETCHES: u32 = 8;
/// Rounds until the first comparison, and after it.
const CALM: u32 = 64;
/// The most rounds between comparisons.
const LONGEST: u32 = 4096;
/// A round that takes so many times as long as others is a pause of whoever reads the text.
const PAUSE: f64 = 8.0;
/// What is gained must be more than this share, or it is left off.
const WORTH: f64 = 0.02;

/// The time of the tokens of one side.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    seconds: f64,
    rounds: f64,
    tokens: f64,
}

impl Side {
    fn note(&mut self, seconds: f64, tokens: usize) {
        if self.rounds >= 4.0 && seconds > PAUSE * self.seconds / self.rounds {
            return;
        }
        self.seconds += seconds;
        self.rounds += 1.0;
        self.tokens += tokens as f64;
    }

    /// Leaves what was long ago no more weight than a comparison has.
    fn fade(&mut self) {
        let share = (f64::from(STRETCH * STRETCHES / 2) / self.rounds).min(1.0);
        self.seconds *= share;
        self.rounds *= share;
        self.tokens *= share;
    }

    fn per_token(&self) -> Option<f64> {
        (self.tokens > 0.0).then(|| self.seconds / self.tokens)
    }
}

/// Turns drafting ahead on and off.
#[derive(Debug)]
pub(super) struct Pays {
    measured: bool,
    on: bool,
    /// Rounds left of the stretch.
    left: u32,
    /// Stretches left of the comparison; none between comparisons.
    stretches: u32,
    /// Rounds until the next comparison.
    calm: u32,
    /// Whether the next round is the first of its stretch.
    fresh: bool,
    sides: [Side; 2],
    last: Option<(Instant, usize)>,
}

impl Pays {
    pub(super) fn new(when: AheadWhen) -> Self {
        let (measured, on) = match when {
            AheadWhen::Always => (false, true),
            AheadWhen::Measured { spare } => (true, spare),
        };
        let sides = [Side::default(); 2];
        Self { measured, on, left: CALM, stretches: 0, calm: CALM, fresh: true, sides, last: None }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Time of a token with it and without, as far as known.
    pub(super) fn per_token(&self) -> [Option<Duration>; 2] {
        [1, 0].map(|side| self.sides[side].per_token().map(Duration::from_secs_f64))
    }

    /// Whether both sides are being tried.
    pub(super) fn is_comparing(&self) -> bool {
        self.stretches > 0
    }

    /// Whether nothing is to be measured.
    pub(super) fn is_settled_by_order(&self) -> bool {
        !self.measured
    }

    /// A round begins with a sequence of `length` tokens; rounds gain up to `most`.
    pub(super) fn begin_round(&mut self, now: Instant, length: usize, most: usize) {
        let last = self.last.replace((now, length));
        let gained = last.and_then(|(at, before)| Some((now - at, length.checked_sub(before)?)));
        if let Some((time, tokens)) = gained.filter(|(_, tokens)| (1..=most).contains(tokens)) {
            self.note(time.as_secs_f64(), tokens);
        }
    }

    /// The next round is no continuation of the last one.
    pub(super) fn interrupt(&mut self) {
        self.last = None;
    }

    /// A round took so long and gained so much.
    fn note(&mut self, seconds: f64, tokens: usize) {
        if !self.measured {
            return;
        }
        if !std::mem::take(&mut self.fresh) {
            self.sides[usize::from(self.on)].note(seconds, tokens);
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.next_stretch();
        }
    }

    fn next_stretch(&mut self) {
        match self.stretches {
            // A comparison begins, with the side that was off.
            0 => {
                self.sides.iter_mut().for_each(Side::fade);
                self.stretches = STRETCHES;
                self.turn(!self.on, STRETCH);
            }
            1 => self.decide(),
            _ => {
                self.stretches -= 1;
                self.turn(!self.on, STRETCH);
            }
        }
    }

    fn turn(&mut self, on: bool, rounds: u32) {
        self.fresh = on != self.on;
        (self.on, self.left) = (on, rounds);
    }

    /// The side of the last stretch is the one that was on before the comparison.
    fn decide(&mut self) {
        let before = self.on;
        let [without, with] = self.sides.map(|side| side.per_token().unwrap_or(f64::INFINITY));
        let on = with < without * (1.0 - WORTH);
        self.calm = if on == before { (self.calm * 2).min(LONGEST) } else { CALM };
        self.stretches = 0;
        self.turn(on, self.calm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs rounds of one token; how many of them were on.
    fn run(pays: &mut Pays, rounds: u32, with: f64, without: f64) -> u32 {
        (0..rounds)
            .map(|round| {
                let on = pays.is_on();
                // Now and then somebody takes a walk.
                let walk = if round % 37 == 36 { 5.0 } else { 0.0 };
                pays.note(if on { with } else { without } + walk, 1);
                u32::from(on)
            })
            .sum()
    }

    #[test]
    fn what_is_faster_stays_and_the_other_is_tried_seldom() {
        for spare in [false, true] {
            let new = || Pays::new(AheadWhen::Measured { spare });
            let (mut slow, mut fast) = (new(), new());
            run(&mut slow, 300, 0.03, 0.02);
            assert!(run(&mut slow, 10_000, 0.03, 0.02) < 500, "it costs, spare {spare}");
            run(&mut fast, 300, 0.02, 0.03);
            assert!(run(&mut fast, 10_000, 0.02, 0.03) > 9500, "it saves, spare {spare}");
            // The machine changes its mind.
            run(&mut slow, 10_000, 0.01, 0.02);
            assert!(run(&mut slow, 1000, 0.01, 0.02) > 700, "it was found out, spare {spare}");
        }
    }

    #[test]
    fn an_order_is_followed() {
        let mut always = Pays::new(AheadWhen::Always);
        assert_eq!(run(&mut always, 1000, 9.0, 1.0), 1000);
    }

    #[test]
    fn equal_is_off() {
        let mut pays = Pays::new(AheadWhen::Measured { spare: true });
        run(&mut pays, 300, 0.02, 0.02);
        assert!(run(&mut pays, 4000, 0.02, 0.02) < 500);
    }

    #[test]
    fn only_rounds_of_one_text_are_timed() {
        let mut pays = Pays::new(AheadWhen::Measured { spare: true });
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        pays.begin_round(at(0), 10, 3);
        pays.begin_round(at(5), 12, 3); // the first of its stretch
        pays.begin_round(at(10), 13, 3);
        pays.begin_round(at(900), 50, 3); // another text
        pays.begin_round(at(905), 8, 3); // and another
        pays.interrupt();
        pays.begin_round(at(999), 9, 3);
        pays.begin_round(at(1004), 12, 3);
        assert_eq!((pays.sides[1].rounds, pays.sides[1].tokens), (2.0, 4.0));
        assert_eq!(pays.per_token()[0], Some(Duration::from_micros(2500)));
    }
}
