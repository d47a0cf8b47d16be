//! A model that drafts for itself by leaving after some of its layers.

use super::{
    Transformer, guarded,
    memory::{Halves, Memory, RowsRead},
    rows,
};
use crate::{
    KvCache, LanguageModel, ModelError, Segment, Shortcut, Vocabulary,
    language_model::{answer_rows, greedy_steps},
};
use burn::tensor::{Int, Tensor};
use drafthorse_kernels::argmax_of;
use drafthorse_logits::{Logits, RowAnswer, RowQuestion, TokenId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A model with an exit after one of its layers: the drafter leaves there, through the model's own norm and head, and
/// the expert goes on from there.
///
/// Both share weights, keys, values and the states at the exit: a row that was drafted goes through the layers after the
/// exit alone when it is verified. What either says depends on its text and nothing else. To the bit on the CPU, the
/// expert is the model.
///
/// The first cache of the expert and the first of the drafter share a memory; others have one of their own. So make one
/// for each engine: it costs no weights.
///
/// Source: Elhoushi et al., "`LayerSkip`", 2024, section 4.3.
pub struct EarlyExit {
    expert: Arc<ExitReader>,
    drafter: Arc<ExitReader>,
    memory: Arc<Mutex<Memory>>,
}

impl std::fmt::Debug for EarlyExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EarlyExit {{ {:?} }}", self.expert)
    }
}

impl EarlyExit {
    /// Leaves `model` after this many of its layers.
    ///
    /// # Errors
    ///
    /// It has no exit there.
    pub fn new(model: &Transformer, layer: usize) -> Result<Self, ModelError> {
        let first = model.shortened(&Shortcut::Exit(layer))?;
        let rest: Vec<_> = (layer + 1..=model.config.layers).collect();
        let halves = Arc::new(Halves { first, rest: model.with_layers(&rest) });
        let memory = Arc::new(Mutex::new(Memory::new(&halves)));
        let reader = |whole| {
            let (halves, memory) = (halves.clone(), memory.clone());
            Arc::new(ExitReader { halves, whole, memory, lent: Mutex::default() })
        };
        Ok(Self { expert: reader(true), drafter: reader(false), memory })
    }

    /// The whole model.
    pub fn expert(&self) -> Arc<ExitReader> {
        self.expert.clone()
    }

    /// The model up to its exit.
    pub fn drafter(&self) -> Arc<ExitReader> {
        self.drafter.clone()
    }

    /// How many rows went through the layers so far, in the memory that expert and drafter share.
    pub fn rows_read(&self) -> RowsRead {
        lock(&self.memory).read
    }
}

/// A model with an exit, read to its end or up to the exit.
pub struct ExitReader {
    halves: Arc<Halves>,
    whole: bool,
    memory: Arc<Mutex<Memory>>,
    /// Who has the memory; nobody once that cache is gone.
    lent: Mutex<Weak<()>>,
}

impl std::fmt::Debug for ExitReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, rest) = (self.halves.first.config.layers, self.halves.rest.config.layers);
        let part = if self.whole { "the whole of" } else { "the exit of" };
        write!(f, "ExitReader {{ {part} {} layers, exit after {first} }}", first + rest)
    }
}

/// The tokens that one reader has read; keys and values are in a memory that it may share.
pub struct ExitCache {
    tokens: Vec<TokenId>,
    memory: Arc<Mutex<Memory>>,
    _lease: Arc<()>,
}

impl std::fmt::Debug for ExitCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExitCache {{ {} tokens }}", self.tokens.len())
    }
}

impl KvCache for ExitCache {
    fn len(&self) -> usize {
        self.tokens.len()
    }

    fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
    }
}

