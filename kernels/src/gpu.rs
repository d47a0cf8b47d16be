//! The operations as CubeCL kernels: one source for every GPU.
//!
//! They are plain: no subgroups, no shared memory, no 16-bit arithmetic. So they run on every adapter,
//! a software one too, and are no measure of what a GPU can do.

// The macros below write public items without documentation, and index with their own integer types.
#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

use crate::AttentionShape;
use burn::{
    backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor},
    tensor::{DType, Shape, Tensor, activation::softmax, s},
};
use burn_backend::cubecl::dtype_to_storage_type;
use burn_cubecl::{
    CubeBackend, kernel::into_contiguous, ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor,
};
use cubecl::{CubeDim, calculate_cube_count_elemwise};

/// The most attention scores held at a time; longer queries are cut into blocks of rows.
const SCORES: usize = 1 << 24;

#[backend_extension(Cube)]
pub trait GpuOps: Backend {
    fn gpu_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    fn gpu_scores(
        query: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self>;
    fn gpu_values(
        probs: FloatTensor<Self>,
        values: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self>;
}

impl GpuOps for CubeBackend {
    fn gpu_linear(x: CubeTensor, weight: CubeTensor) -> CubeTensor {
        let (x, weight) = (into_contiguous(x), into_contiguous(weight));
        let (m, n) = (x.meta.shape()[0], weight.meta.shape()[0]);
        let out = output(&x, Shape::new([m, n]));
        let (client, dtype) = (x.client.clone(), weight.dtype);
        let units = n * m.div_ceil(kernels::ROWS);
        let dim = CubeDim::new(&client, units);
        // SAFETY: a unit beyond the result returns, reads the last row again where its rows are beyond x,
        // and writes only rows of the result.
        unsafe {
            kernels::linear::launch_unchecked(
                &client,
                calculate_cube_count_elemwise(&client, units, dim),
                dim,
                x.into_tensor_arg(),
                weight.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                dtype_to_storage_type(dtype),
            );
        }
        out
    }

    fn gpu_scores(query: CubeTensor, keys: CubeTensor, shape: AttentionShape) -> CubeTensor {
        let (query, keys) = (into_contiguous(query), into_contiguous(keys));
        let m = query.meta.shape()[0];
        let out = output(&query, Shape::new([shape.heads, m, shape.start + m]));
        let (client, count) = (query.client.clone(), out.meta.shape().num_elements());
        let dim = CubeDim::new(&client, count);
        // SAFETY: a unit beyond the result returns; the shapes were checked against each other.
        unsafe {
            kernels::scores::launch_unchecked(
                &client,
                calculate_cube_count_elemwise(&client, count, dim),
                dim,
                query.into_tensor_arg(),
                keys.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                shape.kv_heads,
                shape.window.unwrap_or(usize::MAX).min(u32::MAX as usize),
                1.0 / (shape.head_dim as f32).sqrt(),
            );
        }
        out
    }

    fn gpu_values(probs: CubeTensor, values: CubeTensor, shape: AttentionShape) -> CubeTensor {
        let (probs, values) = (into_contiguous(probs), into_contiguous(values));
        let m = probs.meta.shape()[1];
        let out = output(&probs, Shape::new([m, shape.heads * shape.head_dim]));
        let (client, count) = (probs.client.clone(), out.meta.shape().num_elements());
        let dim = CubeDim::new(&client, count);
        // SAFETY: a unit beyond the result returns; the shapes were checked against each other.
        unsafe {
            kernels::values::launch_unchecked(
                &client,
                calculate_cube_count_elemwise(&client, count, dim),
                dim,
                probs.into_tensor_arg(),
                values.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                shape.head_dim,
                shape.kv_heads,
            );
        }
        out
    }
}

fn output(like: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, DType::F32)
}

pub(crate) fn linear(x: Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> Tensor<2> {
    let out = Tensor::from_dispatch(Dispatch::gpu_linear(x.into_dispatch(), weight.clone().into_dispatch()));
    match bias {
        Some(bias) => out + bias.clone().unsqueeze(),
        None => out,
    }
}

pub(crate) fn attention(
    query: Tensor<2>,
    keys: &Tensor<2>,
    values: &Tensor<2>,
    shape: AttentionShape,
) -> Tensor<2> {
    attention_in_blocks(query, keys, values, shape, SCORES)
}

/// As [`attention`], with at most `scores` attention scores held at a time.
fn attention_in_blocks(
    query: Tensor<2>,
    keys: &Tensor<2>,
    values: &Tensor<2>,
    shape: AttentionShape,
    scores: usize,
) -> Tensor<2> {
    let m = query.dims()[0];
    let block = (scores / (shape.heads * (shape.start + m))).clamp(1, m);
    let mut outputs: Vec<Tensor<2>> = (0..m)
        .step_by(block)
        .map(|first| {
            let rows = query.clone().slice(s![first..(first + block).min(m), ..]);
            attention_block(rows, keys, values, AttentionShape { start: shape.start + first, ..shape })
        })
        .collect();
    if outputs.len() == 1 { outputs.remove(0) } else { Tensor::cat(outputs, 0) }
}

fn attention_block(
    query: Tensor<2>,
    keys: &Tensor<2>,
    values: &Tensor<2>,
    shape: AttentionShape,
) -> Tensor<2> {
    let (keys, values) = (keys.clone().into_dispatch(), values.clone().into_dispatch());
    let scores = Tensor::<3>::from_dispatch(Dispatch::gpu_scores(query.into_dispatch(), keys, shape));
    let probs = softmax(scores, 2).into_dispatch();
    Tensor::from_dispatch(Dispatch::gpu_values(probs, values, shape))
}

#[allow(clippy::collapsible_if, reason = "a kernel evaluates both sides of `&&`")]
mod kernels {
    use cubecl::prelude::*;

    /// Rows of x for which a unit reads a weight once.
    pub(super) const ROWS: usize = 4;

    /// A unit computes one column of the result for [`ROWS`] rows.
    #[cube(launch_unchecked)]
    pub(super) fn linear<W: Float>(
        x: &Tensor<f32>,
        weight: &Tensor<W>,
        out: &mut Tensor<f32>,
        #[define(W)] _dtype: ElemType,
    ) {
        let (m, k, n) = (x.shape(0), x.shape(1), weight.shape(0));
        let column = ABSOLUTE_POS % n;
        let first = ABSOLUTE_POS / n * 4;
        if first >= m {
            terminate!();
        }
        let row0 = first * k;
        let row1 = usize::min(first + 1, m - 1) * k;
        let row2 = usize::min(first + 2, m - 1) * k;
        let row3 = usize::min(first + 3, m - 1) * k;
        let (mut sum0, mut sum1) = (f32::new(0.0), f32::new(0.0));
        let (mut sum2, mut sum3) = (f32::new(0.0), f32::new(0.0));
        for i in 0..k {
            let w = f32::cast_from(weight[column * k + i]);
            sum0 += w * x[row0 + i];
            sum1 += w * x[row1 + i];
            sum2 += w * x[row2 + i];
            sum3 += w * x[row3 + i];
        }
        let at = first * n + column;
        out[at] = sum0;
        if first + 1 < m {
            out[at + n] = sum1;
        }
        if first + 2 < m {
            out[at + 2 * n] = sum2;
        }
        if first + 3 < m {
            out[at + 3 * n] = sum3;
        }
    }

    /// A unit computes one score; hidden positions get -inf.
    #[cube(launch_unchecked)]
    pub(super) fn scores(
        query: &Tensor<f32>,
        keys: &Tensor<f32>,
        out: &mut Tensor<f32>,
        kv_heads: usize,
        window: usize,
        scale: f32,
    ) {
        if ABSOLUTE_POS >= out.len() {
            terminate!();
        }
        let (heads, m, filled) = (out.shape(0), out.shape(1), out.shape(2));
        let position = ABSOLUTE_POS % filled;
        let row = ABSOLUTE_POS / filled % m;
        let head = ABSOLUTE_POS / filled / m;
        let d = query.shape(1) / heads;
        let at = filled - m + row;
        let mut score = f32::new(-3.4e38);
        if position <= at {
            if at - position < window {
                let q = row * heads * d + head * d;
                let k = position * kv_heads * d + head / (heads / kv_heads) * d;
                let mut sum = f32::new(0.0);
                for i in 0..d {
                    sum += query[q + i] * keys[k + i];
                }
                score = sum * scale;
            }
        }
        out[ABSOLUTE_POS] = score;
    }

    /// A unit computes one value of one head of one row.
    #[cube(launch_unchecked)]
    pub(super) fn values(
        probs: &Tensor<f32>,
        values: &Tensor<f32>,
        out: &mut Tensor<f32>,
        d: usize,
        kv_heads: usize,
    ) {
        if ABSOLUTE_POS >= out.len() {
            terminate!();
        }
        let (heads, m, filled) = (probs.shape(0), probs.shape(1), probs.shape(2));
        let i = ABSOLUTE_POS % d;
        let head = ABSOLUTE_POS / d % heads;
        let row = ABSOLUTE_POS / d / heads;
        let p = (head * m + row) * filled;
        let v = head / (heads / kv_heads) * d + i;
        let mut sum = f32::new(0.0);
        for position in 0..filled {
            sum += probs[p + position] * values[position * kv_heads * d + v];
        }
        out[ABSOLUTE_POS] = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, DeviceKind, TensorData, wgpu::WgpuBackend};

    /// Long queries are cut into blocks of rows; the result is the same. Says so where it cannot run.
    #[test]
    fn blocks_of_rows_change_nothing() {
        let options = Device::wgpu_options().graphics_api(WgpuBackend::Vulkan).device_kind(DeviceKind::Cpu);
        let Ok(device) = options.init() else {
            assert!(std::env::var_os("DRAFTHORSE_REQUIRE_VULKAN").is_none(), "no software Vulkan");
            println!("NOT RUN: no software Vulkan on this machine");
            return;
        };
        let tensor = |rows: usize, columns: usize| {
            let values: Vec<f32> =
                (0..rows * columns).map(|i| ((i * 7919) % 101) as f32 / 50.0 - 1.0).collect();
            Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &device)
        };
        let (query, cache) = (tensor(7, 4 * 8), tensor(16, 2 * 8));
        for window in [None, Some(3)] {
            let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 8, start: 5, window };
            let run = |scores| {
                let out = attention_in_blocks(query.clone(), &cache, &cache, shape, scores);
                out.try_into_data().unwrap().try_into_vec::<f32>().unwrap()
            };
            let whole = run(SCORES);
            // Blocks of one row, and of two with one left over.
            for scores in [1, 2 * 4 * 12] {
                let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
                assert!(run(scores).iter().zip(&whole).all(near), "{scores} scores, window {window:?}");
            }
            assert!(whole.iter().any(|x| x.abs() > 0.01));
        }
    }
}
