use crate::{DraftRequest, Drafter, tree::Growth};
use drafthorse_logits::{
    Context, DraftTree, Draws, LogitsError, Memory, Proposal, Purpose, Scores, TokenId, TreePlan,
};
use drafthorse_model::{CachedModel, LanguageModel, ModelError, SequenceModel, Vocabulary};
use std::sync::Arc;

/// A small language model that drafts token by token.
///
/// At temperature 0 it proposes its most probable tokens, otherwise it samples with the expert's own
/// settings.
///
/// Source: Leviathan et al., 2023, Algorithm 1.
pub struct ModelDrafter {
    model: Box<dyn SequenceModel>,
    name: String,
}

impl std::fmt::Debug for ModelDrafter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModelDrafter {{ {} }}", self.name)
    }
}

impl ModelDrafter {
    /// Drafts with this model.
    pub fn new<M: LanguageModel>(model: Arc<M>) -> Self {
        Self::over(Box::new(CachedModel::new(model)))
    }

    /// Drafts with a model that already is a function of the sequence.
    pub fn over(model: Box<dyn SequenceModel>) -> Self {
        Self { model, name: "model".into() }
    }

    /// The same drafter under another name in reports.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The model's scores after `sequence`, over the expert's vocabulary; `None` where the sampler leaves nothing of
    /// what it says.
    fn score(
        &mut self,
        sequence: &[TokenId],
        memory: Memory,
        request: &DraftRequest<'_>,
    ) -> Result<Option<Scores>, ModelError> {
        let logits = self.model.logits(sequence, 1)?;
        score_row(logits.row(0), sequence, memory, request)
    }

    /// The proposal where the most probable tokens are all that matters, so that no row need be read; `None`
    /// where more matters, or a row is unusable and has to say why.
    fn propose_greedily(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Option<Proposal>, ModelError> {
        if !best_is_enough(&*self.model, request) {
            return Ok(None);
        }
        let room = (self.model.context_len() - sequence.len()).saturating_add(1);
        let count = room.min(request.max + usize::from(request.score_after));
        let best = match self.model.continue_greedily(sequence, count) {
            Err(ModelError::Logits(_)) => return Ok(None),
            best => best?,
        };
        let scores: Vec<_> = best.into_iter().map(|token| Scores::point(token, request.vocab)).collect();
        let drafted = scores.iter().take(request.max).zip(sequence.len()..);
        let tokens = drafted.map(|(row, at)| draws.pick(at, Purpose::Draft, row.probs())).collect();
        Ok(Some(Proposal { tokens, scores }))
    }
}

/// Whether a model can read a sequence.
pub(crate) fn can_read(model: &dyn SequenceModel, sequence: &[TokenId]) -> bool {
    let known = model.vocab_size();
    sequence.len() <= model.context_len() && sequence.iter().all(|&token| (token as usize) < known)
}

/// Whether the most probable token of each row is all that matters.
pub(crate) fn best_is_enough(model: &dyn SequenceModel, request: &DraftRequest<'_>) -> bool {
    // A most probable token that the expert lacks would not be the one to propose.
    request.sampler.is_argmax()
        && !request.raw
        && request.stop.is_none()
        && model.vocab_size() <= request.vocab
}

/// The scores of a model's row after `sequence`, over the expert's vocabulary; `None` where the sampler leaves nothing of
/// what it says.
pub(crate) fn score_row(
    row: &[f32],
    sequence: &[TokenId],
    memory: Memory,
    request: &DraftRequest<'_>,
) -> Result<Option<Scores>, ModelError> {
    let mut row = row.to_vec();
    // Where the vocabularies are padded to different lengths: ids that the expert lacks cannot be
    // proposed, ids that only the expert has never are.
    row.resize(request.vocab, f32::NEG_INFINITY);
    let context = Context::new(sequence, request.prompt).remembering(memory);
    match request.sampler.scores(&context, &row) {
        Err(LogitsError::NothingLeft { .. }) if row.iter().any(|logit| logit.is_finite()) => Ok(None),
        scores => Ok(scores.map(Some)?),
    }
}

impl Drafter for ModelDrafter {
    fn name(&self) -> &str {
        &self.name
    }

    fn vocab_size(&self) -> Option<usize> {
        Some(self.model.vocab_size())
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.model.vocabulary()
    }

    fn context_len(&self) -> Option<usize> {
        Some(self.model.context_len())
    }

    fn is_calibrated(&self) -> bool {
        true
    }

    fn is_stepwise(&self) -> bool {
        true
    }

    fn is_pure(&self) -> bool {
        true
    }

