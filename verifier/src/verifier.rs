use drafthorse_logits::{Context, Proposal, Sampler, Scores, TokenId};
use drafthorse_model::{CachedModel, LanguageModel, ModelError, SequenceModel, Vocabulary};
use std::sync::Arc;

/// The expert, ready to score drafted tokens in one forward pass.
pub struct Verifier {
    model: Box<dyn SequenceModel>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier {{ vocabulary of {}, context of {} }}", self.vocab_size(), self.context_len())
    }
}

impl Verifier {
    /// Verifies with this expert.
    pub fn new<M: LanguageModel>(expert: Arc<M>) -> Self {
        Self { model: Box::new(CachedModel::new(expert)) }
    }

    /// Number of tokens of the expert.
    pub fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    /// The most tokens a sequence may have.
    pub fn context_len(&self) -> usize {
        self.model.context_len()
    }

    /// The text of each token, where it is known.
    pub fn vocabulary(&self) -> Option<&Vocabulary> {
        self.model.vocabulary()
    }

    /// Reads `sequence` ahead, so that the next pass has only its own tokens to read.
    ///
    /// # Errors
    ///
    /// As [`CachedModel::logits`].
    pub fn prepare(&mut self, sequence: &[TokenId]) -> Result<(), ModelError> {
        self.model.logits(sequence, 0).map(drop)
    }

    /// The expert's scores at every drafted position and after the last, in one forward pass.
    ///
    /// The first `prompt` tokens of `sequence` are the prompt.
    ///
    /// # Shapes
    ///
    /// One row more than the proposal has tokens.
    ///
    /// # Errors
    ///
    /// As [`CachedModel::logits`], and rows of logits from which no token can be drawn.
    pub fn scores(
        &mut self,
        sequence: &[TokenId],
        prompt: usize,
        proposal: &Proposal,
        sampler: &Sampler,
    ) -> Result<Vec<Scores>, ModelError> {
        let tokens = [sequence, &proposal.tokens].concat();
        let logits = self.model.logits(&tokens, proposal.tokens.len() + 1)?;
        let score = |(row, logits)| {
            let context = Context::new(&tokens[..sequence.len() + row], prompt);
            sampler.scores(&context, logits).map_err(ModelError::from)
        };
        logits.iter().enumerate().map(score).collect()
    }
}
