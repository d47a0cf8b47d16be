//! Linear layers.

use super::{Format, Matrix, grid, lanes, output};
use burn_cubecl::{kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

/// What a linear kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    /// Units that share a sum.
    lanes: usize,
    /// Rows of x for which a weight is read once.
    rows: usize,
    /// Rows of the weight for which a value of x is read once; gated layers count gate and up.
    columns: usize,
    format: Format,
    gated: bool,
}

/// Most rows of x for which a weight is read once.
const ROWS: usize = 16;

/// Groups of lanes below which a device is not busy.
const GROUPS: usize = 1024;

pub(super) fn linear(
    x: CubeTensor,
    weight: Matrix,
    bias: Option<CubeTensor>,
    residual: Option<CubeTensor>,
    gated: bool,
) -> CubeTensor {
    let x = into_contiguous(x);
    let (m, k) = (x.meta.shape()[0], weight.columns);
    let n = if gated { weight.rows() / 2 } else { weight.rows() };
    let out = output(&x, [m, n]);
    if m * n == 0 {
        return out;
    }
    let client = x.client.clone();
    let lanes = lanes(&client);
    let rows = m.next_power_of_two().min(ROWS);
    let columns = columns(lanes, rows, n * m.div_ceil(rows), gated);
    let outputs = if gated { columns / 2 } else { columns };
    let plan = Plan { lanes, rows, columns, format: weight.format, gated };
    let (biased, added) = (u32::from(bias.is_some()), u32::from(residual.is_some()));
    let (x_vector, word_vector) = weight.vectors();
    let (count, dim) = grid(&client, n.div_ceil(outputs) * m.div_ceil(rows), lanes);
    let types = weight.types();
    // What is not there is never read.
    let absent = |tensor: Option<CubeTensor>| tensor.map_or_else(|| x.clone(), into_contiguous);
    let (scales, bias, residual) = (absent(weight.scales), absent(bias), absent(residual));
    // SAFETY: units beyond the result return, rows and columns beyond it are read as the last ones and not
    // written; what is beyond a row is not read.
    unsafe {
        linear_kernel::launch_unchecked(
            &client,
            count,
            dim,
            x_vector,
            word_vector,
            x.into_tensor_arg(),
            weight.words.into_tensor_arg(),
            scales.into_tensor_arg(),
            bias.into_tensor_arg(),
            residual.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            m,
            n,
            k,
            biased,
            added,
            plan,
            types,
        );
    }
    out
}

/// Columns that a group of lanes computes. More of them save loads of x, and have more loads under way at a
/// time; but few results must keep all of a device busy.
fn columns(lanes: usize, rows: usize, results: usize, gated: bool) -> usize {
    let (most, least) = (if rows > 4 { 4 } else { 2 }, if gated { 2 } else { 1 });
    if lanes == 1 {
        return least;
    }
    let fitting = if gated { 2 * results } else { results } / GROUPS;
    1 << fitting.clamp(least, most).ilog2()
}

