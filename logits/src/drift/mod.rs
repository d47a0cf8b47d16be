//! Drift: whether what a model says looks as it did when it was judged.
//!
//! Two numbers of a position, entropy and highest probability, say much of a model's state: other prompts, other
//! weights, a broken quantisation or a wrong temperature move them. [`Drift`] counts them and compares the counts with
//! a [`Reference`] in constant memory.

mod kolmogorov;

pub use kolmogorov::KolmogorovSmirnov;

use crate::math::Normalizer;
use std::{fmt, str::FromStr};

/// How sure a model is at a position: by its own row at temperature 1, before any processor.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Certainty {
    /// Entropy in nats.
    pub entropy: f64,
    /// The highest probability.
    pub max_probability: f64,
}

impl Certainty {
    /// Of the logits of a position, one of which at least is finite.
    pub fn of(row: &[f32]) -> Self {
        let (normalizer, entropy) = Normalizer::with_entropy(row, None);
        Self { entropy, max_probability: normalizer.max_prob() }
    }
}

/// Counts of a number in bins that end at `edges`; the last bin has no end.
#[derive(Clone, Debug, PartialEq)]
struct Histogram {
    edges: Vec<f64>,
    counts: Vec<u64>,
}

/// Bins of a reference, each with about a tenth of it.
const BINS: usize = 10;
/// The fewest positions of a reference.
const LEAST: usize = 50;

impl Histogram {
    /// Of values, each bin with about as many of them.
    fn of(values: &mut [f64]) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let mut edges: Vec<f64> =
            (1..BINS).map(|bin| values[(bin * values.len()).div_ceil(BINS) - 1]).collect();
        edges.dedup();
        let mut histogram = Self { counts: vec![0; edges.len() + 1], edges };
        for &value in values.iter() {
            histogram.add(value);
        }
        histogram
    }

    fn empty_like(other: &Self) -> Self {
        Self { edges: other.edges.clone(), counts: vec![0; other.counts.len()] }
    }

    fn add(&mut self, value: f64) {
        let bin = self.edges.partition_point(|edge| *edge < value);
        self.counts[bin] += 1;
    }

    /// Adds the counts of the same bins.
    fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
    }

    fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The shares of the bins, each count taken as half a one more than it is, so that none is 0.
    fn shares(&self) -> impl Iterator<Item = f64> {
        let total = self.total() as f64 + 0.5 * self.counts.len() as f64;
        self.counts.iter().map(move |&count| (count as f64 + 0.5) / total)
    }

    /// Population stability index: `sum((a - b) ln(a / b))` over the bins.
    fn psi(&self, other: &Self) -> f64 {
        self.shares().zip(other.shares()).map(|(a, b)| (a - b) * (a / b).ln()).sum()
    }

    /// The test of two samples, of which distances are known at the edges only: it warns rather too late.
    fn kolmogorov(&self, other: &Self) -> KolmogorovSmirnov {
        let (n, m) = (self.total() as f64, other.total() as f64);
        let (mut a, mut b, mut distance) = (0.0, 0.0, 0.0f64);
        for (&x, &y) in self.counts.iter().zip(&other.counts) {
            (a, b) = (a + x as f64 / n, b + y as f64 / m);
            distance = distance.max((a - b).abs());
        }
        KolmogorovSmirnov::of(distance, n * m / (n + m))
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, edge) in self.counts.iter().zip(&self.edges) {
            write!(f, "{count}<={edge},")?;
        }
        write!(f, "{}", self.counts.last().copied().unwrap_or_default())
    }
}

