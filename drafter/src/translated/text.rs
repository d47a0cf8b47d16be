use crate::{DraftRequest, Drafter};
use drafthorse_logits::{
    Context, Draws, LogitsError, Proposal, Purpose, Sampler, SamplingOptions, Scores, TokenId,
};
use drafthorse_model::{
    CachedModel, LanguageModel, ModelError, SequenceModel, TokenBytes, Transcriber, Translation, Vocabulary,
};
use std::sync::Arc;

/// The most of its own tokens that it writes for one of the expert's: bytes of a long word.
const STEPS: usize = 12;

/// String-level exact match (SLEM): writes a text in its own tokens, which then is read as the expert's.
///
/// It works for any two tokenizers. The text so far is written as the drafter's own tokenizer writes it; the drafter
/// goes on, greedily unless a temperature is set, and where the text ends within a word it first may take another last
/// token that goes further; what it wrote is cut into the expert's tokens as the expert's
/// tokenizer would go on. The last token of these is held back, since more text could make it another one, and so is a
/// character that is not complete.
///
/// What comes out has no probabilities: each token is handed over as a point mass. That is lawful whatever the text is,
/// also a sampled one, since no draw of the verifier's has a part in it: given the draft, a token `x` stands with
/// probability `min(1, pi(x))`, and otherwise one is drawn from `pi` without `x`. A lossless rule so gives exactly the
/// expert's law. Where the law of a rule looks at the draft, it is that of these point masses, and they depend on where
/// the draft began. Rules that read the drafter's confidence cannot be used.
///
/// It drafts nothing after texts that are longer than the model's context, in the model's own tokens. A
/// [`StopRule`](crate::StopRule) is not asked: a point mass has nothing to say to it.
///
/// Source: Timor et al., "Accelerating LLM Inference with Lossless Speculative Decoding Algorithms for Heterogeneous
/// Vocabularies", 2025, Algorithm 2.
pub struct TextDrafter {
    model: Box<dyn SequenceModel>,
    transcriber: Transcriber,
    name: String,
    /// How it writes.
    sampler: Sampler,
}

impl std::fmt::Debug for TextDrafter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TextDrafter {{ {} }}", self.name)
    }
}

impl TextDrafter {
    /// Drafts with this model, whose tokens are the drafter's of the translation.
    ///
    /// # Errors
    ///
    /// [`ModelError::Translation`]: the model lacks tokens of its tokenizer.
    pub fn new<M: LanguageModel>(model: Arc<M>, translation: Arc<Translation>) -> Result<Self, ModelError> {
        translation.check(model.vocab_size())?;
        let (model, name) = (Box::new(CachedModel::new(model)), "slem".into());
        let sampler = Sampler::new(&SamplingOptions::default())?;
        Ok(Self { model, transcriber: Transcriber::new(translation), name, sampler })
    }

    /// Writes by sampling at a temperature; at 0, its most probable tokens.
    ///
    /// # Errors
    ///
    /// A temperature that is negative or no number.
    pub fn sampled(self, temperature: f32) -> Result<Self, ModelError> {
        let sampler = Sampler::new(&SamplingOptions { temperature, ..Default::default() })?;
        Ok(Self { sampler, ..self })
    }

    /// The same drafter under another name in reports.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The sequence in the model's tokens; `None` where it cannot read it.
    fn read(&mut self, sequence: &[TokenId]) -> Option<Vec<TokenId>> {
        let read = self.transcriber.text(sequence)?;
        (!read.is_empty() && read.len() <= self.model.context_len()).then_some(read)
    }

    /// The expert's tokens for what the model writes after `sequence`: up to `wanted`, of which nothing more is open.
    fn write(
        &mut self,
        sequence: &[TokenId],
        wanted: usize,
        draws: &mut dyn Draws,
    ) -> Result<Vec<TokenId>, ModelError> {
        let translation = self.transcriber.translation().clone();
        let Some(mut read) = self.read(sequence) else { return Ok(Vec::new()) };
        let (mut text, mut known) = self.mend(sequence, &mut read)?;
        let mut tokens = Vec::new();
        let room = self.model.context_len() - read.len();
        let most = room.saturating_add(1).min(wanted.saturating_add(1).saturating_mul(STEPS));
        for step in 0..most {
            let Some(token) = self.next(&read, known.take(), sequence.len() + step, draws)? else { break };
            let TokenBytes::Text(bytes) = translation.drafter().token(token) else {
                // A mark: what was written is complete, and perhaps the expert knows the mark too.
                tokens.extend(translation.map().to_expert(token));
                tokens.truncate(wanted);
                return Ok(tokens);
            };
            text.extend_from_slice(bytes);
            read.push(token);
            let Some(follow) = translation.follow(sequence, &text) else {
                // The expert cannot say what came last; what came before stands.
                return Ok(tokens);
            };
            tokens = follow;
            if tokens.len() > wanted {
                tokens.truncate(wanted);
                return Ok(tokens);
            }
        }
        tokens.pop();
        Ok(tokens)
    }

