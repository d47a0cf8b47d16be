use crate::{TokenId, buffer::Buffer, math, select, simd};
use std::ops::Deref;

/// One distribution over the vocabulary: nonnegative, sums to 1.
///
/// Built by [`Probs::softmax`], [`Probs::point`] and [`Probs::normalize`] only, so that a value of
/// this type always is a distribution. A point mass (temperature 0, an n-gram draft) takes no memory
/// and makes sampling, coupling and residuals cost nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Probs(Repr);

/// The probabilities of all tokens, in order of token id.
#[derive(Debug)]
pub struct ProbRow<'a>(Result<&'a [f64], Buffer<f64>>);

impl Deref for ProbRow<'_> {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        match &self.0 {
            Ok(borrowed) => borrowed,
            Err(made) => made,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Repr {
    Point { token: TokenId, vocab: usize },
    Dense(Buffer<f64>),
}

/// Tokens whose probabilities are added up together on the way to a quantile.
const BLOCK: usize = 512;

impl Probs {
    /// The softmax of a row of logits; `-inf` becomes 0.
    ///
    /// The row must hold a finite value and neither NaN nor `+inf`; [`Sampler::scores`] checks that.
    ///
    /// [`Sampler::scores`]: crate::Sampler::scores
    pub fn softmax(row: &[f32]) -> Self {
        math::Normalizer::of(row).softmax(row)
    }

    /// A row that is a distribution.
    pub(crate) fn filled(vocab: usize, fill: impl FnOnce(&mut Vec<f64>)) -> Self {
        Self(Repr::Dense(Buffer::fill(vocab, fill)))
    }

    /// All mass on `token`.
    ///
    /// # Panics
    ///
    /// If `token` is not below `vocab`.
    pub fn point(token: TokenId, vocab: usize) -> Self {
        assert!((token as usize) < vocab, "token {token} of a vocabulary of {vocab}");
        Self(Repr::Point { token, vocab })
    }

    /// `weights` divided by their sum; `None` where a weight is negative or not finite, or the sum is
    /// not positive.
    ///
    /// ```
    /// use drafthorse_logits::Probs;
    /// assert_eq!(Probs::normalize(vec![1.0, 3.0]).unwrap().get(1), 0.75);
    /// assert!(Probs::normalize(vec![0.0, 0.0]).is_none());
    /// ```
    pub fn normalize(weights: Vec<f64>) -> Option<Self> {
        Self::divided(weights.into())
    }

    /// As [`Probs::normalize`], of `weights` in order of token id, in memory that is used again.
    ///
    /// ```
    /// use drafthorse_logits::Probs;
    /// assert_eq!(Probs::collect(4, [1.0, 0.0, 3.0, 0.0].into_iter()).unwrap().get(2), 0.75);
    /// ```
    pub fn collect(vocab: usize, weights: impl Iterator<Item = f64>) -> Option<Self> {
        Self::divided(Buffer::fill(vocab, |row| row.extend(weights)))
    }

    fn divided(mut weights: Buffer<f64>) -> Option<Self> {
        // A sum of finite numbers can be infinite, a finite sum has finite terms.
        let sum = simd::sum(&weights, |w| if w >= 0.0 { w } else { f64::NAN });
        if !(sum > 0.0 && sum.is_finite()) {
            return None;
        }
        // Dividing is exact where multiplying is not, and a row of a few tokens shall be as on paper.
        if weights.len() <= 64 {
            weights.as_mut_slice().iter_mut().for_each(|weight| *weight /= sum);
        } else {
            simd::scale(weights.as_mut_slice(), 1.0 / sum);
        }
        Some(Self(Repr::Dense(weights)))
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        match &self.0 {
            Repr::Point { vocab, .. } => *vocab,
            Repr::Dense(probs) => probs.len(),
        }
    }

    /// Probability of `token`; 0 outside the vocabulary.
    pub fn get(&self, token: TokenId) -> f64 {
        match &self.0 {
            Repr::Point { token: at, .. } => f64::from(u8::from(*at == token)),
            Repr::Dense(probs) => probs.get(token as usize).copied().unwrap_or(0.0),
        }
    }

