//! The operations as CubeCL kernels: one source for every GPU.
//!
//! Sums are shared out over *lanes*: where the device has planes (subgroups), the units of a plane work on
//! one sum together, read consecutive vectors and add up with a plane operation; where not, a unit works
//! alone. No kernel uses shared memory, atomics or 16-bit arithmetic, so they run on every adapter.

// The kernel macro writes items without documentation and names of its own; a kernel evaluates both sides
// of `&&`, which nested conditions do not.
#![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::collapsible_if)]
#![allow(clippy::duplicate_underscore_argument)]

mod attention;
mod embed;
mod linear;
mod rows;
mod sample;
mod verify;

use crate::{
    AttentionShape, BlockFormat,
    backend::{AncestorsOf, DecodeOps, DraftOf, Epilogue, HeadNormsOf, WeightOf},
};
use burn::tensor::{DType, Shape};
use burn_cubecl::{
    CubeBackend, kernel::into_contiguous, ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor,
};
use cubecl::{
    CubeCount, CubeDim, calculate_cube_count_elemwise, client::Client, features::Plane, ir::ElemType,
};
use std::cell::Cell;

impl DecodeOps for CubeBackend {
    fn dh_linear(x: CubeTensor, weight: WeightOf<Self>, epilogue: Epilogue<Self>) -> CubeTensor {
        let (bias, residual) = match epilogue {
            Epilogue::None => (None, None),
            Epilogue::Bias(bias) => (Some(bias), None),
            Epilogue::Residual(residual) => (None, Some(residual)),
            Epilogue::Both(bias, residual) => (Some(bias), Some(residual)),
        };
        linear::linear(x, Matrix::new(weight), bias, residual, false)
    }

    fn dh_gated_linear(x: CubeTensor, weight: WeightOf<Self>) -> CubeTensor {
        linear::linear(x, Matrix::new(weight), None, None, true)
    }

    fn dh_embed(weight: WeightOf<Self>, ids: CubeTensor) -> CubeTensor {
        embed::embed(Matrix::new(weight), ids)
    }

    fn dh_rms_norm(x: CubeTensor, weight: CubeTensor, epsilon: f64) -> CubeTensor {
        rows::rms_norm(x, weight, epsilon)
    }

    fn dh_rope_and_append(
        qkv: CubeTensor,
        angles: CubeTensor,
        norms: HeadNormsOf<Self>,
        keys: CubeTensor,
        values: CubeTensor,
        shape: AttentionShape,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        rows::rope_and_append(qkv, angles, norms, keys, values, shape)
    }

    fn dh_attention(
        query: CubeTensor,
        keys: CubeTensor,
        values: CubeTensor,
        ancestors: AncestorsOf<Self>,
        shape: AttentionShape,
    ) -> CubeTensor {
        attention::attention(query, keys, values, ancestors, shape)
    }

    fn dh_verify(
        logits: CubeTensor,
        drafted: CubeTensor,
        noise: CubeTensor,
        draft: DraftOf<Self>,
        temperature: f64,
    ) -> CubeTensor {
        verify::verify(logits, drafted, noise, draft, temperature)
    }
}

/// How weights are stored, as kernels see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Format {
    Dense,
    Q8,
    Q4,
}

/// A weight matrix, contiguous.
struct Matrix {
    /// Values of dense weights, words of blocks.
    words: CubeTensor,
    /// Scales of blocks.
    scales: Option<CubeTensor>,
    format: Format,
    columns: usize,
}

impl Matrix {
    fn new(weight: WeightOf<CubeBackend>) -> Self {
        match weight {
            WeightOf::Dense(words) => {
                let words = into_contiguous(words);
                let columns = words.meta.shape()[1];
                Self { words, scales: None, format: Format::Dense, columns }
            }
            WeightOf::Blocks { quants, scales, format, columns } => Self {
                words: into_contiguous(quants),
                scales: Some(into_contiguous(scales)),
                format: match format {
                    BlockFormat::Q8 => Format::Q8,
                    BlockFormat::Q4 => Format::Q4,
                },
                columns,
            },
        }
    }

    fn rows(&self) -> usize {
        self.words.meta.shape()[0]
    }

    /// Types of words and scales; dense weights have no scales, and any type will do.
    fn types(&self) -> [ElemType; 2] {
        let scales = self.scales.as_ref().map_or(DType::F32, |scales| scales.dtype);
        [elem(self.words.dtype), elem(scales)]
    }

    /// Values a load of `x` takes, and words a load of the weights.
    fn vectors(&self) -> (usize, usize) {
        let x = vector_size(self.columns);
        (x, if self.format == Format::Dense { x } else { 1 })
    }
}

fn elem(dtype: DType) -> ElemType {
    burn_backend::cubecl::dtype_to_storage_type(dtype)
}

/// Values that a load takes of rows of this length: 16 bytes of f32 where rows begin on such bounds.
fn vector_size(columns: usize) -> usize {
    if columns.is_multiple_of(4) { 4 } else { 1 }
}

fn output(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), DType::F32)
}

/// Most planes of a cube, where planes are of one size.
const PLANES: u32 = 4;

/// Units that share a sum: those of a plane, or one where the device has no planes.
///
/// Where a device has planes of several sizes, cubes of the smallest size are a plane or part of one.
fn lanes(client: &Client) -> usize {
    let properties = client.properties();
    let planes = properties.features.plane;
    // A plane without work returns early, others of its cube go on.
    let usable = planes.contains(Plane::Ops) && planes.contains(Plane::NonUniformControlFlow);
    if usable || planes_are_forced() { properties.hardware.plane_size_min as usize } else { 1 }
}

/// The launch for `groups` of `lanes` units each.
fn grid(client: &Client, groups: usize, lanes: usize) -> (CubeCount, CubeDim) {
    let hardware = &client.properties().hardware;
    let dim = if lanes == 1 {
        CubeDim::new(client, groups)
    } else if hardware.plane_size_min == hardware.plane_size_max {
        CubeDim::new_2d(lanes as u32, PLANES.min(hardware.max_units_per_cube / lanes as u32).max(1))
    } else {
        CubeDim::new_2d(lanes as u32, 1)
    };
    (calculate_cube_count_elemwise(client, groups * lanes, dim), dim)
}

thread_local! {
    static FORCED: Cell<bool> = const { Cell::new(false) };
}

fn planes_are_forced() -> bool {
    FORCED.get()
}

/// Runs operations on planes also where the device is not said to have them: for tests.
pub fn with_planes<T>(run: impl FnOnce() -> T) -> T {
    let before = FORCED.replace(true);
    let out = run();
    FORCED.set(before);
    out
}

/// The largest tensor the device can hold, in bytes.
pub(crate) fn largest_buffer(device: &burn_cubecl::CubeDevice) -> usize {
    usize::try_from(device.client().properties().memory.max_page_size).unwrap_or(usize::MAX)
}
