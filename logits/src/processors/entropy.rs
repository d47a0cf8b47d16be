use super::process_alone;
use crate::{
    candidates::{Keep, Place, Truncation, View},
    math::Normalizer,
    select::{Masses, edge_of_mass, least},
};

/// Keeps the smallest set of tokens that are about as surprising as can be expected, and whose mass reaches
/// `p`: in order of the difference between surprise and entropy, the least first. 1 is off.
///
/// Tokens that differ as much as the last one kept stay too. The most probable token need not stay.
///
/// Source: Meister, Pimentel, Wiher, Cotterell, "Locally Typical Sampling", 2023.
#[derive(Clone, Copy, Debug)]
pub struct Typical(pub f64);

impl Truncation for Typical {
    fn keep(&self, _place: &Place, view: &View<'_>) -> Option<Keep> {
        if self.0 >= 1.0 {
            return None;
        }
        let (normalizer, entropy) = view.with_entropy();
        let shift = normalizer.log_prob(normalizer.max()) + entropy;
        let masses = normalizer.masses(view.logits);
        let typical = Deviation { logits: view.logits, masses: &masses, normalizer, shift };
        let edge = edge_of_mass(&typical, self.0);
        let mut keep = Keep { low: f32::INFINITY, high: f32::NEG_INFINITY };
        for (index, &logit) in view.logits.iter().enumerate() {
            if typical.key(index) <= edge && logit > f32::NEG_INFINITY {
                keep = Keep { low: keep.low.min(logit), high: keep.high.max(logit) };
            }
        }
        // Where all mass lies on tokens whose surprise rounding hides, the most probable one is left.
        Some(if keep.low <= keep.high { keep } else { Keep { low: normalizer.max(), high: f32::INFINITY } })
    }
}

/// Tokens by how much their surprise differs from the entropy.
struct Deviation<'a> {
    logits: &'a [f32],
    masses: &'a [f64],
    normalizer: Normalizer,
    /// What makes an exponent the difference between surprise and entropy, but for its sign.
    shift: f64,
}

impl Masses for Deviation<'_> {
    fn len(&self) -> usize {
        self.logits.len()
    }

    fn key(&self, index: usize) -> f64 {
        (self.normalizer.exponent(self.logits[index]) + self.shift).abs()
    }

    fn mass(&self, index: usize) -> f64 {
        self.masses[index]
    }

    fn buckets(&self, out: &mut Vec<u32>) {
        self.normalizer.buckets(self.logits, self.shift, out);
    }
}

/// Keeps tokens with a probability of at least `epsilon`; 0 is off.
///
/// Source: Hewitt, Manning, Liang, "Truncation Sampling as Language Model Desmoothing", 2022.
#[derive(Clone, Copy, Debug)]
pub struct Epsilon(pub f64);

impl Truncation for Epsilon {
    fn keep(&self, _place: &Place, view: &View<'_>) -> Option<Keep> {
        if self.0 <= 0.0 {
            return None;
        }
        Some(at_least(self.0, &view.normalizer()))
    }
}

/// Keeps tokens with a probability of at least `epsilon`, or of `sqrt(epsilon) exp(-H)` where that is less, with
/// the entropy `H` in nats; 0 is off.
///
/// Source: Hewitt, Manning, Liang, "Truncation Sampling as Language Model Desmoothing", 2022.
#[derive(Clone, Copy, Debug)]
pub struct Eta(pub f64);

impl Truncation for Eta {
    fn keep(&self, _place: &Place, view: &View<'_>) -> Option<Keep> {
        if self.0 <= 0.0 {
            return None;
        }
        let (normalizer, entropy) = view.with_entropy();
        Some(at_least(self.0.min(self.0.sqrt() * (-entropy).exp()), &normalizer))
    }
}

/// The tokens with a probability of at least this, or the most probable.
fn at_least(probability: f64, normalizer: &Normalizer) -> Keep {
    let low = least(normalizer.max(), |logit| normalizer.prob(logit) >= probability);
    Keep { low, high: f32::INFINITY }
}

process_alone!(Typical, Epsilon, Eta);

#[cfg(test)]
mod tests {
    use super::{super::kept, *};
    use crate::Probs;
    use proptest::prelude::*;

    #[test]
    fn closed_forms() {
        // Probabilities 0.5, 0.25, 0.125, 0.125; the entropy is 1.75 bits.
        let row = [4f32, 2.0, 1.0, 1.0].map(f32::ln);
        assert_eq!(kept(&Typical(0.2), &row), [1], "2 bits are nearest to 1.75");
        assert_eq!(kept(&Typical(0.3), &row), [0, 1], "then 1 bit");
        assert_eq!(kept(&Typical(0.8), &row), [0, 1, 2, 3], "then 3 bits, twice");
        assert_eq!(kept(&Epsilon(0.2), &row), [0, 1]);
        assert_eq!(kept(&Epsilon(0.7), &row), [0], "one is always left");
        // exp(-H) = 2^-1.75 = 0.297, times 0.6 = 0.178.
        assert_eq!(kept(&Eta(0.36), &row), [0, 1]);
        assert_eq!(kept(&Eta(0.1), &row), [0, 1, 2, 3], "0.094 is less than 0.1");
        for off in [&Typical(1.0) as &dyn super::super::LogitsProcessor, &Epsilon(0.0), &Eta(0.0)] {
            assert_eq!(kept(off, &row), [0, 1, 2, 3]);
        }
    }

    proptest! {
        /// Against the definition, on rows long enough for the search by buckets.
        #[test]
        fn typical_is_the_smallest_sufficient_set(row in prop::collection::vec(-6.0..6.0f32, 1..3000), p in 0.01..0.999f64) {
            let probs = Probs::softmax(&row);
            let entropy = probs.entropy();
            let differs = |i: usize| (-probs.get(i as u32).ln() - entropy).abs();
            let kept = kept(&Typical(p), &row);
            let mass: f64 = kept.iter().map(|&i| probs.get(i as u32)).sum();
            let edge = kept.iter().map(|&i| differs(i)).fold(0.0, f64::max);
            prop_assert!(mass >= p - 1e-9);
            let last: f64 = kept.iter().filter(|&&i| differs(i) > edge - 1e-9).map(|&i| probs.get(i as u32)).sum();
            prop_assert!(mass - last < p + 1e-9);
            let (surely, perhaps) = [-1e-9, 1e-9].map(|slack| (0..row.len()).filter(|&i| differs(i) <= edge + slack).count()).into();
            prop_assert!((surely..=perhaps).contains(&kept.len()));
        }
    }
}
