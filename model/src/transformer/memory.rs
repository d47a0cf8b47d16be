//! Keys and values of a model that reads its first layers before the others.

use super::{
    Transformer, TransformerCache,
    forward::{commit, wanted},
};
use crate::{KvCache, LanguageModel, Segment};
use burn::tensor::{Int, Tensor, s};
use drafthorse_logits::TokenId;

/// A model in two parts, which share its weights.
pub(super) struct Halves {
    /// The layers before the exit.
    pub(super) first: Transformer,
    /// Those after it.
    pub(super) rest: Transformer,
}

/// How many rows went through the layers of a model with an early exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct RowsRead {
    /// Through the layers before the exit.
    pub first: u64,
    /// Through those after it.
    pub rest: u64,
}

/// What was read: all of it by the first layers, its beginning by the others too.
///
/// Whoever reads gives the whole text; what is held of another is forgotten. So two readers can share a memory: what
/// they get depends on their own text alone.
pub(super) struct Memory {
    first: TransformerCache,
    rest: TransformerCache,
    tokens: Vec<TokenId>,
    /// States at the exit of the tokens that the rest has not read, `[rows, hidden_size]`.
    states: Option<Tensor<2>>,
    pub(super) read: RowsRead,
}

impl Memory {
    pub(super) fn new(halves: &Halves) -> Self {
        Self {
            first: halves.first.new_cache(),
            rest: halves.rest.new_cache(),
            tokens: Vec::new(),
            states: None,
            read: RowsRead::default(),
        }
    }

    /// Forgets all but the first `len` tokens.
    pub(super) fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.first.truncate(len);
        self.rest.truncate(len);
        let waiting = self.tokens.len() - self.rest.len();
        self.states = self.states.take().filter(|_| waiting > 0).map(|states| rows(&states, 0, waiting));
    }

    /// Gives tokens, of which only the number was known as they were read, their names.
    pub(super) fn name(&mut self, text: &[TokenId]) {
        self.tokens.clear();
        self.tokens.extend_from_slice(text);
    }

    /// The states of the last `count` tokens of `text` at the exit, `[rows, hidden_size]`; `None` for no rows.
    ///
    /// `ids` is the last token where only the device knows it; all before it must have been read.
    pub(super) fn at_exit(
        &mut self,
        halves: &Halves,
        text: &[TokenId],
        ids: Option<Tensor<1, Int>>,
        count: usize,
    ) -> Option<Tensor<2>> {
        let (common, end) = (self.keep_common(text), text.len());
        // States that have gone on are no longer here: such rows are read again, to the same keys and values.
        let gone = count > 0 && end - count < self.rest.len();
        if gone {
            self.truncate(end);
        }
        let (at, start) = (self.rest.len(), if gone { end - count } else { common });
        if start < end {
            let new = self.read_first(halves, &text[start..], ids, start);
            self.states = match self.states.take() {
                _ if start < at => (end > at).then(|| rows(&new, at - start, end - at)),
                None => Some(new.clone()),
                Some(old) => Some(Tensor::cat(vec![old, new.clone()], 0)),
            };
            self.name(text);
            if start <= end - count {
                return (count > 0).then(|| rows(&new, end - count - start, count));
            }
        }
        let states = self.states.as_ref().filter(|_| count > 0)?;
        Some(rows(states, end - count - at, count))
    }

    /// The states of the last `rows` tokens of `text` after all layers, `[rows, hidden_size]`; `None` for no rows.
    ///
    /// Rows whose states at the exit are here go through the rest alone.
    pub(super) fn at_end(
        &mut self,
        halves: &Halves,
        text: &[TokenId],
        ids: Option<Tensor<1, Int>>,
        rows: usize,
    ) -> Option<Tensor<2>> {
        self.keep_common(text);
        if rows > 0 && text.len() - rows < self.rest.len() {
            self.truncate(text.len() - rows);
        }
        let waiting = text.len().checked_sub(self.rest.len()).filter(|waiting| *waiting > 0)?;
        self.at_exit(halves, text, ids, 0);
        let states = self.states.take()?;
        let x = self::rows(&states, 0, waiting);
        let more = states.dims()[0] - waiting;
        self.states = (more > 0).then(|| self::rows(&states, waiting, more));
        let tokens = &text[self.rest.len()..];
        let mut segment = [Segment::new(tokens, rows, &mut self.rest)];
        let x = halves.rest.through(x, &mut segment, |_, _, _| {});
        let x = wanted(&x, &segment);
        commit(&mut segment);
        self.read.rest += tokens.len() as u64;
        x
    }

    /// Forgets what is not of `text`; how much of it is held. What goes on after it stays, so that a reader that lags
    /// behind takes nothing from one that is ahead.
    fn keep_common(&mut self, text: &[TokenId]) -> usize {
        let held = self.first.len().min(self.tokens.len());
        let waiting = held.checked_sub(self.rest.len());
        // In a cache a forward broke off, and it is empty: nothing can be continued.
        if held < self.tokens.len()
            || waiting != Some(self.states.as_ref().map_or(0, |states| states.dims()[0]))
        {
            self.truncate(0);
        }
        let common = self.tokens.iter().zip(text).take_while(|(a, b)| a == b).count();
        if common < text.len() {
            self.truncate(common);
        }
        common
    }

    /// The first layers read `tokens` after `start` others; their states.
    fn read_first(
        &mut self,
        halves: &Halves,
        tokens: &[TokenId],
        ids: Option<Tensor<1, Int>>,
        start: usize,
    ) -> Tensor<2> {
        self.first.truncate(start);
        let mut segment = [Segment::new(tokens, 0, &mut self.first)];
        let ids = ids.unwrap_or_else(|| halves.first.ids(&segment));
        let x = halves.first.hidden(ids, &mut segment, |_, _, _| {});
        commit(&mut segment);
        self.read.first += tokens.len() as u64;
        x
    }
}

/// `count` rows from `start`.
fn rows(x: &Tensor<2>, start: usize, count: usize) -> Tensor<2> {
    let all = start == 0 && count == x.dims()[0];
    if all { x.clone() } else { x.clone().slice(s![start..start + count, ..]) }
}
