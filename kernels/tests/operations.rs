//! The operations of the CPU against the portable ones, over random shapes and values.
//!
//! Two laws hold for each of them: the result is that of the stock operations to within rounding, and a row
//! depends on its own input alone, to the bit.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use burn::tensor::DType;
use common::{
    Form, Matrix, Values, bits, host,
    operation::{Attention, Embed, Gated, Linear, Norm, Operation, Rope, cpu},
};
use drafthorse_kernels::{AttentionShape, append};
use proptest::{prelude::*, sample::select};

fn assert_near(ours: &[f32], reference: &[f32], tolerance: &[f32]) {
    assert_eq!((ours.len(), ours.len()), (reference.len(), tolerance.len()));
    for (i, ((a, b), t)) in ours.iter().zip(reference).zip(tolerance).enumerate() {
        assert!((a - b).abs() <= *t, "value {i}: {a} instead of {b}, tolerance {t}");
    }
}

fn check(operation: &mut impl Operation) {
    let m = operation.input().rows();
    let whole = operation.rows(0..m);
    assert_near(&whole, &operation.portable(), &operation.tolerance());
    let width = whole.len() / m;
    let alone = (0..m).map(|row| row..row + 1);
    let pairs = (0..m / 2).map(|pair| 2 * pair..2 * pair + 2);
    // Also a number of rows each that other code is chosen for.
    let halves = [0..m.div_ceil(2), m / 2..m, 0..m.min(7), m - m.min(9)..m, m / 3..m.min(m / 3 + 18)];
    for part in alone.chain(pairs).chain(halves) {
        let expected = bits(&whole[part.start * width..part.end * width]);
        assert_eq!(bits(&operation.rows(part.clone())), expected, "rows {part:?} of {m}");
    }
}

/// A changed row of the input changes that row of the result, and no other.
fn check_touch(operation: &mut impl Operation) {
    let m = operation.input().rows();
    let before = operation.rows(0..m);
    let width = before.len() / m;
    for row in 0..m {
        let original = operation.input().clone();
        let columns = original.columns;
        for x in &mut operation.input().values[row * columns..(row + 1) * columns] {
            *x = 0.75 - 2.0 * *x;
        }
        let after = operation.rows(0..m);
        *operation.input() = original;
        let changed = (0..m).filter(|r| before[r * width..][..width] != after[r * width..][..width]);
        assert_eq!(changed.collect::<Vec<_>>(), [row]);
    }
}

fn values() -> impl Strategy<Value = Values> {
    select(vec![Values::Zeros, Values::Small, Values::Large, Values::Mixed])
}

const FORMS: [Form; 5] = [Form::F32, Form::F16, Form::Q8, Form::Q4, Form::Parts];

fn form() -> impl Strategy<Value = Form> {
    select(FORMS.to_vec())
}

fn dtype() -> impl Strategy<Value = DType> {
    select(vec![DType::F32, DType::F16])
}

/// Numbers of rows: those of a verify pass, and many.
fn rows() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1usize..34, 1 => 40usize..71]
}

/// Head counts, head length, start and window of attention.
fn shapes(head_dim: impl Strategy<Value = usize>) -> impl Strategy<Value = AttentionShape> {
    let window = prop::option::of(1usize..50);
    (1usize..4, 1usize..6, head_dim, 0usize..60, window).prop_map(
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
        m in rows(), k in 1usize..140, n in 1usize..60, kinds in [values(), values()], form in form(),
        added in any::<[bool; 2]>(), seed in any::<u64>(),
    ) {
        check(&mut Linear::new([m, k, n], kinds, form, added, seed));
    }

    #[test]
    fn gated_linear_keeps_the_laws(
        m in rows(), k in 1usize..140, f in 1usize..30, x in values(), form in form(), seed in any::<u64>(),
    ) {
        check(&mut Gated::new([m, k, f], [x, Values::Small], form, seed));
    }

    #[test]
    fn embed_keeps_the_laws(
        m in rows(), k in 1usize..140, n in 1usize..30, kind in values(), form in form(), seed in any::<u64>(),
    ) {
        check(&mut Embed::new([m, k, n], kind, form, seed));
    }

    #[test]
    fn rms_norm_keeps_the_laws(
        m in rows(), k in 1usize..140, kinds in [values(), values()],
        epsilon in select(vec![1e-6, 1e-5, 1e-2]), seed in any::<u64>(),
    ) {
        check(&mut Norm::new([m, k], kinds, epsilon, seed));
    }

    #[test]
    fn rope_and_append_keeps_the_laws(
        m in rows(), shape in shapes((1usize..25).prop_map(|half| 2 * half)), kind in values(),
        normed in any::<bool>(), dtype in dtype(), seed in any::<u64>(),
    ) {
        check(&mut Rope::new(m, shape, kind, normed, dtype, seed));
    }

    #[test]
    fn attention_keeps_the_laws(
        m in rows(), shape in shapes(1usize..80), query in select(vec![Values::Zeros, Values::Small]),
        kind in values(), dtype in dtype(), seed in any::<u64>(),
    ) {
        check(&mut Attention::new(m, shape, [query, kind], dtype, seed));
    }

    /// With scores in the millions rounding alone decides between positions, so nothing can be compared;
    /// what comes out still is a mean of the values.
    #[test]
    fn attention_with_huge_scores_stays_a_mean(
        m in 1usize..9, shape in shapes(1usize..41), dtype in dtype(), seed in any::<u64>(),
    ) {
        let attention = Attention::new(m, shape, [Values::Large, Values::Small], dtype, seed);
        let out = attention.rows(0..m);
        prop_assert!(out.iter().all(|value| value.abs() <= 1.0 + 1e-5), "{out:?}");
    }

    #[test]
    fn append_writes_its_rows_and_nothing_else(
        start in 0usize..9, m in 1usize..9, spare in 0usize..5, width in 1usize..40, dtype in dtype(),
        seed in any::<u64>(),
    ) {
        let old = Matrix::new(Values::Small, seed, [start + m + spare, width]);
        let new = Matrix::new(Values::Small, seed ^ 1, [m, width]);
        let mut cache = old.typed(&cpu(), dtype);
        // Somebody else who holds the cache must not see it change.
        let held = cache.clone();
        append(&mut cache, new.on(&cpu()), start);
        let mut expected = host(old.typed(&cpu(), dtype));
        prop_assert_eq!(bits(&host(held)), bits(&expected));
        expected[start * width..(start + m) * width].copy_from_slice(&host(new.typed(&cpu(), dtype)));
        prop_assert_eq!(bits(&host(cache)), bits(&expected));
    }
}