    /// The only possible token of a point mass.
    pub fn as_point(&self) -> Option<TokenId> {
        match self.0 {
            Repr::Point { token, .. } => Some(token),
            Repr::Dense(_) => None,
        }
    }

    /// The most probable token (the lowest id among equals) and its probability.
    pub fn max(&self) -> (TokenId, f64) {
        match &self.0 {
            Repr::Point { token, .. } => (*token, 1.0),
            Repr::Dense(probs) => probs
                .iter()
                .enumerate()
                .fold((0, probs[0]), |best, (i, &p)| if p > best.1 { (i as TokenId, p) } else { best }),
        }
    }

    /// The probabilities in order of token id; `None` for a point mass, which has none in memory.
    pub fn as_slice(&self) -> Option<&[f64]> {
        match &self.0 {
            Repr::Point { .. } => None,
            Repr::Dense(probs) => Some(probs),
        }
    }

    /// The probabilities in order of token id, in memory or made for the purpose.
    pub fn row(&self) -> ProbRow<'_> {
        ProbRow(match &self.0 {
            Repr::Dense(probs) => Ok(probs),
            Repr::Point { token, vocab } => Err(Buffer::fill(*vocab, |row| {
                row.resize(*vocab, 0.0);
                row[*token as usize] = 1.0;
            })),
        })
    }

    /// The sum of `term(self, other)` over all tokens.
    ///
    /// # Panics
    ///
    /// If the vocabularies differ.
    pub fn sum_with(&self, other: &Self, term: impl Fn(f64, f64) -> f64) -> f64 {
        assert_eq!(self.vocab_size(), other.vocab_size(), "vocabularies of two distributions");
        simd::sum2(&self.row(), &other.row(), term)
    }

    /// The probabilities in order of token id.
    pub fn to_vec(&self) -> Vec<f64> {
        self.row().to_vec()
    }

    /// The `k`-th largest probability, from 1; the least where there are fewer tokens.
    ///
    /// # Panics
    ///
    /// If `k` is 0.
    pub fn kth(&self, k: usize) -> f64 {
        match &self.0 {
            Repr::Point { .. } => f64::from(u8::from(k == 1)),
            Repr::Dense(probs) => {
                let mut sorted = probs.clone();
                let at = k.min(probs.len()) - 1;
                *sorted.as_mut_slice().select_nth_unstable_by(at, |a, b| b.total_cmp(a)).1
            }
        }
    }

    /// The least probability among the most probable tokens whose mass reaches `mass`: the edge of a nucleus.
    ///
    /// Source: Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020.
    pub fn nucleus(&self, mass: f64) -> f64 {
        let Repr::Dense(probs) = &self.0 else { return 1.0 };
        select::nucleus(probs, mass)
    }

    /// The token at `u` of the cumulative distribution (inverse transform), `u` in `[0, 1)`.
    ///
    /// Never a token of probability 0, whatever the rounding.
    pub fn quantile(&self, u: f64) -> TokenId {
        let probs = match &self.0 {
            Repr::Point { token, .. } => return *token,
            Repr::Dense(probs) => probs,
        };
        let mut below = 0.0;
        let mut found = None;
        for (block, start) in probs.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
            let after = below + simd::sum(block, |p| p);
            if u < after {
                found = Some(start..start + block.len());
                break;
            }
            below = after;
        }
        // What rounding leaves goes to the last token that is possible.
        let range = found.unwrap_or(0..probs.len());
        let mut last = None;
        for (token, &p) in range.clone().zip(&probs[range]).filter(|(_, p)| **p > 0.0) {
            last = Some(token);
            below += p;
            if u < below {
                break;
            }
        }
        last.unwrap_or_default() as TokenId
    }

    /// The residual distribution `norm(max(0, self - draft))`, from which a refused token is replaced.
    ///
    /// `None` where `self` nowhere exceeds `draft` (the two are equal up to rounding, and refusal was
    /// as good as impossible).
    ///
    /// Source: Leviathan, Kalman, Matias, "Fast Inference from Transformers via Speculative Decoding",
    /// 2023, Algorithm 1; the general target of Narasimhan et al., "Faster Cascades via Speculative
    /// Decoding", 2025, Algorithm 4.
    pub fn residual(&self, draft: &Self) -> Option<Self> {
        match (&self.0, &draft.0) {
            (Repr::Point { token, .. }, _) if draft.get(*token) < 1.0 => Some(self.clone()),
            (Repr::Point { .. }, _) => None,
            (Repr::Dense(p), Repr::Point { token, .. }) => {
                let mut rest = p.clone();
                rest.as_mut_slice()[*token as usize] = 0.0; // p - 1 <= 0
                Self::divided(rest)
            }
            (Repr::Dense(p), Repr::Dense(q)) => {
                Self::collect(p.len(), p.iter().zip(q.iter()).map(|(p, q)| (p - q).max(0.0)))
            }
        }
    }

    /// Total variation `sum(max(0, self - other))`, from 0 to 1: the rejection rate of a draft from
    /// `other` under the target `self`.
    pub fn total_variation(&self, other: &Self) -> f64 {
        match (&self.0, &other.0) {
            (Repr::Point { token, .. }, _) => 1.0 - other.get(*token),
            (_, Repr::Point { token, .. }) => 1.0 - self.get(*token),
            (Repr::Dense(p), Repr::Dense(q)) => simd::sum2(p, q, |p, q| (p - q).max(0.0)),
        }
    }

    /// Entropy in nats.
    pub fn entropy(&self) -> f64 {
        match &self.0 {
            Repr::Point { .. } => 0.0,
            Repr::Dense(probs) => probs.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum(),
        }
    }

    /// The divergence `KL(self || other) = sum(self ln(self / other))` in nats; infinite where `self` can say
    /// what `other` cannot.
    pub fn kl(&self, other: &Self) -> f64 {
        let term = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
        match (&self.0, &other.0) {
            (Repr::Point { token, .. }, _) => -other.get(*token).ln(),
            (Repr::Dense(p), Repr::Point { token, .. }) => {
                (0..).zip(p.iter()).map(|(v, &p)| term(p, f64::from(u8::from(v == *token)))).sum()
            }
            (Repr::Dense(p), Repr::Dense(q)) => p.iter().zip(q.iter()).map(|(&p, &q)| term(p, q)).sum(),
        }
    }

    /// The Jensen-Shannon divergence in nats, from 0 to ln 2: the mean of both divergences from the even mixture.
    ///
    /// Source: Lin, "Divergence measures based on the Shannon entropy", 1991.
    ///
    /// # Panics
    ///
    /// If the vocabularies differ.
    pub fn jsd(&self, other: &Self) -> f64 {
        let term = |p: f64, q: f64| if p > 0.0 { p * (2.0 * p / (p + q)).ln() } else { 0.0 };
        (0.5 * self.sum_with(other, |p, q| term(p, q) + term(q, p))).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn distribution(n: usize) -> impl Strategy<Value = Probs> {
        prop::collection::vec(prop_oneof![Just(0.0), 1e-9..1.0f64], n)
            .prop_filter_map("no mass", Probs::normalize)
    }

    proptest! {
        #[test]
        fn residual_and_overlap_rebuild_the_target((p, q) in (1usize..9).prop_flat_map(|n| (distribution(n), distribution(n)))) {
            let tv = p.total_variation(&q);
            let residual = p.residual(&q);
            prop_assert_eq!(residual.is_none(), tv == 0.0);
            for v in 0..p.vocab_size() as TokenId {
                let rebuilt = p.get(v).min(q.get(v)) + tv * residual.as_ref().map_or(0.0, |r| r.get(v));
                prop_assert!((rebuilt - p.get(v)).abs() < 1e-12);
            }
        }

        #[test]
        fn quantile_never_gives_an_impossible_token(p in distribution(6), u in 0.0..1.0f64) {
            prop_assert!(p.get(p.quantile(u)) > 0.0);
            prop_assert!(p.get(p.quantile(1.0 - f64::EPSILON)) > 0.0);
        }

        #[test]
        fn a_point_behaves_as_its_dense_form(p in distribution(5), token in 0u32..5) {
            let point = Probs::point(token, 5);
            let dense = Probs::normalize(point.to_vec()).unwrap();
            prop_assert!((p.total_variation(&point) - p.total_variation(&dense)).abs() < 1e-12);
            prop_assert!((point.total_variation(&p) - dense.total_variation(&p)).abs() < 1e-12);
            let near = |a: Option<Probs>, b: Option<Probs>| match (a, b) {
                (Some(a), Some(b)) => a.to_vec().iter().zip(b.to_vec()).all(|(a, b)| (a - b).abs() < 1e-12),
                (a, b) => a.is_none() && b.is_none(),
            };
            prop_assert!(near(p.residual(&point), p.residual(&dense)));
            prop_assert!(near(point.residual(&p), dense.residual(&p)));
        }
    }

    #[test]
    fn edges_of_the_most_probable() {
        let p = Probs::normalize(vec![1.0, 4.0, 2.0, 1.0]).unwrap();
        assert_eq!([1, 2, 3, 9].map(|k| p.kth(k)), [0.5, 0.25, 0.125, 0.125]);
        assert_eq!([0.3, 0.5, 0.6, 0.8, 1.0].map(|mass| p.nucleus(mass)), [0.5, 0.5, 0.25, 0.125, 0.125]);
        let point = Probs::point(2, 4);
        assert_eq!((point.kth(1), point.kth(2), point.nucleus(0.9)), (1.0, 0.0, 1.0));
        let many = Probs::normalize((0..700).map(|i| f64::from((i * 37) % 700)).collect()).unwrap();
        let mut sorted = many.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for k in [1, 64, 65, 300, 600] {
            assert_eq!(many.kth(k), sorted[k - 1]);
            let mass = sorted[..k].iter().sum::<f64>() - 1e-9;
            assert_eq!(many.nucleus(mass), sorted[k - 1]);
        }
    }

    #[test]
    fn entropy_and_divergence_in_closed_form() {
        let (p, q) =
            (Probs::normalize(vec![1.0, 3.0, 0.0]).unwrap(), Probs::normalize(vec![1.0, 1.0, 2.0]).unwrap());
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} {b}");
        near(p.entropy(), 0.25 * 4f64.ln() + 0.75 * (4.0 / 3.0f64).ln());
        near(p.kl(&q), 0.75 * 3f64.ln());
        near(p.kl(&p), 0.0);
        let point = Probs::point(1, 3);
        near(point.entropy(), 0.0);
        near(point.kl(&q), 4f64.ln());
        near(point.kl(&point), 0.0);
        assert_eq!([q.kl(&p), p.kl(&point), Probs::point(2, 3).kl(&p)], [f64::INFINITY; 3]);
    }

    #[test]
    fn jensen_shannon_in_closed_form() {
        let law = |weights: &[f64]| Probs::normalize(weights.to_vec()).unwrap();
        let (p, q) = (law(&[1.0, 3.0, 0.0]), law(&[1.0, 1.0, 2.0]));
        let mixture = law(&[2.0, 4.0, 2.0]);
        assert!((p.jsd(&q) - 0.5 * (p.kl(&mixture) + q.kl(&mixture))).abs() < 1e-15);
        assert!((p.jsd(&q) - q.jsd(&p)).abs() < 1e-15);
        assert_eq!((p.jsd(&p), Probs::point(1, 3).jsd(&Probs::point(1, 3))), (0.0, 0.0));
        // Laws that share nothing are as far apart as can be, however improbable anything is.
        assert!((Probs::point(0, 3).jsd(&Probs::point(2, 3)) - std::f64::consts::LN_2).abs() < 1e-15);
        assert!((law(&[1e-300, 1.0]).jsd(&law(&[1.0, 1e-300])) - std::f64::consts::LN_2).abs() < 1e-15);
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        for weights in [vec![], vec![0.0], vec![1.0, -0.1], vec![f64::NAN, 1.0], vec![f64::INFINITY]] {
            assert!(Probs::normalize(weights.clone()).is_none(), "{weights:?}");
        }
    }
}
