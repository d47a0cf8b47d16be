use std::time::Duration;

/// How much of what was learnt stays with each round.
const KEEP: f64 = 0.95;
/// Verdicts before a merit is believed.
const TRIALS: u32 = 3;
/// Rounds between two probes: the fewest, and the most.
const PROBES: [u32; 2] = [16, 256];

/// Tokens for each second that rounds with a drafter took, the older rounds counting less.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Merit {
    tokens: f64,
    seconds: f64,
    verdicts: u32,
}

impl Merit {
    /// A round gave so many tokens, and took so long.
    pub(crate) fn learn(&mut self, tokens: usize, time: Duration) {
        self.tokens = self.tokens * KEEP + tokens as f64;
        self.seconds = self.seconds * KEEP + time.as_secs_f64();
        self.verdicts = self.verdicts.saturating_add(1);
    }

    /// It took so long to say nothing.
    pub(crate) fn lose(&mut self, time: Duration) {
        self.seconds += time.as_secs_f64();
    }

    /// Tokens a second; without end as long as too little is known.
    pub(crate) fn rate(&self) -> f64 {
        if self.verdicts < TRIALS || self.seconds <= 0.0 { f64::INFINITY } else { self.tokens / self.seconds }
    }
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
    /// In which order the drafters with these merits are asked in the next round.
    pub(crate) fn order(&mut self, merits: &[Merit]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..merits.len()).collect();
        order.sort_by(|&a, &b| merits[b].rate().total_cmp(&merits[a].rate()));
        if order != self.order {
            *self = Self { order: order.clone(), probes: self.probes, ..Self::default() };
        }
        self.left -= 1;
        if self.left == 0 {
            self.wait = (self.wait * 2).min(PROBES[1]);
            self.left = self.wait;
            let others = order.len().saturating_sub(1).max(1);
            let probed = (1 + self.probes % others).min(order.len() - 1);
            self.probes += 1;
            order[..=probed].rotate_right(1);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merit(tokens: usize, millis: u64) -> Merit {
        let mut merit = Merit::default();
        (0..5).for_each(|_| merit.learn(tokens, Duration::from_millis(millis)));
        merit
    }

    #[test]
    fn the_most_tokens_a_second_come_first_and_the_unknown_before_them() {
        let merits = [merit(2, 10), merit(3, 10), merit(5, 40), Merit::default()];
        assert_eq!(Probing::default().order(&merits), [3, 1, 0, 2]);
        let mut idle = merit(4, 10);
        assert!((idle.rate() - 400.0).abs() < 1e-6);
        idle.lose(Duration::from_secs(1));
        assert!(idle.rate() < 20.0);
    }

    #[test]
    fn the_others_are_probed_by_turns_and_ever_less_often() {
        let merits = [merit(9, 10), merit(3, 10), merit(2, 10)];
        let mut probing = Probing::default();
        let firsts: Vec<_> = (1..2000).map(|round| (round, probing.order(&merits)[0])).collect();
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
        probing.order(&[merit(1, 10), merit(3, 10), merit(2, 10)]);
        assert_eq!((probing.wait, probing.left), (16, 15));
    }
}
