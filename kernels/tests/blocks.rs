//! Weights in blocks: what quantisation loses, and that nothing else is lost.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Form, Matrix, Values, bits, host, indices, operation::cpu};
use drafthorse_kernels::{BLOCK, BlockFormat, HostBlocks, Weight, embed, linear, portable};
use proptest::{prelude::*, sample::select};

fn quantized(values: &Matrix, format: BlockFormat) -> HostBlocks {
    let mut blocks = HostBlocks::new(format, values.columns);
    blocks.push_rows(&values.values);
    blocks
}

/// How far a value may be from the one that was quantised.
///
/// To the nearest number of a grid: half a step. Beyond the last number of the grid of [`BlockFormat::Q4`],
/// which ends at 7 on one side and at -8 on the other, a whole step. A scale is a number of f16, so it may
/// be too small by a part in 2048 or, close to 0, by half of the smallest such number; the largest value,
/// 127 or 8 scales away from 0, is off by as much times as many.
fn bound(format: BlockFormat, scale: f32) -> f32 {
    let scale = scale.abs();
    let (steps, most) = match format {
        BlockFormat::Q8 => (0.5, 127.0),
        BlockFormat::Q4 => (1.0, 8.0),
    };
    scale * (steps + most * 0.5f32.powi(11)) + most * 0.5f32.powi(25) + scale * 1e-5
}

/// The first value that is further off than it may be.
fn too_far(values: &[f32], columns: usize, blocks: &HostBlocks, stands_for: &[f32]) -> Option<String> {
    let per_row = columns.div_ceil(BLOCK);
    values.iter().zip(stands_for).enumerate().find_map(|(i, (value, ours))| {
        let scale = blocks.scales[i / columns * per_row + i % columns / BLOCK].to_f32();
        let bound = bound(blocks.format, scale);
        // Also where one of them is no number.
        let near = (value - ours).abs() <= bound;
        (!near).then(|| format!("value {i}: {value} became {ours}, bound {bound}"))
    })
}

fn check(values: &Matrix, format: BlockFormat) {
    let blocks = quantized(values, format);
    assert_eq!(blocks.rows(), values.rows());
    let ours = blocks.dequantize();
    assert_eq!(ours.len(), values.values.len());
    assert_eq!(too_far(&values.values, values.columns, &blocks, &ours), None, "{format:?}");
}

const FORMATS: [BlockFormat; 2] = [BlockFormat::Q8, BlockFormat::Q4];

