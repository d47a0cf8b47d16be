//! Norms, rotations and writing into the cache: passes over rows.

use super::{
    elem, grid, lanes,
    linear::{add_products, total},
    output, vector_size,
};
use crate::{AttentionShape, backend::HeadNormsOf};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

pub(super) fn rms_norm(x: CubeTensor, weight: CubeTensor, epsilon: f64) -> CubeTensor {
    let (x, weight) = (into_contiguous(x), into_contiguous(weight));
    let (m, k) = (x.meta.shape()[0], x.meta.shape()[1]);
    let out = output(&x, [m, k]);
    if m * k == 0 {
        return out;
    }
    let client = x.client.clone();
    let lanes = lanes(&client);
    let (count, dim) = grid(&client, m, lanes);
    // SAFETY: units beyond the rows return, and none reads or writes beyond its row.
    unsafe {
        rms_norm_kernel::launch_unchecked(
            &client,
            count,
            dim,
            vector_size(k),
            x.into_tensor_arg(),
            weight.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            m,
            k,
            epsilon as f32,
            lanes,
        );
    }
    out
}

/// `lanes` units normalise a row.
#[cube(launch_unchecked)]
fn rms_norm_kernel<N: Size>(
    x: &Tensor<Vector<f32, N>>,
    weight: &Tensor<Vector<f32, N>>,
    out: &mut Tensor<Vector<f32, N>>,
    m: usize,
    k: usize,
    epsilon: f32,
    #[comptime] lanes: usize,
) {
    let row = ABSOLUTE_POS / lanes;
    let lane = ABSOLUTE_POS % lanes;
    if row >= m {
        terminate!();
    }
    let width = k / N::value();
    let steps = width.div_ceil(lanes);
    let mut sum = 0.0f32;
    for step in 0..steps {
        let i = step * lanes + lane;
        if i < width {
            let value = x[row * width + i];
            sum = add_products(sum, value, value);
        }
    }
    let mean = total(sum, lanes) / f32::cast_from(k);
    let scale = Vector::new(1.0f32 / f32::sqrt(mean + epsilon));
    for step in 0..steps {
        let i = step * lanes + lane;
        if i < width {
            out[row * width + i] = x[row * width + i] * scale * weight[i];
        }
    }
}

pub(super) fn rope_and_append(
    qkv: CubeTensor,
    angles: CubeTensor,
    norms: HeadNormsOf<CubeBackend>,
    keys: CubeTensor,
    values: CubeTensor,
    shape: AttentionShape,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let (qkv, angles) = (into_contiguous(qkv), into_contiguous(angles));
    let (keys, values) = (owned(keys), owned(values));
    let AttentionShape { heads, kv_heads, head_dim, start, .. } = shape;
    let m = qkv.meta.shape()[0];
    let query = output(&qkv, [m, heads * head_dim]);
    if m * head_dim == 0 {
        return (query, keys, values);
    }
    let client = qkv.client.clone();
    let (normed, query_norm, key_norm, epsilon) = match norms {
        // What is not there is never read.
        HeadNormsOf::None => (false, angles.clone(), angles.clone(), 0.0),
        HeadNormsOf::Some { query, key, epsilon } => {
            (true, into_contiguous(query), into_contiguous(key), epsilon)
        }
    };
    let planes = lanes(&client) > 1;
    // Without planes a unit has a pair of values, and sums up the squares of its head for itself.
    let lanes = if planes { lanes(&client) } else { head_dim / 2 };
    let groups = m * (heads + 2 * kv_heads);
    let (count, dim) =
        grid(&client, if planes { groups } else { groups * lanes }, if planes { lanes } else { 1 });
    let cache = elem(keys.dtype);
    // SAFETY: units beyond the heads return; the rows of the cache were checked against its length, and
    // nobody else holds it.
    unsafe {
        rope_kernel::launch_unchecked(
            &client,
            count,
            dim,
            qkv.into_tensor_arg(),
            angles.into_tensor_arg(),
            query_norm.into_tensor_arg(),
            key_norm.into_tensor_arg(),
            query.clone().into_tensor_arg(),
            keys.clone().into_tensor_arg(),
            values.clone().into_tensor_arg(),
            m,
            heads,
            kv_heads,
            start,
            epsilon as f32,
            head_dim,
            lanes,
            planes,
            normed,
            cache,
        );
    }
    (query, keys, values)
}

/// The tensor if nobody else holds it, or a copy.
fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// `lanes` units rotate a head of a row, or copy it where it is one of the values.
#[cube(launch_unchecked)]
fn rope_kernel<C: Float>(
    qkv: &Tensor<f32>,
    angles: &Tensor<f32>,
    query_norm: &Tensor<f32>,
    key_norm: &Tensor<f32>,
    query: &mut Tensor<f32>,
    keys: &mut Tensor<C>,
    values: &mut Tensor<C>,
    m: usize,
    heads: usize,
    kv_heads: usize,
    start: usize,
    epsilon: f32,
    #[comptime] d: usize,
    #[comptime] lanes: usize,
    #[comptime] planes: bool,
    #[comptime] normed: bool,
    #[define(C)] _cache: ElemType,
) {
    let half = comptime!(d / 2);
    let all = heads + 2 * kv_heads;
    let group = ABSOLUTE_POS / lanes;
    let lane = ABSOLUTE_POS % lanes;
    let row = group / all;
    let head = group % all;
    if row >= m {
        terminate!();
    }
    let from = (row * all + head) * d;
    let is_value = head >= heads + kv_heads;
    let is_query = head < heads;

    let mut scale = 1.0f32;
    if comptime!(normed) {
        let mut sum = 0.0f32;
        if comptime!(planes) {
            for step in 0..comptime!(d.div_ceil(lanes)) {
                let i = step * lanes + lane;
                if i < d {
                    sum += qkv[from + i] * qkv[from + i];
                }
            }
            sum = plane_sum(sum);
        } else {
            for i in 0..d {
                sum += qkv[from + i] * qkv[from + i];
            }
        }
        scale = 1.0f32 / f32::sqrt(sum / f32::cast_from(d) + epsilon);
    }
    let cache_row = (start + row) * kv_heads;
    for step in 0..comptime!(half.div_ceil(lanes)) {
        let i = step * lanes + lane;
        if i < half {
            let mut low = qkv[from + i];
            let mut high = qkv[from + half + i];
            if is_value {
                let to = (cache_row + head - heads - kv_heads) * d + i;
                values[to] = C::cast_from(low);
                values[to + half] = C::cast_from(high);
            } else {
                if comptime!(normed) {
                    if is_query {
                        low = low * scale * query_norm[i];
                        high = high * scale * query_norm[half + i];
                    } else {
                        low = low * scale * key_norm[i];
                        high = high * scale * key_norm[half + i];
                    }
                }
                let cosine = angles[row * d + i];
                let sine = angles[row * d + half + i];
                let new_low = low * cosine - high * sine;
                let new_high = high * cosine + low * sine;
                if is_query {
                    let to = (row * heads + head) * d + i;
                    query[to] = new_low;
                    query[to + half] = new_high;
                } else {
                    let to = (cache_row + head - heads) * d + i;
                    keys[to] = C::cast_from(new_low);
                    keys[to + half] = C::cast_from(new_high);
                }
            }
        }
    }
}
