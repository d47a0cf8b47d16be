//! Attention over the cache: a few query rows of the heads that share keys meet every position together.

use super::{
    out::Out,
    simd::{Simd, exp, simd_dispatch},
    stored::{Full, Half, Plain},
    team,
    tile::{Place, dot},
};
use crate::AttentionShape;
use half::f16;

/// Queries that meet a key together.
const QUERIES: usize = 4;
/// Keys that meet a query together.
const KEYS: usize = 4;
/// Positions are counted off in groups of this many, so that sums do not depend on where a window begins.
const GROUP: usize = 16;

/// Keys or values.
#[derive(Clone, Copy)]
pub(super) enum Cache<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

impl Cache<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }
}

/// What an attention call reads.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    /// `[m, heads * d]`.
    pub(super) query: &'a [f32],
    /// `[capacity, kv_heads * d]`, as `values`.
    pub(super) keys: Cache<'a>,
    pub(super) values: Cache<'a>,
    /// `[m, m]`.
    pub(super) tree: Option<&'a [bool]>,
    pub(super) shape: AttentionShape,
}

impl Inputs<'_> {
    fn rows(&self) -> usize {
        self.query.len() / self.shape.query_width().max(1)
    }

    /// Position of a row of the segment.
    fn position(&self, row: usize) -> usize {
        let m = self.rows();
        let depth = match self.tree {
            Some(tree) => tree[row * m..(row + 1) * m].iter().filter(|seen| **seen).count().max(1) - 1,
            None => row,
        };
        self.shape.start + depth
    }

    /// Positions a row may see.
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.shape.visible(self.position(row))
    }

    /// Rows of the segment on the way to a row of a tree, itself the last.
    fn path(&self, row: usize) -> Option<Vec<usize>> {
        let (tree, m) = (self.tree?, self.rows());
        let seen = tree[row * m..(row + 1) * m].iter().enumerate().filter(|(_, seen)| **seen);
        let path: Vec<_> = seen.map(|(other, _)| other).collect();
        Some(if path.is_empty() { vec![row] } else { path })
    }
}

/// `[m, heads * d]` into `out`.
pub(super) fn attention(inputs: Inputs<'_>, out: &mut [f32]) {
    let AttentionShape { heads, kv_heads, head_dim, start, .. } = inputs.shape;
    let m = inputs.rows();
    let filled = (start + m) * inputs.shape.cache_width();
    assert!(out.len() == inputs.query.len(), "shape of the result");
    assert!(inputs.keys.len() >= filled && inputs.values.len() >= filled, "a cache too short");
    let group = heads / kv_heads;
    // Rows whose queries of one group make up a tile or more; of a tree each has positions of its own.
    let block = if inputs.tree.is_some() { 1 } else { (QUERIES / group).max(1) };
    let cost = 2 * inputs.query.len() * inputs.range(m.saturating_sub(1)).len();
    let out = Out::new(out, heads * head_dim);
    team::each(m.div_ceil(block) * kv_heads, cost, |unit| {
        // Neighbouring units share keys.
        let (kv_head, first) = (unit / m.div_ceil(block), unit % m.div_ceil(block) * block);
        share(inputs, kv_head, first..(first + block).min(m), &out);
    });
}

simd_dispatch! {
    /// Some rows of the heads of one key head.
    fn share(inputs: Inputs<'_>, kv_head: usize, rows: std::ops::Range<usize>, out: &Out<'_>) = share_of
}

#[inline(always)]
pub(super) fn share_of<S: Simd>(
    simd: S,
    inputs: Inputs<'_>,
    kv_head: usize,
    rows: std::ops::Range<usize>,
    out: &Out<'_>,
) {
    if inputs.tree.is_none() {
        return share_along(simd, inputs, kv_head, rows, None, out);
    }
    // Each row of a tree has a path of its own.
    for row in rows {
        share_along(simd, inputs, kv_head, row..row + 1, inputs.path(row).as_deref(), out);
    }
}

/// Rows that lie on one path, or one after the other.
#[inline(always)]
fn share_along<S: Simd>(
    simd: S,
    inputs: Inputs<'_>,
    kv_head: usize,
    rows: std::ops::Range<usize>,
    path: Option<&[usize]>,
    out: &Out<'_>,
) {
    let group = inputs.shape.heads / inputs.shape.kv_heads;
    let queries = rows.len() * group;
    let mut scratch = Vec::new();
    let mut first = 0;
    while first < queries {
        let count = QUERIES.min(queries - first);
        // Row and head of each query; the last again where there are fewer than a tile.
        let mut places = [(0, 0); QUERIES];
        for (i, place) in places.iter_mut().enumerate() {
            let query = first + i.min(count - 1);
            *place = (rows.start + query / group, kv_head * group + query % group);
        }
        let tile = Tile { inputs, kv_head, path, places, count };
        match inputs.keys {
            Cache::F32(keys) => score::<S, Full>(simd, tile, keys, &mut scratch),
            Cache::F16(keys) => score::<S, Half>(simd, tile, keys, &mut scratch),
        }
        match inputs.values {
            Cache::F32(values) => weigh::<S, Full>(simd, tile, values, &scratch, out),
            Cache::F16(values) => weigh::<S, Half>(simd, tile, values, &scratch, out),
        }
        first += count;
    }
}

