//! The Burn side: tensors in, tensors out.

#![allow(clippy::needless_pass_by_value, reason = "Burn hands tensors over by value")]

use super::{
    attention::{self, Cache, Inputs},
    linear::{self, Factors},
    out::Out,
    pointwise::{self, CacheMut, Projected},
    stored::Matrix,
    team,
};
use crate::{
    AttentionShape, RowStatistics,
    backend::{AncestorsOf, DecodeOps, DraftOf, Epilogue, HeadNormsOf, WeightOf},
    portable::verify_row,
};
use burn::{
    backend::Flex,
    tensor::{DType, Element, TensorData},
};
use burn_flex::FlexTensor;
use half::f16;

impl DecodeOps for Flex {
    fn dh_linear(x: FlexTensor, weight: WeightOf<Self>, epilogue: Epilogue<Self>) -> FlexTensor {
        let (bias, residual) = match epilogue {
            Epilogue::None => (None, None),
            Epilogue::Bias(bias) => (Some(bias), None),
            Epilogue::Residual(residual) => (None, Some(residual)),
            Epilogue::Both(bias, residual) => (Some(bias), Some(residual)),
        };
        let (bias, residual) = (bias.map(contiguous), residual.map(contiguous));
        let (x, weight) = (contiguous(x), Host::of(weight));
        let [m, k] = dims(&x);
        let mut out = vec![0.0; m * weight.rows];
        let (bias, residual) = (bias.as_ref().map(values), residual.as_ref().map(values));
        let factors = Factors { x: values(&x), stride: k, weight: weight.matrix(), m, k, bias, residual };
        linear::linear(factors, weight.rows, &mut out);
        tensor(out, [m, weight.rows])
    }

    fn dh_gated_linear(x: FlexTensor, weight: WeightOf<Self>) -> FlexTensor {
        let (x, weight) = (contiguous(x), Host::of(weight));
        let [m, k] = dims(&x);
        let mut both = vec![0.0; m * weight.rows];
        let factors =
            Factors { x: values(&x), stride: k, weight: weight.matrix(), m, k, bias: None, residual: None };
        linear::linear(factors, weight.rows, &mut both);
        let width = weight.rows / 2;
        let mut out = vec![0.0; m * width];
        pointwise::silu_mul(&both, width, &mut out);
        tensor(out, [m, width])
    }

    fn dh_embed(weight: WeightOf<Self>, ids: FlexTensor) -> FlexTensor {
        let (weight, ids) = (Host::of(weight), indices(ids));
        let k = weight.columns;
        let mut out = vec![0.0; ids.len() * k];
        for (id, out) in ids.iter().zip(out.chunks_exact_mut(k)) {
            linear::widen_row(weight.matrix(), *id, out);
        }
        tensor(out, [ids.len(), k])
    }

    fn dh_silu_mul(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        let (gate, up) = (contiguous(gate), contiguous(up));
        let mut out = vec![0.0; values::<f32>(&gate).len()];
        pointwise::gate_row(values(&gate), values(&up), &mut out);
        tensor(out, dims(&gate))
    }

    fn dh_rms_norm(x: FlexTensor, weight: FlexTensor, epsilon: f64) -> FlexTensor {
        let (x, weight) = (contiguous(x), contiguous(weight));
        let mut out = vec![0.0; values::<f32>(&x).len()];
        pointwise::rms_norm(values(&x), values(&weight), epsilon as f32, &mut out);
        tensor(out, dims(&x))
    }

    fn dh_rope_and_append(
        qkv: FlexTensor,
        angles: FlexTensor,
        norms: HeadNormsOf<Self>,
        keys: FlexTensor,
        cached: FlexTensor,
        shape: AttentionShape,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (qkv, angles) = (contiguous(qkv), contiguous(angles));
        let norms = match norms {
            HeadNormsOf::None => None,
            HeadNormsOf::Some { query, key, epsilon } => {
                Some((contiguous(query), contiguous(key), epsilon as f32))
            }
        };
        let norms = norms.as_ref().map(|(query, key, epsilon)| (values(query), values(key), *epsilon));
        let (mut keys, mut cached) = (whole(keys), whole(cached));
        let [m, _] = dims(&qkv);
        let mut query = vec![0.0; m * shape.query_width()];
        let of = Projected { qkv: values(&qkv), angles: values(&angles), norms, shape };
        // In place where nobody else holds the cache, else a copy is written.
        pointwise::rope_and_append(of, &mut query, cache_mut(&mut keys), cache_mut(&mut cached));
        (tensor(query, [m, shape.query_width()]), keys, cached)
    }

