//! Statistics of rows of logits.
//!
//! A row is cut into chunks, about as many as a chunk has tokens. The first pass finds the largest logit and
//! the sum of exponents of every chunk, the second the mass of the residual in every chunk, the third joins
//! them and looks for the sampled token in the one chunk that has it.

use super::{elem, grid, lanes, linear::total, output, sample, vector_size};
use crate::{RowStatistics, backend::DraftOf};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

/// What the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    /// Units that share a sum.
    pub(super) lanes: usize,
    /// Whether drafted tokens were certain.
    pub(super) point: bool,
}

pub(super) fn verify(
    logits: CubeTensor,
    drafted: CubeTensor,
    noise: CubeTensor,
    draft: DraftOf<CubeBackend>,
    temperature: f64,
) -> CubeTensor {
    let (logits, drafted, noise) =
        (into_contiguous(logits), into_contiguous(drafted), into_contiguous(noise));
    let (m, vocab) = (logits.meta.shape()[0], logits.meta.shape()[1]);
    let out = output(&logits, [m, RowStatistics::WIDTH]);
    if m == 0 {
        return out;
    }
    let client = logits.client.clone();
    let draft = match draft {
        DraftOf::Point => None,
        DraftOf::Probs(draft) => Some(into_contiguous(draft)),
    };
    let plan = Plan { lanes: lanes(&client), point: draft.is_none() };
    // What is not there is never read.
    let draft = draft.unwrap_or_else(|| logits.clone());
    let vector = vector_size(vocab);
    let chunk = vocab.isqrt().max(1).next_multiple_of(vector);
    let chunks = vocab.div_ceil(chunk);
    let sharpness = (1.0 / temperature).min(1e30) as f32;
    let (exponents, masses) = (output(&logits, [m * chunks, 3]), output(&logits, [m * chunks, 2]));
    let (count, dim) = grid(&client, m * chunks, plan.lanes);
    // SAFETY: units beyond the chunks return, the last chunk ends with the row, and nothing is read at drafted
    // tokens beyond the row.
    unsafe {
        exponents_kernel::launch_unchecked(
            &client,
            count.clone(),
            dim,
            vector,
            logits.clone().into_tensor_arg(),
            exponents.clone().into_tensor_arg(),
            m,
            vocab,
            chunk,
            chunks,
            sharpness,
            plan.lanes,
        );
        masses_kernel::launch_unchecked(
            &client,
            count,
            dim,
            vector,
            logits.clone().into_tensor_arg(),
            draft.clone().into_tensor_arg(),
            drafted.clone().into_tensor_arg(),
            exponents.clone().into_tensor_arg(),
            masses.clone().into_tensor_arg(),
            m,
            vocab,
            chunk,
            chunks,
            sharpness,
            plan,
            elem(drafted.dtype),
        );
        let (count, dim) = grid(&client, m, plan.lanes);
        let id = elem(drafted.dtype);
        sample::finish_kernel::launch_unchecked(
            &client,
            count,
            dim,
            logits.into_tensor_arg(),
            draft.into_tensor_arg(),
            drafted.into_tensor_arg(),
            noise.into_tensor_arg(),
            exponents.into_tensor_arg(),
            masses.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            m,
            vocab,
            chunk,
            chunks,
            sharpness,
            plan,
            id,
        );
    }
    out
}

/// The least logit reckoned with; differences to it are finite.
const LEAST: f32 = -3.0e38;

/// In the place of logits that are none, beyond all others.
const WORST: f32 = 3.4e38;

/// No token.
pub(super) const NONE: u32 = 1 << 31;

/// `lanes` units find the largest logit of a chunk, its token and the sum of exponents.
#[cube(launch_unchecked)]
fn exponents_kernel<N: Size>(
    logits: &Tensor<Vector<f32, N>>,
    out: &mut Tensor<f32>,
    m: usize,
    vocab: usize,
    chunk: usize,
    chunks: usize,
    sharpness: f32,
    #[comptime] lanes: usize,
) {
    let size = N::value().comptime();
    let group = ABSOLUTE_POS / lanes;
    let lane = ABSOLUTE_POS % lanes;
    let row = group / chunks;
    if row >= m {
        terminate!();
    }
    let first = group % chunks * chunk;
    let row_at = row * (vocab / size);
    let begin = first / size;
    let end = usize::min(first + chunk, vocab) / size;
    let steps = (end - begin).div_ceil(lanes);

    let mut largest = f32::new(LEAST);
    let mut token = u32::new(NONE as i64);
    for step in 0..steps {
        let i = begin + step * lanes + lane;
        if i < end {
            let values = logits[row_at + i];
            #[unroll]
            for e in 0..size {
                let value = usable(values.extract(e));
                let more = value > largest || token == u32::new(NONE as i64);
                largest = select(more, value, largest);
                token = select(more, u32::cast_from(i * size + e), token);
            }
        }
    }
    let all_largest = greatest(largest, lanes);
    token = least(select(largest == all_largest, token, u32::new(NONE as i64)), lanes);
    let mut sum = 0.0f32;
    for step in 0..steps {
        let i = begin + step * lanes + lane;
        if i < end {
            let values = logits[row_at + i];
            #[unroll]
            for e in 0..size {
                let value = f32::max(values.extract(e), f32::new(LEAST));
                sum += f32::exp((value - all_largest) * sharpness);
            }
        }
    }
    sum = total(sum, lanes);
    if lane == 0 {
        out[group * 3] = all_largest;
        out[group * 3 + 1] = f32::cast_from(token);
        out[group * 3 + 2] = sum;
    }
}

