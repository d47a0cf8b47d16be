use super::process_alone;
use crate::{
    buffer::Buffer,
    candidates::{Keep, Place, Truncation, View},
    math::Normalizer,
    scan,
    select::{Masses, edge_of_mass, kth_largest, least},
    simd,
};

/// Keeps the `k` most probable tokens, and those equal to the last of them; 0 is off.
///
/// Source: Fan, Lewis, Dauphin, "Hierarchical Neural Story Generation", 2018.
#[derive(Clone, Copy, Debug)]
pub struct TopK(pub usize);

impl Truncation for TopK {
    fn keep(&self, _place: &Place, view: &View<'_>) -> Option<Keep> {
        if self.0 == 0 || self.0 >= view.logits.len() {
            return None;
        }
        Keep::at_least(kth_largest(view.logits, self.0))
    }
}

/// Keeps the smallest set of most probable tokens whose mass reaches `p` (nucleus sampling); 1 is off.
///
/// Tokens as probable as the last one kept stay too, so that the set does not depend on their order.
///
/// Source: Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020.
#[derive(Clone, Copy, Debug)]
pub struct TopP(pub f64);

impl Truncation for TopP {
    fn keep(&self, _place: &Place, view: &View<'_>) -> Option<Keep> {
        if self.0 >= 1.0 {
            return None;
        }
        let normalizer = view.normalizer();
        // All tokens below this together have half of what may be missing: none of them is in the set.
        let negligible = (1.0 - self.0) / (2 * view.logits.len()) as f64;
        let low = least(normalizer.max(), |logit| normalizer.prob(logit) >= negligible);
        let logits = Buffer::fill(0, |kept| {
            scan::each_chunk_within(view.logits, low, f32::INFINITY, |_, chunk| {
                kept.extend(chunk.iter().copied().filter(|logit| *logit >= low));
            });
        });
        let masses = normalizer.masses(&logits);
        let nucleus = Descending { logits: &logits, masses: &masses, normalizer };
        Keep::at_least(-edge_of_mass(&nucleus, self.0) as f32)
    }
}

/// Logits with their probabilities, the largest first.
struct Descending<'a> {
    logits: &'a [f32],
    masses: &'a [f64],
    normalizer: Normalizer,
}

impl Masses for Descending<'_> {
    fn len(&self) -> usize {
        self.logits.len()
    }

    fn key(&self, index: usize) -> f64 {
        -f64::from(self.logits[index])
    }

    fn mass(&self, index: usize) -> f64 {
        self.masses[index]
    }

    fn buckets(&self, out: &mut Vec<u32>) {
        self.normalizer.buckets(self.logits, 0.0, out);
    }
}

/// Keeps tokens at least this share as probable as the most probable one; 0 is off.
///
/// Source: Nguyen et al., "Turning Up the Heat: Min-p Sampling", 2024.
#[derive(Clone, Copy, Debug)]
pub struct MinP(pub f64);

impl Truncation for MinP {
    fn keep(&self, _place: &Place, view: &View<'_>) -> Option<Keep> {
        if self.0 <= 0.0 {
            return None;
        }
        let (max, share) = (view.max(), self.0.ln());
        Keep::at_least(least(max, |logit| simd::exponent(logit, max, view.temperature) >= share))
    }
}

/// Keeps tokens whose logit is within `n` standard deviations (of all logits above `-inf`) of the largest;
/// 0 is off. A temperature changes nothing of it.
///
/// Source: Tang et al., "Top-nσ: Not All Logits Are You Need", 2024.
#[derive(Clone, Copy, Debug)]
pub struct TopNSigma(pub f64);

impl Truncation for TopNSigma {
    fn keep(&self, _place: &Place, view: &View<'_>) -> Option<Keep> {
        if self.0 <= 0.0 {
            return None;
        }
        let (_, _, variance) = scan::moments(view.logits);
        let max = view.max();
        let low = f64::from(max) - self.0 * variance.sqrt();
        Keep::at_least(least(max, |logit| f64::from(logit) >= low))
    }
}

process_alone!(TopK, TopP, MinP, TopNSigma);

#[cfg(test)]
mod tests {
    use super::{super::kept, *};
    use crate::Probs;
    use proptest::prelude::*;

    #[test]
    fn closed_forms() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let row = [4f32, 2.0, 1.0, 1.0].map(f32::ln);
        assert_eq!(kept(&TopK(2), &row), [0, 1]);
        assert_eq!(kept(&TopK(3), &row), [0, 1, 2, 3], "a tie stays");
        assert_eq!(kept(&TopK(0), &row), [0, 1, 2, 3], "0 switches it off");
        assert_eq!(kept(&TopP(0.4), &row), [0]);
        assert_eq!(kept(&TopP(0.6), &row), [0, 1]);
        assert_eq!(kept(&TopP(1.0), &row), [0, 1, 2, 3]);
        assert_eq!(kept(&MinP(0.4), &row), [0, 1]);
        assert_eq!(kept(&MinP(0.0), &row), [0, 1, 2, 3]);
        assert_eq!(kept(&MinP(1.0), &row), [0]);
        // Of -4, 0, 2, 2 the deviation is sqrt(6).
        let row = [-4.0, 0.0, 2.0, 2.0, f32::NEG_INFINITY];
        assert_eq!(kept(&TopNSigma(0.8), &row), [2, 3]);
        assert_eq!(kept(&TopNSigma(0.9), &row), [1, 2, 3]);
        assert_eq!(kept(&TopNSigma(2.5), &row), [0, 1, 2, 3]);
        assert_eq!(kept(&TopNSigma(0.0), &row), [0, 1, 2, 3]);
    }

    proptest! {
        /// Against the definition, on rows long enough for the search by buckets.
        #[test]
        fn top_p_is_the_smallest_sufficient_set(row in prop::collection::vec(-6.0..6.0f32, 1..3000), p in 0.01..0.999f64) {
            let probs = Probs::softmax(&row);
            let kept = kept(&TopP(p), &row);
            let mass: f64 = kept.iter().map(|&i| probs.get(i as u32)).sum();
            let least = kept.iter().map(|&i| probs.get(i as u32)).fold(1.0, f64::min);
            prop_assert!(mass >= p - 1e-9);
            let ties = kept.iter().filter(|&&i| probs.get(i as u32) == least).count() as f64;
            prop_assert!(mass - least * ties < p + 1e-9, "without its least probable tokens the set must not suffice");
            prop_assert!(probs.to_vec().iter().filter(|p| **p >= least).count() == kept.len());
        }
    }
}