    fn prepare(&mut self, sequence: &[TokenId]) -> Result<(), ModelError> {
        if can_read(&*self.model, sequence) { self.model.logits(sequence, 0).map(drop) } else { Ok(()) }
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let mut proposal = Proposal::empty();
        if !can_read(&*self.model, sequence) {
            return Ok(proposal);
        }
        if let Some(proposal) = self.propose_greedily(sequence, request, draws)? {
            return Ok(proposal);
        }
        let (mut sequence, mut memory) = (sequence.to_vec(), request.memory);
        let context = self.model.context_len();
        while !request.ends(&proposal) {
            if sequence.len() > context {
                return Ok(proposal);
            }
            let Some(scores) = self.score(&sequence, memory, request)? else { return Ok(proposal) };
            let token = draws.pick(sequence.len(), Purpose::Draft, scores.probs());
            memory = request.sampler.remember(memory, &scores, token);
            proposal.tokens.push(token);
            proposal.scores.push(scores);
            sequence.push(token);
        }
        if request.score_after && sequence.len() <= context {
            proposal.scores.extend(self.score(&sequence, memory, request)?);
        }
        Ok(proposal)
    }

    fn drafts_trees(&self) -> bool {
        self.model.reads_trees()
    }

    fn propose_tree(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        plan: &TreePlan,
        draws: &mut dyn Draws,
    ) -> Result<Option<DraftTree>, ModelError> {
        if !self.drafts_trees() || !can_read(&*self.model, sequence) {
            return Ok(None);
        }
        Growth::new(&mut *self.model, sequence, request, plan.branching).grow(&plan.shape, draws).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_logits::{Sampler, SamplingOptions, SeededDraws, argmax};
    use drafthorse_model::TableModel;

    /// With and without a look at raw distributions, which must not matter.
    fn propose(
        drafter: &mut ModelDrafter,
        sequence: &[TokenId],
        max: usize,
        vocab: usize,
        after: bool,
    ) -> Proposal {
        let sampler = Sampler::new(&SamplingOptions::default()).unwrap();
        let [with, without] = [true, false].map(|raw| {
            let (prompt, memory, sampler) = (sequence.len(), Memory::off(), &sampler);
            let request =
                DraftRequest { max, score_after: after, raw, vocab, prompt, memory, sampler, stop: None };
            let proposal = drafter.propose(sequence, &request, &mut SeededDraws::new(0, 1)).unwrap();
            assert_eq!(proposal.check(vocab, max), Ok(()));
            proposal
        });
        let laws =
            |proposal: &Proposal| proposal.scores.iter().map(|s| s.probs().clone()).collect::<Vec<_>>();
        assert_eq!((&with.tokens, laws(&with)), (&without.tokens, laws(&without)));
        without
    }

    #[test]
    fn drafts_what_the_model_would_say() {
        let model = Arc::new(TableModel::random(5, 1.0, 1));
        let mut drafter = ModelDrafter::new(model.clone());
        let proposal = propose(&mut drafter, &[0, 1], 4, 5, true);
        let mut sequence = vec![0, 1];
        for &token in &proposal.tokens {
            assert_eq!(token, argmax(model.row(&sequence)));
            sequence.push(token);
        }
        assert_eq!((proposal.tokens.len(), proposal.scores.len()), (4, 5));
    }

    #[test]
    fn stops_at_the_end_of_its_own_context() {
        let mut drafter = ModelDrafter::new(Arc::new(TableModel::random(3, 1.0, 1).with_context(4)));
        assert_eq!(
            propose(&mut drafter, &[0, 1, 2], 5, 3, true).tokens.len(),
            2,
            "after 3 and after 4 tokens"
        );
        assert!(propose(&mut drafter, &[0; 5], 5, 3, true).tokens.is_empty());
        assert!(drafter.prepare(&[0; 5]).is_ok());
    }

    #[test]
    fn speaks_the_experts_vocabulary() {
        let model = || TableModel::from_fn(4, |_| vec![0.0, 1.0, 2.0, 3.0]);
        // The expert's vocabulary is longer: the rest has probability 0.
        assert_eq!(propose(&mut ModelDrafter::new(Arc::new(model())), &[0], 1, 6, false).tokens, [3]);
        // The expert's is shorter: what it lacks is not proposed.
        assert_eq!(propose(&mut ModelDrafter::new(Arc::new(model())), &[0], 1, 3, false).tokens, [2]);
        // A token only the expert has cannot be read.
        assert!(propose(&mut ModelDrafter::new(Arc::new(model())), &[5], 1, 6, false).tokens.is_empty());
    }
}
