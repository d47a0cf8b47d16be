//! Attention by an online softmax: keys and values are read once for a few rows, no scores are stored.

use super::{
    elem, grid, lanes,
    linear::{add_products, total},
    output, vector_size,
};
use crate::{AttentionShape, backend::AncestorsOf};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

/// What an attention kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Plan {
    /// Units that share a head.
    lanes: usize,
    /// Query rows for which keys and values are read once.
    rows: usize,
    /// Vectors of a head.
    width: usize,
    tree: bool,
    /// Whether the result is written as parts that are yet to be joined.
    parts: bool,
}

/// Most rows of a decode or verify step. Its positions are shared out, so that few rows and heads keep a
/// device busy; those of more rows are not.
const STEP: usize = 16;

/// Positions of a share. They begin at multiples of this, so that a row's sums do not depend on the others.
const SHARE: usize = 256;

/// Positions whose scores are computed together.
const POSITIONS: usize = 4;

/// A window that hides nothing.
const ENDLESS: usize = 1 << 30;

pub(super) fn attention(
    query: CubeTensor,
    keys: CubeTensor,
    values: CubeTensor,
    ancestors: AncestorsOf<CubeBackend>,
    shape: AttentionShape,
) -> CubeTensor {
    let (query, keys, values) = (into_contiguous(query), into_contiguous(keys), into_contiguous(values));
    let AttentionShape { heads, kv_heads, head_dim, start, window } = shape;
    let m = query.meta.shape()[0];
    let out = output(&query, [m, heads * head_dim]);
    if m * heads * head_dim == 0 {
        return out;
    }
    let client = query.client.clone();
    let lanes = lanes(&client);
    let mut vector = vector_size(head_dim);
    while vector > 1 && head_dim / vector < lanes {
        vector /= 2;
    }
    // The first position any row sees, on the bounds of shares.
    let first = window.map_or(0, |window| (start + 1).saturating_sub(window)) / SHARE * SHARE;
    let share = if m <= STEP { SHARE } else { start + m - first };
    let shares = (start + m - first).div_ceil(share);
    let tree = match ancestors {
        AncestorsOf::Chain => None,
        AncestorsOf::Tree(tree) => Some(into_contiguous(tree)),
    };
    let plan = Plan {
        lanes,
        // A unit alone keeps its sums in memory; there is nothing to be saved by more of them.
        rows: if lanes == 1 { 1 } else { m.next_power_of_two().min(4) },
        width: head_dim / vector,
        tree: tree.is_some(),
        parts: shares > 1,
    };
    // Sums of a share, and the largest score and the sum of weights behind them.
    let part_width = head_dim + 2;
    let parts = if plan.parts { output(&query, [shares * m * heads, part_width]) } else { out.clone() };
    let (count, dim) = grid(&client, shares * heads * m.div_ceil(plan.rows), lanes);
    // Without a tree what stands in for it is not read.
    let (tree, tree_type) = match tree {
        Some(tree) => (tree.clone(), tree.dtype),
        None => (query.clone(), burn::tensor::DType::I32),
    };
    let types = [elem(keys.dtype), elem(tree_type)];
    // SAFETY: units beyond the rows return, rows beyond the last are read as the last and not written, and
    // positions end with the filled part of the cache.
    unsafe {
        attention_kernel::launch_unchecked(
            &client,
            count,
            dim,
            vector,
            query.into_tensor_arg(),
            keys.into_tensor_arg(),
            values.into_tensor_arg(),
            tree.into_tensor_arg(),
            parts.clone().into_tensor_arg(),
            m,
            heads,
            kv_heads,
            start,
            window.unwrap_or(ENDLESS).min(ENDLESS),
            first,
            share,
            shares,
            1.0 / (head_dim as f32).sqrt(),
            plan,
            types,
        );
    }
    if plan.parts {
        let (count, dim) = grid(&client, m * heads * head_dim, 1);
        // SAFETY: units beyond the result return; there is a part for every share of every head.
        unsafe {
            join_kernel::launch_unchecked(
                &client,
                count,
                dim,
                parts.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                m * heads,
                head_dim,
                shares,
            );
        }
    }
    out
}

/// A score of a hidden position.
const HIDDEN: f32 = -3.0e38;

