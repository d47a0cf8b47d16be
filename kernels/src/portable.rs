//! The operations composed of stock Burn operations, for every device.
//!
//! Shapes as in the functions of the same names in the crate root. They panic where those do, and where a
//! device fails.

#![allow(clippy::missing_panics_doc, reason = "said above")]
#![allow(clippy::needless_pass_by_value, reason = "signatures are those of the crate root")]

use crate::{AttentionShape, HeadNorms, HostBlocks, RowStatistics, Weight, append};
use burn::tensor::{
    Bool, DType, Int, Tensor, TensorData,
    activation::{sigmoid, softmax},
    s,
};

/// The values of a weight as an f32 or f16 matrix; blocks are unpacked on the host.
pub fn dense(weight: &Weight) -> Tensor<2> {
    match weight {
        Weight::Dense(tensor) => tensor.clone(),
        Weight::Blocks { quants, scales, format, columns } => {
            let quants = quants.to_data().as_bytes().to_vec();
            let scales = scales.to_data().convert::<half::f16>().try_into_vec().expect("just converted");
            let blocks = HostBlocks { format: *format, columns: *columns, quants, scales };
            Tensor::from_data(TensorData::new(blocks.dequantize(), weight.dims()), &weight.device())
        }
        Weight::Parts(parts) => {
            Tensor::cat(parts.iter().map(|part| dense(part).cast(DType::F32)).collect(), 0)
        }
    }
}

/// See [`crate::linear`].
pub fn linear(x: Tensor<2>, weight: &Weight, bias: Option<&Tensor<1>>) -> Tensor<2> {
    let weight = dense(weight);
    let out = x.cast(weight.dtype()).matmul(weight.transpose()).cast(DType::F32);
    match bias {
        Some(bias) => out + bias.clone().unsqueeze(),
        None => out,
    }
}

/// See [`crate::gated_linear`].
pub fn gated_linear(x: Tensor<2>, gate_up: &Weight) -> Tensor<2> {
    silu_mul(linear(x, gate_up, None))
}

/// See [`crate::embed`].
pub fn embed(weight: &Weight, ids: Tensor<1, Int>) -> Tensor<2> {
    dense(weight).select(0, ids).cast(DType::F32)
}

/// See [`crate::rms_norm`].
pub fn rms_norm(x: Tensor<2>, weight: &Tensor<1>, epsilon: f64) -> Tensor<2> {
    let mean = (x.clone() * x.clone()).mean_dim(1);
    x / (mean + epsilon).sqrt() * weight.clone().unsqueeze()
}

/// `silu(gate) * up` of rows `[gate, up]`.
pub(crate) fn silu_mul(gate_up: Tensor<2>) -> Tensor<2> {
    let half = gate_up.dims()[1] / 2;
    let gate = gate_up.clone().slice(s![.., 0..half]);
    let up = gate_up.slice(s![.., half..]);
    gate.clone() * sigmoid(gate) * up
}

/// Rotates every head of `x` `[m, heads * d]`; `angles` as in [`crate::rope_and_append`].
fn rope(x: Tensor<2>, angles: &Tensor<2>) -> Tensor<2> {
    let ([m, width], [_, d]) = (x.dims(), angles.dims());
    let (heads, half) = (width / d, d / 2);
    let x = x.reshape([m, heads, d]);
    let (low, high) = (x.clone().slice(s![.., .., 0..half]), x.slice(s![.., .., half..]));
    let cos = angles.clone().slice(s![.., 0..half]).unsqueeze_dim::<3>(1);
    let sin = angles.clone().slice(s![.., half..]).unsqueeze_dim::<3>(1);
    let rotated = vec![low.clone() * cos.clone() - high.clone() * sin.clone(), high * cos + low * sin];
    Tensor::cat(rotated, 2).reshape([m, width])
}

/// See [`crate::rope_and_append`].
pub fn rope_and_append(
    qkv: Tensor<2>,
    angles: &Tensor<2>,
    norms: Option<HeadNorms<'_>>,
    cache: (Tensor<2>, Tensor<2>),
    shape: AttentionShape,
) -> (Tensor<2>, (Tensor<2>, Tensor<2>)) {
    let (q, kv, d) = (shape.query_width(), shape.cache_width(), shape.head_dim);
    let part = |range: std::ops::Range<usize>| qkv.clone().slice(s![.., range]);
    let (mut query, mut key, value) = (part(0..q), part(q..q + kv), part(q + kv..q + 2 * kv));
    if let Some(norms) = norms {
        let norm = |x: Tensor<2>, weight: &Tensor<1>| {
            let [m, width] = x.dims();
            rms_norm(x.reshape([m * width / d, d]), weight, norms.epsilon).reshape([m, width])
        };
        (query, key) = (norm(query, norms.query), norm(key, norms.key));
    }
    let (mut keys, mut values) = cache;
    append(&mut keys, rope(key, angles), shape.start);
    append(&mut values, value, shape.start);
    (rope(query, angles), (keys, values))
}

