use crate::{
    Context, LogitsProcessor, Probs, TokenId,
    buffer::Buffer,
    math::{Normalizer, argmax},
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
    logits: Option<Buffer<f32>>,
    raw: Law,
    warp: Warp,
    /// What is sampled, where that is another law.
    sampled: Law,
    /// Its logits, where they are others.
    warped: OnceLock<Buffer<f32>>,
}

/// How the raw row becomes what is sampled.
#[derive(Clone)]
pub(crate) enum Warp {
    /// Not at all.
    None,
    /// The law was given, or is all mass on the most probable token, the lowest id among equals.
    Given,
    /// The same logits at a temperature.
    Temperature(f32),
    /// By processors that look at the row alone, and always leave a token.
    Processors(Arc<Vec<Arc<dyn LogitsProcessor>>>),
}

impl std::fmt::Debug for Warp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Given => f.write_str("Given"),
            Self::Temperature(temperature) => write!(f, "Temperature({temperature})"),
            Self::Processors(processors) => write!(f, "{} processors", processors.len()),
        }
    }
}

/// A distribution of logits that are kept elsewhere, as far as it is known; or one that was given.
#[derive(Clone, Debug, Default)]
struct Law {
    normalizer: OnceLock<Normalizer>,
    entropy: OnceLock<f64>,
    probs: OnceLock<Probs>,
}

impl Law {
    fn given(probs: Probs) -> Self {
        Self { probs: OnceLock::from(probs), ..Self::default() }
    }
}

/// A law with its logits, of which there are none where the law was given.
#[derive(Clone, Copy)]
struct Row<'a> {
    logits: Option<&'a [f32]>,
    temperature: Option<f32>,
    law: &'a Law,
}

impl<'a> Row<'a> {
    fn normalizer(&self, logits: &[f32]) -> Normalizer {
        *self.law.normalizer.get_or_init(|| match self.temperature {
            None => Normalizer::of(logits),
            Some(temperature) => Normalizer::at(logits, temperature),
        })
    }

    fn probs(self) -> &'a Probs {
        self.law.probs.get_or_init(|| {
            let logits = self.logits.unwrap_or_default();
            self.normalizer(logits).softmax(logits)
        })
    }

    fn prob(self, token: TokenId) -> f64 {
        match (self.law.probs.get(), self.logits) {
            (None, Some(logits)) => {
                logits.get(token as usize).map_or(0.0, |&logit| self.normalizer(logits).prob(logit))
            }
            _ => self.probs().get(token),
        }
    }

    fn max_prob(self) -> f64 {
        match self.logits {
            Some(logits) => self.normalizer(logits).max_prob(),
            None => self.probs().max().1,
        }
    }

    fn kth_prob(self, k: usize) -> f64 {
        match self.logits {
            Some(logits) => self.normalizer(logits).prob(kth_largest(logits, k)),
            None => self.probs().kth(k),
        }
    }

    fn entropy(self) -> f64 {
        *self.law.entropy.get_or_init(|| match self.logits {
            Some(logits) => {
                let (normalizer, entropy) = Normalizer::with_entropy(logits, self.temperature);
                self.law.normalizer.get_or_init(|| normalizer);
                entropy
            }
            None => self.probs().entropy(),
        })
    }
}

impl Scores {
    /// A row that passed the sampler's check.
    pub(crate) fn new(row: Buffer<f32>, warp: Warp) -> Self {
        let sampled = match warp {
            Warp::Given => Law::given(Probs::point(argmax(&row), row.len())),
            Warp::None | Warp::Temperature(_) | Warp::Processors(_) => Law::default(),
        };
        Self { logits: Some(row), raw: Law::default(), warp, sampled, warped: OnceLock::new() }
    }

    /// Both distributions given: for drafters that are no language model, and for tests.
    ///
    /// # Panics
    ///
    /// If the two have different vocabularies.
    pub fn from_probs(raw: Probs, probs: Probs) -> Self {
        assert_eq!(raw.vocab_size(), probs.vocab_size(), "vocabularies of raw and sampled probabilities");
        let (raw, sampled) = (Law::given(raw), Law::given(probs));
        Self { logits: None, raw, warp: Warp::Given, sampled, warped: OnceLock::new() }
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

    fn raw_row(&self) -> Row<'_> {
        Row { logits: self.logits.as_deref(), temperature: None, law: &self.raw }
    }

    fn row(&self) -> Row<'_> {
        let (raw, law) = (self.raw_row(), &self.sampled);
        match &self.warp {
            Warp::None => raw,
            Warp::Given => Row { logits: None, temperature: None, law },
            Warp::Temperature(temperature) => Row { temperature: Some(*temperature), law, ..raw },
            Warp::Processors(processors) => {
                let warped = self.warped.get_or_init(|| {
                    let mut row = Buffer::copy(self.logits.as_deref().unwrap_or_default());
                    run(processors, row.as_mut_slice());
                    row
                });
                Row { logits: Some(warped), temperature: None, law }
            }
        }
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        match &self.logits {
            Some(logits) => logits.len(),
            None => self.raw().vocab_size(),
        }
    }

    /// The distribution that is sampled.
    pub fn probs(&self) -> &Probs {
        self.row().probs()
    }

    /// The probability of one token in [`probs`](Self::probs), without the others.
    pub fn prob(&self, token: TokenId) -> f64 {
        self.row().prob(token)
    }

    /// The distribution at temperature 1, unfiltered.
    pub fn raw(&self) -> &Probs {
        self.raw_row().probs()
    }

    /// The probability of one token in [`raw`](Self::raw), without the others.
    pub fn raw_prob(&self, token: TokenId) -> f64 {
        self.raw_row().prob(token)
    }

    /// The highest probability in [`raw`](Self::raw), which is a model's confidence.
    pub fn raw_max(&self) -> f64 {
        self.raw_row().max_prob()
    }

    /// The `k`-th highest probability in [`raw`](Self::raw), from 1; the least where there are fewer tokens.
    ///
    /// # Panics
    ///
    /// If `k` is 0.
    pub fn raw_kth(&self, k: usize) -> f64 {
        self.raw_row().kth_prob(k)
    }

    /// Entropy of [`raw`](Self::raw), in nats.
    pub fn raw_entropy(&self) -> f64 {
        self.raw_row().entropy()
    }

    /// Entropy of [`probs`](Self::probs), in nats.
    pub fn entropy(&self) -> f64 {
        self.row().entropy()
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
            Warp::Given if self.logits.is_some() => Probs::point(argmax(&logits), logits.len()),
            Warp::None | Warp::Given => Probs::softmax(&logits),
            Warp::Temperature(temperature) => Normalizer::at(&logits, *temperature).softmax(&logits),
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
