use crate::{DraftRequest, Drafter, ModelDrafter};
use drafthorse_logits::{Draws, Proposal, TokenId};
use drafthorse_model::{
    CachedModel, LanguageModel, ModelError, SequenceModel, TranslatedModel, Translation, Vocabulary,
};
use std::sync::Arc;

/// Token-level intersection (TLI): drafts the tokens that both models share, with probabilities.
///
/// Its law is the model's own, restricted to the shared tokens and normalized, so that drafts are drawn and judged as
/// those of any model: every rule keeps its law, and rules that read the drafter's confidence find one. It pays as far
/// as the expert says shared tokens.
///
/// It drafts nothing after texts that are longer than the model's context, in the model's own tokens.
///
/// Source: Timor et al., "Accelerating LLM Inference with Lossless Speculative Decoding Algorithms for Heterogeneous
/// Vocabularies", 2025, Algorithm 4.
#[derive(Debug)]
pub struct TokenDrafter {
    drafter: ModelDrafter,
    translation: Arc<Translation>,
    /// The model's, in its own tokens.
    context: usize,
}

impl TokenDrafter {
    /// Drafts with this model, whose tokens are the drafter's of the translation.
    ///
    /// # Errors
    ///
    /// As [`TranslatedModel::new`].
    pub fn new<M: LanguageModel>(model: Arc<M>, translation: Arc<Translation>) -> Result<Self, ModelError> {
        let model = CachedModel::new(model);
        let context = SequenceModel::context_len(&model);
        let model = TranslatedModel::new(Box::new(model), translation.clone())?;
        Ok(Self { drafter: ModelDrafter::over(Box::new(model)).named("tli"), translation, context })
    }

    /// How many more tokens can be drafted after `sequence`; `None` where the model cannot read that.
    fn room(&self, sequence: &[TokenId]) -> Option<usize> {
        self.translation.room(sequence, self.context)
    }
}

impl Drafter for TokenDrafter {
    fn name(&self) -> &str {
        self.drafter.name()
    }

    fn vocab_size(&self) -> Option<usize> {
        self.drafter.vocab_size()
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.drafter.vocabulary()
    }

    fn is_calibrated(&self) -> bool {
        true
    }

    fn is_stepwise(&self) -> bool {
        true
    }

    fn is_pure(&self) -> bool {
        self.drafter.is_pure()
    }

    fn prepare(&mut self, sequence: &[TokenId]) -> Result<(), ModelError> {
        if self.room(sequence).is_some() { self.drafter.prepare(sequence) } else { Ok(()) }
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let Some(room) = self.room(sequence) else { return Ok(Proposal::empty()) };
        // A drafted token is a shared one, and takes one place.
        let request = DraftRequest { max: request.max.min(room), ..*request };
        self.drafter.propose(sequence, &request, draws)
    }
}
