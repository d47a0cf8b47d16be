//! Angles of the rotary embedding.

use super::config::{RopeConfig, RopeScaling};
use std::f64::consts::TAU;

/// Frequencies in radians per position, one a pair of dimensions.
///
/// Source: Su et al., "`RoFormer`", 2021, section 3.2; the stretching of Llama 3.1 as in Hugging Face
/// transformers (`rope_type: llama3`).
pub(super) fn frequencies(rope: &RopeConfig, head_dim: usize) -> Vec<f64> {
    (0..head_dim / 2)
        .map(|pair| {
            let frequency = rope.theta.powf(-2.0 * pair as f64 / head_dim as f64);
            match rope.scaling {
                RopeScaling::None => frequency,
                RopeScaling::Linear(factor) => frequency / factor,
                RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                    let turns = original_context * frequency / TAU;
                    let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    let kept = kept.clamp(0.0, 1.0);
                    frequency * (kept + (1.0 - kept) / factor)
                }
            }
        })
        .collect()
}

/// Cosines and then sines for each position, `[positions, head_dim]`.
pub(super) fn angles(frequencies: &[f64], positions: impl Iterator<Item = usize>) -> Vec<f32> {
    let mut out = Vec::new();
    for position in positions {
        let angle = |frequency: &f64| position as f64 * frequency;
        out.extend(frequencies.iter().map(|frequency| angle(frequency).cos() as f32));
        out.extend(frequencies.iter().map(|frequency| angle(frequency).sin() as f32));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_stretches_long_wavelengths_only() {
        let plain = RopeConfig { theta: 5e5, scaling: RopeScaling::None };
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        };
        let (plain, scaled) =
            (frequencies(&plain, 128), frequencies(&RopeConfig { theta: 5e5, scaling }, 128));
        assert_eq!(plain[0], scaled[0], "one radian a position is short");
        assert!((plain[63] / scaled[63] - 8.0).abs() < 1e-12, "the longest is stretched whole");
        assert!(plain.iter().zip(&scaled).all(|(p, s)| (1.0..=8.0 + 1e-9).contains(&(p / s))));
    }

    #[test]
    fn angles_are_laid_out_by_position() {
        let angles = angles(&[1.0, 0.5], [0, 2].into_iter());
        let (two, one) = (2f64, 1f64);
        let expected = [1.0, 1.0, 0.0, 0.0, two.cos(), one.cos(), two.sin(), one.sin()];
        assert_eq!(angles, expected.map(|x| x as f32));
    }
}
