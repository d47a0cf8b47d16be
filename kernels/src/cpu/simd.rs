//! One generic source for every instruction set.
//!
//! A kernel is written once over [`Simd`], and [`simd_dispatch!`] compiles it for each instruction set and
//! picks one at run time. The lanes only fix how a sum is split; which rows or threads work at the same
//! time never does.

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

use half::f16;
use std::sync::OnceLock;

/// The instruction sets told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The best one this machine has.
    pub(crate) fn detect() -> Self {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                return if is_x86_feature_detected!("avx512f") { Self::Avx512 } else { Self::Avx2 };
            }
            Self::Portable
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}

/// An instruction set: vectors of `LANES` numbers, and how it multiplies and adds.
///
/// A value is a proof that the machine has the instructions; only `new` can make one.
pub(crate) trait Simd: Copy {
    /// Numbers in a vector.
    const LANES: usize;
    /// A vector.
    type Vector: Copy;

    /// The proof.
    ///
    /// # Safety
    ///
    /// The machine must have the instructions.
    unsafe fn new() -> Self;

    fn zero(self) -> Self::Vector;

    /// The same value in every lane.
    fn splat(self, value: f32) -> Self::Vector;

    /// The first `LANES` values.
    fn load(self, values: &[f32]) -> Self::Vector;

    /// The first `LANES` values, widened; the conversion is exact.
    fn load_half(self, values: &[f16]) -> Self::Vector;

    /// `a * b + c` in each lane.
    fn multiply_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// The lanes, the rest zeros.
    fn lanes(self, vector: Self::Vector) -> [f32; 16];

    /// `a * b + c`, rounded as in the lanes.
    fn scalar(self, a: f32, b: f32, c: f32) -> f32;

    /// [`sum`] of the lanes of four vectors at once.
    #[inline(always)]
    fn sums(self, vectors: [Self::Vector; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        for i in 0..4 {
            sums[i] = sum(self.lanes(vectors[i]));
        }
        sums
    }
}

/// Plain arrays: what the compiler makes of them.
#[derive(Clone, Copy)]
pub(crate) struct Portable(());

impl Simd for Portable {
    const LANES: usize = 8;
    type Vector = [f32; 8];

    #[inline(always)]
    unsafe fn new() -> Self {
        Self(())
    }

    #[inline(always)]
    fn zero(self) -> [f32; 8] {
        [0.0; 8]
    }

    #[inline(always)]
    fn splat(self, value: f32) -> [f32; 8] {
        [value; 8]
    }

    #[inline(always)]
    fn load(self, values: &[f32]) -> [f32; 8] {
        *values.first_chunk().expect("a whole vector")
    }

    #[inline(always)]
    fn load_half(self, values: &[f16]) -> [f32; 8] {
        let values: &[f16; 8] = values.first_chunk().expect("a whole vector");
        values.map(f16::to_f32)
    }

