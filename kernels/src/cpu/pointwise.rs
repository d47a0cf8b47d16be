//! Operations on single rows and values.

use super::{
    out::Out,
    simd::{Simd, exp, simd_dispatch},
    stored::Full,
    team,
    tile::{Place, dot},
};
use crate::AttentionShape;
use half::{f16, slice::HalfFloatSliceExt};

/// `x / sqrt(mean(x^2) + epsilon) * weight` for every row of the length of `weight`, into `out`.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let k = weight.len();
    let out = Out::new(out, k);
    let rows = x.len() / k.max(1);
    // A row costs about as much as eight multiply-adds a value.
    team::each(rows, 8 * x.len(), |row| {
        // SAFETY: this thread alone has this row.
        norm_row(&x[row * k..(row + 1) * k], weight, epsilon, unsafe { out.part(row, 0..k) });
    });
}

simd_dispatch! {
    fn norm_row(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) = norm_row_of
}

#[inline(always)]
pub(super) fn norm_row_of<S: Simd>(simd: S, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let k = x.len();
    let mut square = 0.0f32;
    let place = Place { at: &raw mut square, stride: 1 };
    // SAFETY: a row with itself, and one number.
    unsafe { dot::<S, Full, 1, 1, false>(simd, [x.as_ptr()], [x.as_ptr()], k, place) };
    let scale = 1.0 / (square / k as f32 + epsilon).sqrt();
    for ((out, value), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = *value * scale * weight;
    }
}

/// `silu(gate) * up` for every row `[gate, up]` of `2 * width` values, into `out`.
pub(super) fn silu_mul(gate_up: &[f32], width: usize, out: &mut [f32]) {
    let out = Out::new(out, width);
    team::each(gate_up.len() / (2 * width).max(1), 16 * gate_up.len(), |row| {
        let (gate, up) = gate_up[2 * row * width..2 * (row + 1) * width].split_at(width);
        // SAFETY: this thread alone has this row.
        gate_row(gate, up, unsafe { out.part(row, 0..width) });
    });
}

simd_dispatch! {
    /// `silu(gate) * up`.
    pub(super) fn gate_row(gate: &[f32], up: &[f32], out: &mut [f32]) = gate_row_of
}

#[inline(always)]
pub(super) fn gate_row_of<S: Simd>(simd: S, gate: &[f32], up: &[f32], out: &mut [f32]) {
    let mut at = 0;
    while at < out.len() {
        let end = (at + S::LANES).min(out.len());
        let (gate, up) = (simd.load_padded(&gate[at..end], 0.0), simd.load_padded(&up[at..end], 0.0));
        let one = simd.splat(1.0);
        let below = simd.add(one, exp(simd, simd.multiply(gate, simd.splat(-1.0))));
        let lanes = simd.lanes(simd.multiply(simd.divide(gate, below), up));
        out[at..end].copy_from_slice(&lanes[..end - at]);
        at = end;
    }
}

/// What [`rope_and_append`] reads.
#[derive(Clone, Copy)]
pub(super) struct Projected<'a> {
    /// `[m, (heads + 2 kv_heads) * d]`.
    pub(super) qkv: &'a [f32],
    /// `[m, d]`, cosines, then sines.
    pub(super) angles: &'a [f32],
    /// Norms of query heads and key heads, and what is added to the mean square.
    pub(super) norms: Option<(&'a [f32], &'a [f32], f32)>,
    pub(super) shape: AttentionShape,
}

/// A cache that is written.
pub(super) enum CacheMut<'a> {
    F32(&'a mut [f32]),
    F16(&'a mut [f16]),
}

impl CacheMut<'_> {
    fn write(&mut self, at: usize, values: &[f32]) {
        match self {
            Self::F32(cache) => cache[at..at + values.len()].copy_from_slice(values),
            Self::F16(cache) => {
                cache[at..at + values.len()].convert_from_f32_slice(values);
            }
        }
    }
}

/// Rotated queries into `query` `[m, heads * d]`; rotated keys, and values, into the caches.
pub(super) fn rope_and_append(
    of: Projected<'_>,
    query: &mut [f32],
    mut keys: CacheMut<'_>,
    mut values: CacheMut<'_>,
) {
    let shape = of.shape;
    let (q, kv, d) = (shape.query_width(), shape.cache_width(), shape.head_dim);
    let mut rotated = vec![0.0; kv];
    let rows = of.qkv.chunks_exact((q + 2 * kv).max(1)).zip(query.chunks_exact_mut(q.max(1)));
    for (row, (qkv, query)) in rows.enumerate() {
        let angles = &of.angles[row * d..(row + 1) * d];
        let (key, value) = qkv[q..].split_at(kv);
        rotate(&qkv[..q], angles, of.norms.map(|(query, _, epsilon)| (query, epsilon)), query);
        rotate(key, angles, of.norms.map(|(_, key, epsilon)| (key, epsilon)), &mut rotated);
        keys.write((shape.start + row) * kv, &rotated);
        values.write((shape.start + row) * kv, value);
    }
}

simd_dispatch! {
    /// Heads normalised where there is a norm, and rotated.
    fn rotate(heads: &[f32], angles: &[f32], norm: Option<(&[f32], f32)>, out: &mut [f32]) = rotate_of
}

#[inline(always)]
pub(super) fn rotate_of<S: Simd>(
    simd: S,
    heads: &[f32],
    angles: &[f32],
    norm: Option<(&[f32], f32)>,
    out: &mut [f32],
) {
    let d = angles.len();
    let (cos, sin) = angles.split_at(d / 2);
    for (head, out) in heads.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
        match norm {
            Some((weight, epsilon)) => norm_row_of(simd, head, weight, epsilon, out),
            None => out.copy_from_slice(head),
        }
        let (low, high) = out.split_at_mut(d / 2);
        for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
            (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
        }
    }
}