/// A reader that broke off left a memory that mends itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ExitReader {
    /// Logits after each of the last `rows` tokens of `text`, on the device.
    fn logits(
        &self,
        memory: &mut Memory,
        text: &[TokenId],
        ids: Option<Tensor<1, Int>>,
        rows: usize,
    ) -> Option<Tensor<2>> {
        let states = if self.whole {
            memory.at_end(&self.halves, text, ids, rows)
        } else {
            memory.at_exit(&self.halves, text, ids, rows)
        };
        states.map(|states| self.halves.first.head(states))
    }

    /// Reads a segment with the memory of its cache, on the device's own stream; `work` gets all tokens, and may add
    /// some.
    fn read<T: Send>(
        &self,
        segment: &mut Segment<'_, ExitCache>,
        work: impl FnOnce(&mut Memory, &mut Vec<TokenId>) -> Result<T, ModelError> + Send,
    ) -> Result<T, ModelError> {
        segment.check(self.vocab_size(), self.context_len())?;
        let ExitCache { tokens, memory, .. } = &mut *segment.cache;
        let before = tokens.len();
        tokens.extend_from_slice(segment.tokens);
        let (mut memory, text) = (lock(memory), &mut *tokens);
        let held = &mut *memory;
        let out = self.halves.first.device.run(|| guarded(|| work(held, text)));
        if out.is_err() {
            tokens.truncate(before);
            memory.truncate(0);
        }
        out
    }

    /// [`continue_greedily`](LanguageModel::continue_greedily) with one synchronisation; `None` where a row looks
    /// unusable.
    fn chain(
        &self,
        memory: &mut Memory,
        text: &mut Vec<TokenId>,
        count: usize,
    ) -> Result<Option<Vec<TokenId>>, ModelError> {
        let known = text.len();
        // What is held of a text that goes on must not be taken for tokens whose names are not known yet.
        memory.truncate(known);
        let (mut next, mut found) = (None, Vec::with_capacity(count));
        for _ in 0..count {
            if next.is_some() {
                // Which token it is the device knows; here only their number counts.
                text.push(0);
            }
            let Some(logits) = self.logits(memory, text, next.take(), 1) else { return Ok(None) };
            let statistics = rows::statistics(logits, &[RowQuestion::default()], 1.0);
            next = Some(argmax_of(&statistics));
            found.push(statistics);
        }
        let said = rows::greedy(Tensor::cat(found, 0))?;
        text.truncate(known);
        let Some(said) = said else {
            memory.truncate(0);
            return Ok(None);
        };
        text.extend_from_slice(&said[..count - 1]);
        memory.name(text);
        Ok(Some(said))
    }
}

impl LanguageModel for ExitReader {
    type Cache = ExitCache;

    fn vocab_size(&self) -> usize {
        self.halves.first.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.halves.first.context_len()
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.halves.first.vocabulary()
    }

    fn new_cache(&self) -> ExitCache {
        let lease = Arc::new(());
        let mut lent = lock(&self.lent);
        let memory = if lent.strong_count() == 0 {
            *lent = Arc::downgrade(&lease);
            self.memory.clone()
        } else {
            Arc::new(Mutex::new(Memory::new(&self.halves)))
        };
        ExitCache { tokens: Vec::new(), memory, _lease: lease }
    }

    fn forward(&self, segments: &mut [Segment<'_, ExitCache>]) -> Result<Vec<Logits>, ModelError> {
        let vocab = self.vocab_size();
        let mut out = Vec::with_capacity(segments.len());
        for segment in segments {
            let count = segment.rows;
            out.extend(self.read(segment, |memory, text| {
                rows::read(self.logits(memory, text, None, count), &[count], vocab)
            })?);
        }
        Ok(out)
    }

    fn keeps_rows(&self) -> bool {
        self.halves.first.keeps_rows()
    }

    fn answer(
        &self,
        segments: &mut [Segment<'_, ExitCache>],
        questions: &[RowQuestion],
        temperature: f32,
    ) -> Result<Vec<RowAnswer>, ModelError> {
        match segments {
            [segment] if self.keeps_rows() => {
                let count = segment.rows;
                self.read(segment, |memory, text| {
                    rows::answer(self.logits(memory, text, None, count), questions, temperature)
                })
            }
            _ => Ok(answer_rows(&self.forward(segments)?, questions, temperature)?),
        }
    }

    fn continue_greedily(
        &self,
        mut segment: Segment<'_, ExitCache>,
        count: usize,
    ) -> Result<Vec<TokenId>, ModelError> {
        if self.keeps_rows() && count > 1 {
            let (before, context) = (segment.cache.len(), self.context_len());
            let length = before + segment.tokens.len() + count - 1;
            if length > context {
                return Err(ModelError::ContextFull { length, context });
            }
            if let Some(said) = self.read(&mut segment, |memory, text| self.chain(memory, text, count))? {
                return Ok(said);
            }
            // Step by step it turns out what is wrong.
            segment.cache.truncate(before);
        }
        greedy_steps(self, segment, count)
    }
}
