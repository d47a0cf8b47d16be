//! Streaming reads.

/// Bytes that all threads together read in a pass: far more than caches hold.
const BYTES: usize = 1 << 29;

/// Sums side by side, so that the loop waits for memory and not for the sum before.
const LANES: usize = 64;

/// Bytes per second.
pub(super) fn measure(threads: usize, tries: usize) -> f64 {
    let words = BYTES / size_of::<u64>() / threads;
    // Written by the thread that reads, so that the pages are real, and its own.
    let prepare = || (0..words as u64).collect::<Vec<_>>();
    let time = super::best(threads, tries, prepare, |data| sum(data));
    (words * size_of::<u64>() * threads) as f64 / time.as_secs_f64()
}

fn sum(data: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512F.
            return unsafe { sum_avx512(data) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { sum_avx2(data) };
        }
    }
    lanes(data)
}

/// The sum in 512-bit registers. Only for processors with AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sum_avx512(data: &[u64]) -> u64 {
    lanes(data)
}

/// The sum in 256-bit registers. Only for processors with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(data: &[u64]) -> u64 {
    lanes(data)
}

/// The sum, which the compiler spreads over registers as wide as it may use.
#[allow(clippy::inline_always, reason = "it must become part of the functions with wide registers")]
#[inline(always)]
fn lanes(data: &[u64]) -> u64 {
    let mut sums = [0u64; LANES];
    for chunk in data.chunks_exact(LANES) {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*value);
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}
