//! The Burn side: tensors in, tensors out.

// The macro below writes public items without documentation, and Burn hands tensors over by value.
#![allow(missing_docs, unreachable_pub, clippy::needless_pass_by_value)]

use super::{
    attention, linear,
    linear::{Factors, Weight},
    pointwise,
};
use crate::AttentionShape;
use burn::{
    backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor},
    tensor::{DType, Element, Tensor, TensorData, f16},
};
use burn_flex::FlexTensor;

#[backend_extension(Flex)]
pub trait CpuOps: Backend {
    fn cpu_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    fn cpu_linear_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    fn cpu_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self>;
    fn cpu_silu_mul(gate_up: FloatTensor<Self>) -> FloatTensor<Self>;
    fn cpu_rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>) -> FloatTensor<Self>;
    fn cpu_attention(
        query: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self>;
}

impl CpuOps for Flex {
    fn cpu_linear(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        any_linear(x, weight, None)
    }

    fn cpu_linear_bias(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        any_linear(x, weight, Some(bias))
    }

    fn cpu_rms_norm(x: FlexTensor, weight: FlexTensor, epsilon: f64) -> FlexTensor {
        let (mut out, shape) = owned(x);
        pointwise::rms_norm(&mut out, values::<f32>(&weight.to_contiguous()), epsilon as f32);
        tensor(out, shape)
    }

    fn cpu_silu_mul(gate_up: FlexTensor) -> FlexTensor {
        let [m, width] = dims(&gate_up);
        let out = pointwise::silu_mul(values(&gate_up.to_contiguous()), width / 2);
        tensor(out, [m, width / 2])
    }

    fn cpu_rope(x: FlexTensor, cos: FlexTensor, sin: FlexTensor) -> FlexTensor {
        let half = dims(&cos)[1];
        let (cos, sin) = (cos.to_contiguous(), sin.to_contiguous());
        let (mut out, shape) = owned(x);
        pointwise::rope(&mut out, values(&cos), values(&sin), shape[1], half);
        tensor(out, shape)
    }

    fn cpu_attention(
        query: FlexTensor,
        keys: FlexTensor,
        cached: FlexTensor,
        shape: AttentionShape,
    ) -> FlexTensor {
        let [m, width] = dims(&query);
        let (query, keys, cached) = (query.to_contiguous(), keys.to_contiguous(), cached.to_contiguous());
        let out = attention::attention(values(&query), values(&keys), values(&cached), shape);
        tensor(out, [m, width])
    }
}

fn any_linear(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
    let ([m, k], [n, _]) = (dims(&x), dims(&weight));
    let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
    let bias = bias.map(|bias| bias.to_contiguous());
    let weights = match weight.dtype() {
        DType::F16 => Weight::F16(values::<f16>(&weight)),
        _ => Weight::F32(values(&weight)),
    };
    let bias = bias.as_ref().map(values);
    let out = linear::linear(Factors { x: values(&x), weight: weights, bias, m, k }, n);
    tensor(out, [m, n])
}

fn dims(tensor: &FlexTensor) -> [usize; 2] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1]]
}

fn values<E: Element + bytemuck::Pod>(tensor: &FlexTensor) -> &[E] {
    tensor.as_slice().expect("made contiguous, and dtypes are fixed when a checkpoint is loaded")
}

/// The values of `x` in a vector of their own; no copy where nobody else holds them.
fn owned(x: FlexTensor) -> (Vec<f32>, [usize; 2]) {
    let shape = dims(&x);
    let data = x.to_contiguous().into_data();
    (data.try_into_vec().expect("activations are f32"), shape)
}

fn tensor(out: Vec<f32>, shape: [usize; 2]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(out, shape))
}

pub(crate) fn linear(x: Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> Tensor<2> {
    let (x, weight) = (x.into_dispatch(), weight.clone().into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::cpu_linear_bias(x, weight, bias.clone().into_dispatch()),
        None => Dispatch::cpu_linear(x, weight),
    })
}

pub(crate) fn rms_norm(x: Tensor<2>, weight: &Tensor<1>, epsilon: f64) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::cpu_rms_norm(x.into_dispatch(), weight.clone().into_dispatch(), epsilon))
}

pub(crate) fn silu_mul(gate_up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::cpu_silu_mul(gate_up.into_dispatch()))
}

pub(crate) fn rope(x: Tensor<2>, cos: &Tensor<2>, sin: &Tensor<2>) -> Tensor<2> {
    let (cos, sin) = (cos.clone().into_dispatch(), sin.clone().into_dispatch());
    Tensor::from_dispatch(Dispatch::cpu_rope(x.into_dispatch(), cos, sin))
}

pub(crate) fn attention(
    query: Tensor<2>,
    keys: &Tensor<2>,
    values: &Tensor<2>,
    shape: AttentionShape,
) -> Tensor<2> {
    let (keys, values) = (keys.clone().into_dispatch(), values.clone().into_dispatch());
    Tensor::from_dispatch(Dispatch::cpu_attention(query.into_dispatch(), keys, values, shape))
}
