//! Inputs that are parts of larger tensors, or that lie in memory in another order.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use burn::tensor::{DType, Tensor};
use common::{Matrix, Values, bits, host, operation::cpu};
use drafthorse_kernels::{
    AttentionShape, HeadNorms, VerifyRows, Weight, attention, embed, gated_linear, linear, linear_add,
    rms_norm, rope_and_append, verify,
};

/// The ways in which a matrix can lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum View {
    Whole,
    /// Rows out of a taller one.
    Rows,
    /// Columns out of a wider one.
    Columns,
    Transposed,
}

impl View {
    fn of(self, matrix: &Matrix, dtype: DType) -> Tensor<2> {
        let (rows, columns) = (matrix.rows(), matrix.columns);
        let whole = matrix.typed(&cpu(), dtype);
        let other = |shape| Matrix::new(Values::Large, 9, shape).typed(&cpu(), dtype);
        match self {
            Self::Whole => whole,
            Self::Rows => {
                let tall = Tensor::cat(vec![other([3, columns]), whole, other([2, columns])], 0);
                tall.slice([3..3 + rows, 0..columns])
            }
            Self::Columns => {
                let wide = Tensor::cat(vec![other([rows, 5]), whole, other([rows, 2])], 1);
                wide.slice([0..rows, 5..5 + columns])
            }
            Self::Transposed => {
                let across = |i: usize| matrix.values[i % rows * columns + i / rows];
                let values = (0..rows * columns).map(across).collect();
                Matrix { values, columns: rows }.typed(&cpu(), dtype).transpose()
            }
        }
    }

    fn vector(self, matrix: &Matrix) -> Tensor<1> {
        self.of(matrix, DType::F32).reshape([matrix.values.len()])
    }
}

/// The same bits in every view.
fn same_in_every_view(name: &str, of: impl Fn(View) -> Vec<f32>) {
    let whole = bits(&of(View::Whole));
    for view in [View::Rows, View::Columns, View::Transposed] {
        assert!(bits(&of(view)) == whole, "{name}: {view:?}");
    }
}

fn matrix(seed: u64, rows: usize, columns: usize) -> Matrix {
    Matrix::new(Values::Small, seed, [rows, columns])
}

#[test]
fn layers() {
    let (x, weight, bias, residual) =
        (matrix(1, 6, 40), matrix(2, 10, 40), matrix(3, 1, 10), matrix(4, 6, 10));
    for dtype in [DType::F32, DType::F16] {
        let weight_of = |view: View| Weight::from(view.of(&weight, dtype));
        same_in_every_view("linear_add", |view| {
            let (x, residual) = (view.of(&x, DType::F32), view.of(&residual, DType::F32));
            host(linear_add(x, &weight_of(view), Some(&view.vector(&bias)), residual))
        });
        same_in_every_view("parts", |view| {
            let parts = Weight::parts(vec![weight_of(view), weight_of(View::Whole)]);
            host(linear(view.of(&x, DType::F32), &parts, None))
        });
        same_in_every_view("gated_linear", |view| {
            host(gated_linear(view.of(&x, DType::F32), &weight_of(view)))
        });
        same_in_every_view("embed", |view| {
            host(embed(&weight_of(view), common::indices(&[9, 0, 4], &cpu())))
        });
    }
    same_in_every_view("rms_norm", |view| {
        host(rms_norm(view.of(&x, DType::F32), &view.vector(&matrix(5, 1, 40)), 1e-5))
    });
}

const SHAPE: AttentionShape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 6, start: 3, window: None };

#[test]
fn attention_and_rotations() {
    for dtype in [DType::F32, DType::F16] {
        same_in_every_view("attention", |view| {
            let (keys, values) = (view.of(&matrix(6, 9, 12), dtype), view.of(&matrix(7, 9, 12), dtype));
            host(attention(view.of(&matrix(8, 5, 24), DType::F32), &keys, &values, None, SHAPE))
        });
        same_in_every_view("rope_and_append", |view| {
            let cache = || matrix(6, 9, 12).typed(&cpu(), dtype);
            let [query, key] = [11, 12].map(|seed| view.vector(&matrix(seed, 1, 6)));
            let norms = HeadNorms { query: &query, key: &key, epsilon: 1e-5 };
            let qkv = view.of(&matrix(10, 5, 48), DType::F32);
            let angles = view.of(&matrix(13, 5, 6), DType::F32);
            let (query, (keys, values)) =
                rope_and_append(qkv, &angles, Some(norms), (cache(), cache()), SHAPE);
            [host(query), host(keys), host(values)].concat()
        });
    }
}

#[test]
fn statistics() {
    same_in_every_view("verify", |view| {
        let draft = view.of(&matrix(14, 5, 30), DType::F32).abs().div_scalar(30.0);
        let rows = VerifyRows { drafted: &[3; 5], noise: &[0.4; 5], draft: Some(&draft), temperature: 0.7 };
        let rows = verify(view.of(&matrix(15, 5, 30), DType::F32), &rows).unwrap();
        rows.iter().flat_map(|row| [row.p, row.q, row.residual_mass, row.residual_sample as f32]).collect()
    });
}

#[test]
fn caches() {
    for dtype in [DType::F32, DType::F16] {
        same_in_every_view("rope_and_append", |view| {
            let cache = (view.of(&matrix(6, 9, 12), dtype), view.of(&matrix(7, 9, 12), dtype));
            let (qkv, angles) = (matrix(10, 5, 48).on(&cpu()), matrix(13, 5, 6).on(&cpu()));
            let (query, (keys, values)) = rope_and_append(qkv, &angles, None, cache, SHAPE);
            [host(query), host(keys), host(values)].concat()
        });
    }
}
