//! Embeddings.

use super::{Format, Matrix, elem, grid, output, vector_size};
use burn_cubecl::{kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

pub(super) fn embed(weight: Matrix, ids: CubeTensor) -> CubeTensor {
    let ids = into_contiguous(ids);
    let (m, k) = (ids.meta.shape()[0], weight.columns);
    let out = output(&weight.words, [m, k]);
    if m * k == 0 {
        return out;
    }
    let client = ids.client.clone();
    let vector = vector_size(k);
    let (_, word_vector) = weight.vectors();
    let (count, dim) = grid(&client, m * k / vector, 1);
    let ([words, scales], id_type) = (weight.types(), elem(ids.dtype));
    // Dense weights have no scales; what stands in for them is not read.
    let scales_or_words = weight.scales.unwrap_or_else(|| weight.words.clone());
    // SAFETY: units beyond the result return; ids are below the rows of the weight.
    unsafe {
        embed_kernel::launch_unchecked(
            &client,
            count,
            dim,
            vector,
            word_vector,
            weight.words.into_tensor_arg(),
            scales_or_words.into_tensor_arg(),
            ids.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            m,
            k,
            weight.format,
            [words, scales, id_type],
        );
    }
    out
}

/// A unit writes a vector of a row.
#[cube(launch_unchecked)]
fn embed_kernel<W: Numeric, S: Float, I: Int, N: Size, NW: Size>(
    words: &Tensor<Vector<W, NW>>,
    scales: &Tensor<S>,
    ids: &Tensor<I>,
    out: &mut Tensor<Vector<f32, N>>,
    m: usize,
    k: usize,
    #[comptime] format: Format,
    #[define(W, S, I)] _types: [ElemType; 3],
) {
    let width = k / N::value();
    if ABSOLUTE_POS >= m * width {
        terminate!();
    }
    let id = usize::cast_from(ids[ABSOLUTE_POS / width]);
    let column = ABSOLUTE_POS % width * N::value();
    let blocks = k.div_ceil(32usize);
    let scale_at = id * blocks + column / 32;
    let value = match format {
        Format::Dense => Vector::cast_from(words[id * width + ABSOLUTE_POS % width]),
        Format::Q8 => {
            let word = u32::cast_from(words[id * blocks * 8 + column / 4]) ^ 0x8080_8080u32;
            let shift = u32::cast_from(column % 4 * 8);
            number::<N>(word, shift, 255u32, 128.0f32) * Vector::new(f32::cast_from(scales[scale_at]))
        }
        Format::Q4 => {
            let word = u32::cast_from(words[scale_at * 4 + column % 16 / 4]);
            let shift = u32::cast_from(column % 4 * 8 + column % 32 / 16 * 4);
            number::<N>(word, shift, 15u32, 8.0f32) * Vector::new(f32::cast_from(scales[scale_at]))
        }
    };
    out[ABSOLUTE_POS] = value;
}

/// The numbers in the bytes of a word from `shift` on.
#[cube]
fn number<N: Size>(word: u32, shift: u32, mask: u32, offset: f32) -> Vector<f32, N> {
    let mut out = Vector::<f32, N>::empty();
    #[unroll]
    for i in 0..N::value() {
        out.insert(i, f32::cast_from((word >> (shift + comptime!(8 * i as u32))) & mask) - offset);
    }
    out
}
