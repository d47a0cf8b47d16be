//! The end of the statistics of a row: its chunks are joined, and the residual is sampled.

use super::{
    linear::total,
    verify::{NONE, Plan, least, normalizer, probability},
};
use cubecl::prelude::*;

/// `lanes` units finish a row.
#[cube(launch_unchecked)]
pub(super) fn finish_kernel<I: Int>(
    logits: &Tensor<f32>,
    draft: &Tensor<f32>,
    drafted: &Tensor<I>,
    noise: &Tensor<f32>,
    exponents: &Tensor<f32>,
    masses: &Tensor<f32>,
    out: &mut Tensor<f32>,
    m: usize,
    vocab: usize,
    chunk: usize,
    chunks: usize,
    sharpness: f32,
    #[comptime] plan: Plan,
    #[define(I)] _id: ElemType,
) {
    let lanes = comptime!(plan.lanes);
    let row = ABSOLUTE_POS / lanes;
    let lane = ABSOLUTE_POS % lanes;
    if row >= m {
        terminate!();
    }
    let (largest, sum) = normalizer(exponents, row, chunks, sharpness, lane, lanes);
    let mut best = u32::new(NONE as i64);
    for step in 0..chunks.div_ceil(lanes) {
        let i = step * lanes + lane;
        if i < chunks {
            let at = (row * chunks + i) * 3;
            if exponents[at] == largest {
                best = u32::min(best, u32::cast_from(exponents[at + 1]));
            }
        }
    }
    best = least(best, lanes);
    let token = usize::cast_from(drafted[row]);

    // Lanes have neighbouring chunks, and then neighbouring tokens, so that sums run in order.
    let width = chunks.div_ceil(lanes);
    let begin = usize::min(lane * width, chunks);
    let end = usize::min(begin + width, chunks);
    let mut own = 0.0f32;
    let mut distance = 0.0f32;
    for i in begin..end {
        own += masses[(row * chunks + i) * 2];
        distance += masses[(row * chunks + i) * 2 + 1];
    }
    let mass = total(own, lanes);
    distance = total(distance, lanes);
    let target = noise[row] * mass;
    let mut sum_before = before(own, lanes);
    let mut chosen = u32::new(NONE as i64);
    let mut chosen_before = sum_before;
    let mut found = false;
    for i in begin..end {
        let more = masses[(row * chunks + i) * 2];
        if !found {
            if more > 0.0f32 {
                chosen = u32::cast_from(i);
                chosen_before = sum_before;
                sum_before += more;
                found = sum_before > target;
            }
        }
    }
    let lane_of_chunk = choose(chosen, found, lane, lanes);
    let is_chosen = lane == lane_of_chunk;
    let mut chunk_at = usize::cast_from(least(select(is_chosen, chosen, u32::new(NONE as i64)), lanes));
    let chunk_before = total(select(is_chosen, chosen_before, 0.0f32), lanes);
    let any = chunk_at < chunks;
    chunk_at = usize::min(chunk_at, chunks - 1);

    let chunk_first = chunk_at * chunk;
    let chunk_end = usize::min(chunk_first + chunk, vocab);
    let width = chunk.div_ceil(lanes);
    let begin = usize::min(chunk_first + lane * width, chunk_end);
    let end = usize::min(begin + width, chunk_end);
    let mut own = 0.0f32;
    for i in begin..end {
        own += residual(logits, draft, row * vocab, i, token, largest, sum, sharpness, plan);
    }
    let mut sum_before = chunk_before + before(own, lanes);
    let mut chosen = u32::new(NONE as i64);
    let mut found = false;
    for i in begin..end {
        let more = residual(logits, draft, row * vocab, i, token, largest, sum, sharpness, plan);
        if !found {
            if more > 0.0f32 {
                chosen = u32::cast_from(i);
                sum_before += more;
                found = sum_before > target;
            }
        }
    }
    let lane_of_token = choose(chosen, found, lane, lanes);
    let mut sample = least(select(lane == lane_of_token, chosen, u32::new(NONE as i64)), lanes);
    if !any || sample == u32::new(NONE as i64) {
        sample = best;
    }

    if lane == 0 {
        let at = row * 8;
        out[at] = f32::cast_from(best);
        out[at + 1] = largest * sharpness;
        out[at + 2] = largest * sharpness + f32::ln(sum);
        // Beyond the row is no token.
        let known = usize::min(token, vocab - 1);
        let p = probability(logits[row * vocab + known], largest, sum, sharpness);
        let mut q = 1.0f32;
        if comptime!(!plan.point) {
            q = draft[row * vocab + known];
        }
        out[at + 3] = select(token < vocab, p, 0.0f32);
        out[at + 4] = select(token < vocab, q, 0.0f32);
        out[at + 5] = distance * 0.5f32;
        out[at + 6] = mass;
        out[at + 7] = f32::cast_from(sample);
    }
}

/// `max(0, p - q)` of a token.
#[cube]
fn residual(
    logits: &Tensor<f32>,
    draft: &Tensor<f32>,
    row_at: usize,
    token: usize,
    drafted: usize,
    largest: f32,
    sum: f32,
    sharpness: f32,
    #[comptime] plan: Plan,
) -> f32 {
    let p = probability(logits[row_at + token], largest, sum, sharpness);
    let mut q = select(token == drafted, 1.0f32, 0.0f32);
    if comptime!(!plan.point) {
        q = draft[row_at + token];
    }
    f32::max(p - q, 0.0f32)
}

/// The lane that has found what was looked for: the first of them, or the last with anything to offer where
/// rounding kept all below the target.
#[cube]
fn choose(chosen: u32, found: bool, lane: usize, #[comptime] lanes: usize) -> usize {
    let first = least(select(found, u32::cast_from(lane), u32::new(NONE as i64)), lanes);
    let offers = select(chosen == u32::new(NONE as i64), 0u32, u32::cast_from(lane) + 1u32);
    let mut last = offers;
    if comptime!(lanes > 1) {
        last = plane_max(offers);
    }
    // Lanes are counted from 1 there; 0 is nobody, and lane 0 then offers nothing.
    let mut lane_found = usize::cast_from(first);
    if first == u32::new(NONE as i64) {
        lane_found = usize::cast_from(u32::max(last, 1u32) - 1u32);
    }
    lane_found
}

/// The sum over the lanes before this one.
#[cube]
fn before(value: f32, #[comptime] lanes: usize) -> f32 {
    if comptime!(lanes > 1) { plane_exclusive_sum(value) } else { value * 0.0f32 }
}
