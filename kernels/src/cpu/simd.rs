//! One generic source for every instruction set.
//!
//! A kernel is written once over [`Lanes`], and [`simd_dispatch!`] compiles it for each instruction set
//! and picks one at run time. The lanes only fix how a sum is split; which rows or threads work at the
//! same time never does.

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
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
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

/// How an instruction set multiplies and adds.
pub(crate) trait Arithmetic {
    fn multiply_add(a: f32, b: f32, c: f32) -> f32;
}

/// One rounding: for instruction sets that have it in hardware.
pub(crate) struct Fused;

impl Arithmetic for Fused {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// Two roundings: where a fused operation would be a call into the mathematical library.
pub(crate) struct Separate;

impl Arithmetic for Separate {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

/// What the portable build uses: fused where the target always has it.
#[cfg(target_arch = "aarch64")]
pub(crate) type Baseline = Fused;
#[cfg(not(target_arch = "aarch64"))]
pub(crate) type Baseline = Separate;

/// Defines `$name(arguments)`: `$generic::<Arithmetic, LANES>(arguments)` compiled for each instruction
/// set and chosen at run time.
macro_rules! simd_dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $generic:ident) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn avx512($($arg: $type),*) $(-> $ret)? {
                $generic::<$crate::cpu::simd::Fused, 16>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) $(-> $ret)? {
                $generic::<$crate::cpu::simd::Fused, 8>($($arg),*)
            }
            match $crate::cpu::simd::Isa::detect() {
                // SAFETY: `detect` returns these only on machines that have the features named above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Isa::Avx2 => unsafe { avx2($($arg),*) },
                $crate::cpu::simd::Isa::Portable => $generic::<$crate::cpu::simd::Baseline, 8>($($arg),*),
            }
        }
    };
}
pub(crate) use simd_dispatch;

/// The sum of lanes in a fixed order (halves added until one is left).
#[inline(always)]
pub(crate) fn sum<const L: usize>(mut lanes: [f32; L]) -> f32 {
    let mut half = L / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Dot product of `C` rows with `R` rows: lane `l` of every sum takes the elements at `l`, `l + L`, ...
/// in order, whatever `C` and `R` are. All rows have the same length.
#[inline(always)]
pub(crate) fn dot<A: Arithmetic, const L: usize, const C: usize, const R: usize>(
    columns: [&[f32]; C],
    rows: [&[f32]; R],
) -> [[f32; R]; C] {
    let length = columns[0].len();
    // Told once, so that the loop below needs no bounds checks.
    assert!(columns.iter().all(|c| c.len() == length) && rows.iter().all(|r| r.len() == length));
    let mut acc = [[[0f32; L]; R]; C];
    let mut at = 0;
    while at + L <= length {
        for r in 0..R {
            let x = &rows[r][at..at + L];
            for c in 0..C {
                let w = &columns[c][at..at + L];
                for l in 0..L {
                    acc[c][r][l] = A::multiply_add(w[l], x[l], acc[c][r][l]);
                }
            }
        }
        at += L;
    }
    for (l, i) in (at..length).enumerate() {
        for c in 0..C {
            for r in 0..R {
                acc[c][r][l] = A::multiply_add(columns[c][i], rows[r][i], acc[c][r][l]);
            }
        }
    }
    acc.map(|row| row.map(sum))
}

/// `e^x` for `x <= 88`, to about one unit in the last place; 0 below -87. Same operations for every
/// value, so the result does not depend on its neighbours.
///
/// Reduction by powers of two and the Taylor polynomial of degree 7 on |r| <= ln(2) / 2.
#[inline(always)]
pub(crate) fn exp<A: Arithmetic>(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.0, 88.0);
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let n = A::multiply_add(clamped, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = A::multiply_add(n, -LN2_LOW, A::multiply_add(n, -LN2_HIGH, clamped));
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = A::multiply_add(p, r, coefficient);
    }
    // Safe conversion: n lies between -126 and 127.
    let scale = f32::from_bits((((n as i32) + 127) << 23) as u32);
    if x < -87.0 { 0.0 } else { p * scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_library() {
        for step in -8700..8800 {
            let x = step as f32 / 100.0;
            let (exact, ours) = (f64::from(x).exp(), f64::from(exp::<Fused>(x)));
            assert!((ours / exact - 1.0).abs() < 3e-7, "{x}: {ours} {exact}");
            let separate = f64::from(exp::<Separate>(x));
            assert!((separate / exact - 1.0).abs() < 4e-7, "{x}: {separate} {exact}");
        }
        assert_eq!((exp::<Fused>(0.0), exp::<Fused>(-1e30)), (1.0, 0.0));
    }

    #[test]
    fn a_dot_product_does_not_depend_on_its_neighbours() {
        for length in [1, 7, 16, 33, 100] {
            let value = |seed: usize| ((seed * 7919 + 13) % 1009) as f32 / 500.0 - 1.0;
            let row = |r: usize| (0..length).map(|i| value(r * length + i)).collect::<Vec<_>>();
            let (a, b, c, d) = (row(0), row(1), row(2), row(3));
            let tile = dot::<Fused, 16, 2, 2>([&a, &b], [&c, &d]);
            for (i, w) in [&a, &b].into_iter().enumerate() {
                for (j, x) in [&c, &d].into_iter().enumerate() {
                    let alone = dot::<Fused, 16, 1, 1>([w], [x])[0][0];
                    assert_eq!(tile[i][j].to_bits(), alone.to_bits());
                }
            }
        }
    }
}
