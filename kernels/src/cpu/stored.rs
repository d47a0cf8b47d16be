//! The forms in which rows of numbers are stored, and their widening to vectors of f32.

use super::simd::Simd;
use crate::{BLOCK, BlockFormat};
use half::f16;

/// A form of storage: a type without values.
///
/// A row is read in blocks of [`BLOCK`] numbers, a vector at a time, so that the code that unpacks a block
/// is one straight line.
pub(super) trait Stored: Copy + 'static {
    /// Where a row begins.
    type Row: Copy;

    /// Numbers `v * LANES ..` of block `b`.
    ///
    /// # Safety
    ///
    /// The whole block must lie in the row.
    unsafe fn vector<S: Simd>(simd: S, row: Self::Row, b: usize, v: usize) -> S::Vector;

    /// Whether a row ends with a whole block, filled up with zeros.
    const PADDED: bool;

    /// The row from block `b` on.
    ///
    /// # Safety
    ///
    /// The block must begin in the row.
    unsafe fn advance(row: Self::Row, b: usize) -> Self::Row;

    /// Number `i` of the row.
    ///
    /// # Safety
    ///
    /// It must lie in the row.
    unsafe fn element(row: Self::Row, i: usize) -> f32;

    /// Whether unpacking takes many registers.
    const DEAR: bool = false;

    /// Bytes of a block, without its scale.
    const BYTES: usize;

    /// Asks the memory for the cache line that lies `bytes` behind the beginning of the row; a hint,
    /// anywhere will do.
    fn prefetch(row: Self::Row, bytes: usize);
}

/// Asks the memory for the cache line at `at + bytes`.
#[inline(always)]
fn prefetch<T>(at: *const T, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing, so any address will do, and every x86-64 machine has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>().wrapping_add(bytes));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, bytes);
}

/// f32.
#[derive(Clone, Copy)]
pub(super) struct Full;

impl Stored for Full {
    type Row = *const f32;

    #[inline(always)]
    unsafe fn vector<S: Simd>(simd: S, row: *const f32, b: usize, v: usize) -> S::Vector {
        // SAFETY: the block lies in the row.
        unsafe { simd.load(row.add(b * BLOCK + v * S::LANES)) }
    }

    const PADDED: bool = false;

    #[inline(always)]
    unsafe fn advance(row: *const f32, b: usize) -> *const f32 {
        // SAFETY: the caller's promise.
        unsafe { row.add(b * BLOCK) }
    }

    #[inline(always)]
    unsafe fn element(row: *const f32, i: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { row.add(i).read() }
    }

    const BYTES: usize = 4 * BLOCK;

    #[inline(always)]
    fn prefetch(row: *const f32, bytes: usize) {
        prefetch(row, bytes);
    }
}

/// f16.
#[derive(Clone, Copy)]
pub(super) struct Half;

impl Stored for Half {
    type Row = *const f16;

    #[inline(always)]
    unsafe fn vector<S: Simd>(simd: S, row: *const f16, b: usize, v: usize) -> S::Vector {
        // SAFETY: the block lies in the row.
        unsafe { simd.load_half(row.add(b * BLOCK + v * S::LANES)) }
    }

    const PADDED: bool = false;

    #[inline(always)]
    unsafe fn advance(row: *const f16, b: usize) -> *const f16 {
        // SAFETY: the caller's promise.
        unsafe { row.add(b * BLOCK) }
    }

    #[inline(always)]
    unsafe fn element(row: *const f16, i: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { row.add(i).read() }.to_f32()
    }

    const BYTES: usize = 2 * BLOCK;

    #[inline(always)]
    fn prefetch(row: *const f16, bytes: usize) {
        prefetch(row, bytes);
    }
}

/// A form in which numbers simply follow each other, so that a row can begin anywhere.
pub(super) trait Plain: Stored {
    type Value: Copy + Sync;

    /// `count` numbers from `at` on; panics if they are not there.
    fn row(values: &[Self::Value], at: usize, count: usize) -> Self::Row;

    /// `LANES` numbers from number `i` of the row on.
    ///
    /// # Safety
    ///
    /// They must lie in the row.
    unsafe fn load<S: Simd>(simd: S, row: Self::Row, i: usize) -> S::Vector;
}

