use crate::{AcceptanceRule, Needs, Reading, Round, round::questions};
use drafthorse_logits::{Context, Draws, Logits, Scores, TokenId};
use drafthorse_model::{CachedModel, LanguageModel, ModelError, SequenceModel, Vocabulary};
use std::sync::Arc;

/// The expert, ready to score drafted tokens in one forward pass.
pub struct Verifier {
    model: Box<dyn SequenceModel>,
    /// Another reader of the same model, for the other prompt of a [`Guide`].
    guide: Option<Box<dyn SequenceModel>>,
    reader: Box<dyn Fn() -> Box<dyn SequenceModel> + Send>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier {{ vocabulary of {}, context of {} }}", self.vocab_size(), self.context_len())
    }
}

impl Verifier {
    /// Verifies with this expert.
    pub fn new<M: LanguageModel>(expert: Arc<M>) -> Self {
        let reader = move || -> Box<dyn SequenceModel> { Box::new(CachedModel::new(expert.clone())) };
        Self { model: reader(), guide: None, reader: Box::new(reader) }
    }

    pub(crate) fn model(&self) -> &dyn SequenceModel {
        &*self.model
    }

    pub(crate) fn model_mut(&mut self) -> &mut dyn SequenceModel {
        &mut *self.model
    }

    pub(crate) fn guide_mut(&mut self) -> &mut dyn SequenceModel {
        &mut **self.guide.get_or_insert_with(&self.reader)
    }

    /// Number of tokens of the expert.
    pub fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    /// The most tokens a sequence may have.
    pub fn context_len(&self) -> usize {
        self.model.context_len()
    }

    /// Whether rows of logits stay on the expert's device, so that fetching one costs time of its own.
    pub fn keeps_rows(&self) -> bool {
        self.model.keeps_rows()
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

    /// Reads the other prompt of a [`Guide`](crate::Guide) ahead.
    ///
    /// # Errors
    ///
    /// As [`CachedModel::logits`].
    pub fn prepare_guide(&mut self, negative: &[TokenId]) -> Result<(), ModelError> {
        self.guide_mut().logits(negative, 0).map(drop)
    }

    /// What the expert says at every drafted position and after the last, in one forward pass: of each row
    /// as little as the rule needs.
    ///
    /// # Errors
    ///
    /// As [`CachedModel::logits`], and rows of logits from which no token can be drawn.
    pub fn read(
        &mut self,
        round: &Round<'_>,
        rule: &dyn AcceptanceRule,
        draws: &dyn Draws,
    ) -> Result<Reading, ModelError> {
        if round.keep_logits || round.guide.is_some() {
            let logits = self.logits(round)?;
            let scores = score(round, &logits)?;
            return Ok(Reading::scores(scores).with_logits(round.keep_logits.then_some(logits)));
        }
        let needs = rule.needs();
        match round.sampler.temperature_alone() {
            Some(0.0) if needs != Needs::Raw => self.points(round).map(Reading::scores),
            Some(temperature) if self.model.keeps_rows() => match questions(round, needs, draws) {
                Some(questions) => {
                    let answers = self.model.answers(&tokens(round), &questions, temperature)?;
                    Ok(Reading::answers(needs, answers))
                }
                None => self.scores(round).map(Reading::scores),
            },
            _ => self.scores(round).map(Reading::scores),
        }
    }

    /// The expert's scores at every drafted position and after the last, in one forward pass.
    ///
    /// # Shapes
    ///
    /// One row more than the proposal has tokens.
    ///
    /// # Errors
    ///
    /// As [`Verifier::read`].
    pub fn scores(&mut self, round: &Round<'_>) -> Result<Vec<Scores>, ModelError> {
        let logits = self.logits(round)?;
        score(round, &logits)
    }

    /// The rows of a round, guided if they shall be.
    fn logits(&mut self, round: &Round<'_>) -> Result<Logits, ModelError> {
        let rows = round.proposal.tokens.len() + 1;
        let logits = self.model.logits(&tokens(round), rows)?;
        let Some(guide) = round.guide else { return Ok(logits) };
        let other = [&guide.negative, &round.sequence[round.prompt..], &round.proposal.tokens].concat();
        let other = self.guide_mut().logits(&other, rows)?;
        let guided =
            logits.iter().zip(other.iter()).flat_map(|(row, other)| guide.guidance.logits(row, other));
        Ok(Logits::new(guided.collect(), logits.vocab_size()))
    }

    /// The scores at temperature 0, which are points: of each row its most probable token is enough.
    fn points(&mut self, round: &Round<'_>) -> Result<Vec<Scores>, ModelError> {
        let best = self.model.argmax(&tokens(round), round.proposal.tokens.len() + 1)?;
        Ok(best.into_iter().map(|token| Scores::point(token, self.model.vocab_size())).collect())
    }
}

/// What the rows of a round say to its sampler.
fn score(round: &Round<'_>, logits: &Logits) -> Result<Vec<Scores>, ModelError> {
    let tokens = tokens(round);
    let mut memory = round.memory;
    let score = |(row, logits)| {
        let end = round.sequence.len() + row;
        let context = Context::new(&tokens[..end], round.prompt).remembering(memory);
        let scores = round.sampler.scores(&context, logits)?;
        if let Some(drafted) = tokens.get(end) {
            memory = round.sampler.remember(memory, &scores, *drafted);
        }
        Ok(scores)
    };
    logits.iter().enumerate().map(score).collect()
}

/// All that is to be read.
fn tokens(round: &Round<'_>) -> Vec<TokenId> {
    [round.sequence, &round.proposal.tokens].concat()
}
