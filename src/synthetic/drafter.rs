use super::hash;
use drafthorse_drafter::{DraftRequest, Drafter};
use drafthorse_logits::{Draws, Proposal, Scores, TokenId};
use drafthorse_model::ModelError;
use std::{
    hint::spin_loop,
    time::{Duration, Instant},
};

/// A drafter that agrees with the expert as often as it is told: no drafter for texts, but a way to measure
/// an engine at an acceptance rate and a draft cost of one's choice.
///
/// It is given the expert's own text, as greedy decoding without drafts writes it, and proposes its next
/// tokens, some of them wrong. Which ones is decided by seed and position alone. After a text that is not
/// the one it was given it proposes nothing.
#[derive(Clone, Debug)]
pub struct SyntheticDrafter {
    text: Vec<TokenId>,
    acceptance: f64,
    step: Duration,
    seed: u64,
    name: String,
}

impl SyntheticDrafter {
    /// Proposes the tokens of `text` (prompt and what follows), each right with probability `acceptance`.
    /// `None` unless that is in [0, 1].
    pub fn new(text: Vec<TokenId>, acceptance: f64) -> Option<Self> {
        let step = Duration::ZERO;
        let name = "synthetic".into();
        (0.0..=1.0).contains(&acceptance).then_some(Self { text, acceptance, step, seed: 0, name })
    }

    /// The same drafter, taking this long for every token it proposes.
    #[must_use]
    pub fn with_step(mut self, step: Duration) -> Self {
        self.step = step;
        self
    }

    /// The same drafter with another seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The same drafter under another name in reports.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Whether the token it proposes for this position is the right one.
    pub fn is_right_at(&self, position: usize) -> bool {
        let bits = hash(self.seed, 2 * position as u64) >> 11;
        (bits as f64 * (1.0 / (1u64 << 53) as f64)) < self.acceptance
    }

    /// What it proposes for a position; a vocabulary of one token has no wrong ones.
    fn token(&self, position: usize, vocab: usize) -> TokenId {
        let right = self.text[position];
        if self.is_right_at(position) || vocab < 2 {
            return right;
        }
        let distance = 1 + hash(self.seed, 2 * position as u64 + 1) % (vocab as u64 - 1);
        ((u64::from(right) + distance) % vocab as u64) as TokenId
    }
}

impl Drafter for SyntheticDrafter {
    fn name(&self) -> &str {
        &self.name
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let start = Instant::now();
        if !self.text.starts_with(sequence) {
            return Ok(Proposal::empty());
        }
        let end = self.text.len().min(sequence.len() + request.max);
        let tokens: Vec<_> = (sequence.len()..end).map(|at| self.token(at, request.vocab)).collect();
        let scores = tokens.iter().map(|&token| Scores::point(token, request.vocab)).collect();
        // A sleeping thread would wake too late: steps can be shorter than a clock tick of the system.
        let until = self.step * tokens.len() as u32;
        while start.elapsed() < until {
            spin_loop();
        }
        Ok(Proposal { tokens, scores })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::random_tokens;
    use drafthorse_logits::{Memory, Sampler, SamplingOptions, SeededDraws};

    const VOCAB: usize = 50;

    fn propose(drafter: &mut SyntheticDrafter, sequence: &[TokenId], max: usize) -> Vec<TokenId> {
        let sampler = Sampler::new(&SamplingOptions::default()).unwrap();
        let (memory, sampler) = (Memory::off(), &sampler);
        let request = DraftRequest {
            max,
            score_after: false,
            raw: true,
            vocab: VOCAB,
            prompt: 1,
            memory,
            sampler,
            stop: None,
        };
        let proposal = drafter.propose(sequence, &request, &mut SeededDraws::new(0, 1)).unwrap();
        assert_eq!(proposal.check(VOCAB, max), Ok(()));
        proposal.tokens
    }

    #[test]
    fn the_rate_is_the_one_asked_for() {
        let text = random_tokens(1, 2001, VOCAB);
        for (acceptance, seed) in [(0.0, 1), (0.3, 2), (0.8, 3), (0.95, 4), (1.0, 5)] {
            let mut drafter = SyntheticDrafter::new(text.clone(), acceptance).unwrap().with_seed(seed);
            let tokens = propose(&mut drafter, &text[..1], 2000);
            let right = tokens.iter().zip(&text[1..]).filter(|(a, b)| a == b).count() as f64;
            let deviation = (2000.0 * acceptance * (1.0 - acceptance)).sqrt();
            assert!((right - 2000.0 * acceptance).abs() <= 4.0 * deviation, "{acceptance}: {right}");
        }
    }

    #[test]
    fn a_position_always_decides_alike() {
        let text = random_tokens(1, 200, VOCAB);
        let mut drafter = SyntheticDrafter::new(text.clone(), 0.5).unwrap().with_seed(9);
        let whole = propose(&mut drafter, &text[..1], 199);
        for from in [2, 3, 50, 199] {
            assert_eq!(propose(&mut drafter, &text[..from], 200), whole[from - 1..], "from {from}");
        }
        let mut other = drafter.clone().with_seed(10);
        assert_ne!(propose(&mut other, &text[..1], 199), whole);
    }

    #[test]
    fn another_text_and_the_end_of_the_text_get_nothing() {
        let mut drafter = SyntheticDrafter::new(vec![1, 2, 3, 4], 1.0).unwrap();
        assert_eq!(propose(&mut drafter, &[1, 2], 5), [3, 4]);
        assert!(propose(&mut drafter, &[1, 3], 5).is_empty());
        assert!(propose(&mut drafter, &[1, 2, 3, 4], 5).is_empty());
        assert!(propose(&mut drafter, &[1, 2, 3, 4, 5], 5).is_empty());
    }

    #[test]
    fn rates_outside_the_unit_interval_are_refused() {
        for acceptance in [-0.1, 1.1, f64::NAN] {
            assert!(SyntheticDrafter::new(Vec::new(), acceptance).is_none(), "{acceptance}");
        }
    }
}
