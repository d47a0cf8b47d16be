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

#[cfg(test)]
mod tests {
    use super::{
        attention::heads_of,
        linear::{Factors, Weight, block_of},
        pointwise::{rms_norm_of, silu_mul_of},
        simd::{Portable, Simd},
    };
    use crate::AttentionShape;
    use half::f16;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + seed) * 7919) % 2003) as f32 / 1000.0 - 1.0).collect()
    }

    /// Every kernel once, with shapes that leave remainders everywhere.
    fn results<S: Simd>(simd: S) -> Vec<Vec<f32>> {
        let mut all = Vec::new();
        for (m, k, n) in [(1, 7, 1), (3, 33, 5), (5, 64, 9), (8, 40, 6), (13, 17, 11)] {
            let (x, weight, bias) = (values(m * k, 1), values(n * k, 2), values(n, 3));
            let mut out = vec![0.0; m * n];
            let factors = Factors { x: &x, weight: Weight::F32(&weight), bias: Some(&bias), m, k };
            block_of(simd, factors, 0, &mut out);
            all.push(out.clone());
            let half: Vec<f16> = weight.iter().map(|&w| f16::from_f32(w)).collect();
            block_of(simd, Factors { weight: Weight::F16(&half), ..factors }, 0, &mut out);
            all.push(out);
        }
        for (head_dim, window) in [(6, None), (24, Some(3)), (72, None)] {
            let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim, start: 9, window };
            let mut out = vec![0.0; 3 * 4 * head_dim];
            let cache = |seed| values(12 * 2 * head_dim, seed);
            heads_of(simd, &values(out.len(), 4), &cache(5), &cache(6), shape, 0, &mut out);
            all.push(out);
        }
        let mut normed = values(3 * 21, 7);
        rms_norm_of(simd, &mut normed, &values(21, 8), 1e-5);
        all.extend([normed, silu_mul_of(simd, &values(2 * 2 * 19, 9), 19)]);
        all
    }

    fn compare(name: &str, ours: &[Vec<f32>]) {
        // SAFETY: every machine has what it takes.
        let portable = results(unsafe { Portable::new() });
        for (a, b) in ours.iter().flatten().zip(portable.iter().flatten()) {
            assert!((a - b).abs() < 1e-4, "{name}: {a} {b}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_instruction_set_of_this_machine_agrees_with_the_portable_code() {
        use super::simd::x86::{Avx2, Avx512};
        if super::instruction_set() != "portable" {
            // SAFETY: the features were detected.
            compare("avx2", &results(unsafe { Avx2::new() }));
            if super::instruction_set() == "avx512" {
                // SAFETY: the features were detected.
                compare("avx512", &results(unsafe { Avx512::new() }));
            }
        }
    }

    /// The comparison must see a wrong value.
    #[test]
    #[should_panic(expected = "broken")]
    fn a_wrong_value_is_found() {
        // SAFETY: every machine has what it takes.
        let mut wrong = results(unsafe { Portable::new() });
        wrong[2][3] += 0.01;
        compare("broken", &wrong);
    }
}