/// See [`crate::attention`].
pub fn attention(
    query: Tensor<2>,
    keys: &Tensor<2>,
    values: &Tensor<2>,
    ancestors: Option<&Tensor<2, Int>>,
    shape: AttentionShape,
) -> Tensor<2> {
    let AttentionShape { heads, kv_heads, head_dim, start, .. } = shape;
    let [m, width] = query.dims();
    let (group, filled) = (heads / kv_heads, start + m);
    let mask = mask(&query, ancestors, shape);
    let mask = mask.unsqueeze_dim::<3>(0).repeat_dim(0, group).reshape([1, group * m, filled]);
    // The query heads of a group lie next to each other: they become rows of one product.
    let query = query.reshape([m, heads, head_dim]).swap_dims(0, 1).reshape([kv_heads, group * m, head_dim]);
    let rows = |cache: &Tensor<2>| {
        let filled_rows = cache.clone().slice(s![0..filled, ..]).cast(DType::F32);
        filled_rows.reshape([filled, kv_heads, head_dim]).swap_dims(0, 1)
    };
    let scores = query.matmul(rows(keys).swap_dims(1, 2)) * (1.0 / (head_dim as f64).sqrt());
    let scores = scores.mask_fill(mask.expand([kv_heads, group * m, filled]), f32::NEG_INFINITY);
    softmax(scores, 2).matmul(rows(values)).reshape([heads, m, head_dim]).swap_dims(0, 1).reshape([m, width])
}

/// `[m, start + m]`, true where a position is hidden.
fn mask(query: &Tensor<2>, ancestors: Option<&Tensor<2, Int>>, shape: AttentionShape) -> Tensor<2, Bool> {
    let (m, start) = (query.dims()[0], shape.start);
    let sees: Vec<bool> = match ancestors {
        Some(tree) => {
            let tree = tree.to_data().convert::<i32>().try_into_vec::<i32>().expect("just converted");
            tree.into_iter().map(|seen| seen != 0).collect()
        }
        None => (0..m * m).map(|index| index % m <= index / m).collect(),
    };
    let depth = |row: usize| sees[row * m..][..m].iter().filter(|seen| **seen).count();
    let hidden = (0..m).flat_map(|row| {
        let (sees, position) = (&sees, start + depth(row) - 1);
        (0..start + m).map(move |other| {
            let (seen, at) = match other.checked_sub(start) {
                Some(column) => (sees[row * m + column], start + depth(column) - 1),
                None => (true, other),
            };
            i32::from(!seen || shape.window.is_some_and(|window| at + window <= position))
        })
    });
    let data = TensorData::new(hidden.collect::<Vec<i32>>(), [m, start + m]);
    Tensor::<2, Int>::from_data(data, &query.device()).equal_elem(1)
}

/// See [`crate::verify`]: computed on the host in f64, `[m, 8]` in the order of the fields of
/// [`RowStatistics`].
pub fn verify(
    logits: Tensor<2>,
    drafted: Tensor<1, Int>,
    noise: Tensor<1>,
    draft: Option<&Tensor<2>>,
    temperature: f64,
) -> Tensor<2> {
    let (device, [m, vocab]) = (logits.device(), logits.dims());
    let floats = |data: TensorData| data.convert::<f32>().try_into_vec::<f32>().expect("just converted");
    let (logits, noise) = (floats(logits.into_data()), floats(noise.into_data()));
    let drafted = drafted.into_data().convert::<i32>().try_into_vec::<i32>().expect("just converted");
    let draft = draft.map(|draft| floats(draft.to_data()));
    let rows = (0..m).flat_map(|row| {
        let q = draft.as_ref().map(|draft| &draft[row * vocab..][..vocab]);
        let logits = &logits[row * vocab..][..vocab];
        verify_row(logits, drafted[row] as usize, noise[row], q, temperature).to_row()
    });
    let data = TensorData::new(rows.collect::<Vec<f32>>(), [m, RowStatistics::WIDTH]);
    Tensor::from_data(data, &device)
}

/// The statistics of one row, in f64: the reference for every device. A `drafted` token outside the vocabulary
/// is nothing.
pub fn verify_row(
    logits: &[f32],
    drafted: usize,
    noise: f32,
    draft: Option<&[f32]>,
    temperature: f64,
) -> RowStatistics {
    let scaled = |token: usize| f64::from(logits[token]) / temperature;
    let argmax =
        (0..logits.len()).fold(0, |best, token| if logits[token] > logits[best] { token } else { best });
    let max = scaled(argmax);
    let log_sum_exp = max + (0..logits.len()).map(|token| (scaled(token) - max).exp()).sum::<f64>().ln();
    let p = |token: usize| (scaled(token) - log_sum_exp).exp();
    let q = |token: usize| match draft {
        Some(draft) => draft.get(token).copied().map_or(0.0, f64::from),
        None => f64::from(u8::from(token == drafted)),
    };
    let residual = |token: usize| (p(token) - q(token)).max(0.0);
    let mass: f64 = (0..logits.len()).map(residual).sum();
    let distance: f64 = (0..logits.len()).map(|token| (p(token) - q(token)).abs()).sum::<f64>() / 2.0;
    let (mut sum, mut sample, target) = (0.0, argmax, f64::from(noise) * mass);
    for token in 0..logits.len() {
        let more = residual(token);
        if more > 0.0 {
            (sum, sample) = (sum + more, token);
            if sum > target {
                break;
            }
        }
    }
    let known = drafted < logits.len();
    RowStatistics {
        argmax: argmax as u32,
        max: max as f32,
        log_sum_exp: log_sum_exp as f32,
        p: if known { p(drafted) as f32 } else { 0.0 },
        q: if known { q(drafted) as f32 } else { 0.0 },
        total_variation: distance as f32,
        residual_mass: mass as f32,
        residual_sample: sample as u32,
    }
}
