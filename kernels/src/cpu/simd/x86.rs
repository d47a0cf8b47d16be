//! The instruction sets of x86-64.

use super::{
    super::{
        stored::Stored,
        tile::{Place, dot_blocks_of},
    },
    Simd,
};
use half::f16;
#[allow(clippy::wildcard_imports, reason = "every name in it is an instruction")]
use std::arch::x86_64::*;

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

/// Bytes to numbers.
///
/// # Safety
///
/// The machine must have AVX-512F; 16 bytes must be readable.
#[inline(always)]
unsafe fn bytes512(at: *const u8) -> __m512 {
    // SAFETY: as above.
    unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()))) }
}

/// Half bytes to numbers by a table; the selector looks at four bits only, so nothing is masked.
///
/// # Safety
///
/// As [`bytes512`].
#[inline(always)]
unsafe fn nibbles512(at: *const u8, high: bool) -> __m512 {
    // SAFETY: as above.
    unsafe {
        let table = _mm512_setr_ps(
            -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0,
        );
        let wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast()));
        let index = if high { _mm512_srli_epi32::<4>(wide) } else { wide };
        _mm512_permutexvar_ps(index, table)
    }
}

/// Bytes to numbers.
///
/// # Safety
///
/// The machine must have AVX2; 8 bytes must be readable.
#[inline(always)]
unsafe fn bytes256(at: *const u8) -> __m256 {
    // SAFETY: as above.
    unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()))) }
}

/// Half bytes to numbers.
///
/// # Safety
///
/// As [`bytes256`].
#[inline(always)]
unsafe fn nibbles256(at: *const u8, high: bool) -> __m256 {
    // SAFETY: as above.
    unsafe {
        let wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast()));
        let number =
            if high { _mm256_srli_epi32::<4>(wide) } else { _mm256_and_si256(wide, _mm256_set1_epi32(15)) };
        _mm256_cvtepi32_ps(_mm256_sub_epi32(number, _mm256_set1_epi32(8)))
    }
}

/// `2^n` of whole numbers.
///
/// # Safety
///
/// The machine must have AVX-512F.
#[inline(always)]
unsafe fn power512(n: __m512) -> __m512 {
    // SAFETY: as above.
    unsafe {
        let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
        _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
    }
}

/// `2^n` of whole numbers.
///
/// # Safety
///
/// The machine must have AVX2.
#[inline(always)]
unsafe fn power256(n: __m256) -> __m256 {
    // SAFETY: as above.
    unsafe {
        let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
    }
}

/// `value` where `x` is not below `limit`.
///
/// # Safety
///
/// The machine must have AVX-512F.
#[inline(always)]
unsafe fn keep512(value: __m512, x: __m512, limit: __m512) -> __m512 {
    // SAFETY: as above.
    unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, limit), value) }
}

/// `value` where `x` is not below `limit`.
///
/// # Safety
///
/// The machine must have AVX2.
#[inline(always)]
unsafe fn keep256(value: __m256, x: __m256, limit: __m256) -> __m256 {
    // SAFETY: as above.
    unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(x, limit), value) }
}