impl FromStr for Histogram {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (mut edges, mut counts) = (Vec::new(), Vec::new());
        let mut parts = text.split(',').peekable();
        while let Some(part) = parts.next() {
            let (count, edge) =
                part.split_once("<=").map_or((part, None), |(count, edge)| (count, Some(edge)));
            counts.push(count.trim().parse().map_err(|_| "a count is no whole number")?);
            match (edge, parts.peek()) {
                (Some(edge), Some(_)) => edges.push(edge.trim().parse().map_err(|_| "an edge is no number")?),
                (None, None) => {}
                _ => return Err("all bins but the last have an edge"),
            }
        }
        let rising = edges.windows(2).all(|pair: &[f64]| pair[0] < pair[1]);
        let histogram = Self { edges, counts };
        if !rising || !histogram.edges.iter().all(|edge| edge.is_finite()) {
            return Err("edges are finite and rise");
        }
        match histogram.counts.iter().try_fold(0u64, |sum, &count| sum.checked_add(count)) {
            Some(total) if total >= LEAST as u64 => Ok(histogram),
            _ => Err("a reference has 50 positions or more"),
        }
    }
}

/// Why there is no reference.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DriftError {
    /// Too few positions to know how they are spread.
    #[error("{positions} positions are too few for a reference; give 50 or more, better some thousands")]
    Few {
        /// How many there are.
        positions: usize,
    },
    /// A number that is none.
    #[error(
        "position {index} (from 0) has entropy {entropy} and highest probability {max_probability}; both must be finite"
    )]
    NotFinite {
        /// Which position, from 0.
        index: usize,
        /// Its entropy.
        entropy: f64,
        /// Its highest probability.
        max_probability: f64,
    },
    /// Streams that are compared with different references cannot be added up.
    #[error("two streams have different references; compare both with one")]
    OtherReference,
    /// A text that is no reference.
    #[error(
        "no reference for drift: {reason}; it reads `entropy COUNT<=EDGE,...,COUNT; max-probability COUNT<=EDGE,...,COUNT`"
    )]
    Text {
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// How sure a model was at the positions of texts that are as they should be.
///
/// As text it is `entropy 10<=0.5,12<=1.25,9; max-probability 11<=0.25,10<=0.75,10`, which [`FromStr`] reads back to the
/// last bit.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    entropy: Histogram,
    max_probability: Histogram,
}

impl Reference {
    /// Of 50 positions or more; some thousands are better.
    ///
    /// # Errors
    ///
    /// Too few positions, or one that is not finite.
    pub fn of(positions: &[Certainty]) -> Result<Self, DriftError> {
        if positions.len() < LEAST {
            return Err(DriftError::Few { positions: positions.len() });
        }
        let finite = |c: &Certainty| c.entropy.is_finite() && c.max_probability.is_finite();
        if let Some(index) = positions.iter().position(|c| !finite(c)) {
            let Certainty { entropy, max_probability } = positions[index];
            return Err(DriftError::NotFinite { index, entropy, max_probability });
        }
        let of = |number: fn(&Certainty) -> f64| {
            Histogram::of(&mut positions.iter().map(number).collect::<Vec<_>>())
        };
        Ok(Self { entropy: of(|c| c.entropy), max_probability: of(|c| c.max_probability) })
    }

    /// The positions it was made of.
    pub fn positions(&self) -> u64 {
        self.entropy.total()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entropy {}; max-probability {}", self.entropy, self.max_probability)
    }
}

impl FromStr for Reference {
    type Err = DriftError;

    fn from_str(text: &str) -> Result<Self, DriftError> {
        let wrong = |reason| DriftError::Text { reason };
        let (entropy, max) = text.split_once(';').ok_or(wrong("it has no semicolon"))?;
        let of = |part: &str, name: &str| {
            let counts = part.trim().strip_prefix(name).ok_or("a name is missing")?;
            counts.parse::<Histogram>()
        };
        let entropy = of(entropy, "entropy ").map_err(wrong)?;
        let max_probability = of(max, "max-probability ").map_err(wrong)?;
        Ok(Self { entropy, max_probability })
    }
}

/// Which number of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Quantity {
    /// [`Certainty::entropy`].
    Entropy,
    /// [`Certainty::max_probability`].
    MaxProbability,
}