impl Plain for Full {
    type Value = f32;

    #[inline(always)]
    fn row(values: &[f32], at: usize, count: usize) -> *const f32 {
        values[at..at + count].as_ptr()
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, row: *const f32, i: usize) -> S::Vector {
        // SAFETY: the caller's promise.
        unsafe { simd.load(row.add(i)) }
    }
}

impl Plain for Half {
    type Value = f16;

    #[inline(always)]
    fn row(values: &[f16], at: usize, count: usize) -> *const f16 {
        values[at..at + count].as_ptr()
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, row: *const f16, i: usize) -> S::Vector {
        // SAFETY: the caller's promise.
        unsafe { simd.load_half(row.add(i)) }
    }
}

/// A row in blocks: its numbers and its scales.
#[derive(Clone, Copy)]
pub(super) struct BlockRow {
    pub(super) quants: *const u8,
    pub(super) scales: *const f32,
}

/// [`BlockFormat::Q8`].
#[derive(Clone, Copy)]
pub(super) struct Q8;

impl Stored for Q8 {
    type Row = BlockRow;

    #[inline(always)]
    unsafe fn vector<S: Simd>(simd: S, row: BlockRow, b: usize, v: usize) -> S::Vector {
        // SAFETY: the block lies in the row.
        let (numbers, scale) =
            unsafe { (simd.load_bytes(row.quants.add(b * BLOCK + v * S::LANES)), row.scales.add(b).read()) };
        simd.multiply(numbers, simd.splat(scale))
    }

    const PADDED: bool = true;

    #[inline(always)]
    unsafe fn advance(row: BlockRow, b: usize) -> BlockRow {
        // SAFETY: the caller's promise.
        unsafe { BlockRow { quants: row.quants.add(b * BLOCK), scales: row.scales.add(b) } }
    }

    #[inline(always)]
    unsafe fn element(row: BlockRow, i: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe {
            let scale = row.scales.add(i / BLOCK).read();
            f32::from(row.quants.add(i).read().cast_signed()) * scale
        }
    }

    const BYTES: usize = BLOCK;

    #[inline(always)]
    fn prefetch(row: BlockRow, bytes: usize) {
        prefetch(row.quants, bytes);
    }
}

/// [`BlockFormat::Q4`].
#[derive(Clone, Copy)]
pub(super) struct Q4;

impl Stored for Q4 {
    type Row = BlockRow;

    #[inline(always)]
    unsafe fn vector<S: Simd>(simd: S, row: BlockRow, b: usize, v: usize) -> S::Vector {
        const BYTES: usize = BLOCK / 2;
        let (at, high) = (v * S::LANES % BYTES, v * S::LANES >= BYTES);
        // SAFETY: the block lies in the row.
        let (numbers, scale) =
            unsafe { (simd.load_nibbles(row.quants.add(b * BYTES + at), high), row.scales.add(b).read()) };
        simd.multiply(numbers, simd.splat(scale))
    }

    const PADDED: bool = true;

    #[inline(always)]
    unsafe fn advance(row: BlockRow, b: usize) -> BlockRow {
        // SAFETY: the caller's promise.
        unsafe { BlockRow { quants: row.quants.add(b * BLOCK / 2), scales: row.scales.add(b) } }
    }

    #[inline(always)]
    unsafe fn element(row: BlockRow, i: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe {
            let scale = row.scales.add(i / BLOCK).read();
            let byte = row.quants.add(i / BLOCK * (BLOCK / 2) + i % (BLOCK / 2)).read();
            let number = if i % BLOCK < BLOCK / 2 { byte & 15 } else { byte >> 4 };
            (f32::from(number) - 8.0) * scale
        }
    }

    const DEAR: bool = true;

    const BYTES: usize = BLOCK / 2;

    #[inline(always)]
    fn prefetch(row: BlockRow, bytes: usize) {
        prefetch(row.quants, bytes);
    }
}

/// Rows of `k` numbers in one of the forms, in memory that outlives the value.
#[derive(Clone, Copy)]
pub(super) enum Matrix<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Blocks { format: BlockFormat, quants: &'a [u8], scales: &'a [f32] },
}

