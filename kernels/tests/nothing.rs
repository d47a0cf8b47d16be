//! Operations on no rows give no rows.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use burn::tensor::{Int, Tensor, TensorData};
use common::{FORMS, Form, Matrix, Values, bits, host, operation::cpu};
use drafthorse_kernels::{
    AttentionShape, VerifyRows, Weight, append, attention, embed, gated_linear, linear, linear_add, rms_norm,
    rope_and_append, verify,
};

fn empty(columns: usize) -> Tensor<2> {
    Tensor::from_data(TensorData::new(Vec::<f32>::new(), [0, columns]), &cpu())
}

fn weight(form: Form) -> Weight {
    form.weight(&Matrix::new(Values::Small, 1, [6, 40]), &cpu())
}

fn no_ids() -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(Vec::<i32>::new(), [0]), &cpu())
}

#[test]
fn products() {
    for form in FORMS.into_iter().chain([Form::Parts]) {
        let weight = weight(form);
        assert_eq!(linear(empty(40), &weight, None).dims(), [0, 6], "{form:?}");
        assert_eq!(linear_add(empty(40), &weight, None, empty(6)).dims(), [0, 6], "{form:?}");
        assert_eq!(gated_linear(empty(40), &weight).dims(), [0, 3], "{form:?}");
    }
}

#[test]
fn embeddings() {
    for form in FORMS {
        assert_eq!(embed(&weight(form), no_ids()).dims(), [0, 40], "{form:?}");
    }
}

#[test]
fn embeddings_of_parts() {
    assert_eq!(embed(&weight(Form::Parts), no_ids()).dims(), [0, 40]);
}

#[test]
fn norms_and_statistics() {
    let norm = Matrix::new(Values::Small, 1, [1, 4]).row(&cpu());
    assert_eq!(rms_norm(empty(4), &norm, 1e-5).dims(), [0, 4]);
    for draft in [None, Some(&empty(9))] {
        let rows = VerifyRows { drafted: &[], noise: &[], draft, temperature: 1.0 };
        assert_eq!(verify(empty(9), &rows), Ok(Vec::new()));
    }
}

#[test]
fn attention_and_its_cache() {
    let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 4, start: 3, window: None };
    let old = Matrix::new(Values::Small, 1, [9, 4]);
    let (keys, values) = (old.on(&cpu()), old.on(&cpu()));
    for tree in [None, Some(&empty(0).int())] {
        assert_eq!(attention(empty(8), &keys, &values, tree, shape).dims(), [0, 8]);
    }
    let (query, (mut keys, values)) = rope_and_append(empty(16), &empty(4), None, (keys, values), shape);
    append(&mut keys, empty(4), 9);
    assert_eq!(query.dims(), [0, 8]);
    assert_eq!([bits(&host(keys)), bits(&host(values))], [bits(&old.values), bits(&old.values)]);
}
