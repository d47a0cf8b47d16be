use crate::{TokenId, math};

/// One distribution over the vocabulary: nonnegative, sums to 1.
///
/// Built by [`Probs::softmax`], [`Probs::point`] and [`Probs::normalize`] only, so that a value of
/// this type always is a distribution. A point mass (temperature 0, an n-gram draft) takes no memory
/// and makes sampling, coupling and residuals cost nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Probs(Repr);

#[derive(Clone, Debug, PartialEq)]
enum Repr {
    Point { token: TokenId, vocab: usize },
    Dense(Box<[f64]>),
}

impl Probs {
    /// The softmax of a row of logits; `-inf` becomes 0.
    ///
    /// The row must hold a finite value and neither NaN nor `+inf`; [`Sampler::scores`] checks that.
    ///
    /// [`Sampler::scores`]: crate::Sampler::scores
    pub fn softmax(row: &[f32]) -> Self {
        Self(Repr::Dense(math::softmax(row).into()))
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
    pub fn normalize(mut weights: Vec<f64>) -> Option<Self> {
        let sum: f64 = weights.iter().sum();
        if weights.iter().any(|w| !(*w >= 0.0 && w.is_finite())) || !(sum > 0.0 && sum.is_finite()) {
            return None;
        }
        for weight in &mut weights {
            *weight /= sum;
        }
        Some(Self(Repr::Dense(weights.into())))
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

    /// The probabilities in order of token id.
    pub fn to_vec(&self) -> Vec<f64> {
        match &self.0 {
            Repr::Point { token, vocab } => {
                let mut probs = vec![0.0; *vocab];
                probs[*token as usize] = 1.0;
                probs
            }
            Repr::Dense(probs) => probs.to_vec(),
        }
    }

    /// The token at `u` of the cumulative distribution (inverse transform), `u` in `[0, 1)`.
    ///
    /// Never a token of probability 0, whatever the rounding.
    pub fn quantile(&self, u: f64) -> TokenId {
        let probs = match &self.0 {
            Repr::Point { token, .. } => return *token,
            Repr::Dense(probs) => probs,
        };
        let (mut below, mut last) = (0.0, 0);
        for (token, &p) in probs.iter().enumerate() {
            if p > 0.0 {
                last = token;
                below += p;
                if u < below {
                    break;
                }
            }
        }
        last as TokenId
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
                let mut rest = p.to_vec();
                rest[*token as usize] = 0.0; // p - 1 <= 0
                Self::normalize(rest)
            }
            (Repr::Dense(p), Repr::Dense(q)) => {
                Self::normalize(p.iter().zip(q).map(|(p, q)| (p - q).max(0.0)).collect())
            }
        }
    }

    /// Total variation `sum(max(0, self - other))`, from 0 to 1: the rejection rate of a draft from
    /// `other` under the target `self`.
    pub fn total_variation(&self, other: &Self) -> f64 {
        match (&self.0, &other.0) {
            (Repr::Point { token, .. }, _) => 1.0 - other.get(*token),
            (_, Repr::Point { token, .. }) => 1.0 - self.get(*token),
            (Repr::Dense(p), Repr::Dense(q)) => p.iter().zip(q).map(|(p, q)| (p - q).max(0.0)).sum(),
        }
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
    fn what_is_no_distribution_is_refused() {
        for weights in [vec![], vec![0.0], vec![1.0, -0.1], vec![f64::NAN, 1.0], vec![f64::INFINITY]] {
            assert!(Probs::normalize(weights.clone()).is_none(), "{weights:?}");
        }
    }
}
