//! The operations composed of stock Burn operations, for every device.
//!
//! Shapes as in the functions of the same names in the crate root.

use crate::AttentionShape;
use burn::tensor::{
    Bool, DType, Int, Tensor, TensorData,
    activation::{sigmoid, softmax},
    s,
};

/// See [`crate::linear`].
pub fn linear(x: Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> Tensor<2> {
    let out = x.cast(weight.dtype()).matmul(weight.clone().transpose()).cast(DType::F32);
    match bias {
        Some(bias) => out + bias.clone().unsqueeze(),
        None => out,
    }
}

/// See [`crate::rms_norm`].
pub fn rms_norm(x: Tensor<2>, weight: &Tensor<1>, epsilon: f64) -> Tensor<2> {
    let mean = (x.clone() * x.clone()).mean_dim(1);
    x / (mean + epsilon).sqrt() * weight.clone().unsqueeze()
}

/// See [`crate::silu_mul`].
pub fn silu_mul(gate_up: Tensor<2>) -> Tensor<2> {
    let half = gate_up.dims()[1] / 2;
    let gate = gate_up.clone().slice(s![.., 0..half]);
    let up = gate_up.slice(s![.., half..]);
    gate.clone() * sigmoid(gate) * up
}

/// See [`crate::rope`].
pub fn rope(x: Tensor<2>, cos: &Tensor<2>, sin: &Tensor<2>) -> Tensor<2> {
    let ([m, width], [_, half]) = (x.dims(), cos.dims());
    let heads = width / (2 * half);
    let x = x.reshape([m, heads, 2 * half]);
    let (low, high) = (x.clone().slice(s![.., .., 0..half]), x.slice(s![.., .., half..]));
    let (cos, sin) = (cos.clone().unsqueeze_dim::<3>(1), sin.clone().unsqueeze_dim::<3>(1));
    let rotated = vec![low.clone() * cos.clone() - high.clone() * sin.clone(), high * cos + low * sin];
    Tensor::cat(rotated, 2).reshape([m, width])
}

/// See [`crate::attention`].
pub fn attention(query: Tensor<2>, keys: &Tensor<2>, values: &Tensor<2>, shape: AttentionShape) -> Tensor<2> {
    let AttentionShape { heads, kv_heads, head_dim, start, .. } = shape;
    let [m, width] = query.dims();
    let (group, filled) = (heads / kv_heads, start + m);
    let mask =
        mask(&query, m, shape).unsqueeze_dim::<3>(0).repeat_dim(0, group).reshape([1, group * m, filled]);
    // The query heads of a group lie next to each other: they become rows of one product.
    let query = query.reshape([m, heads, head_dim]).swap_dims(0, 1).reshape([kv_heads, group * m, head_dim]);
    let rows = |cache: &Tensor<2>| {
        cache.clone().slice(s![0..filled, ..]).reshape([filled, kv_heads, head_dim]).swap_dims(0, 1)
    };
    let scores = query.matmul(rows(keys).swap_dims(1, 2)) * (1.0 / (head_dim as f64).sqrt());
    let scores = scores.mask_fill(mask.expand([kv_heads, group * m, filled]), f32::NEG_INFINITY);
    softmax(scores, 2).matmul(rows(values)).reshape([heads, m, head_dim]).swap_dims(0, 1).reshape([m, width])
}

/// `[m, start + m]`, true where a position is hidden.
fn mask(query: &Tensor<2>, m: usize, shape: AttentionShape) -> Tensor<2, Bool> {
    let filled = shape.start + m;
    let hidden = (0..m).flat_map(|row| {
        let visible = shape.visible(shape.start + row);
        (0..filled).map(move |position| i32::from(!visible.contains(&position)))
    });
    let data = TensorData::new(hidden.collect::<Vec<i32>>(), [m, filled]);
    Tensor::<2, Int>::from_data(data, &query.device()).equal_elem(1)
}
