use crate::{Provenance, Step};
use std::time::Duration;

/// The numbers of a generation: its [`Step`]s, added up.
///
/// The rates are `None` while there is nothing to divide by.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Rounds, which is passes of the expert after the prompt.
    pub rounds: u64,
    /// Rounds in which something was proposed.
    pub rounds_with_draft: u64,
    /// Tokens proposed.
    pub drafted: u64,
    /// Positions at which a proposed token was looked at.
    pub examined: u64,
    /// Proposed tokens accepted.
    pub accepted: u64,
    /// Tokens the text gained.
    pub emitted: u64,
    /// Of them, tokens in the place of refused ones.
    pub replaced: u64,
    /// Of them, tokens that came on top.
    pub bonus: u64,
    /// `accepted_at[i]`: in how many rounds the proposed token `i` (from 0) was accepted.
    pub accepted_at: Vec<u64>,
    /// Time to read the prompt, by drafter and expert.
    pub prompt_time: Duration,
    /// Time of drafting.
    pub draft_time: Duration,
    /// Time of the expert's passes.
    pub verify_time: Duration,
    /// Time of everything else within rounds.
    pub other_time: Duration,
}

impl Stats {
    /// Adds a round.
    pub fn add(&mut self, step: &Step) {
        let count = |provenance| step.tokens.iter().filter(|t| t.provenance == provenance).count() as u64;
        self.rounds += 1;
        self.rounds_with_draft += u64::from(step.drafted > 0);
        self.drafted += step.drafted as u64;
        self.examined += step.examined as u64;
        self.accepted += step.accepted as u64;
        self.emitted += step.tokens.len() as u64;
        self.replaced += count(Provenance::Replacement);
        self.bonus += count(Provenance::Bonus);
        self.accepted_at.resize(self.accepted_at.len().max(step.drafted), 0);
        self.accepted_at[..step.accepted].iter_mut().for_each(|n| *n += 1);
        self.draft_time += step.draft_time;
        self.verify_time += step.verify_time;
        self.other_time += step.other_time;
    }

    /// Adds the numbers of another generation.
    pub fn merge(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.rounds_with_draft += other.rounds_with_draft;
        self.drafted += other.drafted;
        self.examined += other.examined;
        self.accepted += other.accepted;
        self.emitted += other.emitted;
        self.replaced += other.replaced;
        self.bonus += other.bonus;
        self.accepted_at.resize(self.accepted_at.len().max(other.accepted_at.len()), 0);
        self.accepted_at.iter_mut().zip(&other.accepted_at).for_each(|(a, b)| *a += b);
        self.prompt_time += other.prompt_time;
        self.draft_time += other.draft_time;
        self.verify_time += other.verify_time;
        self.other_time += other.other_time;
    }

    /// accepted / examined: how likely a proposed token stands once it is looked at.
    ///
    /// Source: Leviathan et al., 2023, Definition 3.1 (their alpha).
    pub fn acceptance_rate(&self) -> Option<f64> {
        ratio(self.accepted, self.examined)
    }

    /// accepted / drafted: what vLLM and llama.cpp call the acceptance rate.
    pub fn draft_yield(&self) -> Option<f64> {
        ratio(self.accepted, self.drafted)
    }

    /// emitted / rounds: mean acceptance length, block efficiency.
    pub fn tokens_per_expert_pass(&self) -> Option<f64> {
        ratio(self.emitted, self.rounds)
    }

    /// Time of all rounds, without reading the prompt.
    pub fn decode_time(&self) -> Duration {
        self.draft_time + self.verify_time + self.other_time
    }

    /// Tokens per second of decoding, without reading the prompt.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let seconds = self.decode_time().as_secs_f64();
        (self.emitted > 0 && seconds > 0.0).then(|| self.emitted as f64 / seconds)
    }
}

fn ratio(a: u64, b: u64) -> Option<f64> {
    (b > 0).then(|| a as f64 / b as f64)
}
