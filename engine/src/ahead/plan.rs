//! For what drafts are made ahead, and when one of them is the one that is asked for.

use drafthorse_drafter::DraftRequest;
use drafthorse_logits::{Memory, Sampler, SeededDraws, TokenId};

/// A proposal that is being verified, and the request that is expected next.
pub(super) struct Plan {
    /// Its number.
    pub(super) epoch: u64,
    /// The text, and behind it the proposal.
    pub(super) sequence: Vec<TokenId>,
    /// Length of the text.
    pub(super) base: usize,
    /// How many tokens to draft for an outcome.
    pub(super) length: usize,
    /// The draws of the next round.
    pub(super) draws: SeededDraws,
    pub(super) asked: Asked,
}

/// What was asked of the drafter, without what changes from round to round.
pub(super) struct Asked {
    pub(super) score_after: bool,
    vocab: usize,
    prompt: usize,
    sampler: Sampler,
}

impl Asked {
    pub(super) fn of(request: &DraftRequest<'_>) -> Self {
        let sampler = request.sampler.clone();
        Self { score_after: request.score_after, vocab: request.vocab, prompt: request.prompt, sampler }
    }

    fn is(&self, request: &DraftRequest<'_>) -> bool {
        (self.score_after, self.vocab, self.prompt) == (request.score_after, request.vocab, request.prompt)
            && request.memory == Memory::off()
            && self.sampler.is_same(request.sampler)
    }

    /// One piece: a token, or the scores alone. Raw scores are always made, so that it does not matter whether they are
    /// wanted, and the likeliest tokens are known where all is certain.
    pub(super) fn request(&self, max: usize) -> DraftRequest<'_> {
        DraftRequest {
            max,
            score_after: max == 0,
            raw: true,
            vocab: self.vocab,
            prompt: self.prompt,
            memory: Memory::off(),
            sampler: &self.sampler,
            stop: None,
        }
    }
}

impl Plan {
    /// How many drafted tokens stood and which token followed, if `sequence` is what came of the verification, and what is
    /// asked for is what was expected.
    pub(super) fn outcome(
        &self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &SeededDraws,
    ) -> Option<(usize, TokenId)> {
        let (&token, before) = sequence.split_last()?;
        let accepted = before.len().checked_sub(self.base)?;
        let stood = before.len() <= self.sequence.len() && before == &self.sequence[..before.len()];
        (stood && *draws == self.draws && self.asked.is(request)).then_some((accepted, token))
    }

    /// The text as an outcome has it.
    pub(super) fn text(&self, accepted: usize, token: TokenId) -> Vec<TokenId> {
        [&self.sequence[..self.base + accepted], &[token]].concat()
    }
}