fn format() -> impl Strategy<Value = BlockFormat> {
    select(FORMATS.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn quantisation_keeps_its_bounds(
        n in 1usize..6, k in 1usize..140, values in select(vec![Values::Zeros, Values::Small, Values::Large, Values::Mixed]),
        exponent in -24i32..6, format in format(), seed in any::<u64>(),
    ) {
        let mut values = Matrix::new(values, seed, [n, k]);
        values.values.iter_mut().for_each(|x| *x *= 2f32.powi(exponent));
        check(&values, format);
    }

    /// The operations compute with exactly the values the blocks stand for.
    #[test]
    fn a_product_is_that_of_the_values(
        m in prop_oneof![1usize..10, 40usize..50], n in 1usize..40, k in 1usize..140, format in format(),
        seed in any::<u64>(),
    ) {
        let weight = Matrix::new(Values::Small, seed, [n, k]);
        let x = Matrix::new(Values::Small, seed ^ 1, [m, k]).on(&cpu());
        let blocks = quantized(&weight, format);
        let values = Matrix { values: blocks.dequantize(), columns: k };
        let ours = blocks.clone().on(&cpu());
        prop_assert_eq!(ours.dims(), [n, k]);
        prop_assert_eq!(bits(&host(portable::dense(&ours))), bits(&values.values));
        let dense = Weight::from(values.on(&cpu()));
        // The same sums in the same order.
        prop_assert_eq!(bits(&host(linear(x.clone(), &ours, None))), bits(&host(linear(x, &dense, None))));
        let ids: Vec<usize> = (0..n).rev().collect();
        let rows = host(embed(&ours, indices(&ids, &cpu())));
        prop_assert_eq!(bits(&rows), bits(&host(embed(&dense, indices(&ids, &cpu())))));
    }

    /// What is on the grid of a block stays what it is.
    #[test]
    fn numbers_of_the_grid_are_kept(numbers in prop::collection::vec(-8i8..8, BLOCK), exponent in -10i32..10) {
        let scale = 2f32.powi(exponent);
        let mut q4: Vec<f32> = numbers.iter().map(|&x| f32::from(x) * scale).collect();
        q4[5] = -8.0 * scale;
        let mut q8 = q4.clone();
        q8[7] = 127.0 * scale;
        for (format, values) in [(BlockFormat::Q4, q4), (BlockFormat::Q8, q8)] {
            let blocks = quantized(&Matrix { values: values.clone(), columns: BLOCK }, format);
            prop_assert_eq!(&blocks.dequantize(), &values, "{:?}", format);
        }
    }

    /// Rows can be appended in any portions.
    #[test]
    fn portions_do_not_matter(n in 2usize..9, k in 1usize..70, format in format(), seed in any::<u64>()) {
        let values = Matrix::new(Values::Mixed, seed, [n, k]);
        let mut blocks = HostBlocks::new(format, k);
        blocks.push_rows(&values.part(0..1).values);
        blocks.push_rows(&values.part(1..n).values);
        prop_assert_eq!(blocks, quantized(&values, format));
    }
}

#[test]
fn blocks_at_the_ends_of_what_there_is() {
    let one = |value: f32, at: usize| (0..BLOCK).map(|i| if i == at { value } else { 0.0 }).collect();
    let blocks: [Vec<f32>; 9] = [
        vec![0.0; BLOCK],
        vec![-0.0; BLOCK],
        // One value far from the others, on either side.
        one(3e5, 0),
        one(-3e5, 31),
        one(1e-7, 16),
        vec![-1.0; BLOCK],
        vec![1.0; BLOCK],
        (0..BLOCK).map(|i| if i % 2 == 0 { 4.0 } else { -4.0 }).collect(),
        (0..BLOCK).map(|i| -(i as f32)).collect(),
    ];
    for format in FORMATS {
        for block in &blocks {
            for columns in [BLOCK, BLOCK / 2, 1] {
                check(&Matrix { values: block.clone(), columns }, format);
            }
        }
        let zeros = quantized(&Matrix { values: vec![0.0; 40], columns: 40 }, format);
        assert_eq!(zeros.dequantize(), [0.0; 40]);
        // The value furthest from 0 is kept, to the rounding of the scale.
        for value in [5.0, -5.0] {
            let ours = quantized(&Matrix { values: one(value, 9), columns: BLOCK }, format).dequantize();
            assert!((ours[9] / value - 1.0).abs() < 1e-3, "{format:?}: {value} became {}", ours[9]);
            assert!(ours.iter().enumerate().all(|(i, x)| i == 9 || *x == 0.0), "{format:?}");
        }
    }
}

/// Numbers for which a scale of 16 bits is too small: they may be cut off, but must stay numbers.
#[test]
fn numbers_too_large_for_a_scale_stay_numbers() {
    for (format, value) in [(BlockFormat::Q8, 8.4e6), (BlockFormat::Q4, 5.3e5), (BlockFormat::Q4, f32::MAX)] {
        let mut values = vec![1.0; BLOCK];
        values[3] = value;
        let ours = quantized(&Matrix { values, columns: BLOCK }, format).dequantize();
        assert!(ours.iter().all(|x| x.is_finite()), "{format:?}, {value}: {ours:?}");
    }
}

/// The last block of a row is filled up; what fills it up must not reach a result.
#[test]
fn a_row_that_is_no_whole_number_of_blocks() {
    for format in FORMATS {
        for k in [1, 15, 16, 17, 31, 33, 47, 63, 65] {
            let weight = Weight::quantize(&vec![1.0; 3 * k], k, format, &cpu());
            let x = Matrix { values: vec![1.0; 2 * k], columns: k };
            let out = host(linear(x.on(&cpu()), &weight, None));
            let each = host(portable::dense(&weight))[0];
            assert!(out.iter().all(|sum| (sum - k as f32 * each).abs() < 1e-4), "{format:?} {k}: {out:?}");
        }
    }
}

/// Layout of a block, by hand.
#[test]
fn a_block_has_the_layout_of_ggml() {
    let values: Vec<f32> = (0..32u8).map(|i| f32::from(i % 16) - 8.0).collect();
    let q4 = quantized(&Matrix { values: values.clone(), columns: BLOCK }, BlockFormat::Q4);
    let expected: Vec<u8> = (0..16).map(|i| i | i << 4).collect();
    assert_eq!((q4.scales[0].to_f32(), q4.quants), (1.0, expected));
    let values: Vec<f32> = (0..32u8).map(|i| 127.0 - f32::from(i) * 8.0).collect();
    let q8 = quantized(&Matrix { values: values.clone(), columns: BLOCK }, BlockFormat::Q8);
    let expected: Vec<u8> = values.iter().map(|x| (*x as i8).cast_unsigned()).collect();
    assert_eq!((q8.scales[0].to_f32(), q8.quants), (1.0, expected));
}

/// The check of the bounds sees a single number that is another.
#[test]
fn a_wrong_number_is_seen() {
    let values = Matrix::new(Values::Small, 3, [2, 40]);
    for format in FORMATS {
        let mut blocks = quantized(&values, format);
        let last = blocks.quants.len() - BlockFormat::bytes(format);
        blocks.quants[last + 3] ^= 4;
        let wrong = blocks.dequantize();
        assert!(too_far(&values.values, 40, &blocks, &wrong).is_some(), "{format:?}");
    }
}

/// Weights of few bits are nearer the more bits they have.
#[test]
fn more_bits_are_nearer() {
    let values = Matrix::new(Values::Small, 5, [50, 100]);
    let error = |form: Form| {
        let ours = host(portable::dense(&form.weight(&values, &cpu())));
        let squares = ours.iter().zip(&values.values).map(|(a, b)| f64::from(a - b).powi(2));
        (squares.sum::<f64>() / 5000.0).sqrt()
    };
    let [f32, f16, q8, q4] = [Form::F32, Form::F16, Form::Q8, Form::Q4].map(error);
    assert!(f32 == 0.0 && f16 < q8 / 5.0 && q8 < q4 / 10.0 && q4 < 0.05, "{f16} {q8} {q4}");
}
