//! Operations on single rows and values.

use super::simd::{Simd, dot, exp, simd_dispatch};

simd_dispatch! {
    /// `x / sqrt(mean(x^2) + epsilon) * weight` for every row of the length of `weight`.
    pub(crate) fn rms_norm(x: &mut [f32], weight: &[f32], epsilon: f32) = rms_norm_of
}

#[inline(always)]
pub(super) fn rms_norm_of<S: Simd>(simd: S, x: &mut [f32], weight: &[f32], epsilon: f32) {
    for row in x.chunks_exact_mut(weight.len()) {
        let square = dot(simd, [row], [row])[0][0];
        let scale = 1.0 / (square / weight.len() as f32 + epsilon).sqrt();
        for (value, weight) in row.iter_mut().zip(weight) {
            *value = *value * scale * weight;
        }
    }
}

simd_dispatch! {
    /// `silu(gate) * up` for every row `[gate, up]` of `2 * width` values.
    pub(crate) fn silu_mul(gate_up: &[f32], width: usize) -> Vec<f32> = silu_mul_of
}

#[inline(always)]
pub(super) fn silu_mul_of<S: Simd>(simd: S, gate_up: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; gate_up.len() / 2];
    for (out, row) in out.chunks_exact_mut(width).zip(gate_up.chunks_exact(2 * width)) {
        let (gate, up) = row.split_at(width);
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate / (1.0 + exp(simd, -gate)) * up;
        }
    }
    out
}

/// Rotates both halves of every head of every row by the row's angles.
pub(crate) fn rope(x: &mut [f32], cos: &[f32], sin: &[f32], width: usize, half: usize) {
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (row, (cos, sin)) in x.chunks_exact_mut(width).zip(angles) {
        for head in row.chunks_exact_mut(2 * half) {
            let (low, high) = head.split_at_mut(half);
            for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
            }
        }
    }
}
