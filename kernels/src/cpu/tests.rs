//! Every kernel compiled for every instruction set this machine has, against sums written down plainly.

use super::{
    attention::{Cache, Inputs, share_of},
    linear::{Factors, few_rows_of, many_rows_of},
    out::Out,
    pointwise::{gate_row_of, norm_row_of, rotate_of},
    simd::{Portable, Simd, exp},
    stored::{BlockRows, Matrix, Q4, Q8, Rows, Stored, with_rows},
    tile::{Place, dot},
};
use crate::{AttentionShape, BLOCK, BlockFormat, HostBlocks};
use half::f16;

/// What is to hold for every instruction set.
trait Check {
    fn check<S: Simd>(&self, simd: S, name: &str);
}

fn on_every_instruction_set(check: &impl Check) {
    // SAFETY: every machine has what it takes.
    check.check(unsafe { Portable::new() }, "portable");
    #[cfg(target_arch = "x86_64")]
    {
        use super::simd::{
            Isa,
            x86::{Avx2, Avx512},
        };
        let best = Isa::detect();
        if best != Isa::Portable {
            // SAFETY: the features were detected.
            check.check(unsafe { Avx2::new() }, "avx2");
        }
        if best == Isa::Avx512 {
            // SAFETY: the features were detected.
            check.check(unsafe { Avx512::new() }, "avx512");
        }
    }
}