    #[inline(always)]
    fn multiply_add(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| self.scalar(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn lanes(self, vector: [f32; 8]) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        lanes[..8].copy_from_slice(&vector);
        lanes
    }

    #[inline(always)]
    fn scalar(self, a: f32, b: f32, c: f32) -> f32 {
        // Fused where the target always has it in hardware; elsewhere it would be a call into the
        // mathematical library.
        if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
    }
}

/// Defines `$name(arguments)`: `$generic(simd, arguments)` compiled for each instruction set and chosen at
/// run time.
macro_rules! simd_dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $generic:ident) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma,f16c")]
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
pub(crate) use simd_dispatch;

/// The sum of all lanes in a fixed order (halves added until one is left).
#[inline(always)]
pub(crate) fn sum(mut lanes: [f32; 16]) -> f32 {
    let mut half = 8;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// A type in which weights are stored.
pub(crate) trait Stored: Copy {
    fn load<S: Simd>(simd: S, values: &[Self]) -> S::Vector;
    fn widen(self) -> f32;
}

impl Stored for f32 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, values: &[f32]) -> S::Vector {
        simd.load(values)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Stored for f16 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, values: &[f16]) -> S::Vector {
        simd.load_half(values)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

/// Dot products of `C` rows with `R` rows: lane `l` of every sum takes the elements at `l`, `l + LANES`,
/// ... in order, whatever `C` and `R` are. All rows have the same length.
#[inline(always)]
pub(crate) fn dot<S: Simd, W: Stored, const C: usize, const R: usize>(
    simd: S,
    columns: [&[W]; C],
    rows: [&[f32]; R],
) -> [[f32; R]; C] {
    let length = columns[0].len();
    // Told once, so that the loop below needs no bounds checks.
    assert!(columns.iter().all(|c| c.len() == length) && rows.iter().all(|r| r.len() == length));
    // Loops and no closures: the instructions are inlined only into functions compiled for them, and a
    // closure is a function of its own.
    let mut acc = [[simd.zero(); R]; C];
    let mut at = 0;
    while at + S::LANES <= length {
        let mut x = [simd.zero(); R];
        for r in 0..R {
            x[r] = simd.load(&rows[r][at..]);
        }
        for c in 0..C {
            let w = W::load(simd, &columns[c][at..]);
            for r in 0..R {
                acc[c][r] = simd.multiply_add(w, x[r], acc[c][r]);
            }
        }
        at += S::LANES;
    }
    let mut out = [[0.0; R]; C];
    if C == 4 && at == length {
        for r in 0..R {
            let sums = simd.sums([acc[0][r], acc[1 % C][r], acc[2 % C][r], acc[3 % C][r]]);
            for c in 0..C {
                out[c][r] = sums[c % 4];
            }
        }
        return out;
    }
    for c in 0..C {
        for r in 0..R {
            let mut lanes = simd.lanes(acc[c][r]);
            for (lane, i) in (at..length).enumerate() {
                lanes[lane] = simd.scalar(columns[c][i].widen(), rows[r][i], lanes[lane]);
            }
            out[c][r] = sum(lanes);
        }
    }
    out
}

/// `e^x` for `x <= 88`, to about one unit in the last place; 0 below -87. Same operations for every
/// value, so the result does not depend on its neighbours.
///
/// Reduction by powers of two and the Taylor polynomial of degree 7 on |r| <= ln(2) / 2.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// Adding and subtracting 1.5 * 2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let n = simd.scalar(clamped, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = simd.scalar(n, -LN2_LOW, simd.scalar(n, -LN2_HIGH, clamped));
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = simd.scalar(p, r, coefficient);
    }
    // Safe conversion: n lies between -126 and 127.
    let scale = f32::from_bits((((n as i32) + 127) << 23) as u32);
    if x < -87.0 { 0.0 } else { p * scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    simd_dispatch! {
        fn best_exp(x: f32) -> f32 = exp
    }

    simd_dispatch! {
        fn best_tile(w: [&[f32]; 2], x: [&[f32]; 3]) -> [[f32; 3]; 2] = dot
    }

    simd_dispatch! {
        fn best_single(w: [&[f32]; 1], x: [&[f32]; 1]) -> [[f32; 1]; 1] = dot
    }

    simd_dispatch! {
        fn best_four(w: [&[f32]; 4], x: [&[f32]; 1]) -> [[f32; 1]; 4] = dot
    }

    fn portable() -> Portable {
        // SAFETY: every machine has what it takes.
        unsafe { Portable::new() }
    }

    #[test]
    fn exp_is_close_to_the_library() {
        for step in -8700..8800 {
            let x = step as f32 / 100.0;
            let exact = f64::from(x).exp();
            for ours in [best_exp(x), exp(portable(), x)] {
                assert!((f64::from(ours) / exact - 1.0).abs() < 4e-7, "{x}: {ours} {exact}");
            }
        }
        assert_eq!((best_exp(0.0), best_exp(-1e30)), (1.0, 0.0));
    }

    #[test]
    fn a_dot_product_does_not_depend_on_its_neighbours() {
        for length in [1, 7, 16, 33, 64, 100] {
            let value = |seed: usize| ((seed * 7919 + 13) % 1009) as f32 / 500.0 - 1.0;
            let row = |r: usize| (0..length).map(|i| value(r * length + i)).collect::<Vec<_>>();
            let [a, b, c, d, e] = [row(0), row(1), row(2), row(3), row(4)];
            for ([four], w) in best_four([&a, &b, &c, &d], [&e]).into_iter().zip([&a, &b, &c, &d]) {
                assert_eq!(four.to_bits(), best_single([w], [&e])[0][0].to_bits());
            }
            let tile = best_tile([&a, &b], [&c, &d, &e]);
            for (i, w) in [&a, &b].into_iter().enumerate() {
                for (j, x) in [&c, &d, &e].into_iter().enumerate() {
                    let alone = best_single([w], [x])[0][0];
                    assert_eq!(tile[i][j].to_bits(), alone.to_bits());
                    let plain = dot(portable(), [w], [x])[0][0];
                    assert!((alone - plain).abs() < 1e-4, "{alone} {plain}");
                }
            }
        }
    }
}
