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

    /// Of what was read after the first `start` tokens, keeps what stands at the ascending indices `path` from there on,
    /// one after the other, and forgets the rest: a path of a tree. Less may be kept, which is then read again; by
    /// default it is what stands in its place already.
    fn keep_path(&mut self, start: usize, path: &[usize]) {
        let in_place = path.iter().enumerate().take_while(|(place, index)| place == *index).count();
        self.truncate(start + in_place);
    }
}

/// Tokens that may follow a sequence, as a tree.
///
/// # Shapes
///
/// An entry of `parents` for each token.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Tree<'a> {
    /// The tokens.
    pub tokens: &'a [TokenId],
    /// The token before each, an earlier one of the list; `None` is the end of the sequence.
    pub parents: &'a [Option<usize>],
}

impl Tree<'_> {
    /// How many tokens of the tree come before each.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tree`]: not as many parents as tokens, or one that does not come before its child.
    pub fn depths(&self) -> Result<Vec<usize>, ModelError> {
        let (tokens, parents) = (self.tokens.len(), self.parents.len());
        if tokens != parents {
            let message = format!("{tokens} tokens have {parents} parents; one a token is needed");
            return Err(ModelError::Tree { message });
        }
        let mut depths: Vec<usize> = Vec::with_capacity(tokens);
        for (index, parent) in self.parents.iter().enumerate() {
            match parent.map(|parent| depths.get(parent)) {
                None => depths.push(0),
                Some(Some(depth)) => depths.push(depth + 1),
                Some(None) => {
                    let message = format!("token {index} comes before its parent; parents come first");
                    return Err(ModelError::Tree { message });
                }
            }
        }
        Ok(depths)
    }
}

/// Tokens of one sequence, to be read after what its cache holds.
///
/// A chunk of a prompt, a decode step and a verify pass are all just segments, and one forward takes
/// any number of them.
#[derive(Debug)]
pub struct Segment<'a, C> {
    /// The tokens to read.
    pub tokens: &'a [TokenId],
    /// The token of the segment before each, where they are a tree and not one after the other; `None` is what the
    /// cache holds. Only for models that [read trees](LanguageModel::reads_trees).
    pub parents: Option<&'a [Option<usize>]>,
    /// For how many of the last tokens logits are wanted.
    pub rows: usize,
    /// What was read before; grows by `tokens`.
    pub cache: &'a mut C,
}

impl<'a, C: KvCache> Segment<'a, C> {
    /// Tokens one after the other.
    pub fn new(tokens: &'a [TokenId], rows: usize, cache: &'a mut C) -> Self {
        Self { tokens, parents: None, rows, cache }
    }

    /// The tokens as a tree; `None` where they come one after the other.
    pub fn tree(&self) -> Option<Tree<'a>> {
        self.parents.map(|parents| Tree { tokens: self.tokens, parents })
    }

    /// How many tokens the longest sequence has that ends within the segment, those before it included.
    ///
    /// # Errors
    ///
    /// As [`Tree::depths`].
    pub fn length(&self) -> Result<usize, ModelError> {
        let depth = match self.tree() {
            Some(tree) => tree.depths()?.into_iter().max().map_or(0, |depth| depth + 1),
            None => self.tokens.len(),
        };
        Ok(self.cache.len() + depth)
    }

    /// Checks what every model must check before it reads a segment.
    ///
    /// # Errors
    ///
    /// No tokens, a token outside the vocabulary, more rows than tokens, no room in the context, or parents that are no
    /// tree.
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
        let length = self.length()?;
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

    /// Whether segments may have [`parents`](Segment::parents). Their tokens then see those before them on their own path
    /// alone, and stand at the positions they would have without the rest of the tree.
    fn reads_trees(&self) -> bool {
        false
    }

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
        let mut step = [Segment::new(tokens, 1, &mut *cache)];
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