/// Some queries on the heads of one key head.
#[derive(Clone, Copy)]
struct Tile<'a> {
    inputs: Inputs<'a>,
    kv_head: usize,
    /// Where the positions of the segment lie, if not one after the other: as if the path alone were there, so that the
    /// sums are those of a chain to the bit.
    path: Option<&'a [usize]>,
    /// Row and head of each query.
    places: [(usize, usize); QUERIES],
    count: usize,
}

impl Tile<'_> {
    /// Positions any of the queries may see, begun at a whole [`GROUP`].
    #[inline(always)]
    fn span(&self) -> std::ops::Range<usize> {
        let (mut start, mut end) = (usize::MAX, 0);
        for &(row, _) in &self.places[..self.count] {
            let range = self.inputs.range(row);
            (start, end) = (start.min(range.start), end.max(range.end));
        }
        start / GROUP * GROUP..end
    }

    /// Positions all of the queries may see, or none.
    #[inline(always)]
    fn common(&self) -> std::ops::Range<usize> {
        let (mut start, mut end) = (0, usize::MAX);
        for &(row, _) in &self.places[..self.count] {
            let range = self.inputs.range(row);
            (start, end) = (start.max(range.start), end.min(range.end));
        }
        start..end.max(start)
    }

    /// Where the tile's head of a position begins in the cache.
    #[inline(always)]
    fn at(&self, position: usize) -> usize {
        let start = self.inputs.shape.start;
        let row = match self.path {
            Some(path) if position >= start => start + path[position - start],
            _ => position,
        };
        row * self.inputs.shape.cache_width() + self.kv_head * self.inputs.shape.head_dim
    }
}

/// Exponentials of the scores of the queries at every position, 0 where hidden, and after those of each
/// query their sum: [`padded`] numbers and one a query.
#[inline(always)]
fn score<S: Simd, W: Plain>(simd: S, tile: Tile<'_>, keys: &[W::Value], scratch: &mut Vec<f32>) {
    let Tile { inputs, places, count, .. } = tile;
    let d = inputs.shape.head_dim;
    let span = tile.span();
    let length = padded(&span) + 1;
    scratch.clear();
    scratch.resize(count * length, f32::NEG_INFINITY);
    let mut queries = [inputs.query.as_ptr(); QUERIES];
    for i in 0..QUERIES {
        let (row, head) = places[i];
        let at = row * inputs.shape.query_width() + head * d;
        queries[i] = inputs.query[at..at + d].as_ptr();
    }
    let mut position = span.start;
    while position < span.end {
        let mut stored = [W::row(keys, tile.at(position), d); KEYS];
        for i in 1..KEYS {
            // The last key again where there are fewer than a tile.
            stored[i] = W::row(keys, tile.at((position + i).min(span.end - 1)), d);
        }
        // A part of a query's scores is a whole number of tiles long; what has no key is hidden below.
        let at = position - span.start;
        assert!(at + KEYS < length && scratch.len() == count * length, "room for a tile of scores");
        let place = Place { at: scratch[at..].as_mut_ptr(), stride: length };
        // SAFETY: every pointer is that of a head of `d` numbers; there is room for `count` queries.
        unsafe {
            match count {
                1 => dot::<S, W, KEYS, 1, false>(simd, stored, [queries[0]], d, place),
                QUERIES => dot::<S, W, KEYS, QUERIES, false>(simd, stored, queries, d, place),
                _ => {
                    for (query, at) in queries.iter().enumerate().take(count) {
                        let place = Place { at: place.at.add(query * length), ..place };
                        dot::<S, W, KEYS, 1, false>(simd, stored, [*at], d, place);
                    }
                }
            }
        }
        position += KEYS;
    }
    for (query, scores) in scratch.chunks_exact_mut(length).enumerate() {
        hide(inputs, places[query].0, span.start, &mut scores[..length - 1]);
        softmax(simd, 1.0 / (d as f32).sqrt(), scores);
    }
}

/// Positions of a span, filled up to a whole [`GROUP`].
#[inline(always)]
fn padded(span: &std::ops::Range<usize>) -> usize {
    span.len().next_multiple_of(GROUP)
}

/// Sets the scores a row must not see to -inf; `scores` begins at position `first`.
#[inline(always)]
fn hide(inputs: Inputs<'_>, row: usize, first: usize, scores: &mut [f32]) {
    let range = inputs.range(row);
    scores[..range.start - first].fill(f32::NEG_INFINITY);
    scores[range.end - first..].fill(f32::NEG_INFINITY);
}