/// A warning of [`Drift`]; it prints in words.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct DriftWarning {
    /// What moved, the more of the two.
    pub quantity: Quantity,
    /// Population stability index.
    pub psi: f64,
    /// The test of whether this can be chance.
    pub test: KolmogorovSmirnov,
    /// Positions seen.
    pub positions: u64,
    /// Positions of the reference.
    pub reference: u64,
}

impl fmt::Display for DriftWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.quantity {
            Quantity::Entropy => "entropy",
            Quantity::MaxProbability => "highest probability",
        };
        let size = if self.psi >= Drift::LARGE { "a large" } else { "a moderate" };
        write!(
            f,
            "the model's {what} shows {size} shift: stability index {:.3} (moderate from {}, large from {}), distance {:.3} with p = {:.1e}, over {} positions against {} of the reference",
            self.psi,
            Drift::MODERATE,
            Drift::LARGE,
            self.test.distance,
            self.test.p_value,
            self.positions,
            self.reference
        )
    }
}

/// Compares a stream of positions with a [`Reference`].
///
/// The population stability index says how far apart the two are, and the Kolmogorov-Smirnov test whether that can be
/// chance; a warning needs both. Neighbouring positions of one text are alike, so that a few texts look more certain
/// than they are: watch many.
///
/// Source: the index and its limits .1 and .25 are Lewis, "An Introduction to Credit Scoring", 1994.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    reference: Reference,
    seen: Reference,
    limit: f64,
}

impl Drift {
    /// The stability index of a moderate shift.
    pub const MODERATE: f64 = 0.1;
    /// The stability index of a large shift.
    pub const LARGE: f64 = 0.25;
    /// A warning needs a test at least this unlikely.
    pub const P_VALUE: f64 = 0.01;
    /// A warning needs this many positions.
    pub const POSITIONS: u64 = 100;

    /// Nothing seen yet; warns from [`MODERATE`](Self::MODERATE) on.
    pub fn new(reference: Reference) -> Self {
        let seen = Reference {
            entropy: Histogram::empty_like(&reference.entropy),
            max_probability: Histogram::empty_like(&reference.max_probability),
        };
        Self { reference, seen, limit: Self::MODERATE }
    }

    /// The same, with warnings from another stability index on.
    #[must_use]
    pub fn with_limit(self, limit: f64) -> Self {
        Self { limit, ..self }
    }

    /// Takes a position of the stream.
    pub fn observe(&mut self, position: Certainty) {
        self.seen.entropy.add(position.entropy);
        self.seen.max_probability.add(position.max_probability);
    }

    /// Adds what another stream has shown.
    ///
    /// # Errors
    ///
    /// [`DriftError::OtherReference`].
    pub fn merge(&mut self, other: &Self) -> Result<(), DriftError> {
        if self.reference != other.reference {
            return Err(DriftError::OtherReference);
        }
        self.seen.entropy.merge(&other.seen.entropy);
        self.seen.max_probability.merge(&other.seen.max_probability);
        Ok(())
    }

    /// Positions seen so far.
    pub fn positions(&self) -> u64 {
        self.seen.positions()
    }

    /// What is to be said about the stream so far, if anything: nothing before [`POSITIONS`](Self::POSITIONS).
    pub fn check(&self) -> Option<DriftWarning> {
        let warning = |quantity, reference: &Histogram, seen: &Histogram| DriftWarning {
            quantity,
            psi: reference.psi(seen),
            test: reference.kolmogorov(seen),
            positions: seen.total(),
            reference: reference.total(),
        };
        let (reference, seen) = (&self.reference, &self.seen);
        let both = [
            warning(Quantity::Entropy, &reference.entropy, &seen.entropy),
            warning(Quantity::MaxProbability, &reference.max_probability, &seen.max_probability),
        ];
        let serious = |warning: &DriftWarning| {
            warning.positions >= Self::POSITIONS
                && warning.psi >= self.limit
                && warning.test.p_value < Self::P_VALUE
        };
        both.into_iter().filter(serious).max_by(|a, b| a.psi.total_cmp(&b.psi))
    }
}
