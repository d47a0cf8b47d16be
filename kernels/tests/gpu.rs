//! The operations of a GPU against the portable ones, on Vulkan in software.
//!
//! Tolerances are relative to the sums of absolute products.
#![cfg(all(feature = "gpu", feature = "cpu"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use burn::tensor::{DType, Device, DeviceKind, Int, Tensor, TensorData, wgpu::WgpuBackend};
use drafthorse_kernels::{
    AttentionShape, BlockFormat, HeadNorms, RowStatistics, VerifyRows, Weight, attention, embed,
    gated_linear, linear, linear_add, portable, rms_norm, rope_and_append, verify, with_planes,
};
use std::sync::OnceLock;

/// The software device, or nothing with a word about it where the machine has none.
fn device() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        let options = Device::wgpu_options().graphics_api(WgpuBackend::Vulkan).device_kind(DeviceKind::Cpu);
        options.init().ok()
    });
    if device.is_none() {
        assert!(std::env::var_os("DRAFTHORSE_REQUIRE_VULKAN").is_none(), "no software Vulkan");
        println!("NOT RUN: no software Vulkan on this machine");
    }
    device.clone()
}

/// Checks the kernels of devices with planes and those of devices without; software has planes too, though
/// it does not say so.
fn on_both(check: fn(&Device)) {
    let Some(gpu) = device() else { return };
    check(&gpu);
    with_planes(|| check(&gpu));
}

/// Numbers that look random, the same in every run.
struct Noise(u64);

impl Noise {
    /// Uniform in `[0, 1)`.
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    fn below(&mut self, end: usize) -> usize {
        (self.uniform() * end as f32) as usize
    }

    /// `count` numbers between -1 and 1.
    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| 2.0 * self.uniform() - 1.0).collect()
    }

    /// The same values on both devices.
    fn matrix(&mut self, rows: usize, columns: usize) -> Matrix {
        Matrix { values: self.values(rows * columns), columns }
    }
}

#[derive(Clone)]
struct Matrix {
    values: Vec<f32>,
    columns: usize,
}

impl Matrix {
    fn on(&self, device: &Device) -> Tensor<2> {
        self.typed(device, DType::F32)
    }

    fn typed(&self, device: &Device, dtype: DType) -> Tensor<2> {
        let rows = self.values.len() / self.columns;
        Tensor::from_data(TensorData::new(self.values.clone(), [rows, self.columns]), (device, dtype))
    }

    fn row(&self, device: &Device) -> Tensor<1> {
        let count = self.values.len();
        Tensor::from_data(TensorData::new(self.values.clone(), [count]), device)
    }

