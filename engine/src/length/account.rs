//! The account of what speculation gained and lost.

/// The most plain rounds that are lost before anything is learnt.
const BEGINNING: f64 = 6.0;
/// The most plain rounds of gains that can be spent.
const MOST: f64 = 16.0;
/// Which share of the time may be lost.
const SHARE: f64 = 0.007;
/// A round that took so many times what was expected is a hiccup of the machine,
const HICCUP: f64 = 4.0;
/// unless the last one was within so many rounds.
const APART: u64 = 256;

/// In seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Account {
    balance: Option<f64>,
    rounds: u64,
    hiccup: Option<u64>,
}

/// A round as it was booked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Seconds of a plain round.
    pub(super) plain: f64,
    /// What a round like this was expected to take.
    pub(super) expected: f64,
    /// What it took.
    pub(super) took: f64,
    /// How many plain rounds it saved: the drafter's tokens that were accepted.
    pub(super) saved: usize,
    /// What the round would have taken without drafts.
    pub(super) without: f64,
}

impl Account {
    /// Whether a loss can be paid.
    pub(super) fn affords(&self, loss: f64, plain: f64) -> bool {
        loss <= self.balance.unwrap_or(BEGINNING * plain)
    }

    /// What can be paid, in plain rounds.
    #[cfg(test)]
    pub(super) fn balance(&self, plain: f64) -> f64 {
        self.balance.map_or(BEGINNING, |balance| balance / plain)
    }

    /// A round in which the drafter was not asked.
    pub(super) fn rest(&mut self, plain: f64) {
        self.add(SHARE * plain, plain);
    }

    /// A round in which it was.
    pub(super) fn book(&mut self, entry: Entry) {
        let most = HICCUP * entry.expected;
        let excused = entry.took > most && self.hiccup.is_none_or(|last| self.rounds - last > APART);
        if excused {
            self.hiccup = Some(self.rounds);
        }
        let took = if excused { most } else { entry.took };
        let without = entry.without + entry.saved as f64 * entry.plain;
        self.add(without - took + SHARE * took, entry.plain);
    }

    fn add(&mut self, seconds: f64, plain: f64) {
        self.rounds += 1;
        let balance = self.balance.unwrap_or(BEGINNING * plain) + seconds;
        self.balance = Some(balance.min(MOST * plain));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_and_losses_are_booked_and_one_hiccup_is_excused() {
        let mut account = Account::default();
        let entry = |took: f64, saved: usize| Entry { plain: 1.0, expected: 2.0, took, saved, without: 1.0 };
        assert!(account.affords(6.0, 1.0) && !account.affords(6.1, 1.0));
        account.book(entry(2.0, 3));
        assert!((account.balance(1.0) - 8.014).abs() < 1e-9);
        account.book(entry(100.0, 0));
        assert!((account.balance(1.0) - 1.07).abs() < 1e-9, "a hiccup counts as 4 times what was expected");
        account.book(entry(100.0, 0));
        assert!(
            account.balance(1.0) < -90.0 && !account.affords(0.0, 1.0),
            "the second one is the drafter's"
        );
        (0..40).for_each(|_| account.book(entry(2.0, 9)));
        assert_eq!(account.balance(1.0), 16.0);
        account.rest(1.0);
        assert_eq!(account.balance(1.0), 16.0);
    }
}
