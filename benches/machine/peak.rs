//! Multiply-adds in registers.

/// Chains of multiply-adds that do not wait for each other: more than latency times units of any processor
/// known here.
const CHAINS: usize = 12;

/// Links of each chain.
const LINKS: usize = 2_000_000;

/// Floating point operations per second.
pub(super) fn measure(threads: usize, tries: usize) -> f64 {
    let (width, work) = kernel();
    let time = super::best(threads, tries, || 1.0f32, |start| u64::from(work(*start).to_bits()));
    (2 * CHAINS * LINKS * width * threads) as f64 / time.as_secs_f64()
}

/// Numbers in a register, and the code for the widest ones of this processor.
fn kernel() -> (usize, fn(f32) -> f32) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512F.
            return (16, |start| unsafe { avx512(start) });
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has AVX2 and FMA.
            return (8, |start| unsafe { avx2(start) });
        }
    }
    (WIDTH, portable)
}

/// All chains in 512-bit registers. Only for processors with AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(start: f32) -> f32 {
    use std::arch::x86_64::{_mm512_add_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let (factor, term) = (_mm512_set1_ps(start * 0.5), _mm512_set1_ps(start));
    let mut chains = [term; CHAINS];
    for _ in 0..LINKS {
        for chain in &mut chains {
            *chain = _mm512_fmadd_ps(*chain, factor, term);
        }
    }
    let sum = chains.into_iter().fold(_mm512_set1_ps(0.0), |a, b| _mm512_add_ps(a, b));
    _mm512_reduce_add_ps(sum)
}

/// All chains in 256-bit registers. Only for processors with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(start: f32) -> f32 {
    use std::arch::x86_64::{_mm256_add_ps, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let (factor, term) = (_mm256_set1_ps(start * 0.5), _mm256_set1_ps(start));
    let mut chains = [term; CHAINS];
    for _ in 0..LINKS {
        for chain in &mut chains {
            *chain = _mm256_fmadd_ps(*chain, factor, term);
        }
    }
    _mm256_cvtss_f32(chains.into_iter().fold(_mm256_set1_ps(0.0), |a, b| _mm256_add_ps(a, b)))
}

/// Numbers in a register of the portable code.
const WIDTH: usize = 4;

/// All chains in arrays that the compiler lays into registers.
fn portable(start: f32) -> f32 {
    let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
    let (factor, term) = (start * 0.5, start);
    let mut chains = [[term; WIDTH]; CHAINS];
    for _ in 0..LINKS {
        for lane in chains.iter_mut().flatten() {
            *lane = if fused { lane.mul_add(factor, term) } else { *lane * factor + term };
        }
    }
    chains.into_iter().flatten().sum()
}
