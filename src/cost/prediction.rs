use super::RoundCosts;
use drafthorse_engine::Stats;

/// What texts with drafts of some length said of a drafter, from which shorter drafts are predicted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The numbers of the texts.
    pub stats: Stats,
    /// `[i]`: rounds in which `i` tokens were drafted.
    pub rounds_by_drafted: Vec<u64>,
}

impl Observed {
    /// Adds a text.
    pub fn add(&mut self, stats: &Stats, rounds_by_drafted: &[u64]) {
        self.stats.merge(stats);
        let rounds = &mut self.rounds_by_drafted;
        rounds.resize(rounds.len().max(rounds_by_drafted.len()), 0);
        rounds.iter_mut().zip(rounds_by_drafted).for_each(|(a, b)| *a += b);
    }

    /// The longest draft that was seen.
    pub fn longest(&self) -> usize {
        self.rounds_by_drafted.len().saturating_sub(1)
    }

    /// The mean number of tokens a round would emit had drafts ended after `k` tokens, for any `k` up to
    /// [`longest`](Self::longest); `None` without rounds.
    ///
    /// Token `i` of a draft stands in a share of the rounds, and a round emits one token more than stand.
    pub fn tokens_per_round(&self, k: usize) -> Option<f64> {
        let rounds = self.stats.rounds as f64;
        let accepted: u64 = self.stats.accepted_at.iter().take(k).sum();
        (rounds > 0.0).then(|| 1.0 + accepted as f64 / rounds)
    }

    /// Time of drafting one token / time of an expert's step of `step` seconds.
    pub fn draft_cost(&self, step: f64) -> Option<f64> {
        let drafted = self.stats.drafted as f64;
        (drafted > 0.0 && step > 0.0).then(|| self.stats.draft_time.as_secs_f64() / drafted / step)
    }

    /// The speedup over plain decoding to expect of drafts of up to `k` tokens, where rounds cost so much.
    ///
    /// Source: Leviathan et al., 2023, Theorem 3.8, with measured acceptance at each position in the place of one rate, and
    /// measured verify costs in the place of 1.
    pub fn speedup(&self, k: usize, costs: &RoundCosts) -> Option<f64> {
        let mut rounds = vec![0; k + 1];
        for (drafted, count) in self.rounds_by_drafted.iter().enumerate() {
            rounds[drafted.min(k)] += count;
        }
        Some(self.tokens_per_round(k)? / costs.mean_round(&rounds)?)
    }

    /// The draft length up to [`longest`](Self::longest) with the greatest expected speedup, and that; 0 and 1 where none
    /// pays.
    pub fn best(&self, costs: &RoundCosts) -> (usize, f64) {
        let speedups = (1..=self.longest()).filter_map(|k| Some((k, self.speedup(k, costs)?)));
        speedups.fold((0, 1.0), |best, next| if next.1 > best.1 { next } else { best })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::RowCost;
    use std::time::Duration;

    /// 10 rounds: 2 without a draft, 8 with three tokens, of which 6, 4 and 1 stood.
    fn observed() -> Observed {
        let mut stats = Stats::default();
        (stats.rounds, stats.drafted) = (10, 24);
        stats.accepted_at = vec![6, 4, 1];
        stats.draft_time = Duration::from_millis(48);
        let mut observed = Observed::default();
        observed.add(&stats, &[2, 0, 0, 8]);
        observed
    }

    fn costs() -> RoundCosts {
        let point = |(rows, verify, draft)| RowCost { rows, verify, draft };
        RoundCosts::new([(1, 1.0, 0.0), (2, 1.1, 0.1), (3, 1.2, 0.2), (4, 2.0, 0.3)].map(point))
            .expect("rows grow")
    }

    fn close(a: Option<f64>, b: f64) {
        assert!(a.is_some_and(|a| (a - b).abs() < 1e-12), "{a:?} is not {b}");
    }

    #[test]
    fn shorter_drafts_are_those_seen_cut_off() {
        let observed = observed();
        close(observed.tokens_per_round(0), 1.0);
        close(observed.tokens_per_round(1), 1.6);
        close(observed.tokens_per_round(3), 2.1);
        close(observed.speedup(1, &costs()), 1.6 / (0.2 + 0.8 * 1.2));
        close(observed.speedup(2, &costs()), 2.0 / (0.2 + 0.8 * 1.4));
        close(observed.speedup(3, &costs()), 2.1 / (0.2 + 0.8 * 2.3));
        let (k, speedup) = observed.best(&costs());
        assert_eq!(k, 2);
        close(Some(speedup), 2.0 / 1.32);
        close(observed.draft_cost(0.004), 0.5);
    }

    #[test]
    fn what_never_pays_is_not_drafted() {
        let dear = costs().with_draft_cost(3.0);
        assert_eq!(observed().best(&dear), (0, 1.0));
        let nothing = Observed::default();
        assert_eq!(
            (nothing.longest(), nothing.tokens_per_round(2), nothing.draft_cost(1.0)),
            (0, None, None)
        );
        assert_eq!(nothing.best(&costs()), (0, 1.0));
    }
}