/// Defines an instruction set over its intrinsics.
macro_rules! x86_simd {
    (
        $(#[$doc:meta])* $name:ident, $features:literal, $vector:ty, $lanes:literal, $many:literal,
        splat $splat:ident, load $load:ident, store $store:ident,
        fma $fma:ident, add $add:ident, mul $mul:ident, div $div:ident, max $max:ident, min $min:ident,
        quarter $quarter:ident, half $load_half:ident $widen:ident,
        bytes $bytes:ident, nibbles $nibbles:ident, power $power:ident, keep $keep:ident $(,)?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(in super::super) struct $name(());

        impl Simd for $name {
            const LANES: usize = $lanes;
            const MANY_REGISTERS: bool = $many;
            type Vector = $vector;

            #[inline(always)]
            unsafe fn new() -> Self {
                Self(())
            }

            #[inline(always)]
            fn splat(self, value: f32) -> $vector {
                // SAFETY: `self` proves that the machine has the instruction; so in all that follow.
                unsafe { $splat(value) }
            }

            #[inline(always)]
            unsafe fn load(self, at: *const f32) -> $vector {
                // SAFETY: as in `splat`, and the caller's promise.
                unsafe { $load(at) }
            }

            #[inline(always)]
            unsafe fn load_half(self, at: *const f16) -> $vector {
                // SAFETY: as in `splat`, and the caller's promise.
                unsafe { $widen($load_half(at.cast())) }
            }

            #[inline(always)]
            unsafe fn load_bytes(self, at: *const u8) -> $vector {
                // SAFETY: as in `splat`, and the caller's promise.
                unsafe { $bytes(at) }
            }

            #[inline(always)]
            unsafe fn load_nibbles(self, at: *const u8, high: bool) -> $vector {
                // SAFETY: as in `splat`, and the caller's promise.
                unsafe { $nibbles(at, high) }
            }

            #[inline(always)]
            unsafe fn store(self, vector: $vector, at: *mut f32) {
                // SAFETY: as in `splat`, and the caller's promise.
                unsafe { $store(at, vector) }
            }

            #[inline(always)]
            fn multiply_add(self, a: $vector, b: $vector, c: $vector) -> $vector {
                // SAFETY: as in `splat`.
                unsafe { $fma(a, b, c) }
            }

            #[inline(always)]
            fn add(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: as in `splat`.
                unsafe { $add(a, b) }
            }

            #[inline(always)]
            fn multiply(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: as in `splat`.
                unsafe { $mul(a, b) }
            }

            #[inline(always)]
            fn divide(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: as in `splat`.
                unsafe { $div(a, b) }
            }

            #[inline(always)]
            fn max(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: as in `splat`.
                unsafe { $max(a, b) }
            }

            #[inline(always)]
            fn min(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: as in `splat`.
                unsafe { $min(a, b) }
            }

            #[inline(always)]
            fn power_of_two(self, n: $vector) -> $vector {
                // SAFETY: as in `splat`.
                unsafe { $power(n) }
            }

            #[inline(always)]
            fn zero_below(self, value: $vector, x: $vector, limit: $vector) -> $vector {
                // SAFETY: as in `splat`.
                unsafe { $keep(value, x, limit) }
            }

            #[inline(always)]
            unsafe fn dot_blocks<W: Stored, const C: usize, const R: usize, const FAR: bool>(
                self,
                stored: [W::Row; C],
                x: [*const f32; R],
                blocks: usize,
        out: Place,
            ) {
                /// # Safety
                ///
                /// The machine must have the instructions, and as [`dot_blocks_of`].
                #[target_feature(enable = $features)]
                #[inline(never)]
                unsafe fn compiled<W: Stored, const C: usize, const R: usize, const FAR: bool>(
                    simd: $name,
                    stored: [W::Row; C],
                    x: [*const f32; R],
                    blocks: usize,
        out: Place,
                ) {
                    // SAFETY: the caller's promise.
                    unsafe { dot_blocks_of::<$name, W, C, R, FAR>(simd, stored, x, blocks, out) }
                }
                // SAFETY: as in `splat`, and the caller's promise.
                unsafe { compiled::<W, C, R, FAR>(self, stored, x, blocks, out) }
            }

            #[inline(always)]
            fn sums(self, [a, b, c, d]: [$vector; 4]) -> [f32; 4] {
                // SAFETY: as in `splat`.
                unsafe { four_sums($quarter(a), $quarter(b), $quarter(c), $quarter(d)) }
            }
        }
    };
}

x86_simd! {
    /// AVX-512F.
    Avx512, "avx512f,avx512vl,avx2,fma,f16c", __m512, 16, true,
    splat _mm512_set1_ps, load _mm512_loadu_ps, store _mm512_storeu_ps,
    fma _mm512_fmadd_ps, add _mm512_add_ps, mul _mm512_mul_ps, div _mm512_div_ps,
    max _mm512_max_ps, min _mm512_min_ps,
    quarter quarter512, half _mm256_loadu_si256 _mm512_cvtph_ps,
    bytes bytes512, nibbles nibbles512, power power512, keep keep512,
}
x86_simd! {
    /// AVX2 with FMA.
    Avx2, "avx2,fma,f16c", __m256, 8, false,
    splat _mm256_set1_ps, load _mm256_loadu_ps, store _mm256_storeu_ps,
    fma _mm256_fmadd_ps, add _mm256_add_ps, mul _mm256_mul_ps, div _mm256_div_ps,
    max _mm256_max_ps, min _mm256_min_ps,
    quarter quarter256, half _mm_loadu_si128 _mm256_cvtph_ps,
    bytes bytes256, nibbles nibbles256, power power256, keep keep256,
}
