use crate::{
    Context, LogitsProcessor, Probs, TokenId,
    buffer::Buffer,
    math::{Normalizer, argmax},
    simd,
};
use std::sync::{Arc, OnceLock};

/// What one side, drafter or expert, says about one position.
///
/// [`probs`](Self::probs) is what is sampled: after all processors. [`raw`](Self::raw) is the same
/// row at temperature 1 and unfiltered, after biases and penalties only: deferral rules look at it,
/// because confidence must not depend on how the text is sampled. Everything is computed on first use, and
/// single probabilities without the rest, so a rule that does not look does not pay.
#[derive(Clone, Debug)]
pub struct Scores {
    raw: Row,
    warp: Warp,
    /// The row after the warp, where that is a row of its own.
    warped: OnceLock<Row>,
}

/// How the raw row becomes what is sampled.
#[derive(Clone)]
pub(crate) enum Warp {
    /// Not at all.
    None,
    /// All mass goes to the most probable token, the lowest id among equals.
    Greedy,
    /// By processors that look at the row alone, and always leave a token.
    Processors(Arc<Vec<Arc<dyn LogitsProcessor>>>),
}

impl std::fmt::Debug for Warp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Greedy => f.write_str("Greedy"),
            Self::Processors(processors) => write!(f, "{} processors", processors.len()),
        }
    }
}

/// Logits and what follows from them; without logits, where the distribution was given.
#[derive(Clone, Debug)]
struct Row {
    logits: Option<Buffer<f32>>,
    normalizer: OnceLock<Normalizer>,
    probs: OnceLock<Probs>,
}

impl Row {
    fn new(logits: Buffer<f32>) -> Self {
        Self { logits: Some(logits), normalizer: OnceLock::new(), probs: OnceLock::new() }
    }

    fn given(probs: Probs) -> Self {
        Self { logits: None, normalizer: OnceLock::new(), probs: OnceLock::from(probs) }
    }

    fn logits(&self) -> &[f32] {
        self.logits.as_deref().unwrap_or_default()
    }

    fn normalizer(&self) -> Normalizer {
        *self.normalizer.get_or_init(|| Normalizer::of(self.logits()))
    }

    fn probs(&self) -> &Probs {
        self.probs.get_or_init(|| self.normalizer().softmax(self.logits()))
    }

    fn prob(&self, token: TokenId) -> f64 {
        match (self.probs.get(), self.logits().get(token as usize)) {
            (Some(probs), _) => probs.get(token),
            (None, Some(&logit)) => self.normalizer().prob(logit),
            (None, None) => 0.0,
        }
    }

    fn max_prob(&self) -> f64 {
        match &self.logits {
            Some(logits) => self.normalizer().prob(simd::max(logits)),
            None => self.probs().max().1,
        }
    }

    fn kth_prob(&self, k: usize) -> f64 {
        match &self.logits {
            Some(logits) => self.normalizer().prob(kth_largest(logits, k)),
            None => self.probs().kth(k),
        }
    }

    fn entropy(&self) -> f64 {
        match &self.logits {
            Some(logits) => self.normalizer().entropy(logits),
            None => self.probs().entropy(),
        }
    }
}

impl Scores {
    /// A row that passed the sampler's check.
    pub(crate) fn new(row: Buffer<f32>, warp: Warp) -> Self {
        let warped = match warp {
            Warp::Greedy => OnceLock::from(Row::given(Probs::point(argmax(&row), row.len()))),
            Warp::None | Warp::Processors(_) => OnceLock::new(),
        };
        Self { raw: Row::new(row), warp, warped }
    }

