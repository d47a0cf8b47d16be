use std::time::Duration;

/// How much of what was learnt stays with each round.
const KEEP: f64 = 0.95;
/// Verdicts before a merit is believed.
const TRIALS: u32 = 3;
/// Rounds between two probes: the fewest, and the most.
const PROBES: [u32; 2] = [16, 256];

/// Tokens that a drafter is given for nothing when it is to be said that it does not pay: a few rounds may be bad luck.
const GRACE: f64 = 3.0;

/// Tokens for each second that rounds with a drafter took, the older rounds counting less.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Merit {
    rounds: f64,
    tokens: f64,
    /// Of drafting, with what it took to say nothing, and of the expert.
    seconds: f64,
    /// Of the expert alone.
    expert: f64,
    verdicts: u32,
    /// Seconds it took to say nothing, since the last verdict.
    lost: f64,
}

impl Merit {
    /// A round gave so many tokens, and drafting and the expert took so long.
    pub(crate) fn learn(&mut self, tokens: usize, draft: Duration, expert: Duration) {
        let add = |sum: &mut f64, value: f64| *sum = *sum * KEEP + value;
        add(&mut self.rounds, 1.0);
        add(&mut self.tokens, tokens as f64);
        add(&mut self.seconds, (draft + expert).as_secs_f64());
        add(&mut self.expert, expert.as_secs_f64());
        self.verdicts = self.verdicts.saturating_add(1);
        self.lost = 0.0;
    }

    /// It took so long to say nothing.
    pub(crate) fn lose(&mut self, time: Duration) {
        self.seconds += time.as_secs_f64();
        self.lost += time.as_secs_f64();
    }

    /// Tokens a second; without end as long as too little is known.
    pub(crate) fn rate(&self) -> f64 {
        if self.is_known() { self.tokens / self.seconds } else { f64::INFINITY }
    }

    fn is_known(&self) -> bool {
        self.verdicts >= TRIALS && self.seconds > 0.0
    }

    /// What it is worth to ask it, where a round takes about `round` seconds: [`rate`](Self::rate), but who took as long
    /// as the trials would have taken to say nothing has had them.
    fn worth(&self, round: f64) -> f64 {
        if !self.is_known() && self.lost > f64::from(TRIALS) * round {
            return self.tokens / self.seconds;
        }
        self.rate()
    }

    /// Whether it may be better than saying nothing, where a round without a draft takes about `round` seconds. The
    /// expert's pass over its drafts takes no less, so that nobody is silenced who pays.
    fn pays(&self, round: f64) -> bool {
        let tokens = self.tokens + GRACE;
        if self.is_known() {
            return tokens * self.expert >= self.rounds * self.seconds;
        }
        self.lost <= f64::from(TRIALS) * round
    }
}

/// Seconds of a round, by what is known: of the drafter that is worth most, else of a round in which nobody said anything.
fn round(merits: &[Merit], quiet: Option<Duration>) -> f64 {
    let known = merits.iter().filter(|merit| merit.is_known());
    let best = known.max_by(|a, b| a.rate().total_cmp(&b.rate()));
    let quiet = || quiet.map_or(f64::INFINITY, |time| time.as_secs_f64());
    best.map_or_else(quiet, |best| best.seconds / best.rounds)
}

/// When another drafter than the best is tried, to hear whether things have changed.
///
/// While the order stays as it is, the time between two probes doubles.
#[derive(Clone, Debug)]
pub(crate) struct Probing {
    wait: u32,
    left: u32,
    /// The order found last.
    order: Vec<usize>,
    /// Probes so far: they take turns.
    probes: usize,
}

impl Default for Probing {
    fn default() -> Self {
        Self { wait: PROBES[0], left: PROBES[0], order: Vec::new(), probes: 0 }
    }
}

impl Probing {
    /// In which order the drafters with these merits are asked in the next round; of those that are not known, the one
    /// that was heard least first. Who is no better than silence is left out, if that may be, but for probes.
    ///
    /// `quiet` is the time of a round in which nobody said anything, where there was one.
    pub(crate) fn order(&mut self, merits: &[Merit], quiet: Option<Duration>, all: bool) -> Vec<usize> {
        let round = round(merits, quiet);
        let mut order: Vec<usize> = (0..merits.len()).collect();
        // Without a clock the order stays as it was given.
        let tried = |merit: &Merit| !merit.is_known() && merit.seconds > 0.0;
        let verdicts = |merit: &Merit| if tried(merit) { merit.verdicts } else { 0 };
        order.sort_by(|&a, &b| {
            let [a, b] = [&merits[a], &merits[b]];
            b.worth(round).total_cmp(&a.worth(round)).then(verdicts(a).cmp(&verdicts(b)))
        });
        let probed = self.probe(&order);
        order.retain(|part| all || probed == Some(*part) || merits[*part].pays(round));
        if let Some(at) = order.iter().position(|part| probed == Some(*part)) {
            order[..=at].rotate_right(1);
        }
        order
    }