/// `count` numbers between -1 and 1.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[track_caller]
fn assert_near(ours: &[f32], plain: &[f64], what: &str) {
    assert_eq!(ours.len(), plain.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(plain).enumerate() {
        assert!((f64::from(*a) - b).abs() < 2e-5 * (1.0 + b.abs()), "{what}: value {i} is {a}, not {b}");
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// A matrix in one of the forms, and the numbers it stands for.
struct Held {
    full: Vec<f32>,
    half: Vec<f16>,
    blocks: Option<HostBlocks>,
    /// Those of the blocks, as the CPU holds them.
    scales: Vec<f32>,
    form: &'static str,
}

impl Held {
    fn all(n: usize, k: usize, seed: u64) -> [Self; 4] {
        let full = values(n * k, seed);
        let half: Vec<f16> = full.iter().map(|&x| f16::from_f32(x)).collect();
        let widened = half.iter().map(|x| x.to_f32()).collect();
        let in_blocks = |format, form| {
            let mut blocks = HostBlocks::new(format, k);
            blocks.push_rows(&full);
            let scales = blocks.scales.iter().map(|scale| scale.to_f32()).collect();
            Self { full: blocks.dequantize(), half: Vec::new(), blocks: Some(blocks), scales, form }
        };
        let blocks = [in_blocks(BlockFormat::Q8, "q8"), in_blocks(BlockFormat::Q4, "q4")];
        let [q8, q4] = blocks;
        [
            Self { full: full.clone(), half: Vec::new(), blocks: None, scales: Vec::new(), form: "f32" },
            Self { full: widened, half, blocks: None, scales: Vec::new(), form: "f16" },
            q8,
            q4,
        ]
    }

    fn matrix(&self) -> Matrix<'_> {
        match (&self.blocks, self.half.is_empty()) {
            (Some(HostBlocks { format, quants, .. }), _) => {
                Matrix::Blocks { format: *format, quants, scales: &self.scales }
            }
            (None, true) => Matrix::F32(&self.full),
            (None, false) => Matrix::F16(&self.half),
        }
    }
}

struct Products;

impl Check for Products {
    fn check<S: Simd>(&self, simd: S, name: &str) {
        for (seed, [k, n]) in
            [[1, 1], [7, 5], [32, 1], [33, 13], [64, 7], [71, 26], [100, 3]].into_iter().enumerate()
        {
            let most = 33;
            let x = values(most * k, 2);
            let (bias, residual) = (values(n, 3), values(most * n, 4));
            for held in Held::all(n, k, seed as u64) {
                let run = |few: bool, first: usize, m: usize, columns: std::ops::Range<usize>| {
                    let mut out = vec![0.0; m * n];
                    let factors = Factors {
                        x: &x[first * k..(first + m) * k],
                        stride: k,
                        weight: held.matrix(),
                        m,
                        k,
                        bias: Some(&bias),
                        residual: Some(&residual[first * n..(first + m) * n]),
                    };
                    let places = Out::new(&mut out, n);
                    if few {
                        few_rows_of(simd, factors, columns, &places);
                    } else {
                        many_rows_of(simd, factors, columns, &places);
                    }
                    out
                };
                let what = format!("{name}, {}, {k} columns, {n} outputs", held.form);
                let plain = |row: usize, column: usize| {
                    let (x, w) = (&x[row * k..][..k], &held.full[column * k..][..k]);
                    let sum: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                    sum + f64::from(bias[column]) + f64::from(residual[row * n + column])
                };
                let plain: Vec<f64> = (0..most * n).map(|i| plain(i / n, i % n)).collect();
                let alone: Vec<f32> = (0..most).flat_map(|row| run(true, row, 1, 0..n)).collect();
                assert_near(&alone, &plain, &what);
                // To the bit the same with any number of rows, on either way.
                for m in 1..=most {
                    for few in [true, false] {
                        assert_eq!(
                            bits(&run(few, 0, m, 0..n)),
                            bits(&alone[..m * n]),
                            "{what}, {m} rows, {few}"
                        );
                    }
                }
                // Columns that were not asked for stay as they are.
                for few in [true, false] {
                    for (i, value) in run(few, 0, 5, n / 2..n).iter().enumerate() {
                        assert_eq!(*value, if i % n < n / 2 { 0.0 } else { alone[i] }, "{what}, {few}");
                    }
                }
            }
        }
    }
}

#[test]
fn products() {
    on_every_instruction_set(&Products);
}

/// Every way to hold a row: dot products of several rows at a time, and vectors of a block one by one.
struct Forms;

fn dots<S: Simd, W: Rows, const C: usize, const R: usize>(simd: S, rows: W, x: &[f32], k: usize) -> Vec<f32> {
    let mut stored = [rows.row(0, k); C];
    for (c, stored) in stored.iter_mut().enumerate() {
        *stored = rows.row(c, k);
    }
    let mut of = [x.as_ptr(); R];
    for (r, of) in of.iter_mut().enumerate() {
        *of = x[r * k..(r + 1) * k].as_ptr();
    }
    let mut out = vec![0.0; R * C];
    let place = Place { at: out.as_mut_ptr(), stride: C };
    // SAFETY: every pointer is that of a row of `k` numbers, and the place is as large as the tile.
    unsafe { dot::<S, W::Form, C, R, true>(simd, stored, of, k, place) };
    out
}

fn block_vectors<S: Simd, W: Rows>(simd: S, rows: W, k: usize, what: &str) {
    let row = rows.row(1, k);
    for b in 0..k / BLOCK {
        for v in 0..BLOCK / S::LANES {
            // SAFETY: the block lies in the row.
            let vector = unsafe { W::Form::vector(simd, row, b, v) };
            // SAFETY: so does the number.
            let plain = |i: usize| unsafe { W::Form::element(row, b * BLOCK + v * S::LANES + i) };
            let plain: Vec<f32> = (0..S::LANES).map(plain).collect();
            assert_eq!(simd.lanes(vector)[..S::LANES], plain, "{what}: block {b}, vector {v}");
        }
    }
}

impl Check for Forms {
    fn check<S: Simd>(&self, simd: S, name: &str) {
        for k in [1, 9, 31, 32, 40, 96, 130] {
            let x = values(8 * k, 2);
            for held in Held::all(9, k, k as u64) {
                let what = format!("{name}, {}, {k}", held.form);
                let plain = |c: usize, r: usize| {
                    let (x, w) = (&x[r * k..][..k], &held.full[c * k..][..k]);
                    x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>()
                };
                let table = |rows: usize, columns: usize| -> Vec<f64> {
                    (0..rows * columns).map(|i| plain(i % columns, i / columns)).collect()
                };
                with_rows!(held.matrix(), rows => {
                    assert_near(&dots::<S, _, 1, 1>(simd, rows, &x, k), &table(1, 1), &what);
                    assert_near(&dots::<S, _, 6, 4>(simd, rows, &x, k), &table(4, 6), &what);
                    assert_near(&dots::<S, _, 3, 8>(simd, rows, &x, k), &table(8, 3), &what);
                    assert_near(&dots::<S, _, 5, 2>(simd, rows, &x, k), &table(2, 5), &what);
                    block_vectors(simd, rows, k, &what);
                });
            }
        }
        // Every byte.
        let quants: Vec<u8> = (0..=255).chain(0..=255).collect();
        let scales: Vec<f32> = (0..32).map(|i| 0.37 * (i as f32 - 9.0)).collect();
        let form = std::marker::PhantomData::<Q8>;
        block_vectors(simd, BlockRows { quants: &quants, scales: &scales[..16], form }, 256, name);
        let form = std::marker::PhantomData::<Q4>;
        block_vectors(simd, BlockRows { quants: &quants, scales: &scales, form }, 512, name);
        // Every half that is a number.
        let half: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|x| !x.is_nan()).collect();
        let k = half.len() / 2 / BLOCK * BLOCK;
        block_vectors(simd, &half[..], k, name);
        block_vectors(simd, &half[half.len() - 2 * k..], k, name);
    }
}

#[test]
fn forms_of_storage() {
    on_every_instruction_set(&Forms);
}

struct Pointwise;

impl Check for Pointwise {
    fn check<S: Simd>(&self, simd: S, name: &str) {
        for k in [1, 2, 7, 16, 31, 33, 64, 101] {
            let (x, y) = (values(k, 1), values(k, 2));
            let mut out = vec![0.0; k];
            norm_row_of(simd, &x, &y, 1e-3, &mut out);
            let mean = wide(&x).iter().map(|x| x * x).sum::<f64>() / k as f64;
            let plain = |x: f64, y: f64| x / (mean + 1e-3).sqrt() * y;
            let normed: Vec<f64> = wide(&x).into_iter().zip(wide(&y)).map(|(x, y)| plain(x, y)).collect();
            assert_near(&out, &normed, name);
            let gate: Vec<f32> = x.iter().map(|x| 30.0 * x).collect();
            gate_row_of(simd, &gate, &y, &mut out);
            let gated = wide(&gate).into_iter().zip(wide(&y)).map(|(x, y)| x / (1.0 + (-x).exp()) * y);
            assert_near(&out, &gated.collect::<Vec<_>>(), name);
        }
        for (d, normed) in [(2, false), (6, true), (32, true), (64, false)] {
            let (heads, angles, weight) = (values(3 * d, 3), values(d, 4), values(d, 5));
            let mut out = vec![0.0; 3 * d];
            rotate_of(simd, &heads, &angles, normed.then_some((&weight[..], 1e-3)), &mut out);
            let mut plain = Vec::new();
            for head in heads.chunks_exact(d) {
                let mean = wide(head).iter().map(|x| x * x).sum::<f64>() / d as f64;
                let scale = |i: usize| if normed { f64::from(weight[i]) / (mean + 1e-3).sqrt() } else { 1.0 };
                let at = |i: usize| f64::from(head[i]) * scale(i);
                let (cos, sin) = (|i: usize| f64::from(angles[i]), |i: usize| f64::from(angles[i + d / 2]));
                plain.extend((0..d / 2).map(|i| at(i) * cos(i) - at(i + d / 2) * sin(i)));
                plain.extend((0..d / 2).map(|i| at(i + d / 2) * cos(i) + at(i) * sin(i)));
            }
            assert_near(&out, &plain, name);
        }
        for step in -870..880 {
            let x = step as f32 / 10.0;
            let ours = f64::from(simd.lanes(exp(simd, simd.splat(x)))[0]);
            assert!((ours / f64::from(x).exp() - 1.0).abs() < 1e-6, "{name}: exp({x}) is {ours}");
        }
    }
}

#[test]
fn rows_and_values() {
    on_every_instruction_set(&Pointwise);
}

struct Attention;

/// Attention of one head of one row, plainly.
fn attended(inputs: &Inputs<'_>, keys: &[f32], cached: &[f32], row: usize, head: usize) -> Vec<f64> {
    let AttentionShape { heads, kv_heads, head_dim: d, start, window } = inputs.shape;
    let m = inputs.query.len() / (heads * d);
    let depth = |row: usize| match inputs.tree {
        Some(tree) => tree[row * m..][..m].iter().filter(|seen| **seen).count() - 1,
        None => row,
    };
    let seen = |position: usize| {
        let (seen, at) = match (position.checked_sub(start), inputs.tree) {
            (Some(column), Some(tree)) => (tree[row * m + column], start + depth(column)),
            _ => (position <= start + row, position),
        };
        seen && window.is_none_or(|window| at + window > start + depth(row))
    };
    let query = wide(&inputs.query[(row * heads + head) * d..][..d]);
    let kv_head = head / (heads / kv_heads);
    let of = |cache: &[f32], position: usize| wide(&cache[(position * kv_heads + kv_head) * d..][..d]);
    let score = |position: usize| {
        let product: f64 = query.iter().zip(of(keys, position)).map(|(q, k)| q * k).sum();
        (product / (d as f64).sqrt()).exp()
    };
    let scores: Vec<_> = (0..start + m).filter(|p| seen(*p)).map(|p| (p, score(p))).collect();
    let sum: f64 = scores.iter().map(|(_, score)| score).sum();
    let mean = |i: usize| scores.iter().map(|(p, score)| score / sum * of(cached, *p)[i]).sum();
    (0..d).map(mean).collect()
}

impl Check for Attention {
    fn check<S: Simd>(&self, simd: S, name: &str) {
        let m = 5;
        // Row 4 follows row 1, which follows row 0, as rows 2 and 3 do.
        let tree =
            [1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0, 0, 1].map(|seen| seen == 1);
        for (heads, kv_heads, d) in [(1, 1, 1), (4, 2, 6), (3, 3, 24), (6, 1, 72), (10, 2, 40)] {
            for (start, window, is_tree) in
                [(0, None, false), (37, Some(3), false), (20, Some(18), true), (9, None, true)]
            {
                let shape = AttentionShape { heads, kv_heads, head_dim: d, start, window };
                let query = values(m * heads * d, 1);
                let half = [2, 3].map(|seed| {
                    let cache = values((start + m) * kv_heads * d, seed);
                    cache.into_iter().map(f16::from_f32).collect::<Vec<_>>()
                });
                let [keys, cached] =
                    half.each_ref().map(|half| half.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
                let tree = is_tree.then_some(&tree[..]);
                let inputs = Inputs {
                    query: &query,
                    keys: Cache::F32(&keys),
                    values: Cache::F32(&cached),
                    tree,
                    shape,
                };
                let run = |inputs: Inputs<'_>, step: usize| {
                    let mut out = vec![0.0; query.len()];
                    let places = Out::new(&mut out, heads * d);
                    for first in (0..m).step_by(step) {
                        for kv_head in 0..kv_heads {
                            share_of(simd, inputs, kv_head, first..(first + step).min(m), &places);
                        }
                    }
                    out
                };
                let what = format!("{name}, {heads} {kv_heads} {d}, {start}, {window:?}, {is_tree}");
                let alone = run(inputs, 1);
                let plain =
                    (0..m * heads).flat_map(|i| attended(&inputs, &keys, &cached, i / heads, i % heads));
                assert_near(&alone, &plain.collect::<Vec<_>>(), &what);
                // To the bit the same however rows are shared out, and in a cache of halves.
                let in_half = Inputs { keys: Cache::F16(&half[0]), values: Cache::F16(&half[1]), ..inputs };
                for step in [1, 2, 3, m] {
                    assert_eq!(bits(&run(inputs, step)), bits(&alone), "{what}, {step} rows");
                    assert_eq!(bits(&run(in_half, step)), bits(&alone), "{what}, {step} rows, halves");
                }
            }
        }
    }
}

#[test]
fn attention() {
    on_every_instruction_set(&Attention);
}

/// Rows that see nothing, everything, or only those after them: whatever a caller says of a tree, nothing outside the
/// cache is read, and every value is a mean of the cache's.
#[test]
fn ancestors_of_no_tree_stay_within_the_cache() {
    let (m, start, d) = (4, 2, 3);
    let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: d, start, window: None };
    let [query, keys] = [1, 2].map(|seed| values((start + m) * d, seed));
    for pattern in 0..1_u32 << (m * m) {
        let tree: Vec<bool> = (0..m * m).map(|bit| pattern >> bit & 1 == 1).collect();
        let ones = vec![1.0; (start + m) * d];
        let inputs = Inputs {
            query: &query[..m * d],
            keys: Cache::F32(&keys),
            values: Cache::F32(&ones),
            tree: Some(&tree),
            shape,
        };
        let mut out = vec![0.0; m * d];
        super::attention::attention(inputs, &mut out);
        assert_near(&out, &vec![1.0; m * d], "a mean of ones");
    }
}

/// The comparison sees a wrong value.
#[test]
#[should_panic(expected = "value 2")]
fn a_wrong_value_is_seen() {
    let plain = values(5, 1);
    let mut wrong = plain.clone();
    wrong[2] += 1e-4;
    assert_near(&wrong, &wide(&plain), "broken");
}