/// `exp((score - max) * scale)` in place of each score, and their sum in place of the last value.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scale: f32, scores: &mut [f32]) {
    let (last, scores) = scores.split_last_mut().expect("a place for the sum");
    let mut max = simd.splat(f32::NEG_INFINITY);
    for chunk in scores.chunks_exact(S::LANES) {
        // SAFETY: a whole vector.
        max = simd.max(max, unsafe { simd.load(chunk.as_ptr()) });
    }
    let max = simd.lanes(max)[..S::LANES].iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (scale, shift) = (simd.splat(scale), simd.splat(-max));
    let mut sum = simd.zero();
    for chunk in scores.chunks_exact_mut(S::LANES) {
        // SAFETY: a whole vector, for both.
        unsafe {
            let below = simd.add(simd.load(chunk.as_ptr()), shift);
            let value = exp(simd, simd.multiply(below, scale));
            sum = simd.add(sum, value);
            simd.store(value, chunk.as_mut_ptr());
        }
    }
    *last = simd.sum(sum);
}

/// The means of the values under the weights of each query, into `out`.
#[inline(always)]
fn weigh<S: Simd, W: Plain>(simd: S, tile: Tile<'_>, values: &[W::Value], scratch: &[f32], out: &Out<'_>) {
    let d = tile.inputs.shape.head_dim;
    let mut part = 0;
    while part < d {
        let rest = d - part;
        if rest >= 4 * S::LANES {
            weigh_part::<S, W, 4>(simd, tile, values, scratch, part, out);
            part += 4 * S::LANES;
        } else if rest >= 2 * S::LANES {
            weigh_part::<S, W, 2>(simd, tile, values, scratch, part, out);
            part += 2 * S::LANES;
        } else {
            weigh_part::<S, W, 1>(simd, tile, values, scratch, part, out);
            part += S::LANES;
        }
    }
}

/// The same for `V` vectors of a head, from number `part` on.
#[inline(always)]
fn weigh_part<S: Simd, W: Plain, const V: usize>(
    simd: S,
    tile: Tile<'_>,
    values: &[W::Value],
    scratch: &[f32],
    part: usize,
    out: &Out<'_>,
) {
    let (span, common) = (tile.span(), tile.common());
    let d = tile.inputs.shape.head_dim;
    let length = padded(&span) + 1;
    let count = (V * S::LANES).min(d - part);
    let row = |position: usize| W::row(values, tile.at(position) + part, count);
    let mut acc = [[simd.zero(); V]; QUERIES];
    // What a query must not see it does not touch, so that not even a value that is no number gets in.
    for query in 0..tile.count {
        let range = tile.inputs.range(tile.places[query].0);
        for position in range.start..common.start.min(range.end) {
            let weight = simd.splat(scratch[query * length + position - span.start]);
            for v in 0..V {
                let value = load::<S, W>(simd, row(position), v, count);
                acc[query][v] = simd.multiply_add(weight, value, acc[query][v]);
            }
        }
    }
    for position in common.clone() {
        let at = row(position);
        let mut value = [simd.zero(); V];
        for v in 0..V {
            value[v] = load::<S, W>(simd, at, v, count);
        }
        for query in 0..tile.count {
            let weight = simd.splat(scratch[query * length + position - span.start]);
            for v in 0..V {
                acc[query][v] = simd.multiply_add(weight, value[v], acc[query][v]);
            }
        }
    }
    for query in 0..tile.count {
        let (place, range) = (tile.places[query], tile.inputs.range(tile.places[query].0));
        for position in common.end.max(range.start)..range.end {
            let weight = simd.splat(scratch[query * length + position - span.start]);
            for v in 0..V {
                let value = load::<S, W>(simd, row(position), v, count);
                acc[query][v] = simd.multiply_add(weight, value, acc[query][v]);
            }
        }
        let inverse = simd.splat(1.0 / scratch[(query + 1) * length - 1]);
        let first = place.1 * d + part;
        // SAFETY: this thread alone writes the heads of its rows.
        let out = unsafe { out.part(place.0, first..first + count) };
        for (v, out) in out.chunks_mut(S::LANES).enumerate() {
            let lanes = simd.lanes(simd.multiply(acc[query][v], inverse));
            out.copy_from_slice(&lanes[..out.len()]);
        }
    }
}

/// Vector `v` of `count` numbers from `row` on, filled up with zeros.
#[inline(always)]
fn load<S: Simd, W: Plain>(simd: S, row: W::Row, v: usize, count: usize) -> S::Vector {
    // SAFETY: `row` holds `count` numbers.
    unsafe {
        if (v + 1) * S::LANES <= count {
            return W::load(simd, row, v * S::LANES);
        }
        let mut last = [0.0f32; 16];
        for (i, value) in last.iter_mut().enumerate().take(count - v * S::LANES) {
            *value = W::element(row, v * S::LANES + i);
        }
        simd.load(last.as_ptr())
    }
}