    /// Both distributions given: for drafters that are no language model, and for tests.
    ///
    /// # Panics
    ///
    /// If the two have different vocabularies.
    pub fn from_probs(raw: Probs, probs: Probs) -> Self {
        assert_eq!(raw.vocab_size(), probs.vocab_size(), "vocabularies of raw and sampled probabilities");
        Self { raw: Row::given(raw), warp: Warp::None, warped: OnceLock::from(Row::given(probs)) }
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

    fn sampled(&self) -> &Row {
        match (self.warped.get(), &self.warp) {
            (Some(row), _) => row,
            (None, Warp::Processors(processors)) => self.warped.get_or_init(|| {
                let mut row = Buffer::copy(self.raw.logits());
                run(processors, row.as_mut_slice());
                Row::new(row)
            }),
            (None, Warp::None | Warp::Greedy) => &self.raw,
        }
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        match &self.raw.logits {
            Some(logits) => logits.len(),
            None => self.raw.probs().vocab_size(),
        }
    }

    /// The distribution that is sampled.
    pub fn probs(&self) -> &Probs {
        self.sampled().probs()
    }

    /// The probability of one token in [`probs`](Self::probs), without the others.
    pub fn prob(&self, token: TokenId) -> f64 {
        self.sampled().prob(token)
    }

    /// The distribution at temperature 1, unfiltered.
    pub fn raw(&self) -> &Probs {
        self.raw.probs()
    }

    /// The probability of one token in [`raw`](Self::raw), without the others.
    pub fn raw_prob(&self, token: TokenId) -> f64 {
        self.raw.prob(token)
    }

    /// The highest probability in [`raw`](Self::raw), which is a model's confidence.
    pub fn raw_max(&self) -> f64 {
        self.raw.max_prob()
    }

    /// The `k`-th highest probability in [`raw`](Self::raw), from 1; the least where there are fewer tokens.
    ///
    /// # Panics
    ///
    /// If `k` is 0.
    pub fn raw_kth(&self, k: usize) -> f64 {
        self.raw.kth_prob(k)
    }

    /// Entropy of [`raw`](Self::raw), in nats.
    pub fn raw_entropy(&self) -> f64 {
        self.raw.entropy()
    }

    /// Entropy of [`probs`](Self::probs), in nats.
    pub fn entropy(&self) -> f64 {
        self.sampled().entropy()
    }

    /// What would be sampled if `logits` were this side's raw row: for laws made of the rows of several models,
    /// which are then sampled as the options say.
    ///
    /// Scores that were made of distributions know no options, and take the softmax.
    ///
    /// # Panics
    ///
    /// If `logits` hold no finite value, or a NaN or `+inf`.
    pub fn warp(&self, logits: impl Iterator<Item = f32>) -> Probs {
        let mut logits = Buffer::fill(self.vocab_size(), |row| row.extend(logits));
        assert!(crate::math::check(&logits).is_ok(), "a row of logits from which a token can be drawn");
        match &self.warp {
            Warp::None => Probs::softmax(&logits),
            Warp::Greedy => Probs::point(argmax(&logits), logits.len()),
            Warp::Processors(processors) => {
                run(processors, logits.as_mut_slice());
                Probs::softmax(&logits)
            }
        }
    }
}

/// The `k`-th largest value, from 1; the least where there are fewer.
fn kth_largest(row: &[f32], k: usize) -> f32 {
    let k = k.min(row.len());
    assert!(k > 0, "the values are counted from 1");
    if k > 128 {
        let mut row = Buffer::copy(row);
        return *row.as_mut_slice().select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1;
    }
    // Nearly no value gets among the best, which stay in order.
    let best = Buffer::fill(k + 1, |best| {
        best.extend_from_slice(&row[..k]);
        best.sort_unstable_by(|a, b| b.total_cmp(a));
        for &value in &row[k..] {
            if value > best[k - 1] {
                let at = best.partition_point(|x| *x >= value);
                best.insert(at, value);
                best.truncate(k);
            }
        }
    });
    best[k - 1]
}

fn run(processors: &[Arc<dyn LogitsProcessor>], row: &mut [f32]) {
    for processor in processors {
        processor.process(&Context::new(&[], 0), row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sampler, SamplingOptions};
    use proptest::prelude::*;

    proptest! {
        /// Whatever is asked first, the numbers are those of the whole rows, to the bit.
        #[test]
        fn single_numbers_are_those_of_the_rows(
            row in prop::collection::vec(prop_oneof![4 => -9.0..9.0f32, 1 => Just(f32::NEG_INFINITY), 1 => Just(2.0f32)], 1..40),
            temperature in prop_oneof![Just(0.0f32), Just(1.0f32), 0.1..3.0f32],
            top_p in prop_oneof![Just(1.0), 0.1..1.0f64],
        ) {
            prop_assume!(row.iter().any(|x| x.is_finite()));
            let sampler = Sampler::new(&SamplingOptions { temperature, top_p, ..Default::default() }).unwrap();
            let scores = || sampler.scores(&Context::new(&[], 0), &row).unwrap();
            let (single, whole) = (scores(), scores());
            let (probs, raw) = (whole.probs().to_vec(), whole.raw().to_vec());
            for v in 0..row.len() as TokenId {
                prop_assert_eq!(single.prob(v), probs[v as usize]);
                prop_assert_eq!(single.raw_prob(v), raw[v as usize]);
            }
            prop_assert_eq!((single.raw_max(), single.vocab_size()), (whole.raw().max().1, row.len()));
            prop_assert_eq!(single.probs(), whole.probs());
            prop_assert_eq!((single.prob(99), single.raw_prob(99)), (0.0, 0.0));
            prop_assert_eq!(&single.warp(row.iter().copied()), whole.probs());
            prop_assert!((single.raw_entropy() - whole.raw().entropy()).abs() < 1e-12);
            prop_assert!((single.entropy() - whole.probs().entropy()).abs() < 1e-12);
            for k in [1, 2, 3, 7, 50] {
                prop_assert_eq!(single.raw_kth(k), whole.raw().kth(k));
            }
        }

        #[test]
        fn the_kth_is_that_of_the_sorted_row(row in prop::collection::vec(-9.0..9.0f32, 1..400), k in 1usize..300) {
            let mut sorted = row.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            prop_assert_eq!(kth_largest(&row, k), sorted[k.min(row.len()) - 1]);
        }
    }
}
