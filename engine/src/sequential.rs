//! Cascades without speculation: what speculative cascades are measured against.

use crate::{
    Error, ErrorKind, Finish, Provenance, SessionOptions, check_pair,
    emit::{Emitter, Ends},
    session::sampling,
    watch::Watch,
};
use drafthorse_logits::{Context, Draws, Memory, Purpose, Sampler, Scores, SeededDraws, TokenId};
use drafthorse_model::{CachedModel, Detokenizer, LanguageModel, ModelError, SequenceModel};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// When a sequential cascade asks the expert.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum SequentialRule {
    /// For each token: asks where the drafter's highest probability (at temperature 1) is below
    /// `1 - lenience`, before the expert is run. Lenience 1 is the drafter alone, below 0 the expert alone.
    ///
    /// Source: Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, Algorithm 1 with
    /// Equation 2 (Chow).
    Token {
        /// The dial.
        lenience: f64,
    },
    /// For the whole text: the drafter writes it, and the expert writes it anew where the geometric mean of
    /// the drafter's probabilities of its own tokens (at temperature 1) is below `threshold`. 0 is the
    /// drafter alone, above 1 the expert alone.
    ///
    /// Source: Jitkrittum et al., "When does confidence-based cascade deferral suffice?", 2023, with the
    /// length-normalised confidence usual for texts.
    Sequence {
        /// The dial.
        threshold: f64,
    },
}

/// The numbers of a text by a sequential cascade.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SequentialStats {
    /// Tokens of the text.
    pub emitted: u64,
    /// Of them, tokens by the expert.
    pub deferred: u64,
    /// Passes of the expert after the prompt.
    pub expert_passes: u64,
    /// Tokens the expert read after the prompt, those it had to catch up with among them.
    pub expert_rows: u64,
    /// Passes of the drafter after the prompt.
    pub drafter_passes: u64,
    /// Time to read the prompt, by drafter and expert.
    pub prompt_time: Duration,
    /// Time of the drafter's passes.
    pub draft_time: Duration,
    /// Time of the expert's passes.
    pub expert_time: Duration,
    /// Time of everything after the prompt.
    pub decode_time: Duration,
}

impl SequentialStats {
    /// deferred / emitted: the share of the text that is the expert's. `None` of an empty text.
    pub fn deferral_rate(&self) -> Option<f64> {
        (self.emitted > 0).then(|| self.deferred as f64 / self.emitted as f64)
    }
}

/// A text by a sequential cascade.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SequentialText {
    /// Its tokens, the stop token that ended it among them.
    pub tokens: Vec<TokenId>,
    /// Its text; empty without a detokenizer.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Its numbers.
    pub stats: SequentialStats,
}

/// A drafter and an expert that write in turns, one of them at a time.
///
/// ```
/// use drafthorse_engine::{SequentialCascade, SequentialRule, SessionOptions};
/// use drafthorse_model::TableModel;
/// use std::sync::Arc;
///
/// let [expert, drafter] = [1, 2].map(|seed| Arc::new(TableModel::random(5, 2.0, seed)));
/// let mut cascade = SequentialCascade::new(expert, drafter)?;
/// let options = SessionOptions { max_tokens: 20, ..Default::default() };
/// let text = cascade.generate(&[1, 2], &options, SequentialRule::Token { lenience: 0.5 })?;
/// assert_eq!(text.tokens.len(), 20);
/// assert_eq!(text.stats.deferred, text.stats.expert_passes);
/// # Ok::<(), drafthorse_engine::Error>(())
/// ```
pub struct SequentialCascade {
    expert: Box<dyn SequenceModel>,
    drafter: Box<dyn SequenceModel>,
    detokenizer: Option<Arc<dyn Detokenizer>>,
}

impl std::fmt::Debug for SequentialCascade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SequentialCascade over a vocabulary of {}", self.expert.vocab_size())
    }
}

impl SequentialCascade {
    /// A cascade of these two.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Vocabulary`]: they do not speak of the same tokens.
    pub fn new<E: LanguageModel, D: LanguageModel>(expert: Arc<E>, drafter: Arc<D>) -> Result<Self, Error> {
        let draft = (drafter.vocab_size(), drafter.vocabulary());
        check_pair(draft, (expert.vocab_size(), expert.vocabulary()))?;
        let (expert, drafter) = (Box::new(CachedModel::new(expert)), Box::new(CachedModel::new(drafter)));
        Ok(Self { expert, drafter, detokenizer: None })
    }

    /// The same cascade with something that turns tokens into text.
    #[must_use]
    pub fn with_detokenizer(mut self, detokenizer: impl Detokenizer + 'static) -> Self {
        self.detokenizer = Some(Arc::new(detokenizer));
        self
    }

