//! A language model that counts: what followed the last tokens in a text it was given.

use drafthorse::{
    LanguageModel, ModelError, TokenId,
    logits::Logits,
    model::{KvCache, Segment},
};
use std::collections::HashMap;

/// The most tokens it looks back.
const ORDER: usize = 16;

pub(crate) struct CountModel {
    vocab: usize,
    counts: HashMap<Vec<TokenId>, HashMap<TokenId, u32>>,
}

impl CountModel {
    /// With rows of `vocab` logits.
    pub(crate) fn of(texts: &[Vec<TokenId>], vocab: usize) -> Self {
        let mut counts: HashMap<Vec<TokenId>, HashMap<TokenId, u32>> = HashMap::new();
        for text in texts {
            for (at, &next) in text.iter().enumerate() {
                for start in at.saturating_sub(ORDER)..=at {
                    *counts.entry(text[start..at].to_vec()).or_default().entry(next).or_default() += 1;
                }
            }
        }
        Self { vocab, counts }
    }

    /// The counts after the longest known end of `sequence`; all else is improbable.
    fn row(&self, sequence: &[TokenId]) -> Vec<f32> {
        let mut row = vec![-12.0; self.vocab];
        let ends = (sequence.len().saturating_sub(ORDER)..=sequence.len()).map(|start| &sequence[start..]);
        for (&token, &count) in ends.into_iter().find_map(|end| self.counts.get(end)).into_iter().flatten() {
            row[token as usize] = (count as f32).ln();
        }
        row
    }
}

#[derive(Default)]
pub(crate) struct Read(Vec<TokenId>);

impl KvCache for Read {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

impl LanguageModel for CountModel {
    type Cache = Read;

    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn context_len(&self) -> usize {
        4096
    }

    fn new_cache(&self) -> Read {
        Read::default()
    }

    fn forward(&self, segments: &mut [Segment<'_, Read>]) -> Result<Vec<Logits>, ModelError> {
        let read = |segment: &mut Segment<'_, Read>| {
            segment.check(self.vocab, self.context_len())?;
            segment.cache.0.extend_from_slice(segment.tokens);
            let text = &segment.cache.0;
            let ends = text.len() - segment.rows + 1..=text.len();
            Ok(Logits::new(ends.flat_map(|end| self.row(&text[..end])).collect(), self.vocab))
        };
        segments.iter_mut().map(read).collect()
    }
}