/// `lanes` units compute a head of a few rows over a share of the positions.
#[cube(launch_unchecked)]
fn attention_kernel<C: Float, I: Int, N: Size>(
    query: &Tensor<Vector<f32, N>>,
    keys: &Tensor<Vector<C, N>>,
    values: &Tensor<Vector<C, N>>,
    tree: &Tensor<I>,
    out: &mut Tensor<f32>,
    m: usize,
    heads: usize,
    kv_heads: usize,
    start: usize,
    window: usize,
    first: usize,
    share: usize,
    shares: usize,
    scale: f32,
    #[comptime] plan: Plan,
    #[define(C, I)] _types: [ElemType; 2],
) {
    let row_blocks = m.div_ceil(plan.rows);
    let group = ABSOLUTE_POS / plan.lanes;
    let lane = ABSOLUTE_POS % plan.lanes;
    // What reads the same keys and values is next to each other.
    let heads_a_key = heads / kv_heads;
    let within = group % (heads_a_key * row_blocks);
    let share_at = group / (heads_a_key * row_blocks) % shares;
    let kv_head = group / (heads_a_key * row_blocks) / shares;
    let head = kv_head * heads_a_key + within % heads_a_key;
    let first_row = within / heads_a_key * plan.rows;
    if kv_head >= kv_heads {
        terminate!();
    }
    let width = comptime!(plan.width);
    // Vectors of a head that a lane has; where there are no planes they are too many to be unrolled.
    let vectors = comptime!(plan.width.div_ceil(plan.lanes));
    let unroll = comptime!(plan.lanes > 1);

    let mut begin = first + share_at * share;
    let mut end = usize::min(begin + share, start + m);
    if comptime!(!plan.tree) {
        let past = start + first_row + 1;
        if past > window {
            begin = usize::max(begin, (past - window) / POSITIONS * POSITIONS);
        }
    }
    if comptime!(!plan.tree) {
        end = usize::min(end, start + usize::min(first_row + plan.rows, m));
    }

    // The place of a row: chains have one row a position, in trees it is the depth.
    let mut row = Array::<usize>::new(plan.rows);
    let mut place = Array::<usize>::new(plan.rows);
    #[unroll]
    for r in 0..plan.rows {
        row[r] = usize::min(first_row + r, m - 1);
        place[r] = start + depth::<I>(tree, row[r], m, plan.tree);
    }
    let mut queries = Array::<Vector<f32, N>>::new(comptime!(plan.rows * vectors));
    let mut sums = Array::<Vector<f32, N>>::new(comptime!(plan.rows * vectors));
    let mut largest = Array::<f32>::new(plan.rows);
    let mut weight = Array::<f32>::new(plan.rows);
    #[unroll]
    for r in 0..plan.rows {
        largest[r] = f32::new(HIDDEN);
        weight[r] = 0.0f32;
        #[unroll(unroll)]
        for v in 0..vectors {
            let i = v * plan.lanes + lane;
            queries[r * vectors + v] = Vector::new(0.0f32);
            sums[r * vectors + v] = Vector::new(0.0f32);
            if i < width {
                queries[r * vectors + v] = query[(row[r] * heads + head) * width + i] * Vector::new(scale);
            }
        }
    }

    let mut position = begin;
    while position < end {
        let mut scores = Array::<f32>::new(comptime!(plan.rows * POSITIONS));
        #[unroll]
        for p in 0..POSITIONS {
            let at = usize::min(position + p, end - 1);
            #[unroll]
            for r in 0..plan.rows {
                scores[comptime!(r * POSITIONS + p)] = 0.0f32;
            }
            #[unroll(unroll)]
            for v in 0..vectors {
                let i = v * plan.lanes + lane;
                if i < width {
                    let key = Vector::<f32, N>::cast_from(keys[(at * kv_heads + kv_head) * width + i]);
                    #[unroll]
                    for r in 0..plan.rows {
                        let score = comptime!(r * POSITIONS + p);
                        scores[score] = add_products(scores[score], queries[r * vectors + v], key);
                    }
                }
            }
        }
        #[unroll]
        for r in 0..plan.rows {
            let mut new_largest = largest[r];
            #[unroll]
            for p in 0..POSITIONS {
                let score = comptime!(r * POSITIONS + p);
                let sum = total(scores[score], plan.lanes);
                let at = position + p;
                let mut seen = at < end;
                if seen {
                    seen = sees::<I>(tree, row[r], place[r], at, start, m, window, plan);
                }
                scores[score] = select(seen, sum, f32::new(HIDDEN));
                new_largest = f32::max(new_largest, scores[score]);
            }
            let factor = f32::exp(largest[r] - new_largest);
            largest[r] = new_largest;
            weight[r] *= factor;
            #[unroll]
            for p in 0..POSITIONS {
                let score = comptime!(r * POSITIONS + p);
                // Where all are hidden the difference is 0.
                let value = f32::exp(scores[score] - new_largest);
                scores[score] = select(scores[score] > f32::new(HIDDEN), value, 0.0f32);
                weight[r] += scores[score];
            }
            #[unroll(unroll)]
            for v in 0..vectors {
                sums[r * vectors + v] *= Vector::new(factor);
            }
        }
        #[unroll]
        for p in 0..POSITIONS {
            let at = usize::min(position + p, end - 1);
            #[unroll(unroll)]
            for v in 0..vectors {
                let i = v * plan.lanes + lane;
                if i < width {
                    let value = Vector::<f32, N>::cast_from(values[(at * kv_heads + kv_head) * width + i]);
                    #[unroll]
                    for r in 0..plan.rows {
                        let score = comptime!(r * POSITIONS + p);
                        let sum = r * vectors + v;
                        sums[sum] = fma(value, Vector::new(scores[score]), sums[sum]);
                    }
                }
            }
        }
        position += POSITIONS;
    }

    let size = N::value().comptime();
    let d = comptime!(width * size);
    #[unroll]
    for r in 0..plan.rows {
        if first_row + r < m {
            let item = (first_row + r) * heads + head;
            let mut to = item * d;
            let mut divisor = weight[r];
            if comptime!(plan.parts) {
                to = (share_at * m * heads + item) * comptime!(d + 2);
                divisor = 1.0f32;
                if lane == 0 {
                    out[to + d] = largest[r];
                    out[to + d + 1] = weight[r];
                }
            }
            #[unroll(unroll)]
            for v in 0..vectors {
                let i = v * plan.lanes + lane;
                if i < width {
                    #[unroll]
                    for e in 0..size {
                        out[to + i * size + e] = sums[r * vectors + v].extract(e) / divisor;
                    }
                }
            }
        }
    }
}

