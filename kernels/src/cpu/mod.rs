//! The operations on the CPU device: SIMD chosen at run time, rows independent of each other.

#![allow(clippy::inline_always, reason = "what is not inlined is not compiled for the instruction set")]
#![allow(clippy::needless_range_loop, reason = "a closure is not compiled for the instruction set either")]

mod attention;
mod backend;
mod linear;
mod out;
mod pointwise;
mod simd;
mod stored;
mod team;
#[cfg(test)]
mod tests;
mod tile;

pub use team::{set_threads, threads};

/// The instruction set the operations use on this machine: `avx512`, `avx2`, `neon` or `portable`.
pub fn instruction_set() -> &'static str {
    simd::Isa::detect().name()
}