/// Every number of rows up to 33 and some beyond, for each form, with and without a whole last block.
#[test]
fn every_number_of_rows_gives_the_same_bits() {
    for form in FORMS {
        for [k, n] in [[64, 13], [45, 1], [31, 26]] {
            let [most, small] = [70, 33];
            let operation = Linear::new([most, k, n], [Values::Small; 2], form, [true, true], 1);
            let alone: Vec<_> = (0..most).map(|row| bits(&operation.rows(row..row + 1))).collect();
            for m in (1..=small).chain([40, 41, 47, 64, 70]) {
                let rows = bits(&operation.rows(0..m));
                assert_eq!(rows, alone[..m].concat(), "{form:?}, {m} rows, {k} columns, {n} outputs");
            }
        }
    }
}

#[test]
fn attention_over_a_long_cache_keeps_the_laws() {
    for (window, dtype) in [(None, DType::F32), (Some(700), DType::F16)] {
        let shape = AttentionShape { heads: 6, kv_heads: 2, head_dim: 20, start: 3001, window };
        check(&mut Attention::new(11, shape, [Values::Small; 2], dtype, 1));
    }
}

/// The comparison above can fail: it does once a single value is another.
#[test]
#[should_panic(expected = "value 3")]
fn a_wrong_value_is_seen() {
    let linear = Linear::new([2, 30, 4], [Values::Small; 2], Form::Q8, [true, false], 1);
    let mut ours = linear.rows(0..2);
    ours[3] *= 1.001;
    assert_near(&ours, &linear.portable(), &linear.tolerance());
}

/// The comparison of bits sees sums in another order.
#[test]
#[should_panic(expected = "of 70")]
fn another_order_of_sums_is_seen() {
    struct Stock(Linear);
    impl Operation for Stock {
        fn input(&mut self) -> &mut Matrix {
            &mut self.0.x
        }

        /// Sums from the end where there are many rows.
        fn rows(&self, rows: std::ops::Range<usize>) -> Vec<f32> {
            let (many, x) = (rows.len() > 20, self.0.x.part(rows));
            let row = |row: &[f32]| {
                if many { row.iter().rev().sum::<f32>() } else { row.iter().sum::<f32>() }
            };
            x.values.chunks_exact(x.columns).map(row).collect()
        }

        fn portable(&self) -> Vec<f32> {
            self.rows(0..self.0.x.rows())
        }

        fn tolerance(&self) -> Vec<f32> {
            vec![0.0; self.0.x.rows()]
        }
    }
    check(&mut Stock(Linear::new([70, 100, 1], [Values::Small; 2], Form::F32, [false; 2], 1)));
}

#[test]
fn a_row_is_its_own_affair() {
    let small = [Values::Small; 2];
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 10, start: 5, window: Some(7) };
    for form in FORMS {
        check_touch(&mut Linear::new([9, 33, 5], small, form, [true, false], 1));
        check_touch(&mut Linear::new([45, 33, 1], small, form, [false, true], 2));
        check_touch(&mut Gated::new([9, 33, 5], small, form, 3));
    }
    check_touch(&mut Norm::new([9, 33], small, 1e-5, 4));
    for dtype in [DType::F32, DType::F16] {
        check_touch(&mut Rope::new(9, shape, Values::Small, true, dtype, 5));
        check_touch(&mut Attention::new(9, shape, small, dtype, 6));
    }
}
