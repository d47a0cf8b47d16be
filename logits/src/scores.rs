use crate::{
    Probs, TokenId,
    buffer::Buffer,
    candidates::{Few, Place, View},
    math::{Normalizer, argmax},
    select::kth_largest,
    warp::{Step, Warped},
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
    /// What is left of the logits, where that takes work.
    warped: OnceLock<Warped>,
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
    /// By steps that look at the row and its place alone, and always leave a token.
    Steps(Arc<[Step]>, Place),
}

impl std::fmt::Debug for Warp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Given => f.write_str("Given"),
            Self::Temperature(temperature) => write!(f, "Temperature({temperature})"),
            Self::Steps(steps, place) => write!(f, "{} steps at {place:?}", steps.len()),
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
    /// The tokens of the logits, where they are not all.
    few: Option<&'a Few>,
    vocab: usize,
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
            let normalizer = self.normalizer(logits);
            match self.few {
                Some(few) => normalizer.softmax_of(few, self.vocab),
                None => normalizer.softmax(logits),
            }
        })
    }

    /// The logit of a token; `None` where it is not among them.
    fn logit(self, logits: &[f32], token: TokenId) -> Option<f32> {
        let index = match self.few {
            Some(few) => few.tokens.binary_search(&token).ok()?,
            None => token as usize,
        };
        logits.get(index).copied()
    }

    fn prob(self, token: TokenId) -> f64 {
        match (self.law.probs.get(), self.logits) {
            (None, Some(logits)) => {
                self.logit(logits, token).map_or(0.0, |logit| self.normalizer(logits).prob(logit))
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
            Warp::None | Warp::Temperature(_) | Warp::Steps(..) => Law::default(),
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
        let (logits, law) = (self.logits.as_deref(), &self.raw);
        let vocab = logits.map_or(0, <[f32]>::len);
        Row { logits, few: None, vocab, temperature: None, law }
    }

    fn row(&self) -> Row<'_> {
        let (raw, law) = (self.raw_row(), &self.sampled);
        match &self.warp {
            Warp::None => raw,
            Warp::Given => Row { logits: None, temperature: None, law, ..raw },
            Warp::Temperature(temperature) => Row { temperature: Some(*temperature), law, ..raw },
            Warp::Steps(steps, place) => {
                let logits = raw.logits.unwrap_or_default();
                let warped = self.warped.get_or_init(|| Warped::of(logits, steps, place));
                let (few, temperature) = (warped.few.as_ref(), warped.temperature);
                Row { logits: Some(warped.logits(logits)), few, temperature, law, ..raw }
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

    /// The most probable token in [`raw`](Self::raw), the lowest id among equals.
    pub fn raw_best(&self) -> TokenId {
        match &self.logits {
            Some(logits) => argmax(logits),
            None => self.raw().max().0,
        }
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
        let logits = Buffer::fill(self.vocab_size(), |row| row.extend(logits));
        assert!(crate::math::check(&logits).is_ok(), "a row of logits from which a token can be drawn");
        match &self.warp {
            Warp::Given if self.logits.is_some() => Probs::point(argmax(&logits), logits.len()),
            Warp::None | Warp::Given => Probs::softmax(&logits),
            Warp::Temperature(temperature) => Normalizer::at(&logits, *temperature).softmax(&logits),
            Warp::Steps(steps, place) => {
                let warped = Warped::of(&logits, steps, place);
                let left = warped.logits(&logits);
                let normalizer = View { logits: left, temperature: warped.temperature }.normalizer();
                match &warped.few {
                    Some(few) => normalizer.softmax_of(few, logits.len()),
                    None => normalizer.softmax(left),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Sampler, SamplingOptions};
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
            prop_assert_eq!(whole.raw().get(single.raw_best()), single.raw_max());
            prop_assert_eq!(Scores::from_probs(whole.raw().clone(), whole.raw().clone()).raw_best(), whole.raw().max().0);
            prop_assert_eq!(single.probs(), whole.probs());
            prop_assert_eq!((single.prob(99), single.raw_prob(99)), (0.0, 0.0));
            prop_assert_eq!(&single.warp(row.iter().copied()), whole.probs());
            prop_assert!((single.raw_entropy() - whole.raw().entropy()).abs() < 1e-12);
            prop_assert!((single.entropy() - whole.probs().entropy()).abs() < 1e-12);
            for k in [1, 2, 3, 7, 50] {
                prop_assert_eq!(single.raw_kth(k), whole.raw().kth(k));
            }
        }
    }
}