    fn dh_attention(
        query: FlexTensor,
        keys: FlexTensor,
        cached: FlexTensor,
        ancestors: AncestorsOf<Self>,
        shape: AttentionShape,
    ) -> FlexTensor {
        let (query, keys, cached) = (contiguous(query), contiguous(keys), contiguous(cached));
        let tree: Option<Vec<bool>> = match ancestors {
            AncestorsOf::Chain => None,
            AncestorsOf::Tree(tree) => Some(indices(tree).into_iter().map(|seen| seen != 0).collect()),
        };
        let inputs = Inputs {
            query: values(&query),
            keys: cache(&keys),
            values: cache(&cached),
            tree: tree.as_deref(),
            shape,
        };
        let mut out = vec![0.0; inputs.query.len()];
        attention::attention(inputs, &mut out);
        tensor(out, dims(&query))
    }

    fn dh_verify(
        logits: FlexTensor,
        drafted: FlexTensor,
        noise: FlexTensor,
        draft: DraftOf<Self>,
        temperature: f64,
    ) -> FlexTensor {
        let (logits, noise, drafted) = (contiguous(logits), contiguous(noise), indices(drafted));
        let draft = match draft {
            DraftOf::Point => None,
            DraftOf::Probs(draft) => Some(contiguous(draft)),
        };
        let [m, vocab] = dims(&logits);
        let (noise, draft): (&[f32], Option<&[f32]>) = (values(&noise), draft.as_ref().map(values));
        let logits = values::<f32>(&logits);
        let mut rows = vec![0.0; m * RowStatistics::WIDTH];
        let out = Out::new(&mut rows, RowStatistics::WIDTH);
        // Three exponentials a token.
        team::each(m, 60 * m * vocab, |row| {
            let part = row * vocab..(row + 1) * vocab;
            let q = draft.map(|draft| &draft[part.clone()]);
            let statistics = verify_row(&logits[part], drafted[row], noise[row], q, temperature);
            // SAFETY: this thread alone has this row.
            unsafe { out.part(row, 0..RowStatistics::WIDTH) }.copy_from_slice(&statistics.to_row());
        });
        tensor(rows, [m, RowStatistics::WIDTH])
    }
}

/// A weight in memory.
struct Host {
    rows: usize,
    columns: usize,
    parts: HostParts,
}

enum HostParts {
    Dense(FlexTensor),
    Blocks { quants: FlexTensor, scales: FlexTensor, format: crate::BlockFormat },
}

impl Host {
    fn of(weight: WeightOf<Flex>) -> Self {
        match weight {
            WeightOf::Dense(tensor) => {
                let [rows, columns] = dims(&tensor);
                Self { rows, columns, parts: HostParts::Dense(contiguous(tensor)) }
            }
            WeightOf::Blocks { quants, scales, format, columns } => {
                let rows = dims(&quants)[0];
                let (quants, scales) = (contiguous(quants), contiguous(scales));
                Self { rows, columns, parts: HostParts::Blocks { quants, scales, format } }
            }
        }
    }

    fn matrix(&self) -> Matrix<'_> {
        match &self.parts {
            HostParts::Dense(tensor) if tensor.dtype() == DType::F16 => Matrix::F16(values::<f16>(tensor)),
            HostParts::Dense(tensor) => Matrix::F32(values(tensor)),
            HostParts::Blocks { quants, scales, format } => Matrix::Blocks {
                format: *format,
                quants: bytemuck::cast_slice(values::<u32>(quants)),
                scales: values(scales),
            },
        }
    }
}

fn dims(tensor: &FlexTensor) -> [usize; 2] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1]]
}

/// The same values in order, without a copy where they are so already.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The same values in a tensor that is not a part of a larger one.
fn whole(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() && tensor.layout().start_offset() == 0 {
        tensor
    } else {
        FlexTensor::from_data(tensor.into_data())
    }
}

fn values<E: Element + bytemuck::Pod>(tensor: &FlexTensor) -> &[E] {
    tensor.as_slice().expect("made contiguous, and dtypes are fixed when a checkpoint is loaded")
}

/// Numbers of a tensor of whole numbers.
fn indices(tensor: FlexTensor) -> Vec<usize> {
    let numbers = contiguous(tensor).into_data().convert::<i64>();
    let numbers: Vec<i64> = numbers.try_into_vec().expect("just converted");
    numbers.into_iter().map(|number| usize::try_from(number).expect("an index is not negative")).collect()
}

fn cache(tensor: &FlexTensor) -> Cache<'_> {
    if tensor.dtype() == DType::F16 { Cache::F16(values(tensor)) } else { Cache::F32(values(tensor)) }
}

fn cache_mut(tensor: &mut FlexTensor) -> CacheMut<'_> {
    if tensor.dtype() == DType::F16 {
        CacheMut::F16(tensor.storage_mut())
    } else {
        CacheMut::F32(tensor.storage_mut())
    }
}

fn tensor(out: Vec<f32>, shape: [usize; 2]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(out, shape))
}