    fn abs(&self) -> Self {
        Self { values: self.values.iter().map(|x| x.abs()).collect(), columns: self.columns }
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.cast(DType::F32).try_into_data().unwrap().try_into_vec().unwrap()
}

fn indices(ids: &[usize], device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = ids.iter().map(|&id| i32::try_from(id).unwrap()).collect();
    let count = ids.len();
    Tensor::from_data(TensorData::new(ids, [count]), device)
}

#[track_caller]
fn assert_near(ours: &[f32], reference: &[f32], sizes: &[f32], tolerance: f32, what: &str) {
    assert_eq!((ours.len(), ours.len()), (reference.len(), sizes.len()), "{what}");
    for (i, ((a, b), size)) in ours.iter().zip(reference).zip(sizes).enumerate() {
        assert!((a - b).abs() <= tolerance * size + 1e-6, "{what}: value {i} is {a}, not {b}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    F32,
    F16,
    Q8,
    Q4,
}

const KINDS: [Kind; 4] = [Kind::F32, Kind::F16, Kind::Q8, Kind::Q4];

impl Kind {
    fn weight(self, values: &Matrix, device: &Device) -> Weight {
        match self {
            Self::F32 => values.on(device).into(),
            Self::F16 => values.typed(device, DType::F16).into(),
            Self::Q8 => Weight::quantize(&values.values, values.columns, BlockFormat::Q8, device),
            Self::Q4 => Weight::quantize(&values.values, values.columns, BlockFormat::Q4, device),
        }
    }

    /// The values the weight stands for, as f32 on the CPU, and their absolute values.
    fn reference(self, values: &Matrix) -> [Weight; 2] {
        let weight = portable::dense(&self.weight(values, &Device::flex())).cast(DType::F32);
        [weight.clone().into(), weight.abs().into()]
    }
}

#[test]
fn linear_layers() {
    on_both(check_linear_layers);
}

fn check_linear_layers(gpu: &Device) {
    let (cpu, mut noise) = (Device::flex(), Noise(1));
    let shapes = [
        (1, 64, 96),
        (1, 1, 1),
        (1, 2051, 40),
        (2, 7, 64),
        (3, 33, 40),
        (4, 5, 30),
        (5, 1, 36),
        (7, 37, 33),
        (8, 4101, 12),
        (16, 9, 100),
        (17, 10, 20),
        (33, 19, 31),
    ];
    for kind in KINDS {
        for (m, n, k) in shapes {
            let what = format!("{kind:?} {m} {n} {k}");
            let (x, weight) = (noise.matrix(m, k), noise.matrix(n, k));
            let (bias, residual) = (noise.matrix(1, n), noise.matrix(m, n));
            let (ours, [dense, sizes]) = (kind.weight(&weight, gpu), kind.reference(&weight));
            let reference = portable::linear(x.on(&cpu), &dense, None);
            let sizes = host(portable::linear(x.abs().on(&cpu), &sizes, None).add_scalar(1.0));
            let out = linear(x.on(gpu), &ours, None);
            assert_near(&host(out), &host(reference.clone()), &sizes, 1e-5, &what);
            // Every epilogue is one more shader to compile.
            if m % 2 == 0 {
                let biased = reference.clone() + bias.row(&cpu).unsqueeze();
                let out = linear(x.on(gpu), &ours, Some(&bias.row(gpu)));
                assert_near(&host(out), &host(biased), &sizes, 1e-5, &what);
            } else if m == 1 {
                let out = linear_add(x.on(gpu), &ours, None, residual.on(gpu));
                assert_near(&host(out), &host(reference + residual.on(&cpu)), &sizes, 1e-5, &what);
            } else if m == 3 {
                let all = reference + residual.on(&cpu) + bias.row(&cpu).unsqueeze();
                let out = linear_add(x.on(gpu), &ours, Some(&bias.row(gpu)), residual.on(gpu));
                assert_near(&host(out), &host(all), &sizes, 1e-5, &what);
            }
        }
    }
}

#[test]
fn gated_layers() {
    on_both(check_gated_layers);
}

fn check_gated_layers(gpu: &Device) {
    let (cpu, mut noise) = (Device::flex(), Noise(2));
    for kind in KINDS {
        for (m, f, k) in [(1, 33, 64), (1, 1, 7), (5, 8, 36), (18, 9, 96)] {
            let (x, weight) = (noise.matrix(m, k), noise.matrix(2 * f, k));
            let (ours, [dense, sizes]) = (kind.weight(&weight, gpu), kind.reference(&weight));
            let reference = portable::gated_linear(x.on(&cpu), &dense);
            let sizes = portable::linear(x.abs().on(&cpu), &sizes, None);
            let half = |range: std::ops::Range<usize>| sizes.clone().slice([0..m, range]).add_scalar(1.0);
            let sizes = host(half(0..f) * half(f..2 * f));
            let out = host(gated_linear(x.on(gpu), &ours));
            assert_near(&out, &host(reference), &sizes, 1e-5, &format!("{kind:?} {m} {f} {k}"));
        }
    }
}

/// The comparison sees a single weight that is another.
#[test]
fn a_changed_weight_is_seen() {
    on_both(check_a_changed_weight_is_seen);
}

fn check_a_changed_weight_is_seen(gpu: &Device) {
    let mut noise = Noise(3);
    for kind in KINDS {
        let (x, weight) = (noise.matrix(2, 64), noise.matrix(6, 64));
        let mut changed = weight.clone();
        changed.values[3 * 64 + 63] += 0.5;
        let out = |weight: &Matrix| host(linear(x.on(gpu), &kind.weight(weight, gpu), None));
        let (before, after) = (out(&weight), out(&changed));
        for (i, (before, after)) in before.iter().zip(&after).enumerate() {
            assert_eq!((before - after).abs() > 1e-3, i % 6 == 3, "{kind:?}: value {i}, {before}, {after}");
        }
    }
}

#[test]
fn embeddings() {
    let Some(gpu) = device() else { return };
    let mut noise = Noise(4);
    for kind in KINDS {
        for (n, k) in [(9, 64), (5, 36), (4, 33), (3, 1)] {
            let weight = noise.matrix(n, k);
            let ids: Vec<usize> = (0..7).map(|_| noise.below(n)).collect();
            let [dense, _] = kind.reference(&weight);
            let reference = host(portable::embed(&dense, indices(&ids, &Device::flex())));
            let out = host(embed(&kind.weight(&weight, &gpu), indices(&ids, &gpu)));
            assert_eq!(out, reference, "{kind:?} {n} {k}");
        }
    }
}

#[test]
fn norms() {
    on_both(check_norms);
}

fn check_norms(gpu: &Device) {
    let (cpu, mut noise) = (Device::flex(), Noise(5));
    for (m, k) in [(1, 1), (1, 64), (3, 33), (17, 128)] {
        let (x, weight) = (noise.matrix(m, k), noise.matrix(1, k));
        let reference = host(portable::rms_norm(x.on(&cpu), &weight.row(&cpu), 1e-5));
        let out = host(rms_norm(x.on(gpu), &weight.row(gpu), 1e-5));
        assert_near(&out, &reference, &vec![4.0; m * k], 1e-6, &format!("{m} {k}"));
    }
}

/// Heads, key heads, length of a head.
const HEADS: [(usize, usize, usize); 3] = [(4, 2, 16), (3, 3, 6), (6, 1, 64)];

#[test]
fn rotations() {
    on_both(check_rotations);
}

fn check_rotations(gpu: &Device) {
    let (cpu, mut noise) = (Device::flex(), Noise(6));
    for (heads, kv_heads, head_dim) in HEADS {
        for (m, start, dtype, normed) in [
            (1, 0, DType::F32, false),
            (1, 9, DType::F16, true),
            (5, 3, DType::F32, true),
            (17, 2, DType::F16, false),
        ] {
            let what = format!("{heads} {kv_heads} {head_dim}, {m} rows from {start}, {dtype:?}, {normed}");
            let shape = AttentionShape { heads, kv_heads, head_dim, start, window: None };
            let qkv = noise.matrix(m, (heads + 2 * kv_heads) * head_dim);
            let angles = noise.matrix(m, head_dim);
            let cache = [(); 2].map(|()| noise.matrix(20, kv_heads * head_dim));
            let norms = [(); 2].map(|()| noise.matrix(1, head_dim));
            let run = |device: &Device, ours: bool, keep: bool| {
                let [query, key] = [&norms[0], &norms[1]].map(|norm| norm.row(device));
                let norms = normed.then_some(HeadNorms { query: &query, key: &key, epsilon: 1e-6 });
                let (keys, values) = (cache[0].typed(device, dtype), cache[1].typed(device, dtype));
                let kept = keep.then(|| (keys.clone(), values.clone()));
                let (qkv, angles) = (qkv.on(device), angles.on(device));
                let operation = if ours { rope_and_append } else { portable::rope_and_append };
                let (query, (keys, values)) = operation(qkv, &angles, norms, (keys, values), shape);
                if let Some((old_keys, old_values)) = kept {
                    let before = [&cache[0], &cache[1]].map(|cache| host(cache.typed(device, dtype)));
                    assert_eq!([host(old_keys), host(old_values)], before, "{what}: another's cache changed");
                }
                [host(query), host(keys), host(values)]
            };
            let reference = run(&cpu, false, false);
            for keep in [false, true] {
                for (i, (ours, reference)) in run(gpu, true, keep).iter().zip(&reference).enumerate() {
                    let tolerance = if i > 0 && dtype == DType::F16 { 1e-3 } else { 2e-6 };
                    assert_near(ours, reference, &vec![4.0; ours.len()], tolerance, &what);
                }
            }
        }
    }
}

/// Ancestors of rows whose parents are drawn from `noise`; some rows have none.
fn tree(m: usize, noise: &mut Noise) -> Vec<i32> {
    let mut sees = vec![0; m * m];
    for row in 0..m {
        if row > 0 && noise.below(5) > 0 {
            let parent = noise.below(row);
            for column in 0..m {
                sees[row * m + column] = sees[parent * m + column];
            }
        }
        sees[row * m + row] = 1;
    }
    sees
}

#[test]
fn attention_over_a_cache() {
    on_both(check_attention_over_a_cache);
}

fn check_attention_over_a_cache(gpu: &Device) {
    let (cpu, mut noise) = (Device::flex(), Noise(7));
    let calls = [
        (1, 0, None, false),
        (1, 5, Some(3), false),
        (5, 3, None, true),
        (6, 30, Some(4), true),
        (16, 0, None, false),
        (33, 4, Some(7), false),
        (18, 2, None, true),
        (1, 300, None, false),
        (3, 510, None, true),
        (4, 700, Some(200), false),
        (2, 700, Some(300), true),
    ];
    for (heads, kv_heads, head_dim) in HEADS {
        for (i, (m, start, window, is_tree)) in calls.into_iter().enumerate() {
            // Every shape is some shaders more to compile.
            if head_dim != 16 && ![2, 5, 9].contains(&i) {
                continue;
            }
            let dtype = if i % 2 == 0 { DType::F32 } else { DType::F16 };
            let what = format!("{heads} {kv_heads} {head_dim}, {m} rows from {start}, {window:?}, {is_tree}");
            let shape = AttentionShape { heads, kv_heads, head_dim, start, window };
            let query = noise.matrix(m, heads * head_dim);
            let cache = [(); 2].map(|()| noise.matrix(start + m + 3, kv_heads * head_dim));
            let sees = is_tree.then(|| tree(m, &mut noise));
            let run = |device: &Device, ours: bool| {
                let operation = if ours { attention } else { portable::attention };
                let sees = sees
                    .clone()
                    .map(|sees| Tensor::<2, Int>::from_data(TensorData::new(sees, [m, m]), device));
                let [keys, values] = [&cache[0], &cache[1]].map(|cache| cache.typed(device, dtype));
                host(operation(query.on(device), &keys, &values, sees.as_ref(), shape))
            };
            let (ours, reference) = (run(gpu, true), run(&cpu, false));
            assert_near(&ours, &reference, &vec![1.0; ours.len()], 1e-5, &what);
        }
    }
}

/// Rows of logits of many kinds.
fn logits(kind: usize, vocab: usize, noise: &mut Noise) -> Vec<f32> {
    let mut row = noise.values(vocab);
    match kind {
        0 => row.iter_mut().for_each(|x| *x *= 3.0),
        // Peaked.
        1 => row[noise.below(vocab)] = 30.0,
        // Flat: the first token is the argmax.
        2 => row.fill(0.5),
        // Ties.
        3 => row.iter_mut().for_each(|x| *x = (*x * 2.0).round()),
        // Tokens that are forbidden, whole chunks of them.
        4 => {
            let forbidden = (0..vocab).filter(|i| i / 50 % 2 == 0 && *i != vocab / 2);
            forbidden.for_each(|i| row[i] = f32::NEG_INFINITY);
        }
        _ => row.iter_mut().for_each(|x| *x = *x * 20.0 - 60.0),
    }
    row
}

fn softmax(row: &[f32], temperature: f64) -> Vec<f32> {
    let scaled = |x: &f32| f64::from(*x) / temperature;
    let max = row.iter().map(scaled).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|x| (scaled(x) - max).exp()).sum();
    row.iter().map(|x| ((scaled(x) - max).exp() / sum) as f32).collect()
}

/// Says what is wrong with statistics of a row; whether the sample is the very one of the reference.
fn check_row(
    ours: &RowStatistics,
    logits: &[f32],
    drafted: usize,
    noise: f32,
    draft: Option<&[f32]>,
    temperature: f64,
) -> Result<bool, String> {
    let reference = portable::verify_row(logits, drafted, noise, draft, temperature);
    let near = |a: f32, b: f32| (a - b).abs() <= 2e-5 * (1.0 + b.abs());
    let same = ours.argmax == reference.argmax
        && near(ours.max, reference.max)
        && near(ours.log_sum_exp, reference.log_sum_exp)
        && near(ours.p, reference.p)
        && ours.q == reference.q
        && near(ours.total_variation, reference.total_variation)
        && near(ours.residual_mass, reference.residual_mass);
    // The sample may be another one only where rounding decides.
    let p = softmax(logits, temperature);
    let q = |token: usize| draft.map_or(f32::from(u8::from(token == drafted)), |draft| draft[token]);
    let residual = |token: usize| f64::from((p[token] - q(token)).max(0.0));
    let sample = ours.residual_sample as usize;
    let sum = |end: usize| (0..end).map(residual).sum::<f64>();
    let target = f64::from(noise) * f64::from(reference.residual_mass);
    let fair = sum(sample) <= target + 1e-4 && sum(sample + 1) >= target - 1e-4;
    if same && fair {
        Ok(sample == reference.residual_sample as usize)
    } else {
        Err(format!("{ours:?}, not {reference:?}"))
    }
}

#[test]
fn statistics_of_rows() {
    on_both(check_statistics_of_rows);
}

fn check_statistics_of_rows(gpu: &Device) {
    let mut noise = Noise(8);
    let (mut rows, mut exact) = (0, 0);
    for vocab in [1, 7, 100, 5003, 32_000] {
        for (m, temperature, with_draft) in
            [(1, 1.0, false), (6, 0.7, true), (12, 1.3, false), (12, 1.0, true)]
        {
            let logits: Vec<Vec<f32>> = (0..m).map(|row| logits(row % 6, vocab, &mut noise)).collect();
            let drafted: Vec<u32> = (0..m).map(|_| noise.below(vocab) as u32).collect();
            let random: Vec<f32> = (0..m).map(|row| if row == 5 { 0.0 } else { noise.uniform() }).collect();
            let draft: Vec<Vec<f32>> = (0..m)
                .map(|row| match row % 5 {
                    // The expert's own distribution, a point, nothing, another distribution.
                    0 => softmax(&logits[row], temperature),
                    1 => (0..vocab).map(|i| f32::from(u8::from(i == drafted[row] as usize))).collect(),
                    2 => vec![0.0; vocab],
                    _ => softmax(&noise.values(vocab), 0.3),
                })
                .collect();
            let on_gpu =
                |rows: &[Vec<f32>]| Tensor::<2>::from_data(TensorData::new(rows.concat(), [m, vocab]), gpu);
            let draft_on_gpu = with_draft.then(|| on_gpu(&draft));
            let question =
                VerifyRows { drafted: &drafted, noise: &random, draft: draft_on_gpu.as_ref(), temperature };
            let ours = verify(on_gpu(&logits), &question).unwrap();
            for (row, ours) in ours.iter().enumerate() {
                let draft = with_draft.then_some(draft[row].as_slice());
                let check = |ours| {
                    check_row(ours, &logits[row], drafted[row] as usize, random[row], draft, temperature)
                };
                let same = check(ours).unwrap_or_else(|error| panic!("{vocab}, row {row}: {error}"));
                // Where p and q are equal, what is left of them is rounding.
                if ours.residual_mass > 1e-3 {
                    rows += 1;
                    exact += usize::from(same);
                }
                // The check sees other values.
                let wrong = RowStatistics { residual_mass: ours.residual_mass + 1e-3, ..*ours };
                assert!(check(&wrong).is_err());
                assert!(check(&RowStatistics { argmax: ours.argmax + 1, ..*ours }).is_err());
            }
        }
    }
    assert!(rows > 100 && exact * 20 > rows * 19, "{exact} samples of {rows} are those of the reference");
}

/// Matrices in parts, as a device needs them whose buffers are small.
#[test]
fn weights_in_parts() {
    let Some(gpu) = device() else { return };
    let mut noise = Noise(9);
    let (x, weight, bias) = (noise.matrix(3, 36), noise.matrix(10, 36), noise.matrix(1, 10));
    let ids: Vec<usize> = (0..10).rev().collect();
    for kind in KINDS {
        let whole = kind.weight(&weight, &gpu);
        let part = |rows: std::ops::Range<usize>| {
            let values = weight.values[rows.start * 36..rows.end * 36].to_vec();
            kind.weight(&Matrix { values, columns: 36 }, &gpu)
        };
        let parts = Weight::parts(vec![part(0..4), part(4..5), part(5..10)]);
        let out = |weight: &Weight| {
            let product = host(linear(x.on(&gpu), weight, Some(&bias.row(&gpu))));
            [product, host(embed(weight, indices(&ids, &gpu))), host(gated_linear(x.on(&gpu), weight))]
        };
        let ([product, rows, _], [whole_product, whole_rows, _]) = (out(&parts), out(&whole));
        assert_eq!((product, rows), (whole_product, whole_rows), "{kind:?}");
        let halves = Weight::parts(vec![part(0..5), part(5..10)]);
        let (gated, whole_gated) = (out(&halves)[2].clone(), out(&whole)[2].clone());
        assert_near(&gated, &whole_gated, &[1.0; 15], 1e-5, "gated");
    }
}

/// The same bits for a row alone and among others: a verify step gives what decode steps give.
#[test]
fn rows_do_not_depend_on_each_other() {
    on_both(check_rows_do_not_depend_on_each_other);
}

fn check_rows_do_not_depend_on_each_other(gpu: &Device) {
    let mut noise = Noise(10);
    for kind in [Kind::F16, Kind::Q4] {
        let (x, weight) = (noise.matrix(9, 100), noise.matrix(8, 100));
        let weight = kind.weight(&weight, gpu);
        let whole = host(linear(x.on(gpu), &weight, None));
        for rows in [0..1, 3..5, 5..9] {
            let part = host(linear(x.on(gpu).slice([rows.clone()]), &weight, None));
            assert_eq!(part, whole[8 * rows.start..8 * rows.end], "{kind:?}, rows {rows:?}");
        }
    }
    let cache = [(); 2].map(|()| noise.matrix(310, 16).on(gpu));
    let query = noise.matrix(8, 32);
    for (start, window) in [(250, None), (300, Some(60))] {
        let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 16, start, window };
        let whole = host(attention(query.on(gpu), &cache[0], &cache[1], None, shape));
        for rows in [0..1, 2..4, 3..8] {
            let shape = AttentionShape { start: start + rows.start, ..shape };
            let part = query.on(gpu).slice([rows.clone()]);
            let part = host(attention(part, &cache[0], &cache[1], None, shape));
            assert_eq!(part, whole[32 * rows.start..32 * rows.end], "attention, rows {rows:?}, {window:?}");
        }
    }
}

/// A value of the cache changes the rows that see its position, and no other.
#[test]
fn positions_are_seen_by_their_rows_alone() {
    on_both(check_positions_are_seen_by_their_rows_alone);
}

fn check_positions_are_seen_by_their_rows_alone(gpu: &Device) {
    let (mut noise, m, start) = (Noise(11), 5, 4);
    // Row 4 follows row 1, which follows row 0, as rows 2 and 3 do.
    let tree = [1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0, 0, 1];
    let (query, keys) = (noise.matrix(m, 64).on(gpu), noise.matrix(start + m, 32).on(gpu));
    let values = noise.matrix(start + m, 32);
    for (window, is_tree) in [(None, false), (Some(3), false), (None, true), (Some(2), true)] {
        let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 16, start, window };
        let sees = Tensor::<2, Int>::from_data(TensorData::new(tree.to_vec(), [m, m]), gpu);
        let out = |values: &Matrix| {
            host(attention(query.clone(), &keys, &values.on(gpu), is_tree.then_some(&sees), shape))
        };
        let before = out(&values);
        for position in 0..start + m {
            let mut changed = values.clone();
            changed.values[position * 32..(position + 1) * 32].iter_mut().for_each(|x| *x += 1.0);
            let after = out(&changed);
            for row in 0..m {
                let depth = |row: usize| tree[row * m..(row + 1) * m].iter().sum::<i32>() as usize - 1;
                let (seen, distance) = match position.checked_sub(start) {
                    Some(column) if is_tree => {
                        (tree[row * m + column] == 1, depth(row).saturating_sub(depth(column)))
                    }
                    _ if is_tree => (true, start + depth(row) - position),
                    _ => (position <= start + row, (start + row).saturating_sub(position)),
                };
                let seen = seen && window.is_none_or(|window| distance < window);
                let same = before[row * 64..(row + 1) * 64] == after[row * 64..(row + 1) * 64];
                assert_eq!(same, !seen, "row {row}, position {position}, {window:?}, {is_tree}");
            }
        }
    }
}