    /// Writes a text. Of the options, draft length and acceptance rule are of no use here.
    ///
    /// # Errors
    ///
    /// An empty prompt or one without room in the expert's context, no tokens asked for, a constraint, a guide,
    /// log-probabilities, confidences, drift or abstention, stop strings without a detokenizer, sampling options out of
    /// range, mirostat, a model that fails.
    pub fn generate(
        &mut self,
        prompt: &[TokenId],
        options: &SessionOptions,
        rule: SequentialRule,
    ) -> Result<SequentialText, Error> {
        self.generate_with(prompt, options, rule, &mut SeededDraws::new(options.seed, 1))
    }

    /// As [`generate`](Self::generate), with random decisions from elsewhere than the seed.
    ///
    /// Tokens of the text are drawn for [`Purpose::Target`], as those of plain decoding: where only one of
    /// the two writes, the text is that of its plain decoding. A text the expert may write anew is drawn
    /// for [`Purpose::Draft`], so that the new one does not hang on it.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate).
    pub fn generate_with(
        &mut self,
        prompt: &[TokenId],
        options: &SessionOptions,
        rule: SequentialRule,
        draws: &mut dyn Draws,
    ) -> Result<SequentialText, Error> {
        self.check(prompt, options)?;
        let mut writer = Writer::new(self, prompt, options)?;
        writer.read_prompt()?;
        let start = Instant::now();
        match rule {
            SequentialRule::Token { lenience } => writer.by_token(lenience, draws)?,
            SequentialRule::Sequence { threshold } => writer.by_sequence(options, threshold, draws)?,
        }
        writer.stats.decode_time = start.elapsed();
        Ok(writer.finish())
    }

    fn check(&self, prompt: &[TokenId], options: &SessionOptions) -> Result<(), Error> {
        let (length, context) = (prompt.len(), self.expert.context_len());
        let problem = if prompt.is_empty() {
            "the prompt is empty; a model needs at least one token to begin with".to_owned()
        } else if length >= context {
            format!(
                "a prompt of {length} tokens leaves no room in the expert's context of {context}; shorten it to {} or fewer",
                context - 1
            )
        } else {
            return self.check_options(options);
        };
        Err(Error::new(ErrorKind::Prompt, problem))
    }

    fn check_options(&self, options: &SessionOptions) -> Result<(), Error> {
        let message = if options.constraint.is_some() {
            "a sequential cascade follows no constraint; use a session"
        } else if options.guide.is_some() {
            "a sequential cascade has no guidance by a negative prompt; use a session"
        } else if options.log_probs.is_some() {
            "a sequential cascade gives no log-probabilities; use a session"
        } else if options.max_tokens == 0 {
            "max tokens is 0; at least 1 is needed"
        } else if !options.stop_strings.is_empty() && self.detokenizer.is_none() {
            "stop strings need text, and this cascade has no detokenizer; use stop tokens"
        } else {
            return Watch::refuse(options, "a sequential cascade");
        };
        Err(Error::new(ErrorKind::Option, message))
    }
}

/// A text in the making.
struct Writer<'a> {
    cascade: &'a mut SequentialCascade,
    sampler: Sampler,
    emitter: Emitter,
    sequence: Vec<TokenId>,
    prompt: usize,
    /// How much of the sequence the expert has read.
    read: usize,
    text: String,
    finish: Option<Finish>,
    stats: SequentialStats,
}

impl<'a> Writer<'a> {
    fn new(
        cascade: &'a mut SequentialCascade,
        prompt: &[TokenId],
        options: &SessionOptions,
    ) -> Result<Self, Error> {
        let plain = Sampler::new(&sampling(options))?.seeded(options.seed);
        if plain.memory() != Memory::off() {
            let message =
                "mirostat follows the surprises of one model, and two write here; use top-p or min-p";
            return Err(Error::new(ErrorKind::Option, message));
        }
        let sampler = options.processors.iter().cloned().fold(plain, Sampler::with_processor);
        sampler.check_vocabulary(cascade.expert.vocab_size())?;
        Ok(Self {
            emitter: emitter(cascade, prompt, options),
            cascade,
            sampler,
            sequence: prompt.to_vec(),
            prompt: prompt.len(),
            read: prompt.len() - 1,
            text: String::new(),
            finish: None,
            stats: SequentialStats::default(),
        })
    }

    /// All but the last token, as sessions do.
    fn read_prompt(&mut self) -> Result<(), Error> {
        let start = Instant::now();
        let ahead = &self.sequence[..self.prompt - 1];
        if !ahead.is_empty() {
            self.cascade.expert.logits(ahead, 0).map_err(Error::expert)?;
            if drafter_reads(&*self.cascade.drafter, ahead) {
                self.cascade.drafter.logits(ahead, 0).map_err(drafter_error)?;
            }
        }
        self.stats.prompt_time = start.elapsed();
        Ok(())
    }