/// `lanes` units sum up the residual and the distance of a chunk.
#[cube(launch_unchecked)]
fn masses_kernel<I: Int, N: Size>(
    logits: &Tensor<Vector<f32, N>>,
    draft: &Tensor<Vector<f32, N>>,
    drafted: &Tensor<I>,
    exponents: &Tensor<f32>,
    out: &mut Tensor<f32>,
    m: usize,
    vocab: usize,
    chunk: usize,
    chunks: usize,
    sharpness: f32,
    #[comptime] plan: Plan,
    #[define(I)] _id: ElemType,
) {
    let size = N::value().comptime();
    let group = ABSOLUTE_POS / plan.lanes;
    let lane = ABSOLUTE_POS % plan.lanes;
    let row = group / chunks;
    if row >= m {
        terminate!();
    }
    let first = group % chunks * chunk;
    let row_at = row * (vocab / size);
    let begin = first / size;
    let end = usize::min(first + chunk, vocab) / size;
    let (largest, sum) = normalizer(exponents, row, chunks, sharpness, lane, plan.lanes);
    let token = usize::cast_from(drafted[row]);

    let mut mass = 0.0f32;
    let mut distance = 0.0f32;
    for step in 0..(end - begin).div_ceil(plan.lanes) {
        let i = begin + step * plan.lanes + lane;
        if i < end {
            let values = logits[row_at + i];
            let mut drafts = Vector::<f32, N>::new(0.0f32);
            if comptime!(!plan.point) {
                drafts = draft[row_at + i];
            }
            #[unroll]
            for e in 0..size {
                let p = probability(values.extract(e), largest, sum, sharpness);
                let mut q = drafts.extract(e);
                if comptime!(plan.point) {
                    q = select(i * size + e == token, 1.0f32, 0.0f32);
                }
                mass += f32::max(p - q, 0.0f32);
                distance += f32::abs(p - q);
            }
        }
    }
    mass = total(mass, plan.lanes);
    distance = total(distance, plan.lanes);
    if lane == 0 {
        out[group * 2] = mass;
        out[group * 2 + 1] = distance;
    }
}

/// The largest logit of a row and the sum of its exponents.
#[cube]
pub(super) fn normalizer(
    exponents: &Tensor<f32>,
    row: usize,
    chunks: usize,
    sharpness: f32,
    lane: usize,
    #[comptime] lanes: usize,
) -> (f32, f32) {
    let steps = chunks.div_ceil(lanes);
    let mut largest = f32::new(LEAST);
    for step in 0..steps {
        let i = step * lanes + lane;
        if i < chunks {
            largest = f32::max(largest, exponents[(row * chunks + i) * 3]);
        }
    }
    let all_largest = greatest(largest, lanes);
    let mut sum = 0.0f32;
    for step in 0..steps {
        let i = step * lanes + lane;
        if i < chunks {
            let at = (row * chunks + i) * 3;
            sum += exponents[at + 2] * f32::exp((exponents[at] - all_largest) * sharpness);
        }
    }
    (all_largest, total(sum, lanes))
}

/// A logit, not below what is reckoned with; NaN and +inf become the worst. The bits decide: compilers of
/// devices may take it that there are none of either.
#[cube]
fn usable(logit: f32) -> f32 {
    let bits = u32::reinterpret(logit);
    let is_nan = (bits & 0x7fff_ffffu32) > 0x7f80_0000u32;
    let bad = is_nan || bits == 0x7f80_0000u32;
    select(bad, f32::new(WORST), f32::max(logit, f32::new(LEAST)))
}

/// p of a token.
#[cube]
pub(super) fn probability(logit: f32, largest: f32, sum: f32, sharpness: f32) -> f32 {
    f32::exp((f32::max(logit, f32::new(LEAST)) - largest) * sharpness) / sum
}

/// The largest of the lanes' values.
#[cube]
fn greatest(value: f32, #[comptime] lanes: usize) -> f32 {
    if comptime!(lanes > 1) { plane_max(value) } else { value }
}

/// The least of the lanes' values.
#[cube]
pub(super) fn least(value: u32, #[comptime] lanes: usize) -> u32 {
    if comptime!(lanes > 1) { plane_min(value) } else { value }
}
