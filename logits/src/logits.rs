/// Rows of logits over the vocabulary, on the host.
///
/// # Shapes
///
/// `[rows, vocab]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    data: Vec<f32>,
    vocab: usize,
}

impl Logits {
    /// Wraps `data`, row after row of `vocab` logits.
    ///
    /// # Panics
    ///
    /// If `vocab` is 0 or `data` is not a whole number of rows.
    pub fn new(data: Vec<f32>, vocab: usize) -> Self {
        assert!(vocab > 0 && data.len().is_multiple_of(vocab), "{} logits in rows of {vocab}", data.len());
        Self { data, vocab }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.data.len() / self.vocab
    }

    /// Length of a row.
    pub fn vocab_size(&self) -> usize {
        self.vocab
    }

    /// Row `index`, counted from 0.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.vocab..][..self.vocab]
    }

    /// All rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.data.chunks_exact(self.vocab)
    }
}
