use super::{Context, LogitsProcessor};
use crate::{buffer::Buffer, math::log_sum_exp};

/// Keeps the `k` most probable tokens, and those equal to the last of them.
///
/// Source: Fan, Lewis, Dauphin, "Hierarchical Neural Story Generation", 2018.
#[derive(Clone, Copy, Debug)]
pub struct TopK(pub usize);

impl LogitsProcessor for TopK {
    fn process(&self, _context: &Context<'_>, row: &mut [f32]) {
        if self.0 == 0 || self.0 >= row.len() {
            return;
        }
        let mut values = Buffer::copy(row);
        let (_, kth, _) = values.as_mut_slice().select_nth_unstable_by(self.0 - 1, |a, b| b.total_cmp(a));
        exclude_below(row, *kth);
    }
}

/// Keeps the smallest set of most probable tokens whose mass reaches `p` (nucleus sampling).
///
/// Tokens as probable as the last one kept stay too, so that the set does not depend on their order.
///
/// Source: Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020.
#[derive(Clone, Copy, Debug)]
pub struct TopP(pub f64);

impl LogitsProcessor for TopP {
    fn process(&self, _context: &Context<'_>, row: &mut [f32]) {
        if self.0 >= 1.0 {
            return;
        }
        let total = log_sum_exp(row);
        let mut values = Buffer::copy(row);
        let mut mass = 0.0;
        let mut sorted = 0;
        // The nucleus is small as a rule: sort the best 64, then eight times as many, and so on.
        let mut block = 64;
        while sorted < values.len() {
            let rest = &mut values.as_mut_slice()[sorted..];
            let take = block.min(rest.len());
            if take < rest.len() {
                rest.select_nth_unstable_by(take - 1, |a, b| b.total_cmp(a));
            }
            rest[..take].sort_unstable_by(|a, b| b.total_cmp(a));
            for &value in &rest[..take] {
                mass += (f64::from(value) - total).exp();
                if mass >= self.0 {
                    return exclude_below(row, value);
                }
            }
            sorted += take;
            block *= 8;
        }
    }
}

/// Keeps tokens at least `min_p` times as probable as the most probable one.
///
/// Source: Nguyen et al., "Turning Up the Heat: Min-p Sampling", 2024.
#[derive(Clone, Copy, Debug)]
pub struct MinP(pub f64);

impl LogitsProcessor for MinP {
    fn process(&self, _context: &Context<'_>, row: &mut [f32]) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let threshold = f64::from(max) + self.0.ln();
        for logit in row {
            if f64::from(*logit) < threshold {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

fn exclude_below(row: &mut [f32], threshold: f32) {
    for logit in row {
        if *logit < threshold {
            *logit = f32::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Probs;
    use proptest::prelude::*;

    fn kept(processor: &dyn LogitsProcessor, row: &[f32]) -> Vec<usize> {
        let mut row = row.to_vec();
        processor.process(&Context::new(&[], 0), &mut row);
        (0..row.len()).filter(|&i| row[i] > f32::NEG_INFINITY).collect()
    }

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
    }

    proptest! {
        /// Against the definition, on rows long enough for several blocks of the selection.
        #[test]
        fn top_p_is_the_smallest_sufficient_set(row in prop::collection::vec(-6.0..6.0f32, 1..900), p in 0.01..0.999f64) {
            let probs = Probs::softmax(&row);
            let kept = kept(&TopP(p), &row);
            let mass: f64 = kept.iter().map(|&i| probs.get(i as u32)).sum();
            let least = kept.iter().map(|&i| probs.get(i as u32)).fold(1.0, f64::min);
            prop_assert!(mass >= p - 1e-9);
            let ties = kept.iter().filter(|&&i| probs.get(i as u32) == least).count() as f64;
            prop_assert!(mass - least * ties < p + 1e-9, "without its least probable tokens the set must not suffice");
            prop_assert!((0..row.len()).all(|i| kept.contains(&i) || probs.get(i as u32) <= least));
        }
    }
}
