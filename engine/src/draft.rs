//! What is proposed in a round: what a constraint forces, then what the drafter says.

use crate::{Error, Session, raced::Raced};
use drafthorse_drafter::DraftRequest;
use drafthorse_logits::{Memory, Proposal, TokenId};
use drafthorse_verifier::{Kind, Needs};

/// A proposal, of which the first `forced` tokens cost nothing.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) proposal: Proposal,
    pub(crate) forced: usize,
}

impl Session<'_> {
    pub(crate) fn draft(&mut self) -> Result<Draft, Error> {
        // The last token of a round never is a drafted one, so one less than what is left.
        let max = self.draft_length.min(self.emitter.left() - 1);
        let score_after = self.rule.needs_draft_after();
        if self.draft_length == 0 || (max == 0 && !score_after) {
            return Ok(Draft::default());
        }
        let Some(constrained) = self.constrained.clone() else {
            return Ok(Draft { proposal: self.ask(&self.sequence.clone(), max)?, forced: 0 });
        };
        // Where the law looks at the draft, a guess would change it; what is certain is what the drafter would say.
        let guesses = self.rule.kind() == Kind::Lossless && !score_after;
        let vocab = self.engine.verifier.vocab_size();
        let mut proposal = constrained.forced(self.generated(), max, guesses, vocab)?;
        let forced = proposal.tokens.len();
        let text = [&self.sequence, &proposal.tokens[..]].concat();
        let ended = constrained.has_ended(&text[self.prompt..]);
        if (forced < max || score_after) && !ended {
            let mut more = self.ask(&text, max - forced)?;
            constrained.cut(&text[self.prompt..], &mut more);
            proposal.tokens.append(&mut more.tokens);
            proposal.scores.append(&mut more.scores);
        }
        Ok(Draft { proposal, forced })
    }

    /// What the drafter proposes after `sequence`.
    fn ask(&mut self, sequence: &[TokenId], max: usize) -> Result<Proposal, Error> {
        let vocab = self.engine.verifier.vocab_size();
        let score_after = self.rule.needs_draft_after();
        let request = DraftRequest {
            max,
            score_after,
            raw: self.rule.needs() == Needs::Raw || self.watch.records(),
            vocab,
            prompt: self.prompt,
            // The law of such rules is made of what the drafter says too, and must not depend on k.
            memory: if score_after { Memory::off() } else { self.memory },
            sampler: &self.draft_sampler,
        };
        let drafter = &mut self.engine.drafter;
        let mut raced = Raced(&mut *self.draws);
        let draws = if self.rule.shares_noise() { &mut raced } else { &mut *raced.0 };
        let proposal = drafter
            .propose(sequence, &request, draws)
            .map_err(|error| Error::drafter(drafter.name(), error))?;
        proposal.check(vocab, max).map_err(|error| Error::proposal(drafter.name(), error))?;
        Ok(proposal)
    }
}
