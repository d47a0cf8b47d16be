//! Plain arrays: what the compiler makes of them.

use super::{
    super::{
        stored::Stored,
        tile::{Place, dot_blocks_of},
    },
    Simd,
};
use half::f16;

const LANES: usize = 8;

type Vector = [f32; LANES];

/// Every machine has these; on 64-bit ARM the compiler turns them into NEON instructions.
#[derive(Clone, Copy)]
pub(in super::super) struct Portable(());

/// One lane of `multiply_add`. Fused where the target always has it in hardware; elsewhere it would be a
/// call into the mathematical library.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
}

/// Reads an array.
///
/// # Safety
///
/// It must be readable; any alignment will do.
#[inline(always)]
unsafe fn read<T: Copy>(at: *const T) -> [T; LANES] {
    // SAFETY: as above.
    unsafe { at.cast::<[T; LANES]>().read_unaligned() }
}

impl Simd for Portable {
    const LANES: usize = LANES;
    const MANY_REGISTERS: bool = false;
    type Vector = Vector;

    #[inline(always)]
    unsafe fn new() -> Self {
        Self(())
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Vector {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> Vector {
        // SAFETY: the caller's promise.
        unsafe { read(at) }
    }

    #[inline(always)]
    unsafe fn load_half(self, at: *const f16) -> Vector {
        // SAFETY: the caller's promise.
        unsafe { read(at) }.map(f16::to_f32)
    }

    #[inline(always)]
    unsafe fn load_bytes(self, at: *const u8) -> Vector {
        // SAFETY: the caller's promise.
        unsafe { read(at) }.map(|byte| f32::from(byte.cast_signed()))
    }

    #[inline(always)]
    unsafe fn load_nibbles(self, at: *const u8, high: bool) -> Vector {
        // SAFETY: the caller's promise.
        let bytes = unsafe { read(at) };
        bytes.map(|byte| f32::from(if high { byte >> 4 } else { byte & 15 }) - 8.0)
    }

    #[inline(always)]
    unsafe fn store(self, vector: Vector, at: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { at.cast::<Vector>().write_unaligned(vector) }
    }

    #[inline(always)]
    fn multiply_add(self, a: Vector, b: Vector, c: Vector) -> Vector {
        std::array::from_fn(|i| multiply_add(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn add(self, a: Vector, b: Vector) -> Vector {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn multiply(self, a: Vector, b: Vector) -> Vector {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn divide(self, a: Vector, b: Vector) -> Vector {
        std::array::from_fn(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn max(self, a: Vector, b: Vector) -> Vector {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn min(self, a: Vector, b: Vector) -> Vector {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn power_of_two(self, n: Vector) -> Vector {
        n.map(|n| f32::from_bits((((n as i32) + 127) << 23).cast_unsigned()))
    }

    #[inline(always)]
    fn zero_below(self, value: Vector, x: Vector, limit: Vector) -> Vector {
        std::array::from_fn(|i| if x[i] < limit[i] { 0.0 } else { value[i] })
    }

    #[inline(never)]
    unsafe fn dot_blocks<W: Stored, const C: usize, const R: usize, const FAR: bool>(
        self,
        stored: [W::Row; C],
        x: [*const f32; R],
        blocks: usize,
        out: Place,
    ) {
        // SAFETY: the caller's promise.
        unsafe { dot_blocks_of::<Self, W, C, R, FAR>(self, stored, x, blocks, out) }
    }

    #[inline(always)]
    fn sums(self, vectors: [Vector; 4]) -> [f32; 4] {
        vectors.map(|v| {
            let four = [v[0] + v[4], v[1] + v[5], v[2] + v[6], v[3] + v[7]];
            (four[0] + four[2]) + (four[1] + four[3])
        })
    }
}
