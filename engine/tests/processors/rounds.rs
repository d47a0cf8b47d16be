//! A round loop written down once more, in which mistakes can be made.

use crate::{Law, PROMPT, TOKENS, expert};
use drafthorse_logits::{
    Context, Draws, Memory, Proposal, Purpose, Sampler, SamplingOptions, Scores, TokenId, exact::outcomes,
};
use drafthorse_model::TableModel;
use drafthorse_verifier::{AcceptanceRule, Lossless};

/// What can go wrong with processors under speculation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mistake {
    /// The expert's processors see each drafted position without the token drafted last.
    Shifted,
    /// The memory keeps what was drafted, whether it stood or not.
    NotUndone,
    /// All rows of the expert are read with the memory of the first.
    NotAdvanced,
}

impl Mistake {
    pub(crate) const ALL: [Self; 3] = [Self::Shifted, Self::NotUndone, Self::NotAdvanced];
}

/// The law of texts with `k` tokens drafted.
pub(crate) fn law(
    drafter: &TableModel,
    sampling: &SamplingOptions,
    k: usize,
    seed: u64,
    mistake: Option<Mistake>,
) -> Law {
    let sampler = Sampler::new(sampling).unwrap().seeded(seed);
    let expert = expert();
    outcomes(|draws| {
        let (mut sequence, mut memory) = (PROMPT.to_vec(), sampler.memory());
        while sequence.len() < PROMPT.len() + TOKENS {
            let left = PROMPT.len() + TOKENS - sequence.len();
            let models = Models { drafter, expert: &expert, sampler: &sampler };
            let proposal = models.propose(&sequence, memory, k.min(left - 1), draws);
            let (rows, drafted_memory) = models.read(&sequence, memory, &proposal, mistake);
            let verdict = Lossless.judge(&proposal, &rows, sequence.len(), draws);
            let mut tokens = proposal.tokens[..verdict.accepted].to_vec();
            tokens.push(verdict.next);
            let emitted = tokens.iter().zip(&rows);
            let right = emitted.fold(memory, |memory, (token, row)| sampler.remember(memory, row, *token));
            memory = if mistake == Some(Mistake::NotUndone) { drafted_memory } else { right };
            sequence.extend(tokens);
        }
        sequence[PROMPT.len()..].to_vec()
    })
}

struct Models<'a> {
    drafter: &'a TableModel,
    expert: &'a TableModel,
    sampler: &'a Sampler,
}

impl Models<'_> {
    fn scores(&self, model: &TableModel, sequence: &[TokenId], seen: usize, memory: Memory) -> Scores {
        let context = Context::new(&sequence[..seen], PROMPT.len()).remembering(memory);
        self.sampler.scores(&context, model.row(sequence)).unwrap()
    }

    fn propose(
        &self,
        sequence: &[TokenId],
        mut memory: Memory,
        max: usize,
        draws: &mut dyn Draws,
    ) -> Proposal {
        let (mut sequence, mut proposal) = (sequence.to_vec(), Proposal::empty());
        for _ in 0..max {
            let scores = self.scores(self.drafter, &sequence, sequence.len(), memory);
            let token = draws.pick(sequence.len(), Purpose::Draft, scores.probs());
            memory = self.sampler.remember(memory, &scores, token);
            sequence.push(token);
            proposal.tokens.push(token);
            proposal.scores.push(scores);
        }
        proposal
    }

    /// The expert's rows, and the memory after all that was drafted.
    fn read(
        &self,
        sequence: &[TokenId],
        mut memory: Memory,
        proposal: &Proposal,
        mistake: Option<Mistake>,
    ) -> (Vec<Scores>, Memory) {
        let all = [sequence, &proposal.tokens].concat();
        let first = memory;
        let rows = (sequence.len()..=all.len()).map(|end| {
            let drafted = end > sequence.len();
            let seen = if mistake == Some(Mistake::Shifted) && drafted { end - 1 } else { end };
            let memory_here = if mistake == Some(Mistake::NotAdvanced) { first } else { memory };
            let scores = self.scores(self.expert, &all[..end], seen, memory_here);
            if let Some(token) = all.get(end) {
                memory = self.sampler.remember(memory, &scores, *token);
            }
            scores
        });
        let rows = rows.collect();
        (rows, memory)
    }
}
