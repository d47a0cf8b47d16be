//! The instruction sets of x86-64.

use super::Simd;
use half::f16;
use std::arch::x86_64::{
    __m128, __m256, __m512, _mm_add_ps, _mm_loadu_si128, _mm_movehl_ps, _mm_movelh_ps, _mm_shuffle_ps,
    _mm_storeu_ps, _mm256_add_ps, _mm256_castpd_ps, _mm256_castps256_ps128, _mm256_cvtph_ps,
    _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_storeu_ps, _mm512_castps_pd, _mm512_castps512_ps256, _mm512_cvtph_ps,
    _mm512_extractf64x4_pd, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

/// Sixteen lanes added to four, half to half.
///
/// # Safety
///
/// The machine must have AVX-512F and AVX2.
#[inline(always)]
unsafe fn quarter512(vector: __m512) -> __m128 {
    // SAFETY: as above.
    unsafe {
        let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(vector)));
        quarter256(_mm256_add_ps(_mm512_castps512_ps256(vector), high))
    }
}

/// Eight lanes added to four, half to half.
///
/// # Safety
///
/// The machine must have AVX2.
#[inline(always)]
unsafe fn quarter256(vector: __m256) -> __m128 {
    // SAFETY: as above.
    unsafe { _mm_add_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps::<1>(vector)) }
}

/// The sums of four times four lanes, each half to half.
#[inline(always)]
fn four_sums(a: __m128, b: __m128, c: __m128, d: __m128) -> [f32; 4] {
    let mut sums = [0.0; 4];
    // SAFETY: every x86-64 machine has these instructions; the array is as long as the vector.
    unsafe {
        let ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
        let cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));
        let (even, odd) = (_mm_shuffle_ps::<0x88>(ab, cd), _mm_shuffle_ps::<0xdd>(ab, cd));
        _mm_storeu_ps(sums.as_mut_ptr(), _mm_add_ps(even, odd));
    }
    sums
}

/// Defines an instruction set over its intrinsics.
macro_rules! x86_simd {
    ($(#[$doc:meta])* $name:ident, $vector:ty, $lanes:literal, $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident, $quarter:ident, $load_half:ident, $widen:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name(());

        impl Simd for $name {
            const LANES: usize = $lanes;
            type Vector = $vector;

            #[inline(always)]
            unsafe fn new() -> Self {
                Self(())
            }

            #[inline(always)]
            fn zero(self) -> $vector {
                // SAFETY: `self` proves that the machine has the instruction.
                unsafe { $zero() }
            }

            #[inline(always)]
            fn splat(self, value: f32) -> $vector {
                // SAFETY: as in `zero`.
                unsafe { $splat(value) }
            }

            #[inline(always)]
            fn load(self, values: &[f32]) -> $vector {
                let values: &[f32; $lanes] = values.first_chunk().expect("a whole vector");
                // SAFETY: as in `zero`; the array is as long as the vector, and any alignment will do.
                unsafe { $load(values.as_ptr()) }
            }

            #[inline(always)]
            fn load_half(self, values: &[f16]) -> $vector {
                let values: &[f16; $lanes] = values.first_chunk().expect("a whole vector");
                // SAFETY: as in `zero`; the array is as long as the vector, and any alignment will do.
                unsafe { $widen($load_half(values.as_ptr().cast())) }
            }

            #[inline(always)]
            fn multiply_add(self, a: $vector, b: $vector, c: $vector) -> $vector {
                // SAFETY: as in `zero`.
                unsafe { $fma(a, b, c) }
            }

            #[inline(always)]
            fn lanes(self, vector: $vector) -> [f32; 16] {
                let mut lanes = [0.0; 16];
                // SAFETY: as in `zero`; the array is at least as long as the vector.
                unsafe { $store(lanes.as_mut_ptr(), vector) };
                lanes
            }

            #[inline(always)]
            fn scalar(self, a: f32, b: f32, c: f32) -> f32 {
                a.mul_add(b, c)
            }

            #[inline(always)]
            fn sums(self, [a, b, c, d]: [$vector; 4]) -> [f32; 4] {
                // SAFETY: as in `zero`.
                unsafe { four_sums($quarter(a), $quarter(b), $quarter(c), $quarter(d)) }
            }
        }
    };
}

x86_simd! {
    /// AVX-512F.
    Avx512, __m512, 16, _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps, quarter512, _mm256_loadu_si256, _mm512_cvtph_ps
}
x86_simd! {
    /// AVX2 with FMA.
    Avx2, __m256, 8, _mm256_setzero_ps, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps, quarter256, _mm_loadu_si128, _mm256_cvtph_ps
}
