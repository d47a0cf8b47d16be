//! Passes over whole rows, compiled for what the processor has.
//!
//! Sums run in [`LANES`] partial sums, always the same way, so that the bits of a result do not depend on how wide
//! vectors are. Exponentials fuse multiplication and addition where the processor can; where it cannot, they may
//! differ in the last bits.

#![allow(clippy::inline_always, reason = "passes are compiled several times, each with all that is in them")]

pub(crate) mod layers;

/// Partial sums of a pass.
pub(crate) const LANES: usize = 16;

/// A pass that is compiled with and without fused multiplication and addition.
trait Pass {
    type Out;

    fn run<const FUSED: bool>(self) -> Self::Out;
}

/// Runs `pass` with the widest vectors there are, fused where the processor can.
#[inline]
fn fused<P: Pass>(pass: P) -> P::Out {
    #[cfg(target_arch = "x86_64")]
    {
        let fma = is_x86_feature_detected!("fma");
        if fma
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
        {
            // SAFETY: the processor has the features, as was just asked.
            return unsafe { fused_avx512(pass) };
        }
        if fma && is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the features, as was just asked.
            return unsafe { fused_avx2(pass) };
        }
        pass.run::<false>()
    }
    #[cfg(not(target_arch = "x86_64"))]
    pass.run::<{ cfg!(target_arch = "aarch64") }>()
}

/// # Safety
///
/// The processor must have the features; `pass` itself needs none.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,fma")]
unsafe fn fused_avx512<P: Pass>(pass: P) -> P::Out {
    pass.run::<true>()
}

/// # Safety
///
/// The processor must have the features; `pass` itself needs none.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn fused_avx2<P: Pass>(pass: P) -> P::Out {
    pass.run::<true>()
}

/// Runs `pass`, an `#[inline(always)]` closure over slices without exponentials, with the widest vectors there are.
#[inline]
pub(crate) fn wide<R>(pass: impl FnOnce() -> R) -> R {
    fused(Plain(pass))
}

struct Plain<F>(F);

impl<R, F: FnOnce() -> R> Pass for Plain<F> {
    type Out = R;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> R {
        (self.0)()
    }
}

/// `a b + c`.
#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `exp(x)` as all passes compute it.
pub(crate) fn exp(x: f64) -> f64 {
    fused(Exp(x))
}

struct Exp(f64);

impl Pass for Exp {
    type Out = f64;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f64 {
        exp_with::<FUSED>(self.0)
    }
}

/// `exp(x)` for `x` at most 709, to within two units in the last place; 0 below -708 and for NaN.
///
/// Without branches or tables, so that a loop over it becomes vectors. Source: the reduction to
/// `2^k exp(r)` with `|r| <= ln(2) / 2` of Cody and Waite, 1980; the series of `exp` to degree 13.
#[inline(always)]
fn exp_with<const FUSED: bool>(x: f64) -> f64 {
    // Adding this leaves the nearest whole number in the lowest bits of the sum.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const SERIES: [f64; 12] = [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
    ];
    let shifted = multiply_add::<FUSED>(x, std::f64::consts::LOG2_E, SHIFT);
    let k = shifted - SHIFT;
    let r = multiply_add::<FUSED>(-k, LN2_LOW, multiply_add::<FUSED>(-k, LN2_HIGH, x));
    let mut sum = 1.0 / 6_227_020_800.0;
    for coefficient in SERIES {
        sum = multiply_add::<FUSED>(sum, r, coefficient);
    }
    let power = multiply_add::<FUSED>(sum, r, 1.0);
    let power = f64::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 52));
    if x >= -708.0 { power } else { 0.0 }
}

/// The sum of `term` over two rows of equal length.
#[inline]
pub(crate) fn sum2(a: &[f64], b: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
    wide(
        #[inline(always)]
        || {
            let mut lanes = [0.0; LANES];
            let (a, a_rest) = a.as_chunks::<LANES>();
            let (b, b_rest) = b.as_chunks::<LANES>();
            for (a, b) in a.iter().zip(b) {
                for i in 0..LANES {
                    lanes[i] += term(a[i], b[i]);
                }
            }
            for (i, (&a, &b)) in a_rest.iter().zip(b_rest).enumerate() {
                lanes[i] += term(a, b);
            }
            total(&lanes)
        },
    )
}

/// The sum of `term` over a row.
#[inline]
pub(crate) fn sum(row: &[f64], term: impl Fn(f64) -> f64) -> f64 {
    sum2(row, row, |x, _| term(x))
}

/// The largest value of a row, `-inf` of an empty one. NaN never wins.
pub(crate) fn max(row: &[f32]) -> f32 {
    wide(
        #[inline(always)]
        || {
            let mut lanes = [f32::NEG_INFINITY; LANES];
            let (chunks, rest) = row.as_chunks::<LANES>();
            for chunk in chunks {
                for i in 0..LANES {
                    lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
                }
            }
            lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
        },
    )
}

/// What is raised to: `x - max`, or `(x - max) / temperature` in the precision of rows.
#[inline(always)]
pub(crate) fn exponent(x: f32, max: f32, temperature: Option<f32>) -> f64 {
    match temperature {
        None => f64::from(x) - f64::from(max),
        Some(temperature) => f64::from((x - max) / temperature),
    }
}

/// `sum(exp(exponent))` of a row.
pub(crate) fn sum_exp(row: &[f32], max: f32, temperature: Option<f32>) -> f64 {
    fused(SumExp { row, max, temperature })
}

struct SumExp<'a> {
    row: &'a [f32],
    max: f32,
    temperature: Option<f32>,
}

