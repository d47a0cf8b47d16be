use super::{RoundCosts, RowCost};
use crate::synthetic::random_tokens;
use drafthorse_logits::TokenId;
use drafthorse_model::{ModelError, SequenceModel};
use std::time::{Duration, Instant};

/// Measures forwards of an expert by their number of rows, and the steps of drafters between them.
///
/// Forwards and steps are those of temperature 0, where rows need not leave their device. Every forward
/// reads its rows after the same number of tokens. One sweep takes every number of rows in turn, so that a
/// change of the machine's speed meets all of them; of several sweeps the best time of each counts. With a
/// drafter, the steps of a round (`rows - 1` of them) come before each forward: a model that drafts drives the
/// expert's weights out of the processor's caches, and without it a forward would look cheaper than it is in
/// a round.
pub struct CostMeter {
    expert: Box<dyn SequenceModel>,
    drafters: Vec<Box<dyn SequenceModel>>,
    tokens: Vec<TokenId>,
    length: usize,
    rows: Vec<usize>,
    alone: Vec<Duration>,
    /// For each drafter and number of rows: its steps, and the forward after them.
    rounds: Vec<Vec<(Duration, Duration)>>,
    sweeps: usize,
    spent: Duration,
}

impl std::fmt::Debug for CostMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, drafters) = (&self.rows, self.drafters.len());
        write!(f, "CostMeter {{ {rows:?} rows after {} tokens, {drafters} drafters }}", self.length)
    }
}

impl CostMeter {
    /// Measures forwards of these numbers of rows (and of one row) after `length` tokens. Where a context
    /// is too small, the length shrinks; rows that do not fit even then are left out.
    pub fn new(
        expert: Box<dyn SequenceModel>,
        drafters: Vec<Box<dyn SequenceModel>>,
        length: usize,
        rows: impl IntoIterator<Item = usize>,
    ) -> Self {
        let models = || drafters.iter().chain([&expert]);
        let context = models().map(|model| model.context_len()).min().unwrap_or(0);
        let vocab = models().map(|model| model.vocab_size()).min().unwrap_or(0);
        let mut rows: Vec<_> = rows.into_iter().filter(|rows| (2..=context).contains(rows)).collect();
        rows.push(1);
        rows.sort_unstable();
        rows.dedup();
        let most = rows[rows.len() - 1];
        let length = length.min(context.saturating_sub(most));
        Self {
            tokens: random_tokens(0, length + most, vocab),
            alone: vec![Duration::MAX; rows.len()],
            rounds: vec![vec![(Duration::MAX, Duration::MAX); rows.len()]; drafters.len()],
            expert,
            drafters,
            length,
            rows,
            sweeps: 0,
            spent: Duration::ZERO,
        }
    }

    /// Tokens in the caches before every forward.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Sweeps so far.
    pub fn sweeps(&self) -> usize {
        self.sweeps
    }

    /// Time of all sweeps so far.
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// Measures everything once.
    ///
    /// # Errors
    ///
    /// A model fails.
    pub fn sweep(&mut self) -> Result<(), ModelError> {
        let start = Instant::now();
        if self.length > 0 {
            let ahead = &self.tokens[..self.length];
            self.expert.logits(ahead, 0)?;
            for drafter in &mut self.drafters {
                drafter.logits(ahead, 0)?;
            }
        }
        for at in 0..self.rows.len() {
            let alone = self.forward(at)?;
            self.alone[at] = self.alone[at].min(alone);
            for number in 0..self.drafters.len() {
                let steps = self.steps(number, at)?;
                let forward = self.forward(at)?;
                let best = &mut self.rounds[number][at];
                *best = (best.0.min(steps), best.1.min(forward));
            }
        }
        self.sweeps += 1;
        self.spent += start.elapsed();
        Ok(())
    }

    /// The best times of forwards with nothing between them, with their numbers of rows; empty before the
    /// first sweep.
    pub fn forwards(&self) -> Vec<(usize, Duration)> {
        let all = self.rows.iter().copied().zip(self.alone.iter().copied());
        all.filter(|_| self.sweeps > 0).collect()
    }

    /// What rounds cost with drafts that cost nothing; `None` before the first sweep.
    pub fn free(&self) -> Option<RoundCosts> {
        self.costs(|at| (Duration::ZERO, self.alone[at]))
    }

    /// What rounds cost with this drafter, counted from 0; `None` before the first sweep or where there are
    /// fewer drafters.
    pub fn with_drafter(&self, number: usize) -> Option<RoundCosts> {
        let rounds = self.rounds.get(number)?;
        self.costs(|at| if self.rows[at] == 1 { (Duration::ZERO, self.alone[at]) } else { rounds[at] })
    }

    fn costs(&self, times: impl Fn(usize) -> (Duration, Duration)) -> Option<RoundCosts> {
        let one = self.forwards().first()?.1.as_secs_f64();
        RoundCosts::new(self.rows.iter().enumerate().map(|(at, &rows)| {
            let (draft, verify) = times(at);
            RowCost { rows, verify: verify.as_secs_f64() / one, draft: draft.as_secs_f64() / one }
        }))
    }

    /// The expert reads rows after what is in its cache and says their most probable tokens, as it does in a
    /// round at temperature 0.
    fn forward(&mut self, at: usize) -> Result<Duration, ModelError> {
        let rows = self.rows[at];
        let start = Instant::now();
        self.expert.argmax(&self.tokens[..self.length + rows], rows)?;
        Ok(start.elapsed())
    }

    /// A drafter says one token after another, as many as are drafted for this number of rows.
    fn steps(&mut self, number: usize, at: usize) -> Result<Duration, ModelError> {
        let start = Instant::now();
        self.drafters[number].continue_greedily(&self.tokens[..=self.length], self.rows[at] - 1)?;
        Ok(start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_model::{CachedModel, TableModel};
    use std::sync::Arc;

    fn model(context: usize) -> Box<dyn SequenceModel> {
        Box::new(CachedModel::new(Arc::new(TableModel::random(5, 1.0, 1).with_context(context))))
    }

    #[test]
    fn a_sweep_measures_everything() {
        let mut meter = CostMeter::new(model(100), vec![model(100)], 20, [2, 3, 8]);
        assert!(meter.forwards().is_empty() && meter.free().is_none() && meter.with_drafter(0).is_none());
        meter.sweep().unwrap();
        meter.sweep().unwrap();
        assert_eq!((meter.length(), meter.sweeps()), (20, 2));
        assert!(meter.forwards().iter().map(|(rows, _)| *rows).eq([1, 2, 3, 8]));
        let (free, drafted) = (meter.free().unwrap(), meter.with_drafter(0).unwrap());
        assert_eq!((free.verify(1), free.draft(7), drafted.round(0)), (1.0, 0.0, 1.0));
        assert!(drafted.draft(1) > 0.0);
        assert!(meter.with_drafter(1).is_none());
    }

    #[test]
    fn what_does_not_fit_a_context_is_left_out() {
        for (expert, drafter, length, most) in
            [(100, 20, 4, 16), (16, 100, 0, 16), (5, 5, 0, 4), (1, 9, 0, 1)]
        {
            let mut meter = CostMeter::new(model(expert), vec![model(drafter)], 50, [2, 4, 16]);
            meter.sweep().unwrap();
            assert_eq!(meter.length(), if most == 4 { 1 } else { length }, "{expert} {drafter}");
            assert_eq!(meter.forwards().last().unwrap().0, most, "{expert} {drafter}");
        }
    }
}