/// How many rows of the segment are seen by a row, itself not counted.
#[cube]
fn depth<I: Int>(tree: &Tensor<I>, row: usize, m: usize, #[comptime] is_tree: bool) -> usize {
    let mut seen = row;
    if is_tree {
        seen = 0usize;
        for other in 0..m {
            seen += usize::cast_from(tree[row * m + other] != I::from_int(0));
        }
        seen -= 1;
    }
    seen
}

/// Whether a row at a place sees a position of the cache.
#[cube]
fn sees<I: Int>(
    tree: &Tensor<I>,
    row: usize,
    place: usize,
    at: usize,
    start: usize,
    m: usize,
    window: usize,
    #[comptime] plan: Plan,
) -> bool {
    let mut seen = true;
    let mut place_at = at;
    if comptime!(plan.tree) {
        if at >= start {
            seen = tree[row * m + at - start] != I::from_int(0);
            if window < start + m {
                place_at = start + depth::<I>(tree, at - start, m, true);
            }
        }
    } else {
        seen = at <= start + row;
    }
    seen && place_at + window > place
}

/// A unit joins the shares of a value.
#[cube(launch_unchecked)]
fn join_kernel(parts: &Tensor<f32>, out: &mut Tensor<f32>, items: usize, d: usize, shares: usize) {
    let item = ABSOLUTE_POS / d;
    let i = ABSOLUTE_POS % d;
    if item >= items {
        terminate!();
    }
    let mut largest = f32::new(HIDDEN);
    for share in 0..shares {
        largest = f32::max(largest, parts[(share * items + item) * (d + 2) + d]);
    }
    let mut sum = 0.0f32;
    let mut weight = 0.0f32;
    for share in 0..shares {
        let at = (share * items + item) * (d + 2);
        let factor = f32::exp(parts[at + d] - largest);
        sum += parts[at + i] * factor;
        weight += parts[at + d + 1] * factor;
    }
    out[ABSOLUTE_POS] = sum / weight;
}
