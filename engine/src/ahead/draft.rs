//! A draft that is put together from what is ready and what is drawn now.

use super::shared::{Piece, Shared, step};
use drafthorse_drafter::{DraftRequest, Drafter};
use drafthorse_logits::{Draws, Proposal, TokenId};
use drafthorse_model::ModelError;
use std::time::Duration;

/// A draft in the making. A rule that ends drafts is asked once after each token, as by a drafter.
pub(super) struct Draft<'a> {
    /// The text, and behind it the draft.
    sequence: Vec<TokenId>,
    request: &'a DraftRequest<'a>,
    pub(super) proposal: Proposal,
    /// No more tokens.
    ended: bool,
    /// The drafter has no more to say.
    dry: bool,
    /// Time of what was taken.
    pub(super) saved: Duration,
}

impl<'a> Draft<'a> {
    pub(super) fn new(sequence: &[TokenId], request: &'a DraftRequest<'a>) -> Self {
        let (sequence, proposal) = (sequence.to_vec(), Proposal::empty());
        let ended = request.ends(&proposal);
        Self { sequence, request, proposal, ended, dry: false, saved: Duration::ZERO }
    }

    /// How many tokens the next piece has: one, or none where only the scores after the last are wanted. `None` where
    /// nothing is wanted any more.
    fn wants(&self) -> Option<usize> {
        let after = self.request.score_after && self.proposal.scores.len() == self.proposal.tokens.len();
        match (self.dry, self.ended) {
            (true, _) => None,
            (false, false) => Some(1),
            (false, true) => after.then_some(0),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.wants().is_none()
    }

    pub(super) fn is_begun(&self) -> bool {
        !self.proposal.scores.is_empty()
    }

    fn give(&mut self, piece: Piece) {
        match (self.wants(), piece) {
            (Some(1), Piece::Token(token, scores)) => {
                self.sequence.push(token);
                self.proposal.tokens.push(token);
                self.proposal.scores.push(scores);
                self.ended = self.request.ends(&self.proposal);
            }
            // The scores of a token are those after the one before it.
            (Some(0), Piece::Token(_, scores) | Piece::After(scores)) => self.proposal.scores.push(scores),
            _ => (),
        }
    }

    /// Takes what is ready.
    pub(super) fn take(&mut self, shared: &Shared) {
        while !self.is_complete() {
            let Some((piece, time)) = shared.take() else { return };
            self.saved += time;
            self.give(piece);
        }
    }

    /// Draws the rest.
    pub(super) fn go_on(
        &mut self,
        drafter: &mut dyn Drafter,
        draws: &mut dyn Draws,
    ) -> Result<(), ModelError> {
        while let Some(max) = self.wants() {
            let request = DraftRequest { max, score_after: max == 0, raw: true, stop: None, ..*self.request };
            match step(drafter, &self.sequence, &request, draws)? {
                Ok(Some(piece)) => self.give(piece),
                Ok(None) => self.dry = true,
                // Not what was asked for: whoever gets it sees that.
                Err(mut broken) => {
                    self.proposal.tokens.append(&mut broken.tokens);
                    self.proposal.scores.append(&mut broken.scores);
                    self.dry = true;
                }
            }
        }
        Ok(())
    }
}
