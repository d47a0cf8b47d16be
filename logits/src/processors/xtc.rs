use super::{Context, LogitsProcessor};
use crate::{
    candidates::{Keep, Place, Truncation, View},
    draws,
    select::least,
};

/// Excludes top choices: with a probability, where two tokens or more have at least the probability
/// `threshold`, all of them but the least probable go (and those equal to that stay).
///
/// The coin is a function of seed and position alone. Drafter and expert see the same coin, and so does every
/// round that comes to the position: for a seed the law of a text is fixed, and over the seeds the law at a
/// position is a mixture of the law with and without the exclusion.
///
/// Source: p-e-w, "Exclude Top Choices (XTC)", 2024, a sampler of text-generation-webui and llama.cpp.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Xtc {
    /// The probability with which anything is excluded, at each position; 0 is off.
    pub probability: f64,
    /// What makes a token a top choice. Above 0.5 there never are two.
    pub threshold: f64,
    /// Of the coins.
    pub seed: u64,
}

impl Xtc {
    /// Whether the coin of a position says that top choices are excluded there.
    pub fn excludes(&self, position: usize) -> bool {
        self.tossed(self.seed, position)
    }

    fn tossed(&self, seed: u64, position: usize) -> bool {
        self.probability > 0.0 && draws::coin(seed, position) < self.probability
    }
}

impl Truncation for Xtc {
    fn keep(&self, place: &Place, view: &View<'_>) -> Option<Keep> {
        if !self.tossed(place.seed, place.position) {
            return None;
        }
        let normalizer = view.normalizer();
        if normalizer.max_prob() < self.threshold {
            return None;
        }
        let low = least(normalizer.max(), |logit| normalizer.prob(logit) >= self.threshold);
        let top = view.logits.iter().copied().filter(|logit| *logit >= low);
        Some(Keep::at_most(top.fold(f32::INFINITY, f32::min)))
    }
}

impl LogitsProcessor for Xtc {
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        self.exclude(&Place::of(context, self.seed), row);
    }

    fn is_pure(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{super::kept, *};

    #[test]
    fn all_top_choices_but_the_last_go() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let row = [4f32, 2.0, 1.0, 1.0].map(f32::ln);
        let xtc = |threshold| Xtc { probability: 1.0, threshold, seed: 0 };
        assert_eq!(kept(&xtc(0.6), &row), [0, 1, 2, 3], "no top choice");
        assert_eq!(kept(&xtc(0.3), &row), [0, 1, 2, 3], "one alone stays");
        assert_eq!(kept(&xtc(0.2), &row), [1, 2, 3]);
        assert_eq!(kept(&xtc(0.1), &row), [2, 3], "of equals both stay");
        assert_eq!(kept(&Xtc { probability: 0.0, ..xtc(0.1) }, &row), [0, 1, 2, 3]);
    }

    #[test]
    fn coins_follow_their_probability_and_hang_on_seed_and_position_alone() {
        let xtc = Xtc { probability: 0.3, threshold: 0.1, seed: 5 };
        let n = 20_000;
        let tossed = (0..n).filter(|&position| xtc.excludes(position)).count() as f64 / n as f64;
        assert!((tossed - 0.3).abs() < 5.0 * (0.21 / n as f64).sqrt(), "{tossed}");
        let of_seed = |seed| (0..64).map(|at| Xtc { seed, ..xtc }.excludes(at)).collect::<Vec<_>>();
        assert_eq!(of_seed(5), of_seed(5));
        assert_ne!(of_seed(5), of_seed(6));
    }
}
