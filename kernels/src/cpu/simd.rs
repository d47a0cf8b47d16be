//! One generic source for every instruction set.
//!
//! A kernel is written once over [`Simd`], and [`simd_dispatch!`] compiles it for each instruction set and
//! picks one at run time. The lanes only fix how a sum is split; which rows or threads work at the same
//! time never does.

mod portable;
#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

pub(super) use portable::Portable;

use super::{stored::Stored, tile::Place};
use half::f16;
use std::sync::OnceLock;

/// The instruction sets told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The best one this machine has.
    pub(super) fn detect() -> Self {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
                return if wide { Self::Avx512 } else { Self::Avx2 };
            }
            Self::Portable
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            // The compiler turns the arrays into the vectors every 64-bit ARM processor has.
            Self::Portable => {
                if cfg!(target_arch = "aarch64") {
                    "neon"
                } else {
                    "portable"
                }
            }
        }
    }
}

/// An instruction set: vectors of `LANES` numbers, and how it computes with them.
///
/// A value is a proof that the machine has the instructions; only `new` can make one.
pub(super) trait Simd: Copy {
    /// Numbers in a vector: 8 or 16.
    const LANES: usize;
    /// Whether there are 32 registers for vectors, and not 16.
    const MANY_REGISTERS: bool;
    /// A vector.
    type Vector: Copy;

    /// The proof.
    ///
    /// # Safety
    ///
    /// The machine must have the instructions.
    unsafe fn new() -> Self;

    /// The same value in every lane.
    fn splat(self, value: f32) -> Self::Vector;

    /// `LANES` values from `at` on.
    ///
    /// # Safety
    ///
    /// They must be readable; any alignment will do. So for the loads below.
    unsafe fn load(self, at: *const f32) -> Self::Vector;

    /// `LANES` values from `at` on, widened; the conversion is exact.
    ///
    /// # Safety
    ///
    /// As [`Simd::load`].
    unsafe fn load_half(self, at: *const f16) -> Self::Vector;

    /// `LANES` signed bytes from `at` on, as numbers.
    ///
    /// # Safety
    ///
    /// As [`Simd::load`].
    unsafe fn load_bytes(self, at: *const u8) -> Self::Vector;

    /// Numbers -8..8 from the low or the high halves of `LANES` bytes from `at` on.
    ///
    /// # Safety
    ///
    /// As [`Simd::load`].
    unsafe fn load_nibbles(self, at: *const u8, high: bool) -> Self::Vector;

    /// Writes all lanes from `at` on.
    ///
    /// # Safety
    ///
    /// They must be writable.
    unsafe fn store(self, vector: Self::Vector, at: *mut f32);

