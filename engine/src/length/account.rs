//! The account of what speculation gained and lost.

/// The most plain rounds that are lost before anything is learnt.
const BEGINNING: f64 = 6.0;
/// The most plain rounds of gains that can be spent,
const MOST: f64 = 16.0;
/// and of what accrued without drafts.
const ACCRUED: f64 = 48.0;
/// Which share of the time may be lost.
const SHARE: f64 = 0.006;
/// Up to which share of the time a drafter may read what it missed on top.
const READING: f64 = 0.007;

/// The most plain rounds that are owed: what only the machine is to blame for is not held against drafts for long.
const OWED: f64 = 2.0;
/// What one more token may be tried for, in plain rounds, whatever it seems to take: that may have been the machine. What
/// it takes indeed is owed.
pub(super) const TRIAL: f64 = 5.0;

/// In seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Account {
    balance: Option<f64>,
}

/// A round as it was booked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Seconds of a plain round.
    pub(super) plain: f64,
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

    /// A round in which the drafter was not asked, and missed a token that takes `reading` seconds to read.
    pub(super) fn rest(&mut self, plain: f64, reading: f64) {
        self.add(SHARE * plain + reading.min(READING * plain), ACCRUED * plain, f64::INFINITY, plain);
    }

    /// A round in which it was.
    pub(super) fn book(&mut self, entry: Entry) {
        let without = entry.without + entry.saved as f64 * entry.plain;
        let gain = without - entry.took + SHARE * entry.took;
        self.add(gain, MOST * entry.plain, OWED.max(-gain / entry.plain - TRIAL) * entry.plain, entry.plain);
    }

    /// Time lost for the next text. Half of what there is stays.
    pub(super) fn lose(&mut self, seconds: f64, plain: f64) {
        let balance = self.balance.unwrap_or(BEGINNING * plain);
        self.balance = Some((balance - seconds).max(balance.min(balance / 2.0)));
    }

    fn add(&mut self, seconds: f64, most: f64, owed: f64, plain: f64) {
        let balance = self.balance.unwrap_or(BEGINNING * plain);
        self.balance = Some((balance + seconds).max(-owed.max(-balance)).min(most.max(balance)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_and_losses_are_booked() {
        let mut account = Account::default();
        let entry = |took: f64, saved: usize| Entry { plain: 1.0, took, saved, without: 1.0 };
        assert!(account.affords(6.0, 1.0) && !account.affords(6.1, 1.0));
        account.book(entry(2.0, 3));
        assert!((account.balance(1.0) - 8.012).abs() < 1e-9);
        (0..40).for_each(|_| account.book(entry(3.0, 0)));
        assert_eq!(account.balance(1.0), -2.0, "there is a floor");
        (0..400).for_each(|_| account.rest(1.0, 0.001));
        assert!((account.balance(1.0) - 0.8).abs() < 1e-9);
        (0..40).for_each(|_| account.book(entry(2.0, 9)));
        assert_eq!(account.balance(1.0), 16.0);
        account.lose(100.0, 1.0);
        assert_eq!(account.balance(1.0), 8.0);
        (0..10_000).for_each(|_| account.rest(1.0, 0.5));
        assert_eq!(account.balance(1.0), 48.0);
        account.book(entry(2.0, 9));
        assert_eq!(account.balance(1.0), 48.0, "what accrued is kept");
    }
}