/// `lanes` units compute `columns` columns of `rows` rows.
#[cube(launch_unchecked)]
fn linear_kernel<W: Numeric, S: Float, N: Size, NW: Size>(
    x: &Tensor<Vector<f32, N>>,
    words: &Tensor<Vector<W, NW>>,
    scales: &Tensor<S>,
    bias: &Tensor<f32>,
    residual: &Tensor<f32>,
    out: &mut Tensor<f32>,
    m: usize,
    n: usize,
    k: usize,
    biased: u32,
    added: u32,
    #[comptime] plan: Plan,
    #[define(W, S)] _types: [ElemType; 2],
) {
    let outputs = comptime!(if plan.gated { plan.columns / 2 } else { plan.columns });
    let row_blocks = m.div_ceil(plan.rows);
    let group = ABSOLUTE_POS / plan.lanes;
    let lane = ABSOLUTE_POS % plan.lanes;
    // Blocks of rows that share weights are next to each other in time.
    let first_row = group % row_blocks * plan.rows;
    let first = group / row_blocks * outputs;
    if first >= n {
        terminate!();
    }
    // Vectors of a row of x, loads and blocks of a row of the weight.
    let width = k / N::value();
    let blocks = k.div_ceil(32usize);
    let loads = match comptime!(plan.format) {
        Format::Dense => width,
        Format::Q8 => blocks * 8,
        Format::Q4 => blocks * 4,
    };

    let mut x_at = Array::<usize>::new(plan.rows);
    #[unroll]
    for r in 0..plan.rows {
        x_at[r] = usize::min(first_row + r, m - 1) * width;
    }
    let mut weight_row = Array::<usize>::new(plan.columns);
    #[unroll]
    for c in 0..plan.columns {
        weight_row[c] = if comptime!(plan.gated) {
            usize::min(first + comptime!(c / 2), n - 1) + comptime!(c % 2) * n
        } else {
            usize::min(first + c, n - 1)
        };
    }
    let mut sums = Array::<f32>::new(comptime!(plan.rows * plan.columns));
    #[unroll]
    for i in 0..comptime!(plan.rows * plan.columns) {
        sums[i] = 0.0f32;
    }

    let size = N::value().comptime();
    let parts = comptime!(match plan.format {
        Format::Dense => 1,
        Format::Q8 => 4 / size,
        Format::Q4 => 8 / size,
    });
    // The same number of steps for all lanes: they are to meet again.
    for step in 0..loads.div_ceil(plan.lanes) {
        let load = step * plan.lanes + lane;
        if load < loads {
            let mut word = Array::<Vector<W, NW>>::new(plan.columns);
            let mut scale = Array::<f32>::new(plan.columns);
            #[unroll]
            for c in 0..plan.columns {
                word[c] = words[weight_row[c] * loads + load];
                match comptime!(plan.format) {
                    Format::Dense => {}
                    Format::Q8 => scale[c] = f32::cast_from(scales[weight_row[c] * blocks + load / 8]),
                    Format::Q4 => scale[c] = f32::cast_from(scales[weight_row[c] * blocks + load / 4]),
                }
            }
            #[unroll]
            for part in 0..parts {
                let at = x_index::<N>(load, part, plan.format);
                if at < width {
                    let mut weights = Array::<Vector<f32, N>>::new(plan.columns);
                    #[unroll]
                    for c in 0..plan.columns {
                        weights[c] = if comptime!(plan.format == Format::Dense) {
                            Vector::cast_from(word[c])
                        } else {
                            unpack::<N>(u32::cast_from(word[c]), part, plan.format) * Vector::new(scale[c])
                        };
                    }
                    #[unroll]
                    for r in 0..plan.rows {
                        let values = x[x_at[r] + at];
                        #[unroll]
                        for c in 0..plan.columns {
                            let sum = comptime!(r * plan.columns + c);
                            sums[sum] = add_products(sums[sum], weights[c], values);
                        }
                    }
                }
            }
        }
    }

    #[unroll]
    for i in 0..comptime!(plan.rows * plan.columns) {
        sums[i] = total(sums[i], plan.lanes);
    }
    if lane == 0 {
        #[unroll]
        for r in 0..plan.rows {
            #[unroll]
            for c in 0..outputs {
                if first_row + r < m {
                    if first + c < n {
                        let at = (first_row + r) * n + first + c;
                        let mut value = if comptime!(plan.gated) {
                            let gate = sums[comptime!(r * plan.columns + 2 * c)];
                            let up = sums[comptime!(r * plan.columns + 2 * c + 1)];
                            gate / (1.0f32 + f32::exp(-gate)) * up
                        } else {
                            sums[comptime!(r * plan.columns + c)]
                        };
                        if biased != 0 {
                            value += bias[first + c];
                        }
                        if added != 0 {
                            value += residual[at];
                        }
                        out[at] = value;
                    }
                }
            }
        }
    }
}

/// The sum over lanes.
#[cube]
pub(super) fn total(value: f32, #[comptime] lanes: usize) -> f32 {
    if comptime!(lanes > 1) { plane_sum(value) } else { value }
}

/// `sum + a . b`.
#[cube]
pub(super) fn add_products<N: Size>(sum: f32, a: Vector<f32, N>, b: Vector<f32, N>) -> f32 {
    let mut out = sum;
    #[unroll]
    for i in 0..N::value() {
        out = fma(a.extract(i), b.extract(i), out);
    }
    out
}

/// Which vector of a row of x belongs to a part of a load of weights.
#[cube]
fn x_index<N: Size>(load: usize, #[comptime] part: usize, #[comptime] format: Format) -> usize {
    let size = N::value().comptime();
    let of_word = comptime!(4 / size);
    match format {
        Format::Dense => load,
        Format::Q8 => load * of_word + part,
        // The low halves of the four words of a block are its first 16 weights, the high halves the others.
        Format::Q4 => {
            (load / 4 * 8 + comptime!(part / of_word * 4) + load % 4) * of_word + comptime!(part % of_word)
        }
    }
}

/// Numbers of a part of a word, not yet scaled.
#[cube]
pub(super) fn unpack<N: Size>(
    word: u32,
    #[comptime] part: usize,
    #[comptime] format: Format,
) -> Vector<f32, N> {
    let size = N::value().comptime();
    let of_word = comptime!(4 / size);
    let mut out = Vector::<f32, N>::empty();
    #[unroll]
    for i in 0..size {
        let number = match format {
            // Signed bytes, moved up by 128.
            Format::Q8 => {
                let shift = comptime!(8 * (part * size + i) as u32);
                f32::cast_from(((word ^ 0x8080_8080u32) >> shift) & 255u32) - 128.0f32
            }
            _ => {
                let shift = comptime!((8 * (part % of_word * size + i) + part / of_word * 4) as u32);
                f32::cast_from((word >> shift) & 15u32) - 8.0f32
            }
        };
        out.insert(i, number);
    }
    out
}
