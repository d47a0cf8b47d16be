use crate::{ModelError, Vocabulary};
use drafthorse_logits::{Logits, LogitsError, RowAnswer, RowQuestion, TokenId};

/// What a model remembers of the tokens it has read.
pub trait KvCache: Send {
    /// Number of tokens held.
    fn len(&self) -> usize;

    /// Whether nothing is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all but the first `len` tokens; nothing happens where fewer are held.
    fn truncate(&mut self, len: usize);
}

/// Tokens of one sequence, to be read after what its cache holds.
///
/// A chunk of a prompt, a decode step and a verify pass are all just segments, and one forward takes
/// any number of them.
#[derive(Debug)]
pub struct Segment<'a, C> {
    /// The tokens to read.
    pub tokens: &'a [TokenId],
    /// For how many of the last tokens logits are wanted.
    pub rows: usize,
    /// What was read before; grows by `tokens`.
    pub cache: &'a mut C,
}

impl<C: KvCache> Segment<'_, C> {
    /// Checks what every model must check before it reads a segment.
    ///
    /// # Errors
    ///
    /// No tokens, a token outside the vocabulary, more rows than tokens, or no room in the context.
    pub fn check(&self, vocab: usize, context: usize) -> Result<(), ModelError> {
        if self.tokens.is_empty() {
            return Err(ModelError::EmptySequence);
        }
        if self.rows > self.tokens.len() {
            return Err(ModelError::Rows { rows: self.rows, tokens: self.tokens.len() });
        }
        if let Some(&token) = self.tokens.iter().find(|&&token| token as usize >= vocab) {
            return Err(ModelError::Token { token, vocab });
        }
        let length = self.cache.len() + self.tokens.len();
        if length > context {
            return Err(ModelError::ContextFull { length, context });
        }
        Ok(())
    }
}

/// A causal language model: weights, shared by reference; what was read lives in caches.
pub trait LanguageModel: Send + Sync + 'static {
    /// What it remembers of one sequence.
    type Cache: KvCache;

    /// Number of logits in a row.
    fn vocab_size(&self) -> usize;

    /// The most tokens a sequence may have.
    fn context_len(&self) -> usize;

    /// The text of each token, where it is known.
    fn vocabulary(&self) -> Option<&Vocabulary> {
        None
    }

    /// A cache that holds nothing.
    fn new_cache(&self) -> Self::Cache;

    /// Reads every segment after what its cache holds; one [`Logits`] a segment, a row for each of its
    /// last `rows` tokens.
    ///
    /// # Errors
    ///
    /// What [`Segment::check`] finds, or a failure of the device. After an error the caches may hold
    /// part of the segments; truncate them to their former lengths before they are used again.
    fn forward(&self, segments: &mut [Segment<'_, Self::Cache>]) -> Result<Vec<Logits>, ModelError>;

    /// Whether rows lie where they are dear to read, and [`answer`](Self::answer) leaves them there.
    fn keeps_rows(&self) -> bool {
        false
    }

    /// Reads every segment as [`forward`](Self::forward) does; instead of its rows gives their answers at
    /// a temperature, in the order of the rows.
    ///
    /// # Shapes
    ///
    /// A question for each row of all segments.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward), and rows from which no token can be drawn.
    fn answer(
        &self,
        segments: &mut [Segment<'_, Self::Cache>],
        questions: &[RowQuestion],
        temperature: f32,
    ) -> Result<Vec<RowAnswer>, ModelError> {
        let logits = self.forward(segments)?;
        for (logits, segment) in logits.iter().zip(segments.iter()) {
            check_shape(logits, segment.rows, self.vocab_size())?;
        }
        Ok(answer_rows(&logits, questions, temperature)?)
    }

    /// Reads `segment.tokens`, and then says `count` times the most probable next token (the lowest id
    /// among equals) and reads it, all but the last; `segment.rows` is not looked at.
    ///
    /// # Errors
    ///
    /// As [`answer`](Self::answer). The last of the tokens read must have a place in the context.
    fn continue_greedily(
        &self,
        segment: Segment<'_, Self::Cache>,
        count: usize,
    ) -> Result<Vec<TokenId>, ModelError> {
        greedy_steps(self, segment, count)
    }
}

/// [`LanguageModel::continue_greedily`], one answer after another.
pub(crate) fn greedy_steps<M: LanguageModel + ?Sized>(
    model: &M,
    segment: Segment<'_, M::Cache>,
    count: usize,
) -> Result<Vec<TokenId>, ModelError> {
    let Segment { tokens, cache, .. } = segment;
    let mut out: Vec<TokenId> = Vec::with_capacity(count);
    for _ in 0..count {
        let tokens = out.last().map_or(tokens, std::slice::from_ref);
        let mut step = [Segment { tokens, rows: 1, cache: &mut *cache }];
        let answers = model.answer(&mut step, &[RowQuestion::default()], 0.0)?;
        check_answers(&answers, 1, model.vocab_size())?;
        out.push(answers[0].token);
    }
    Ok(out)
}

/// Whether a model answered what it was asked.
pub(crate) fn check_answers(answers: &[RowAnswer], rows: usize, vocab: usize) -> Result<(), ModelError> {
    if answers.len() != rows {
        let (expected_rows, expected_vocab) = (rows, vocab);
        return Err(ModelError::LogitsShape { rows: answers.len(), vocab, expected_rows, expected_vocab });
    }
    match answers.iter().find(|answer| answer.token as usize >= vocab) {
        Some(&RowAnswer { token, .. }) => Err(ModelError::Token { token, vocab }),
        None => Ok(()),
    }
}

/// Whether a model returned what it was asked for.
pub(crate) fn check_shape(logits: &Logits, rows: usize, vocab: usize) -> Result<(), ModelError> {
    let (found_rows, found_vocab) = (logits.rows(), logits.vocab_size());
    if (found_rows, found_vocab) == (rows, vocab) {
        return Ok(());
    }
    Err(ModelError::LogitsShape {
        rows: found_rows,
        vocab: found_vocab,
        expected_rows: rows,
        expected_vocab: vocab,
    })
}

/// The answers of rows on the host.
pub(crate) fn answer_rows(
    logits: &[Logits],
    questions: &[RowQuestion],
    temperature: f32,
) -> Result<Vec<RowAnswer>, LogitsError> {
    let rows = logits.iter().flat_map(Logits::iter);
    rows.zip(questions).map(|(row, question)| question.answer(row, temperature)).collect()
}