    /// Who is to be asked first for once, where the order is this.
    fn probe(&mut self, order: &[usize]) -> Option<usize> {
        if order != self.order {
            *self = Self { order: order.to_vec(), probes: self.probes, ..Self::default() };
        }
        self.left -= 1;
        if self.left > 0 {
            return None;
        }
        self.wait = (self.wait * 2).min(PROBES[1]);
        self.left = self.wait;
        let others = order.len().saturating_sub(1).max(1);
        let probed = (1 + self.probes % others).min(order.len() - 1);
        self.probes += 1;
        order.get(probed).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merit(tokens: usize, millis: u64) -> Merit {
        let mut merit = Merit::default();
        (0..5).for_each(|_| merit.learn(tokens, Duration::from_millis(1), Duration::from_millis(millis - 1)));
        merit
    }

    #[test]
    fn the_most_tokens_a_second_come_first_and_the_unknown_before_them() {
        let merits = [merit(2, 10), merit(3, 10), merit(5, 40), Merit::default()];
        assert_eq!(Probing::default().order(&merits, None, true), [3, 1, 0, 2]);
        let mut idle = merit(4, 10);
        assert!((idle.rate() - 400.0).abs() < 1e-6);
        idle.lose(Duration::from_secs(1));
        assert!(idle.rate() < 20.0);
    }

    #[test]
    fn the_others_are_probed_by_turns_and_ever_less_often() {
        let merits = [merit(9, 10), merit(3, 10), merit(2, 10)];
        let mut probing = Probing::default();
        let firsts: Vec<_> = (1..2000).map(|round| (round, probing.order(&merits, None, false)[0])).collect();
        let probes: Vec<_> = firsts.into_iter().filter(|(_, first)| *first != 0).collect();
        let wanted = [
            (16, 1),
            (48, 2),
            (112, 1),
            (240, 2),
            (496, 1),
            (752, 2),
            (1008, 1),
            (1264, 2),
            (1520, 1),
            (1776, 2),
        ];
        assert_eq!(probes, wanted);
        // Another order begins anew.
        probing.order(&[merit(1, 10), merit(3, 10), merit(2, 10)], None, false);
        assert_eq!((probing.wait, probing.left), (16, 15));
    }

    #[test]
    fn without_a_clock_the_order_stays() {
        let mut first = Merit::default();
        let mut probing = Probing::default();
        for _ in 0..10 {
            assert_eq!(probing.order(&[first, Merit::default()], None, false), [0, 1]);
            first.learn(1, Duration::ZERO, Duration::ZERO);
        }
    }

    #[test]
    fn who_is_slow_and_silent_comes_last_and_is_left_out() {
        let known = merit(3, 10);
        let mut silent = Merit::default();
        silent.lose(Duration::from_millis(29));
        let order = |silent, quiet| Probing::default().order(&[silent, known], quiet, false);
        assert_eq!(order(silent, None), [0, 1], "as long as trials may take");
        silent.lose(Duration::from_millis(2));
        assert_eq!(order(silent, None), [1]);
        assert_eq!(Probing::default().order(&[silent, known], None, true), [1, 0]);
        // Nobody ever said anything, and a round takes 10 ms.
        let free = Merit::default();
        let order = |quiet| Probing::default().order(&[silent, free], quiet, false);
        assert_eq!((order(None), order(Some(Duration::from_millis(10)))), (vec![0, 1], vec![1]));
    }

    #[test]
    fn who_is_worse_than_silence_is_left_out_but_for_probes() {
        let round = |tokens, draft| {
            let mut merit = Merit::default();
            let [draft, expert] = [draft, 10].map(Duration::from_millis);
            (0..40).for_each(|_| merit.learn(tokens, draft, expert));
            merit
        };
        let merits = [round(1, 10), round(2, 8)];
        let mut probing = Probing::default();
        let orders: Vec<_> = (0..20).map(|_| probing.order(&merits, None, false)).collect();
        for (round, order) in (1..).zip(orders) {
            assert_eq!(order, if round == 16 { vec![0, 1] } else { vec![1] }, "round {round}");
        }
        assert!(!round(2, 20).pays(0.0) && round(3, 19).pays(0.0));
        let mut luckless = Merit::default();
        (0..3).for_each(|_| luckless.learn(1, Duration::from_millis(5), Duration::from_millis(10)));
        assert!(luckless.pays(0.0), "a few rounds are no proof");
    }
}