impl Pass for SumExp<'_> {
    type Out = f64;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f64 {
        let Self { row, max, temperature } = self;
        let mut lanes = [0.0; LANES];
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] += exp_with::<FUSED>(exponent(chunk[i], max, temperature));
            }
        }
        for (i, &x) in rest.iter().enumerate() {
            lanes[i] += exp_with::<FUSED>(exponent(x, max, temperature));
        }
        total(&lanes)
    }
}

/// [`sum_exp`], to the bit, and `sum(exponent exp(exponent))`, with 0 for what is infinitely unlikely.
pub(crate) fn sum_exp_and_x_exp(row: &[f32], max: f32, temperature: Option<f32>) -> (f64, f64) {
    fused(SumBoth(SumExp { row, max, temperature }))
}

struct SumBoth<'a>(SumExp<'a>);

impl Pass for SumBoth<'_> {
    type Out = (f64, f64);

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> (f64, f64) {
        let SumExp { row, max, temperature } = self.0;
        let (mut sums, mut weighted) = ([0.0; LANES], [0.0; LANES]);
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                let x = exponent(chunk[i], max, temperature);
                let e = exp_with::<FUSED>(x);
                sums[i] += e;
                weighted[i] += if x >= -708.0 { x * e } else { 0.0 };
            }
        }
        for (i, &x) in rest.iter().enumerate() {
            let x = exponent(x, max, temperature);
            let e = exp_with::<FUSED>(x);
            sums[i] += e;
            weighted[i] += if x >= -708.0 { x * e } else { 0.0 };
        }
        (total(&sums), total(&weighted))
    }
}

/// Makes `out` the row `scale * exp(exponent)`.
pub(crate) fn write_exp(row: &[f32], max: f32, temperature: Option<f32>, scale: f64, out: &mut Vec<f64>) {
    out.resize(row.len(), 0.0);
    fused(WriteExp { of: SumExp { row, max, temperature }, scale, out });
}

struct WriteExp<'a> {
    of: SumExp<'a>,
    scale: f64,
    out: &'a mut [f64],
}

impl Pass for WriteExp<'_> {
    type Out = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let SumExp { row, max, temperature } = self.of;
        for (out, &x) in self.out.iter_mut().zip(row) {
            *out = self.scale * exp_with::<FUSED>(exponent(x, max, temperature));
        }
    }
}

/// Buckets of a row by a number of each, which is not below 0: 32 for each unit, numbered from 0.
#[inline]
pub(crate) fn write_buckets(row: &[f32], number: impl Fn(f32) -> f64, out: &mut Vec<u32>) {
    const LAST: f64 = (crate::select::BUCKETS - 1) as f64;
    out.resize(row.len(), 0);
    wide(
        #[inline(always)]
        || {
            for (out, &x) in out.iter_mut().zip(row) {
                let bucket = 32.0 * number(x);
                // Neither NaN nor negative, and small.
                *out = (if bucket < LAST { bucket } else { LAST }) as u32;
            }
        },
    );
}

/// Multiplies a row.
pub(crate) fn scale(row: &mut [f64], factor: f64) {
    wide(
        #[inline(always)]
        || row.iter_mut().for_each(|x| *x *= factor),
    );
}

/// Makes every number of a row `(x - max) / divisor`.
pub(crate) fn shift_and_divide(row: &mut [f32], max: f32, divisor: f32) {
    wide(
        #[inline(always)]
        || {
            for x in row {
                *x = (*x - max) / divisor;
            }
        },
    );
}

#[inline(always)]
pub(crate) fn total(lanes: &[f64; LANES]) -> f64 {
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn exp_is_exact_to_two_units() {
        for exp in [exp_with::<true>, exp_with::<false>, exp] {
            check(exp);
        }
    }

    fn check(exp: fn(f64) -> f64) {
        for i in -708_000..=100_000 {
            let x = f64::from(i) * 1e-3 + 1e-7;
            let (ours, theirs) = (exp(x), x.exp());
            if x >= -708.0 {
                assert!((ours - theirs).abs() <= 2.0 * f64::EPSILON * theirs, "{x}: {ours} {theirs}");
            }
        }
        assert_eq!([0.0, -709.0, f64::NEG_INFINITY, -1e300, f64::NAN].map(exp), [1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn passes_agree_with_loops(row in prop::collection::vec(-20.0..20.0f32, 1..70)) {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            prop_assert_eq!(super::max(&row), max);
            let sum: f64 = row.iter().map(|&x| (f64::from(x) - f64::from(max)).exp()).sum();
            prop_assert!((sum_exp(&row, max, None) - sum).abs() < 1e-12 * sum);
            let cold: f64 = row.iter().map(|&x| f64::from((x - max) / 0.7).exp()).sum();
            prop_assert!((sum_exp(&row, max, Some(0.7)) - cold).abs() < 1e-12 * cold);
            let mut out = Vec::new();
            write_exp(&row, max, None, 0.5, &mut out);
            let wanted = row.iter().map(|&x| 0.5 * (f64::from(x) - f64::from(max)).exp());
            prop_assert!(out.iter().zip(wanted).all(|(a, b)| (a - b).abs() <= 1e-15));
            let total: f64 = out.iter().map(|x| x * x).sum();
            prop_assert!((super::sum(&out, |x| x * x) - total).abs() < 1e-12);
        }

        /// What the processor has must not show.
        #[test]
        fn vectors_of_any_width_give_the_same_bits(row in prop::collection::vec(-20.0..20.0f32, 1..70)) {
            let plain: Vec<u64> = row.iter().map(|&x| exp(f64::from(x)).to_bits()).collect();
            let mut out = Vec::new();
            write_exp(&row, 0.0, None, 1.0, &mut out);
            prop_assert_eq!(out.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), plain);
        }
    }
}
