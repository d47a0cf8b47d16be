//! What a round costs, measured apart from any engine, and the speedup that follows from it.
//!
//! All costs are in passes of plain decoding: a forward of the expert over one row is 1.
//!
//! # Example
//!
//! ```
//! use drafthorse::cost::{RoundCosts, RowCost};
//!
//! // A forward of five rows costs 1.2, and drafting the four tokens for it 0.4.
//! let points = [RowCost { rows: 1, verify: 1.0, draft: 0.0 }, RowCost { rows: 5, verify: 1.2, draft: 0.4 }];
//! let costs = RoundCosts::new(points).unwrap();
//! assert!((costs.round(4) - 1.6).abs() < 1e-12);
//! assert!((costs.speedup(0.8, 4) - 3.3616 / 1.6).abs() < 1e-12);
//! ```

mod counted;
mod meter;
mod prediction;

pub use counted::Counted;
pub use meter::CostMeter;
pub use prediction::Observed;

/// The cost of a round that verifies this many rows, which is one more than were drafted.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct RowCost {
    /// Rows of the expert's forward.
    pub rows: usize,
    /// Its time / the time of a forward of one row.
    pub verify: f64,
    /// Time of drafting the `rows - 1` tokens for it / the time of a forward of one row.
    pub draft: f64,
}

/// What rounds cost by the number of tokens drafted.
///
/// Numbers of rows that were not measured lie on straight lines between those that were.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundCosts(Vec<RowCost>);

impl RoundCosts {
    /// From measured numbers of rows; `None` unless they begin with 1 and grow.
    pub fn new(points: impl IntoIterator<Item = RowCost>) -> Option<Self> {
        let points: Vec<_> = points.into_iter().collect();
        let grow = points.windows(2).all(|pair| pair[0].rows < pair[1].rows);
        (grow && points.first()?.rows == 1).then_some(Self(points))
    }

    /// The same with drafts that cost this much a token.
    #[must_use]
    pub fn with_draft_cost(mut self, cost: f64) -> Self {
        for point in &mut self.0 {
            point.draft = cost * (point.rows - 1) as f64;
        }
        self
    }

    /// What was measured.
    pub fn points(&self) -> &[RowCost] {
        &self.0
    }

    /// c(m): the cost of a forward of `rows` rows.
    pub fn verify(&self, rows: usize) -> f64 {
        self.at(rows, |point| point.verify)
    }

    /// The cost of drafting this many tokens in a round.
    pub fn draft(&self, tokens: usize) -> f64 {
        self.at(tokens + 1, |point| point.draft)
    }

    /// The cost of a round in which `drafted` tokens are drafted and verified.
    pub fn round(&self, drafted: usize) -> f64 {
        self.draft(drafted) + self.verify(drafted + 1)
    }

    /// The mean cost of rounds of which `rounds[i]` drafted `i` tokens; `None` without rounds.
    pub fn mean_round(&self, rounds: &[u64]) -> Option<f64> {
        let count: u64 = rounds.iter().sum();
        let cost = rounds.iter().enumerate().map(|(drafted, &n)| n as f64 * self.round(drafted));
        (count > 0).then(|| cost.sum::<f64>() / count as f64)
    }

    /// The speedup over plain decoding to expect at an acceptance rate and a draft length:
    /// [`tokens_per_round`] / the cost of the round.
    ///
    /// Source: Leviathan et al., 2023, Theorem 3.8, with c(k + 1) in the place of 1.
    pub fn speedup(&self, acceptance: f64, k: usize) -> f64 {
        tokens_per_round(acceptance, k) / self.round(k)
    }

    /// The straight line through the points around `rows`; beyond the last point the last line goes on.
    fn at(&self, rows: usize, value: impl Fn(&RowCost) -> f64) -> f64 {
        let after = self.0.partition_point(|point| point.rows < rows).clamp(1, self.0.len().max(2) - 1);
        let (left, Some(right)) = (&self.0[after - 1], self.0.get(after)) else {
            return value(&self.0[0]);
        };
        let share = (rows as f64 - left.rows as f64) / (right.rows - left.rows) as f64;
        value(left) + share * (value(right) - value(left))
    }
}

/// The mean number of tokens a round of draft length `k` emits where every examined token is accepted
/// with probability `acceptance`, independently: (1 - a^(k+1)) / (1 - a).
///
/// Source: Leviathan et al., 2023, Equation 1.
pub fn tokens_per_round(acceptance: f64, k: usize) -> f64 {
    // The sum of the geometric series, which has no hole at 1.
    (0..=k).fold(0.0, |sum, _| 1.0 + acceptance * sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs() -> RoundCosts {
        let point = |(rows, verify, draft)| RowCost { rows, verify, draft };
        RoundCosts::new([(1, 1.0, 0.0), (2, 1.1, 0.2), (4, 1.5, 0.5), (8, 3.5, 1.3)].map(point)).unwrap()
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn tokens_of_a_round_follow_the_geometric_series() {
        close(tokens_per_round(0.5, 1), 1.5);
        close(tokens_per_round(0.8, 4), (1.0 - 0.8f64.powi(5)) / 0.2);
        close(tokens_per_round(0.0, 7), 1.0);
        close(tokens_per_round(1.0, 7), 8.0);
        close(tokens_per_round(0.9, 0), 1.0);
    }

    #[test]
    fn costs_between_measured_rows_lie_on_a_line() {
        let costs = costs();
        close(costs.verify(2), 1.1);
        close(costs.verify(3), 1.3);
        close(costs.verify(6), 2.5);
        close(costs.verify(9), 4.0);
        close(costs.draft(0), 0.0);
        close(costs.draft(2), 0.35);
        close(costs.round(3), 2.0);
        let one = RoundCosts::new([RowCost { rows: 1, verify: 1.0, draft: 0.0 }]).unwrap();
        close(one.round(0), 1.0);
    }

    #[test]
    fn speedups_are_those_computed_by_hand() {
        let costs = costs();
        // (1 + 0.5) / (0.2 + 1.1)
        close(costs.speedup(0.5, 1), 1.5 / 1.3);
        // (1 + 0.9 + 0.81 + 0.729) / (0.5 + 1.5)
        close(costs.speedup(0.9, 3), 3.439 / 2.0);
        close(costs.speedup(0.9, 0), 1.0);
        // A draft cost for every token: 3 * 0.1 + 1.5.
        close(costs.clone().with_draft_cost(0.1).speedup(0.9, 3), 3.439 / 1.8);
    }

    #[test]
    fn every_round_weighs_what_it_costs() {
        let costs = costs();
        // One round without drafts, two with one token, one with three: (1 + 2 * 1.3 + 2) / 4.
        close(costs.mean_round(&[1, 2, 0, 1]).unwrap(), 1.4);
        assert_eq!((costs.mean_round(&[]), costs.mean_round(&[0, 0])), (None, None));
    }

    #[test]
    fn rows_must_begin_with_one_and_grow() {
        let of = |rows: &[usize]| {
            RoundCosts::new(rows.iter().map(|&rows| RowCost { rows, verify: 1.0, draft: 0.0 }))
        };
        assert!(of(&[1, 2, 9]).is_some());
        assert!(of(&[]).is_none() && of(&[2, 3]).is_none() && of(&[1, 3, 3]).is_none());
    }
}
