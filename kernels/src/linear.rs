//! Linear layers, embeddings and norms.

use crate::{
    Weight,
    backend::{DecodeOps, Epilogue},
    is_ours, portable,
};
use burn::{
    backend::Dispatch,
    tensor::{Int, Tensor},
};

/// `x @ weight^T + bias`.
///
/// # Shapes
///
/// `x` `[m, k]` f32, `weight` `[n, k]`, `bias` `[n]` f32 -> `[m, n]` f32.
///
/// # Panics
///
/// If the shapes disagree.
pub fn linear(x: Tensor<2>, weight: &Weight, bias: Option<&Tensor<1>>) -> Tensor<2> {
    product(x, weight, bias, None)
}

/// `residual + x @ weight^T + bias`, in one pass.
///
/// # Shapes
///
/// As [`linear`], `residual` `[m, n]` f32.
///
/// # Panics
///
/// If the shapes disagree.
pub fn linear_add(x: Tensor<2>, weight: &Weight, bias: Option<&Tensor<1>>, residual: Tensor<2>) -> Tensor<2> {
    assert_eq!(residual.dims(), [x.dims()[0], weight.dims()[0]], "shape of the residual");
    product(x, weight, bias, Some(residual))
}

fn product(
    x: Tensor<2>,
    weight: &Weight,
    bias: Option<&Tensor<1>>,
    residual: Option<Tensor<2>>,
) -> Tensor<2> {
    let [n, k] = weight.dims();
    assert_eq!(x.dims()[1], k, "columns of x and of the weight");
    assert!(bias.is_none_or(|b| b.dims()[0] == n), "length of the bias");
    if !is_ours(&x.device()) {
        let out = portable::linear(x, weight, bias);
        return match residual {
            Some(residual) => out + residual,
            None => out,
        };
    }
    let Some(weight) = weight.primitive() else {
        return product_of_parts(x, weight, bias, residual);
    };
    let epilogue = match (bias.map(|bias| bias.clone().into_dispatch()), residual.map(Tensor::into_dispatch))
    {
        (None, None) => Epilogue::None,
        (Some(bias), None) => Epilogue::Bias(bias),
        (None, Some(residual)) => Epilogue::Residual(residual),
        (Some(bias), Some(residual)) => Epilogue::Both(bias, residual),
    };
    Tensor::from_dispatch(Dispatch::dh_linear(x.into_dispatch(), weight, epilogue))
}

fn product_of_parts(
    x: Tensor<2>,
    weight: &Weight,
    bias: Option<&Tensor<1>>,
    residual: Option<Tensor<2>>,
) -> Tensor<2> {
    let Weight::Parts(parts) = weight else { return product(x, weight, bias, residual) };
    let columns = parts.iter().map(|part| linear(x.clone(), part, None)).collect();
    let mut out = Tensor::cat(columns, 1);
    if let Some(bias) = bias {
        out = out + bias.clone().unsqueeze();
    }
    match residual {
        Some(residual) => out + residual,
        None => out,
    }
}

/// The gated half of the feed-forward layer: `silu(x @ gate^T) * (x @ up^T)`.
///
/// # Shapes
///
/// `x` `[m, k]` f32, `gate_up` `[2f, k]`, the gate's rows first -> `[m, f]` f32.
///
/// # Panics
///
/// If the shapes disagree.
///
/// Source: Shazeer, "GLU Variants Improve Transformer", 2020.
pub fn gated_linear(x: Tensor<2>, gate_up: &Weight) -> Tensor<2> {
    let [n, k] = gate_up.dims();
    assert_eq!(x.dims()[1], k, "columns of x and of the weight");
    assert!(n.is_multiple_of(2), "gate and up halves");
    if !is_ours(&x.device()) {
        return portable::gated_linear(x, gate_up);
    }
    match (gate_up, gate_up.primitive()) {
        (_, Some(weight)) => Tensor::from_dispatch(Dispatch::dh_gated_linear(x.into_dispatch(), weight)),
        (Weight::Parts(parts), None) if parts.len() == 2 && parts[0].dims() == parts[1].dims() => {
            let (gate, up) = (linear(x.clone(), &parts[0], None), linear(x, &parts[1], None));
            Tensor::from_dispatch(Dispatch::dh_silu_mul(gate.into_dispatch(), up.into_dispatch()))
        }
        _ => portable::silu_mul(linear(x, gate_up, None)),
    }
}

/// Rows of a weight by their indices, widened to f32.
///
/// # Shapes
///
/// `weight` `[n, k]`, `ids` `[m]` below `n` -> `[m, k]` f32.
pub fn embed(weight: &Weight, ids: Tensor<1, Int>) -> Tensor<2> {
    if !is_ours(&ids.device()) {
        return portable::embed(weight, ids);
    }
    match (weight, weight.primitive()) {
        (Weight::Parts(parts), None) => embed_parts(parts, &ids),
        (_, Some(weight)) => Tensor::from_dispatch(Dispatch::dh_embed(weight, ids.into_dispatch())),
        (_, None) => portable::embed(weight, ids),
    }
}

/// Every part gives the rows it has, and zeros for the others.
fn embed_parts(parts: &[Weight], ids: &Tensor<1, Int>) -> Tensor<2> {
    if ids.dims()[0] == 0 {
        return Tensor::zeros([0, parts[0].dims()[1]], &ids.device());
    }
    let mut first = 0;
    let rows = parts.iter().map(|part| {
        let count = i64::try_from(part.dims()[0]).expect("a matrix of less than 2^63 rows");
        let local = ids.clone() - first;
        first += count;
        let outside = local.clone().lower_elem(0).bool_or(local.clone().greater_equal_elem(count));
        let rows = embed(part, local.clamp(0, count - 1));
        rows.mask_fill(outside.unsqueeze_dim::<2>(1).expand([ids.dims()[0], part.dims()[1]]), 0.0)
    });
    rows.reduce(|sum, rows| sum + rows).expect("a weight has parts")
}

/// Root mean square normalisation of every row: `x / sqrt(mean(x^2) + epsilon) * weight`.
///
/// # Shapes
///
/// `x` `[m, k]` f32, `weight` `[k]` f32 -> `[m, k]`.
///
/// # Panics
///
/// If the shapes disagree.
///
/// Source: Zhang, Sennrich, "Root Mean Square Layer Normalization", 2019.
pub fn rms_norm(x: Tensor<2>, weight: &Tensor<1>, epsilon: f64) -> Tensor<2> {
    assert_eq!(x.dims()[1], weight.dims()[0], "length of the norm's weight");
    if !is_ours(&x.device()) {
        return portable::rms_norm(x, weight, epsilon);
    }
    Tensor::from_dispatch(Dispatch::dh_rms_norm(x.into_dispatch(), weight.clone().into_dispatch(), epsilon))
}