    fn by_token(&mut self, lenience: f64, draws: &mut dyn Draws) -> Result<(), Error> {
        while self.finish.is_none() {
            let draft = self.draft_scores()?.filter(|draft| draft.raw().max().1 >= 1.0 - lenience);
            self.token(draft, draws)?;
        }
        Ok(())
    }

    fn by_sequence(
        &mut self,
        options: &SessionOptions,
        threshold: f64,
        draws: &mut dyn Draws,
    ) -> Result<(), Error> {
        let mut log_probability = 0.0;
        while self.finish.is_none() {
            // A drafter whose context is full has no answer to be sure of.
            let Some(draft) = self.draft_scores()? else { break };
            let token = draws.pick(self.sequence.len(), Purpose::Draft, draft.probs());
            log_probability += draft.raw().get(token).ln();
            self.emit(token, Provenance::Drafted)?;
        }
        let written = (self.sequence.len() - self.prompt) as f64;
        if self.finish.is_some() && (log_probability / written).exp() >= threshold {
            return Ok(());
        }
        self.sequence.truncate(self.prompt);
        self.text.clear();
        self.finish = None;
        self.emitter = emitter(self.cascade, &self.sequence, options);
        while self.finish.is_none() {
            self.token(None, draws)?;
        }
        Ok(())
    }

    /// The next token: the drafter's, or the expert's where the drafter is not to be trusted.
    fn token(&mut self, draft: Option<Scores>, draws: &mut dyn Draws) -> Result<(), Error> {
        let (scores, origin) = match draft {
            Some(draft) => (draft, Provenance::Drafted),
            None => (self.expert_scores()?, Provenance::Bonus),
        };
        self.stats.deferred += u64::from(origin == Provenance::Bonus);
        let token = draws.pick(self.sequence.len(), Purpose::Target, scores.probs());
        self.emit(token, origin)
    }

    /// `None` where the drafter cannot read the sequence.
    fn draft_scores(&mut self) -> Result<Option<Scores>, Error> {
        if !drafter_reads(&*self.cascade.drafter, &self.sequence) {
            return Ok(None);
        }
        let start = Instant::now();
        let logits = self.cascade.drafter.logits(&self.sequence, 1).map_err(drafter_error)?;
        let mut row = logits.row(0).to_vec();
        row.resize(self.cascade.expert.vocab_size(), f32::NEG_INFINITY);
        self.stats.drafter_passes += 1;
        self.stats.draft_time += start.elapsed();
        self.scores(&row).map(Some)
    }

    fn expert_scores(&mut self) -> Result<Scores, Error> {
        let start = Instant::now();
        let logits = self.cascade.expert.logits(&self.sequence, 1).map_err(Error::expert)?;
        self.stats.expert_passes += 1;
        self.stats.expert_rows += (self.sequence.len() - self.read) as u64;
        self.read = self.sequence.len();
        self.stats.expert_time += start.elapsed();
        self.scores(logits.row(0))
    }

    fn scores(&self, row: &[f32]) -> Result<Scores, Error> {
        let context = Context::new(&self.sequence, self.prompt);
        let scores = self.sampler.scores(&context, row);
        scores.map_err(|error| Error::expert(ModelError::Logits(error)))
    }

    fn emit(&mut self, token: TokenId, provenance: Provenance) -> Result<(), Error> {
        let emitted = self.emitter.emit(&[(token, provenance)], Ends::default());
        if let Some(error) = emitted.error {
            return Err(error);
        }
        self.sequence.push(token);
        self.text += &emitted.text;
        self.finish = emitted.finish;
        Ok(())
    }

    fn finish(mut self) -> SequentialText {
        let tokens = self.sequence.split_off(self.prompt);
        self.stats.emitted = tokens.len() as u64;
        let finish = self.finish.unwrap_or(Finish::MaxTokens);
        SequentialText { tokens, text: self.text, finish, stats: self.stats }
    }
}

fn emitter(cascade: &SequentialCascade, prompt: &[TokenId], options: &SessionOptions) -> Emitter {
    let room = cascade.expert.context_len() - prompt.len();
    let (left, limit) = if options.max_tokens <= room {
        (options.max_tokens, Finish::MaxTokens)
    } else {
        (room, Finish::ContextEnd)
    };
    let decoder = cascade.detokenizer.as_ref().map(|detokenizer| detokenizer.text_after(prompt));
    Emitter::new(decoder, options.stop_strings.clone(), options.stop_tokens.clone(), left, limit)
}

fn drafter_reads(drafter: &dyn SequenceModel, sequence: &[TokenId]) -> bool {
    let known = drafter.vocab_size();
    sequence.len() <= drafter.context_len() && sequence.iter().all(|&token| (token as usize) < known)
}

fn drafter_error(error: ModelError) -> Error {
    Error::drafter("model", error)
}
