//! How drafts fare: by position, and by how sure the drafter is.

/// About so many tokens are remembered at a position, and of a confidence.
const MEMORY: f64 = 48.0;
/// How much a position is believed to be like the one before it, in tokens.
const LIKENESS: f64 = 3.0;
/// What is expected of the first token before any was seen.
const EXPECTED: f64 = 0.6;
/// How much of what is known stays when drafting stops, so that a few new drafts can say otherwise.
const KEPT: f64 = 6.0;

/// Outcomes that are forgotten with time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    accepted: f64,
    examined: f64,
}

impl Counts {
    fn add(&mut self, accepted: bool) {
        let stays = 1.0 - 1.0 / MEMORY;
        self.accepted = stays * self.accepted + f64::from(u8::from(accepted));
        self.examined = stays * self.examined + 1.0;
    }

    fn rate(&self, prior: f64) -> f64 {
        (self.accepted + LIKENESS * prior) / (self.examined + LIKENESS)
    }

    fn fade(&mut self) {
        let stays = (KEPT / self.examined).min(1.0);
        self.accepted *= stays;
        self.examined *= stays;
    }
}

/// Where the bins of confidences end.
const EDGES: [f64; 12] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0];
/// Tokens before it is said whether confidences help.
const JUDGED: f64 = 32.0;
/// By how many nats a token they must help.
const HELP: f64 = 0.01;
/// About so many tokens are remembered of how good the predictions were.
const LOSS_MEMORY: f64 = 128.0;

/// What drafted tokens of a confidence came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Calibration {
    bins: [Counts; EDGES.len()],
    /// Mean log loss of predictions by position and by confidence.
    losses: [f64; 2],
    judged: f64,
}

impl Calibration {
    fn bin(confidence: f64) -> usize {
        EDGES.partition_point(|edge| *edge < confidence).min(EDGES.len() - 1)
    }

    /// How likely a token of this confidence is accepted.
    pub(super) fn acceptance(&self, confidence: f64) -> f64 {
        self.bins[Self::bin(confidence)].rate(confidence.clamp(0.0, 1.0))
    }

    fn learn(&mut self, confidence: f64, by_position: f64, accepted: bool) {
        let loss = |chance: f64| -if accepted { chance } else { 1.0 - chance }.max(1e-6).ln();
        self.judged += 1.0;
        let weight = (1.0 / self.judged).max(1.0 / LOSS_MEMORY);
        let chances = [by_position, self.acceptance(confidence)];
        for (mean, chance) in self.losses.iter_mut().zip(chances) {
            *mean += weight * (loss(chance) - *mean);
        }
        self.bins[Self::bin(confidence)].add(accepted);
    }

    /// Whether confidences say more than positions do.
    pub(super) fn helps(&self) -> bool {
        self.judged >= JUDGED && self.losses[1] + HELP < self.losses[0]
    }

    /// Whether enough was seen to say whether they help.
    pub(super) fn is_judged(&self) -> bool {
        self.judged >= 4.0 * JUDGED
    }
}

/// How drafted tokens fare.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Acceptance {
    positions: Vec<Counts>,
    pub(super) calibration: Calibration,
}

impl Acceptance {
    pub(super) fn seeded(by_position: &[f64], weight: f64) -> Self {
        let counts = |rate: &f64| Counts { accepted: rate * weight, examined: weight };
        Self { positions: by_position.iter().map(counts).collect(), ..Self::default() }
    }

    /// How likely each of the first `count` tokens is accepted where those before it were.
    pub(super) fn by_position(&self, count: usize) -> Vec<f64> {
        let mut before = EXPECTED;
        let rate = |position: usize| {
            before = self.positions.get(position).copied().unwrap_or_default().rate(before);
            before
        };
        (0..count).map(rate).collect()
    }

    /// How likely the first token of a draft is accepted.
    pub(super) fn first(&self) -> f64 {
        self.positions.first().copied().unwrap_or_default().rate(EXPECTED)
    }

    /// Learns from the tokens of a draft that were looked at; confidences may be missing.
    pub(super) fn learn(&mut self, examined: usize, accepted: usize, confidences: &[f64]) {
        if self.positions.len() < examined {
            self.positions.resize(examined, Counts::default());
        }
        let by_position = self.by_position(confidences.len().min(examined));
        for ((index, confidence), expected) in confidences.iter().enumerate().zip(by_position) {
            self.calibration.learn(*confidence, expected, index < accepted);
        }
        for (index, counts) in self.positions.iter_mut().enumerate().take(examined) {
            counts.add(index < accepted);
        }
    }

    /// Forgets how sure all this is.
    pub(super) fn fade(&mut self) {
        self.positions.iter_mut().for_each(Counts::fade);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_learnt_and_passed_on() {
        let mut acceptance = Acceptance::default();
        for round in 0..400 {
            acceptance.learn(2, if round % 2 == 0 { 2 } else { 1 }, &[]);
        }
        let rates = acceptance.by_position(3);
        assert!(rates[0] > 0.95 && (rates[1] - 0.5).abs() < 0.1, "{rates:?}");
        assert_eq!(rates[1], rates[2], "a position that was never seen is like the one before it");
        acceptance.fade();
        let before = acceptance.by_position(2)[1];
        (0..6).for_each(|_| acceptance.learn(2, 1, &[]));
        assert!(acceptance.by_position(2)[1] < 0.8 * before, "what faded is soon overruled");
    }

    #[test]
    fn confidences_help_where_they_say_more_than_positions() {
        let mut telling = Acceptance::default();
        let mut empty = Acceptance::default();
        for round in 0_u32..400 {
            let right = round % 3 != 0;
            telling.learn(1, usize::from(right), &[if right { 0.9 } else { 0.2 }]);
            empty.learn(1, usize::from(right), &[if round % 2 == 0 { 0.9 } else { 0.2 }]);
        }
        assert!(telling.calibration.helps() && !empty.calibration.helps());
        assert!(telling.calibration.acceptance(0.9) > 0.95 && telling.calibration.acceptance(0.2) < 0.1);
        assert!(empty.calibration.is_judged());
    }
}
