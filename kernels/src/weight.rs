//! Weight matrices, dense or in blocks of few bits.

use crate::backend::WeightOf;
use burn::{
    backend::Dispatch,
    tensor::{DType, Device, Element, Int, Tensor, TensorData},
};
use half::f16;

/// Weights that share a scale.
pub const BLOCK: usize = 32;

/// How a block of [`BLOCK`] weights is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockFormat {
    /// Signed bytes: `weight = byte * scale`, 34 bytes a block.
    ///
    /// Source: the format `Q8_0` of GGML.
    Q8,
    /// Four bits, offset by 8: `weight = (nibble - 8) * scale`, 18 bytes a block. Byte `i` of a block holds
    /// weight `i` in its low half and weight `i + 16` in its high half.
    ///
    /// Source: the format `Q4_0` of GGML.
    Q4,
}

impl BlockFormat {
    /// Bytes of the numbers of a block, without its scale.
    pub fn bytes(self) -> usize {
        match self {
            Self::Q8 => BLOCK,
            Self::Q4 => BLOCK / 2,
        }
    }

    /// Quantises one block; returns the scale.
    ///
    /// The scale is rounded to f16 first and the weights to the nearest multiples of it, so that nothing is
    /// lost to the rounding of the scale itself.
    fn quantize(self, values: &[f32; BLOCK], quants: &mut [u8]) -> f16 {
        let extreme = values.iter().copied().fold(0.0f32, |a, b| if b.abs() > a.abs() { b } else { a });
        match self {
            Self::Q8 => {
                let scale = to_f16(extreme.abs() / 127.0);
                let inverse = inverse(scale);
                for (quant, value) in quants.iter_mut().zip(values) {
                    *quant = (round(value * inverse).clamp(-127.0, 127.0) as i8).cast_unsigned();
                }
                scale
            }
            Self::Q4 => {
                let scale = to_f16(extreme / -8.0);
                let inverse = inverse(scale);
                let nibble = |value: f32| round(value * inverse + 8.0).clamp(0.0, 15.0) as u8;
                for (i, quant) in quants.iter_mut().enumerate() {
                    *quant = nibble(values[i]) | nibble(values[i + BLOCK / 2]) << 4;
                }
                scale
            }
        }
    }
}

/// The nearest whole number of a number far below 2^22, without a call into the mathematical library.
fn round(value: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    (value + ROUND) - ROUND
}

