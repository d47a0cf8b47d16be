//! The operations of the CPU against the portable ones, over random shapes and values.
//!
//! Three laws hold for each of them: the result is that of the stock operations to within rounding, a row
//! depends on its own input alone, and the number of threads changes no bit.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use burn::tensor::{DType, Device};
use common::{Attention, Gate, Kind, Linear, Matrix, Norm, Operation, Rope, host};
use drafthorse_kernels::{AttentionShape, append, portable};
use proptest::{prelude::*, sample::select};

fn assert_near(ours: &[f32], reference: &[f32], tolerance: &[f32]) {
    assert_eq!((ours.len(), ours.len()), (reference.len(), tolerance.len()));
    for (i, ((a, b), t)) in ours.iter().zip(reference).zip(tolerance).enumerate() {
        assert!((a - b).abs() <= *t, "value {i}: {a} instead of {b}, tolerance {t}");
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn check(operation: &mut impl Operation) {
    let (m, device) = (operation.input().rows(), Device::flex());
    let whole = operation.rows(0..m, &device);
    assert_near(&whole, &operation.portable(), &operation.tolerance());
    let width = whole.len() / m;
    let parts = (0..m).map(|row| row..row + 1).chain([0..m.div_ceil(2), m / 2..m]);
    for part in parts {
        let expected = bits(&whole[part.start * width..part.end * width]);
        assert_eq!(bits(&operation.rows(part.clone(), &device)), expected, "rows {part:?} of {m}");
    }
}

/// The same bits in pools of one, two and three threads.
fn check_threads(operation: &mut dyn Operation) {
    let m = operation.input().rows();
    let [one, two, three] = [1, 2, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        bits(&pool.install(|| operation.rows(0..m, &Device::flex())))
    });
    assert!(one == two && one == three, "the number of threads changed the result");
}

/// A changed row of the input changes that row of the result, and no other.
fn check_touch(operation: &mut impl Operation) {
    let (m, device) = (operation.input().rows(), Device::flex());
    let before = operation.rows(0..m, &device);
    let width = before.len() / m;
    for row in 0..m {
        let original = operation.input().clone();
        let columns = original.columns;
        operation.input().data[row * columns..(row + 1) * columns]
            .iter_mut()
            .for_each(|x| *x = 0.75 - 2.0 * *x);
        let after = operation.rows(0..m, &device);
        *operation.input() = original;
        let changed = (0..m).filter(|r| before[r * width..][..width] != after[r * width..][..width]);
        assert_eq!(changed.collect::<Vec<_>>(), [row]);
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    select(vec![Kind::Zeros, Kind::Small, Kind::Large, Kind::Mixed])
}

/// Head counts, head length, start and window of attention.
fn shapes() -> impl Strategy<Value = AttentionShape> {
    let window = prop::option::of(1usize..50);
    (1usize..4, 1usize..4, 1usize..41, 0usize..40, window).prop_map(
        |(kv_heads, group, head_dim, start, window)| AttentionShape {
            heads: kv_heads * group,
            kv_heads,
            head_dim,
            start,
            window,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn linear_keeps_the_laws(
        m in 1usize..34, k in 1usize..71, n in 1usize..41, kinds in [kind(), kind()],
        bias in any::<bool>(), half in any::<bool>(), seed in any::<u64>(),
    ) {
        check(&mut Linear::new([m, k, n], kinds, bias, half, seed));
    }

    #[test]
    fn rms_norm_keeps_the_laws(
        m in 1usize..34, k in 1usize..71, kinds in [kind(), kind()],
        epsilon in select(vec![1e-6, 1e-5, 1e-2]), seed in any::<u64>(),
    ) {
        check(&mut Norm::new([m, k], kinds, epsilon, seed));
    }

    #[test]
    fn silu_mul_keeps_the_laws(m in 1usize..34, f in 1usize..71, kind in kind(), seed in any::<u64>()) {
        check(&mut Gate(Matrix::new(kind, seed, [m, 2 * f])));
    }

    #[test]
    fn rope_keeps_the_laws(
        m in 1usize..34, heads in 1usize..5, half in 1usize..25, kind in kind(), seed in any::<u64>(),
    ) {
        check(&mut Rope::new([m, heads, half], kind, seed));
    }

    #[test]
    fn attention_keeps_the_laws(
        m in 1usize..34, shape in shapes(),
        query in select(vec![Kind::Zeros, Kind::Small]), values in kind(), seed in any::<u64>(),
    ) {
        check(&mut Attention::new(m, shape, [query, values], seed));
    }

    /// With scores in the millions rounding alone decides between positions, so nothing can be compared;
    /// what comes out still is a mean of the values.
    #[test]
    fn attention_with_huge_scores_stays_a_mean(m in 1usize..9, shape in shapes(), seed in any::<u64>()) {
        let attention = Attention::new(m, shape, [Kind::Large, Kind::Small], seed);
        let out = attention.rows(0..m, &Device::flex());
        prop_assert!(out.iter().all(|value| value.abs() <= 1.0 + 1e-5), "{out:?}");
    }

    #[test]
    fn append_writes_its_rows_and_nothing_else(
        start in 0usize..9, m in 1usize..9, spare in 0usize..5, width in 1usize..40, seed in any::<u64>(),
    ) {
        let device = Device::flex();
        let old = Matrix::new(Kind::Mixed, seed, [start + m + spare, width]);
        let new = Matrix::new(Kind::Mixed, seed ^ 1, [m, width]);
        let mut cache = old.on(&device);
        // Somebody else who holds the cache must not see it change.
        let held = cache.clone();
        append(&mut cache, new.on(&device), start);
        let mut expected = old.data.clone();
        expected[start * width..(start + m) * width].copy_from_slice(&new.data);
        prop_assert_eq!(bits(&host(cache)), bits(&expected));
        prop_assert_eq!(bits(&host(held)), bits(&old.data));
    }

    /// Widening to f32 loses nothing, so f16 weights give the bits of f32 weights of the same values.
    #[test]
    fn f16_weights_are_widened(m in 1usize..10, k in 1usize..71, n in 1usize..41, seed in any::<u64>()) {
        let half = Linear::new([m, k, n], [Kind::Small; 2], true, true, seed);
        let device = Device::flex();
        let ours = half.rows(0..m, &device);
        let weight = half.weight.on(&device).cast(DType::F16);
        let bias = half.bias.as_ref().map(|bias| bias.vector_on(&device));
        let stock = host(portable::linear(half.x.on(&device), &weight, bias.as_ref()));
        let tolerance: Vec<_> = half.absolute().iter().map(|sum| sum * 4e-3).collect();
        assert_near(&ours, &stock, &tolerance);
        let full = Linear { half: false, ..half };
        prop_assert_eq!(bits(&ours), bits(&full.rows(0..m, &device)));
    }
}

/// Shapes of the size that is shared among threads, with counts that three do not divide.
fn large() -> Vec<Box<dyn Operation>> {
    let small = [Kind::Small; 2];
    let shape = AttentionShape { heads: 6, kv_heads: 2, head_dim: 20, start: 190, window: Some(150) };
    vec![
        Box::new(Linear::new([1, 211, 3001], small, true, false, 1)),
        Box::new(Linear::new([5, 211, 1001], small, false, true, 2)),
        Box::new(Linear::new([33, 130, 257], small, true, true, 3)),
        Box::new(Linear::new([33, 20_000, 1], small, false, false, 4)),
        Box::new(Norm::new([33, 20_000], small, 1e-5, 5)),
        Box::new(Gate(Matrix::new(Kind::Small, 6, [33, 20_000]))),
        Box::new(Rope::new([33, 50, 40], Kind::Small, 7)),
        Box::new(Attention::new(33, shape, small, 8)),
        Box::new(Attention::new(1, AttentionShape { start: 3000, window: None, ..shape }, small, 9)),
    ]
}

#[test]
fn threads_change_no_bit() {
    for mut operation in large() {
        check_threads(operation.as_mut());
    }
}

/// The comparison above can fail: it does once a single value is another.
#[test]
#[should_panic(expected = "value 3")]
fn a_wrong_value_is_seen() {
    let linear = Linear::new([2, 30, 4], [Kind::Small; 2], true, false, 1);
    let mut ours = linear.rows(0..2, &Device::flex());
    ours[3] *= 1.001;
    assert_near(&ours, &linear.portable(), &linear.tolerance());
}

#[test]
fn a_row_is_its_own_affair() {
    let small = [Kind::Small; 2];
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 9, start: 5, window: Some(7) };
    check_touch(&mut Linear::new([9, 33, 5], small, true, false, 1));
    check_touch(&mut Linear::new([9, 33, 1], small, false, true, 2));
    check_touch(&mut Norm::new([9, 33], small, 1e-5, 3));
    check_touch(&mut Gate(Matrix::new(Kind::Small, 4, [9, 34])));
    check_touch(&mut Rope::new([9, 3, 5], Kind::Small, 5));
    check_touch(&mut Attention::new(9, shape, small, 6));
}

/// A key and a value change the rows that see their position, and no others.
#[test]
fn attention_sees_its_window_only() {
    let (m, start, device) = (9, 5, Device::flex());
    for window in [None, Some(1), Some(4), Some(30)] {
        let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 9, start, window };
        let plain = Attention::new(m, shape, [Kind::Small; 2], 1);
        let before = plain.rows(0..m, &device);
        for position in 0..start + m {
            let mut touched = Attention::new(m, shape, [Kind::Small; 2], 1);
            let columns = touched.keys.columns;
            for cache in [&mut touched.keys, &mut touched.values] {
                cache.data[position * columns..(position + 1) * columns].iter_mut().for_each(|x| *x += 1.0);
            }
            let after = touched.rows(0..m, &device);
            for row in 0..m {
                let age = (start + row).checked_sub(position);
                let seen = age.is_some_and(|age| window.is_none_or(|window| age < window));
                let part = row * before.len() / m..(row + 1) * before.len() / m;
                assert_eq!(
                    before[part.clone()] != after[part],
                    seen,
                    "{position} from row {row}, {window:?}"
                );
            }
        }
    }
}

/// On a software adapter, which is right and the same on every machine that has one.
#[cfg(feature = "gpu")]
#[test]
fn gpu_agrees_with_the_cpu() {
    use burn::tensor::{DeviceKind, wgpu::WgpuBackend};
    let options = Device::wgpu_options().graphics_api(WgpuBackend::Vulkan).device_kind(DeviceKind::Cpu);
    let gpu = match options.init() {
        Ok(gpu) => gpu,
        Err(reason) => return println!("NOT RUN: no software adapter for Vulkan: {reason}"),
    };
    let small = [Kind::Small; 2];
    for [m, k, n] in [[1, 1, 1], [1, 70, 33], [3, 17, 1], [4, 64, 40], [5, 33, 7], [33, 47, 50]] {
        for half in [false, true] {
            if half && !gpu.supports_dtype(DType::F16) {
                println!("without f16: the adapter has none");
                continue;
            }
            compare_devices(&Linear::new([m, k, n], small, m > 3, half, 1), m, &gpu);
        }
    }
    for (m, heads, kv_heads, head_dim, start, window) in [
        (1, 1, 1, 1, 0, None),
        (1, 4, 2, 16, 37, None),
        (5, 6, 2, 9, 3, Some(4)),
        (33, 3, 3, 20, 11, Some(20)),
    ] {
        let shape = AttentionShape { heads, kv_heads, head_dim, start, window };
        compare_devices(&Attention::new(m, shape, small, 2), m, &gpu);
    }
}

#[cfg(feature = "gpu")]
fn compare_devices(operation: &impl Operation, m: usize, gpu: &Device) {
    let (ours, cpu) = (operation.rows(0..m, gpu), operation.rows(0..m, &Device::flex()));
    assert_near(&ours, &cpu, &vec![1e-3; cpu.len()]);
}
