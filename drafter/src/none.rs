use crate::{DraftRequest, Drafter};
use drafthorse_logits::{Draws, Proposal, TokenId};
use drafthorse_model::ModelError;

/// Proposes nothing: plain decoding, the baseline of every comparison.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDrafter;

impl Drafter for NoDrafter {
    fn name(&self) -> &'static str {
        "none"
    }

    fn propose(
        &mut self,
        _sequence: &[TokenId],
        _request: &DraftRequest<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        Ok(Proposal::empty())
    }
}
