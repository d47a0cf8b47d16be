use super::{Context, LogitsProcessor};
use crate::{candidates::View, simd};

/// A temperature that follows the row's entropy `H`: from `temperature - range` where one token has all mass to
/// `temperature + range` where all are equal, along `(H / max H)^exponent`.
///
/// Source: kalomaze, "Dynamic Temperature", 2023, a sampler of `KoboldCpp` and llama.cpp.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct DynamicTemperature {
    /// The middle, above 0.
    pub temperature: f32,
    /// How far it goes up and down, though never below 0.
    pub range: f32,
    /// Above 1 it stays low longer.
    pub exponent: f32,
}

impl DynamicTemperature {
    /// The temperature of a row.
    pub(crate) fn of(&self, view: &View<'_>) -> f32 {
        let tokens = view.logits.iter().filter(|logit| **logit > f32::NEG_INFINITY).count();
        let most = (tokens as f64).ln();
        let (_, entropy) = view.with_entropy();
        let share = if tokens > 1 { (entropy / most).clamp(0.0, 1.0) } else { 0.0 };
        let (low, high) = ((self.temperature - self.range).max(0.0), self.temperature + self.range);
        let temperature = f64::from(low) + f64::from(high - low) * share.powf(f64::from(self.exponent));
        // At 0 it is the limit, all mass on the most probable, without a division by 0.
        (temperature as f32).max(f32::MIN_POSITIVE)
    }
}

impl LogitsProcessor for DynamicTemperature {
    fn process(&self, _context: &Context<'_>, row: &mut [f32]) {
        let max = simd::max(row);
        if max > f32::NEG_INFINITY {
            let temperature = self.of(&View { logits: row, temperature: None });
            simd::shift_and_divide(row, max, temperature);
        }
    }

    fn is_pure(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temperature(row: &[f32], exponent: f32) -> f32 {
        DynamicTemperature { temperature: 1.0, range: 0.5, exponent }
            .of(&View { logits: row, temperature: None })
    }

    #[test]
    fn it_goes_from_certain_to_flat() {
        assert_eq!(temperature(&[3.0; 8], 1.0), 1.5);
        assert_eq!(temperature(&[0.0, -1e4, f32::NEG_INFINITY], 1.0), 0.5);
        assert_eq!(temperature(&[7.0], 1.0), 0.5);
        // Two equal tokens among four: half of the highest entropy.
        let half = [0.0, 0.0, -800.0, -800.0];
        assert!((temperature(&half, 1.0) - 1.0).abs() < 1e-6);
        assert!((temperature(&half, 2.0) - 0.75).abs() < 1e-6);
    }

    #[test]
    fn down_to_zero_it_is_a_point() {
        let mut row = [1.0, 1.5, -1e4];
        DynamicTemperature { temperature: 0.1, range: 9.0, exponent: 60.0 }
            .process(&Context::new(&[], 0), &mut row);
        assert_eq!(row[1], 0.0);
        assert!(row[0] < -1e3 && !row[2].is_nan());
    }
}
