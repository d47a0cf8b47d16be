use super::{Context, LogitsProcessor};
use crate::simd;

/// Divides every logit by a temperature above 0. (Temperature 0 is a point mass, which is the
/// sampler's business.)
#[derive(Clone, Copy, Debug)]
pub struct Temperature(pub f32);

impl LogitsProcessor for Temperature {
    fn process(&self, _context: &Context<'_>, row: &mut [f32]) {
        // Shifted first: a tiny temperature must not turn a large logit into +inf.
        let max = simd::max(row);
        if max > f32::NEG_INFINITY {
            simd::shift_and_divide(row, max, self.0);
        }
    }

    fn is_pure(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tiny_temperature_sharpens_without_overflow() {
        let mut row = [1e30, 1e30, -1e30, f32::NEG_INFINITY];
        Temperature(1e-20).process(&Context::new(&[], 0), &mut row);
        assert_eq!(row, [0.0, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }
}