    /// Where the sequence ends within a word, its last token is seldom one that the model knows there. So this gives way
    /// to the most probable one that begins with its bytes, and what that has more is the beginning of the draft. Also
    /// gives the row after the sequence, if that stays as it was.
    fn mend(
        &mut self,
        sequence: &[TokenId],
        read: &mut [TokenId],
    ) -> Result<(Vec<u8>, Option<Vec<f32>>), ModelError> {
        let translation = self.transcriber.translation().clone();
        let (drafter, expert) = (translation.drafter(), translation.expert());
        let (Some((last, before)), Some(said)) = (read.split_last(), sequence.last()) else {
            return Ok((Vec::new(), None));
        };
        let (Some(bytes), Some(said)) = (drafter.token(*last).text(), expert.token(*said).text()) else {
            return Ok((Vec::new(), None));
        };
        if before.is_empty() {
            return Ok((Vec::new(), None));
        }
        let logits = self.model.logits(read, 2)?;
        let (row, after) = (logits.row(0), logits.row(1).to_vec());
        let longer = (0..).zip(drafter.tokens()).filter_map(|(token, text)| {
            let more = text.text()?.strip_prefix(bytes).filter(|more| !more.is_empty())?;
            Some((token, more, row.get(token as usize)?))
        });
        let best = longer.max_by(|a, b| a.2.total_cmp(b.2));
        // What the expert has a token for, it would have said.
        let is_open = |more: &[u8]| expert.find(&[said, more].concat()).is_none();
        match best {
            Some((token, more, logit)) if *logit > row[*last as usize] && is_open(more) => {
                let (more, end) = (more.to_vec(), read.len() - 1);
                read[end] = token;
                Ok((more, None))
            }
            _ => Ok((Vec::new(), Some(after))),
        }
    }

    /// What the model writes next, by its row if that is known; `None` where the row leaves nothing.
    fn next(
        &mut self,
        read: &[TokenId],
        known: Option<Vec<f32>>,
        position: usize,
        draws: &mut dyn Draws,
    ) -> Result<Option<TokenId>, ModelError> {
        let row = match known {
            Some(row) => row,
            None if self.sampler.is_greedy() => {
                return match self.model.argmax(read, 1) {
                    Err(ModelError::Logits(LogitsError::NothingLeft { .. })) => Ok(None),
                    best => Ok(best?.pop()),
                };
            }
            None => self.model.logits(read, 1)?.row(0).to_vec(),
        };
        match self.sampler.scores(&Context::new(read, 0), &row) {
            Err(LogitsError::NothingLeft { .. }) => Ok(None),
            scores => Ok(Some(draws.pick(position, Purpose::Draft, scores?.probs()))),
        }
    }
}

impl Drafter for TextDrafter {
    fn name(&self) -> &str {
        &self.name
    }

    fn vocab_size(&self) -> Option<usize> {
        Some(self.transcriber.translation().expert().tokens().len())
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        Some(self.transcriber.translation().expert().vocabulary())
    }

    fn prepare(&mut self, sequence: &[TokenId]) -> Result<(), ModelError> {
        match self.read(sequence) {
            Some(read) => self.model.logits(&read, 0).map(drop),
            None => Ok(()),
        }
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let wanted = request.max + usize::from(request.score_after);
        if wanted == 0 {
            return Ok(Proposal::empty());
        }
        let mut tokens = self.write(sequence, wanted, draws)?;
        let known = |token: &TokenId| (*token as usize) < request.vocab;
        tokens.truncate(tokens.iter().take_while(|token| known(token)).count());
        let scores = tokens.iter().map(|&token| Scores::point(token, request.vocab)).collect();
        tokens.truncate(request.max);
        Ok(Proposal { tokens, scores })
    }
}