    /// `a * b + c` in each lane, rounded once (on machines with no such instruction, twice).
    fn multiply_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    fn multiply(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    fn divide(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// The larger of each lane; not a number where `b` is none.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// The smaller of each lane; not a number where `b` is none.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `2^n` for whole numbers -126..=127.
    fn power_of_two(self, n: Self::Vector) -> Self::Vector;

    /// `value`, but 0 where `x` is below `limit`.
    fn zero_below(self, value: Self::Vector, x: Self::Vector, limit: Self::Vector) -> Self::Vector;

    /// The sums of the lanes of four vectors; each in a fixed order, whatever the other three are.
    fn sums(self, vectors: [Self::Vector; 4]) -> [f32; 4];

    /// [`dot_blocks_of`](super::tile::dot_blocks_of), compiled as a function of its own: in one with many loops the
    /// compiler runs out of registers in all of them.
    ///
    /// # Safety
    ///
    /// As there.
    unsafe fn dot_blocks<W: Stored, const C: usize, const R: usize, const FAR: bool>(
        self,
        stored: [W::Row; C],
        x: [*const f32; R],
        blocks: usize,
        out: Place,
    );

    #[inline(always)]
    fn zero(self) -> Self::Vector {
        self.splat(0.0)
    }

    /// The sum of the lanes.
    #[inline(always)]
    fn sum(self, vector: Self::Vector) -> f32 {
        self.sums([vector, self.zero(), self.zero(), self.zero()])[0]
    }

    /// The lanes, the rest zeros.
    #[inline(always)]
    fn lanes(self, vector: Self::Vector) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        // SAFETY: the array is at least as long as the vector.
        unsafe { self.store(vector, lanes.as_mut_ptr()) };
        lanes
    }

    /// The first `LANES` of the values, and `fill` where there are fewer.
    #[inline(always)]
    fn load_padded(self, values: &[f32], fill: f32) -> Self::Vector {
        let mut padded = [fill; 16];
        let count = values.len().min(Self::LANES);
        padded[..count].copy_from_slice(&values[..count]);
        // SAFETY: the array is at least as long as the vector.
        unsafe { self.load(padded.as_ptr()) }
    }
}

/// Defines `$name(arguments)`: `$generic(simd, arguments)` compiled for each instruction set and chosen at
/// run time.
macro_rules! simd_dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $generic:ident) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) $(-> $ret)? {
            // Without `avx512vl` the compiler may not keep sums in the upper sixteen registers.
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx2,fma,f16c")]
            fn avx512(simd: $crate::cpu::simd::x86::Avx512, $($arg: $type),*) $(-> $ret)? {
                $generic(simd, $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2(simd: $crate::cpu::simd::x86::Avx2, $($arg: $type),*) $(-> $ret)? {
                $generic(simd, $($arg),*)
            }
            use $crate::cpu::simd::Simd;
            match $crate::cpu::simd::Isa::detect() {
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Isa::Avx512 => {
                    // SAFETY: `detect` returns this only on machines that have the features named above.
                    unsafe { avx512(Simd::new(), $($arg),*) }
                }
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Isa::Avx2 => {
                    // SAFETY: as above.
                    unsafe { avx2(Simd::new(), $($arg),*) }
                }
                $crate::cpu::simd::Isa::Portable => {
                    // SAFETY: every machine has these.
                    let portable = unsafe { $crate::cpu::simd::Portable::new() };
                    $generic(portable, $($arg),*)
                }
            }
        }
    };
}
pub(super) use simd_dispatch;

/// `e^x` in each lane to about one unit in the last place; 0 below -87, not a number where `x` is none.
///
/// Reduction by powers of two and the Taylor polynomial of degree 7 on |r| <= ln(2) / 2.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// Adding and subtracting 1.5 * 2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let clamped = simd.min(simd.splat(88.0), simd.max(simd.splat(-87.0), x));
    let rounded = simd.multiply_add(clamped, simd.splat(std::f32::consts::LOG2_E), simd.splat(ROUND));
    let n = simd.add(rounded, simd.splat(-ROUND));
    let r = simd.multiply_add(n, simd.splat(-LN2_HIGH), clamped);
    let r = simd.multiply_add(n, simd.splat(-LN2_LOW), r);
    let mut p = simd.splat(1.0 / 5040.0);
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = simd.multiply_add(p, r, simd.splat(coefficient));
    }
    simd.zero_below(simd.multiply(p, simd.power_of_two(n)), x, simd.splat(-87.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exp_slice_of<S: Simd>(simd: S, values: &[f32]) -> Vec<f32> {
        let vectors = values.chunks(S::LANES);
        vectors
            .flat_map(|chunk| simd.lanes(exp(simd, simd.load_padded(chunk, 0.0)))[..chunk.len()].to_vec())
            .collect()
    }

    simd_dispatch! {
        fn best_exp(values: &[f32]) -> Vec<f32> = exp_slice_of
    }

    fn portable() -> Portable {
        // SAFETY: every machine has what it takes.
        unsafe { Portable::new() }
    }

    #[test]
    fn exp_is_close_to_the_library() {
        let x: Vec<f32> = (-8700..8800).map(|step| step as f32 / 100.0).collect();
        for ours in [best_exp(&x), exp_slice_of(portable(), &x)] {
            for (x, ours) in x.iter().zip(ours) {
                let exact = f64::from(*x).exp();
                assert!((f64::from(ours) / exact - 1.0).abs() < 4e-7, "{x}: {ours} {exact}");
            }
        }
    }

    #[test]
    fn exp_has_the_right_ends() {
        let x = [0.0, -1e30, f32::NEG_INFINITY, f32::NAN, f32::INFINITY];
        for ours in [best_exp(&x), exp_slice_of(portable(), &x)] {
            assert_eq!(ours[..3], [1.0, 0.0, 0.0]);
            assert!(ours[3].is_nan() && ours[4] > 1e38, "{ours:?}");
        }
    }
}
