//! What is proposed in a round: what a constraint forces, and what the drafter says.

use crate::{Error, Session, constrained::Constrained, raced::Raced};
use drafthorse_drafter::DraftRequest;
use drafthorse_logits::{Memory, Proposal, TokenId, Verdict};
use drafthorse_verifier::{Kind, Needs};

/// A proposal with where its tokens come from.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) proposal: Proposal,
    /// Which of the tokens a constraint forced; those after these are the drafter's.
    pub(crate) forced: Vec<bool>,
    /// Where the drafter's proposal stands, if it was asked for one as a whole.
    whole: Option<usize>,
}

impl Draft {
    /// What the drafter proposes where nothing is forced.
    fn free(proposal: Proposal) -> Self {
        Self { proposal, forced: Vec::new(), whole: Some(0) }
    }

    fn append(&mut self, mut more: Proposal, forced: bool) {
        self.forced.resize(self.forced.len() + more.tokens.len(), forced);
        self.proposal.tokens.append(&mut more.tokens);
        self.proposal.scores.append(&mut more.scores);
    }

    /// Whether a constraint forced token `index`.
    pub(crate) fn is_forced(&self, index: usize) -> bool {
        self.forced.get(index).is_some_and(|forced| *forced)
    }

    /// What the drafter is to hear of its own proposal, if it was looked at.
    pub(crate) fn heard(&self, verdict: Verdict) -> Option<Verdict> {
        let accepted = verdict.accepted.checked_sub(self.whole?)?;
        (self.proposal.tokens.len() > self.whole?).then_some(Verdict { accepted, ..verdict })
    }
}

impl Session<'_> {
    pub(crate) fn draft(&mut self) -> Result<Draft, Error> {
        // The last token of a round never is a drafted one, so one less than what is left.
        let max = self.draft_length.min(self.emitter.left() - 1);
        let score_after = self.rule.needs_draft_after();
        if self.draft_length == 0 || (max == 0 && !score_after) {
            return Ok(Draft::default());
        }
        if let Some(constrained) = self.constrained.clone() {
            return self.draft_constrained(&constrained, max, score_after);
        }
        let sequence = std::mem::take(&mut self.sequence);
        let proposal = self.ask(&sequence, self.memory, max, score_after);
        self.sequence = sequence;
        proposal.map(Draft::free)
    }

    /// Forced tokens, and the drafter's between them. A drafter that drafts token by token anyway is asked for one at a
    /// time, so that it never spends a step on what is forced.
    fn draft_constrained(
        &mut self,
        constrained: &Constrained,
        max: usize,
        score_after: bool,
    ) -> Result<Draft, Error> {
        let stepwise = self.engine.drafter.is_stepwise();
        let (mut draft, mut asked) = (Draft::default(), false);
        loop {
            let mut text = [&self.sequence, &draft.proposal.tokens[..]].concat();
            let forced = self.forced(constrained, &text, max - draft.forced.len());
            let forced = if draft.forced.is_empty() { forced? } else { forced.unwrap_or_default() };
            text.extend_from_slice(&forced.tokens);
            draft.append(forced, true);
            let left = max - draft.forced.len();
            if asked || (left == 0 && !score_after) || constrained.has_ended(&text[self.prompt..]) {
                return Ok(draft);
            }
            asked = !stepwise || left == 0;
            let count = if asked { left } else { 1 };
            let mut more =
                self.ask(&text, self.memory_after(&draft.proposal), count, asked && score_after)?;
            constrained.cut(&text[self.prompt..], &mut more);
            draft.whole = draft.whole.or((!stepwise).then_some(draft.forced.len()));
            let after = more.scores.len() > more.tokens.len();
            asked |= more.tokens.is_empty();
            draft.append(more, false);
            if after {
                return Ok(draft);
            }
        }
    }

    fn forced(&self, constrained: &Constrained, text: &[TokenId], max: usize) -> Result<Proposal, Error> {
        // Where the law looks at the draft, a guess would change it; what is certain is what the drafter would say.
        let guesses = self.rule.kind() == Kind::Lossless && !self.rule.needs_draft_after();
        let vocab = self.engine.verifier.vocab_size();
        Ok(constrained.forced(&text[self.prompt..], max, guesses, vocab)?)
    }

    /// What the drafter's sampler remembers behind a proposal.
    fn memory_after(&self, proposal: &Proposal) -> Memory {
        let tokens = proposal.tokens.iter().zip(&proposal.scores);
        tokens
            .fold(self.memory, |memory, (&token, scores)| self.draft_sampler.remember(memory, scores, token))
    }

    /// What the drafter proposes after `sequence`.
    fn ask(
        &mut self,
        sequence: &[TokenId],
        memory: Memory,
        max: usize,
        score_after: bool,
    ) -> Result<Proposal, Error> {
        let vocab = self.engine.verifier.vocab_size();
        let request = DraftRequest {
            max,
            score_after,
            raw: self.rule.needs() == Needs::Raw || self.watch.records(),
            vocab,
            prompt: self.prompt,
            // The law of such rules is made of what the drafter says too, and must not depend on k.
            memory: if self.rule.needs_draft_after() { Memory::off() } else { memory },
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
