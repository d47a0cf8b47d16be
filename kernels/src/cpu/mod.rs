//! The operations on the CPU device: SIMD chosen at run time, rows independent of each other.

#![allow(clippy::inline_always, reason = "what is not inlined is not compiled for the instruction set")]

mod attention;
mod linear;
pub(crate) mod ops;
mod parallel;
mod pointwise;
mod simd;

/// The instruction set the operations use on this machine: `avx512`, `avx2` or `portable`.
pub fn instruction_set() -> &'static str {
    simd::Isa::detect().name()
}
