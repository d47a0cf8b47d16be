use crate::{Probs, TokenId};
use std::sync::OnceLock;

/// What one side, drafter or expert, says about one position.
///
/// [`probs`](Self::probs) is what is sampled: after all processors. [`raw`](Self::raw) is the same
/// row at temperature 1 and unfiltered, after biases and penalties only: deferral rules look at it,
/// because confidence must not depend on how the text is sampled. It is computed on first use, so a
/// rule that never looks never pays.
#[derive(Clone, Debug)]
pub struct Scores {
    probs: Probs,
    row: Vec<f32>,
    raw: OnceLock<Probs>,
}

impl Scores {
    pub(crate) fn new(row: Vec<f32>, probs: Probs) -> Self {
        Self { probs, row, raw: OnceLock::new() }
    }

    /// Both distributions given: for drafters that are no language model, and for tests.
    ///
    /// # Panics
    ///
    /// If the two have different vocabularies.
    pub fn from_probs(raw: Probs, probs: Probs) -> Self {
        assert_eq!(raw.vocab_size(), probs.vocab_size(), "vocabularies of raw and sampled probabilities");
        Self { probs, row: Vec::new(), raw: OnceLock::from(raw) }
    }

    /// A point mass on `token`: a guess that comes with no probabilities.
    ///
    /// # Panics
    ///
    /// If `token` is not below `vocab`.
    pub fn point(token: TokenId, vocab: usize) -> Self {
        let point = Probs::point(token, vocab);
        Self::from_probs(point.clone(), point)
    }

    /// The distribution that is sampled.
    pub fn probs(&self) -> &Probs {
        &self.probs
    }

    /// The distribution at temperature 1, unfiltered.
    pub fn raw(&self) -> &Probs {
        self.raw.get_or_init(|| Probs::softmax(&self.row))
    }
}