impl Matrix<'_> {
    /// Bytes of a row of `k` numbers.
    pub(super) fn row_bytes(&self, k: usize) -> usize {
        match self {
            Self::F32(_) => 4 * k,
            Self::F16(_) => 2 * k,
            Self::Blocks { format, .. } => k.div_ceil(BLOCK) * (format.bytes() + 4),
        }
    }

    /// Number of rows of `k` numbers.
    pub(super) fn rows(&self, k: usize) -> usize {
        match self {
            Self::F32(values) => values.len() / k.max(1),
            Self::F16(values) => values.len() / k.max(1),
            Self::Blocks { format, quants, scales } => {
                let blocks = k.div_ceil(BLOCK).max(1);
                (scales.len() / blocks).min(quants.len() / (blocks * format.bytes()))
            }
        }
    }
}

/// A form of storage with the memory it is in.
pub(super) trait Rows: Copy {
    type Form: Stored;

    /// Row `index` of rows of `k` numbers; panics if it is not there.
    fn row(&self, index: usize, k: usize) -> <Self::Form as Stored>::Row;

    /// The numbers of some rows, where they need not be widened.
    fn full(&self, _rows: std::ops::Range<usize>, _k: usize) -> Option<&[f32]> {
        None
    }
}

impl Rows for &[f32] {
    type Form = Full;

    #[inline(always)]
    fn row(&self, index: usize, k: usize) -> *const f32 {
        self[index * k..(index + 1) * k].as_ptr()
    }

    #[inline(always)]
    fn full(&self, rows: std::ops::Range<usize>, k: usize) -> Option<&[f32]> {
        Some(&self[rows.start * k..rows.end * k])
    }
}

impl Rows for &[f16] {
    type Form = Half;

    #[inline(always)]
    fn row(&self, index: usize, k: usize) -> *const f16 {
        self[index * k..(index + 1) * k].as_ptr()
    }
}

/// Rows in blocks of the form `W`.
#[derive(Clone, Copy)]
pub(super) struct BlockRows<'a, W> {
    pub(super) quants: &'a [u8],
    pub(super) scales: &'a [f32],
    pub(super) form: std::marker::PhantomData<W>,
}

/// Row `index` where a block has `bytes` bytes.
#[inline(always)]
fn block_row(quants: &[u8], scales: &[f32], bytes: usize, index: usize, k: usize) -> BlockRow {
    let blocks = k.div_ceil(BLOCK);
    let quants = &quants[index * blocks * bytes..(index + 1) * blocks * bytes];
    let scales = &scales[index * blocks..(index + 1) * blocks];
    BlockRow { quants: quants.as_ptr(), scales: scales.as_ptr() }
}

impl Rows for BlockRows<'_, Q8> {
    type Form = Q8;

    #[inline(always)]
    fn row(&self, index: usize, k: usize) -> BlockRow {
        block_row(self.quants, self.scales, BLOCK, index, k)
    }
}

impl Rows for BlockRows<'_, Q4> {
    type Form = Q4;

    #[inline(always)]
    fn row(&self, index: usize, k: usize) -> BlockRow {
        block_row(self.quants, self.scales, BLOCK / 2, index, k)
    }
}

/// Evaluates `$body` with `$rows` bound to the rows of a [`Matrix`] in their own type.
macro_rules! with_rows {
    ($matrix:expr, $rows:ident => $body:expr) => {{
        use $crate::{
            BlockFormat,
            cpu::stored::{BlockRows, Matrix, Q4, Q8},
        };
        match $matrix {
            Matrix::F32($rows) => $body,
            Matrix::F16($rows) => $body,
            Matrix::Blocks { format: BlockFormat::Q8, quants, scales } => {
                let $rows = BlockRows::<Q8> { quants, scales, form: std::marker::PhantomData };
                $body
            }
            Matrix::Blocks { format: BlockFormat::Q4, quants, scales } => {
                let $rows = BlockRows::<Q4> { quants, scales, form: std::marker::PhantomData };
                $body
            }
        }
    }};
}
pub(super) use with_rows;