/// The nearest number of the range of f16: weights beyond it are cut off.
fn to_f16(value: f32) -> f16 {
    f16::from_f32(value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

fn inverse(scale: f16) -> f32 {
    if scale == f16::ZERO { 0.0 } else { 1.0 / scale.to_f32() }
}

/// A weight matrix `[n, k]` of a linear layer: one row an output.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "handles of tensors, a few hundred bytes at most")]
pub enum Weight {
    /// f32 or f16.
    Dense(Tensor<2>),
    /// Blocks of few bits along `k`; the last block of a row is filled up with zeros.
    Blocks {
        /// The numbers, little-endian in words of 32 bits: `[n, blocks * format.bytes() / 4]` u32.
        quants: Tensor<2, Int>,
        /// A scale a block, `[n, blocks]`: f16, but f32 (of the same values) on the CPU, where widening them
        /// takes longer than reading them, and where a device has no f16.
        scales: Tensor<2>,
        /// How the numbers are to be read.
        format: BlockFormat,
        /// `k`.
        columns: usize,
    },
    /// Matrices of as many columns, laid below each other without being copied together.
    Parts(Vec<Weight>),
}

impl From<Tensor<2>> for Weight {
    fn from(weight: Tensor<2>) -> Self {
        Self::Dense(weight)
    }
}

/// A matrix in blocks, before it goes to a device.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct HostBlocks {
    /// How `quants` are to be read.
    pub format: BlockFormat,
    /// Length of a row.
    pub columns: usize,
    /// The numbers of every block.
    pub quants: Vec<u8>,
    /// The scale of every block.
    pub scales: Vec<f16>,
}

/// Quantises whole rows of `columns` values into as many blocks.
fn quantize_rows(format: BlockFormat, columns: usize, values: &[f32], quants: &mut [u8], scales: &mut [f16]) {
    let chunks = values.chunks_exact(columns).flat_map(|row| row.chunks(BLOCK));
    for ((chunk, quants), scale) in chunks.zip(quants.chunks_exact_mut(format.bytes())).zip(scales) {
        let mut block = [0.0; BLOCK];
        block[..chunk.len()].copy_from_slice(chunk);
        *scale = format.quantize(&block, quants);
    }
}

impl HostBlocks {
    /// A matrix of no rows.
    pub fn new(format: BlockFormat, columns: usize) -> Self {
        Self { format, columns, quants: Vec::new(), scales: Vec::new() }
    }

    /// Appends rows of `columns` values each.
    ///
    /// # Panics
    ///
    /// If the values are no whole number of rows.
    pub fn push_rows(&mut self, values: &[f32]) {
        assert!(values.len().is_multiple_of(self.columns), "whole rows");
        let (format, columns, bytes) = (self.format, self.columns, self.format.bytes());
        let (rows, blocks) = (values.len() / columns, columns.div_ceil(BLOCK));
        let (old_quants, old_scales) = (self.quants.len(), self.scales.len());
        self.quants.resize(old_quants + rows * blocks * bytes, 0);
        self.scales.resize(old_scales + rows * blocks, f16::ZERO);
        // Rows are shared among threads; a thread for less than this many values would not pay.
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        let share = rows.div_ceil(most.min(values.len() / 100_000).max(1)).max(1);
        let quants = self.quants[old_quants..].chunks_mut(share * blocks * bytes);
        let scales = self.scales[old_scales..].chunks_mut(share * blocks);
        std::thread::scope(|scope| {
            let parts = values.chunks(share * columns).zip(quants.zip(scales));
            let mut parts = parts.map(|(values, (quants, scales))| {
                move || quantize_rows(format, columns, values, quants, scales)
            });
            // The last part is this thread's own.
            let own = parts.next_back();
            for part in parts {
                scope.spawn(part);
            }
            if let Some(mut own) = own {
                own();
            }
        });
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.scales.len() / self.columns.div_ceil(BLOCK).max(1)
    }

    /// The values the blocks stand for, row by row.
    pub fn dequantize(&self) -> Vec<f32> {
        let per_row = self.columns.div_ceil(BLOCK);
        let mut out = Vec::with_capacity(self.rows() * self.columns);
        for (index, scale) in self.scales.iter().enumerate() {
            let quants = &self.quants[index * self.format.bytes()..][..self.format.bytes()];
            let count = BLOCK.min(self.columns - index % per_row * BLOCK);
            out.extend((0..count).map(|i| {
                let number = match self.format {
                    BlockFormat::Q8 => quants[i].cast_signed(),
                    BlockFormat::Q4 => {
                        let shift = if i < BLOCK / 2 { 0 } else { 4 };
                        (quants[i % (BLOCK / 2)] >> shift & 15).cast_signed() - 8
                    }
                };
                f32::from(number) * scale.to_f32()
            }));
        }
        out
    }

    /// Cuts off all rows but the first `rows`, and returns them.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    #[must_use]
    pub fn split_off(&mut self, rows: usize) -> Self {
        let blocks = self.columns.div_ceil(BLOCK);
        let (format, columns) = (self.format, self.columns);
        let quants = self.quants.split_off(rows * blocks * format.bytes());
        Self { format, columns, quants, scales: self.scales.split_off(rows * blocks) }
    }

    /// The matrix on a device, in parts where no buffer of the device is large enough for it.
    pub fn on(mut self, device: &Device) -> Weight {
        let row = self.columns.div_ceil(BLOCK) * self.format.bytes();
        let most = (crate::largest_buffer(device) / row.max(1)).max(1);
        let mut parts = Vec::new();
        while self.rows() > most {
            let rest = self.split_off(most);
            parts.push(std::mem::replace(&mut self, rest).whole_on(device));
        }
        parts.push(self.whole_on(device));
        Weight::parts(parts)
    }

    fn whole_on(self, device: &Device) -> Weight {
        let (rows, blocks) = (self.rows(), self.columns.div_ceil(BLOCK));
        let words = blocks * self.format.bytes() / 4;
        let quants = TensorData::from_bytes_vec(self.quants, [rows, words], DType::U32);
        let scales = TensorData::new(self.scales, [rows, blocks]);
        let half = device.supports_dtype(DType::F16) && !crate::is_cpu(device);
        let dtype = if half { DType::F16 } else { DType::F32 };
        Weight::Blocks {
            quants: Tensor::from_data(quants, (device, DType::U32)),
            scales: Tensor::from_data(scales, (device, dtype)),
            format: self.format,
            columns: self.columns,
        }
    }
}

impl Weight {
    /// A dense matrix of rows of `columns` values, in parts where no buffer of the device is large enough
    /// for it.
    ///
    /// # Panics
    ///
    /// If the values are no whole number of rows.
    pub fn dense<E: Element>(values: Vec<E>, columns: usize, device: &Device) -> Self {
        Self::dense_in(values, columns, device, crate::largest_buffer(device))
    }

    /// The same with buffers of at most `largest` bytes.
    pub(crate) fn dense_in<E: Element>(
        mut values: Vec<E>,
        columns: usize,
        device: &Device,
        largest: usize,
    ) -> Self {
        assert!(columns > 0 && values.len().is_multiple_of(columns), "whole rows");
        let most = (largest / (columns * size_of::<E>())).max(1);
        let part = |values: Vec<E>| {
            let shape = [values.len() / columns, columns];
            Self::Dense(Tensor::from_data(TensorData::new(values, shape), (device, E::dtype())))
        };
        let mut parts = Vec::new();
        while values.len() > most * columns {
            let rest = values.split_off(most * columns);
            parts.push(part(std::mem::replace(&mut values, rest)));
        }
        parts.push(part(values));
        Self::parts(parts)
    }

    /// Quantises `[n, k]` values.
    ///
    /// # Panics
    ///
    /// If the values are no whole number of rows of length `columns`.
    pub fn quantize(values: &[f32], columns: usize, format: BlockFormat, device: &Device) -> Self {
        let mut blocks = HostBlocks::new(format, columns);
        blocks.push_rows(values);
        blocks.on(device)
    }

    /// `[n, k]`.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Dense(tensor) => tensor.dims(),
            Self::Blocks { quants, columns, .. } => [quants.dims()[0], *columns],
            Self::Parts(parts) => [
                parts.iter().map(|part| part.dims()[0]).sum(),
                parts.first().map_or(0, |part| part.dims()[1]),
            ],
        }
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        match self {
            Self::Dense(tensor) => tensor.device(),
            Self::Blocks { scales, .. } => scales.device(),
            Self::Parts(parts) => parts[0].device(),
        }
    }

    /// Joins matrices: rows of the second below those of the first, and so on.
    ///
    /// # Panics
    ///
    /// If there is none, or their columns differ.
    pub fn parts(mut parts: Vec<Weight>) -> Self {
        assert!(!parts.is_empty(), "no parts");
        let columns = parts[0].dims()[1];
        assert!(parts.iter().all(|part| part.dims()[1] == columns), "columns of the parts");
        if parts.len() == 1 { parts.remove(0) } else { Self::Parts(parts) }
    }

    /// The weight as our own backends take it; `None` for parts, which come one by one.
    pub(crate) fn primitive(&self) -> Option<WeightOf<Dispatch>> {
        match self.clone() {
            Self::Dense(tensor) => Some(WeightOf::Dense(tensor.into_dispatch())),
            Self::Blocks { quants, scales, format, columns } => Some(WeightOf::Blocks {
                quants: quants.into_dispatch(),
                scales: scales.into_dispatch(),
                format,
                columns,
            }),
            Self::Parts(_) => None,
        }
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    fn values(weight: &Weight) -> Vec<f32> {
        crate::portable::dense(weight).into_data().try_into_vec().expect("f32 data")
    }

    #[test]
    fn parts_are_as_large_as_buffers_and_together_the_whole() {
        let device = Device::flex();
        let whole: Vec<f32> = (0..7 * 5).map(|i| i as f32).collect();
        for (largest, count) in [(usize::MAX, 1), (7 * 20, 1), (6 * 20, 2), (3 * 20 + 19, 3), (20, 7), (1, 7)]
        {
            let weight = Weight::dense_in(whole.clone(), 5, &device, largest);
            let parts = if let Weight::Parts(parts) = &weight { parts.len() } else { 1 };
            assert_eq!((parts, weight.dims()), (count, [7, 5]), "{largest}");
            assert_eq!(values(&weight), whole, "{largest}");
        }
    }

    #[test]
    fn blocks_split_between_rows() {
        let mut all = HostBlocks::new(BlockFormat::Q4, 40);
        all.push_rows(&(0..3 * 40).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>());
        let (whole, mut first) = (all.dequantize(), all);
        let rest = first.split_off(2);
        assert_eq!((first.rows(), rest.rows()), (2, 1));
        assert_eq!([first.dequantize(), rest.dequantize()].concat(), whole);
    }
}
