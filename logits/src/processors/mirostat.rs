use super::{Memory, process_alone};
use crate::{
    buffer::Buffer,
    candidates::{Keep, Place, Truncation, View},
    scan,
    select::{kth_largest, least},
    simd,
};
use std::f64::consts::LN_2;

/// Which of the two algorithms decides how many tokens stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MirostatVersion {
    /// As many most probable tokens as a Zipf law through the first hundred says.
    V1,
    /// Those less surprising than allowed.
    #[default]
    V2,
}

/// Keeps the surprise of the text near a target: what is allowed next falls with every token that was more
/// surprising, and rises with every one that was less.
///
/// What is allowed is in the context's [`Memory`]; without one nothing is excluded. Surprise is that under the
/// law that was sampled, in bits, as in llama.cpp. A token to which that law gives no probability, possible
/// with rules that follow another law, counts as surprising as was allowed.
///
/// Source: Basu et al., "Mirostat: A Neural Text Decoding Algorithm that Directly Controls Perplexity", 2021,
/// Algorithm 1; version 2 and the renormalised surprise as in llama.cpp.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Mirostat {
    /// The algorithm.
    pub version: MirostatVersion,
    /// The target, in bits.
    pub tau: f64,
    /// The share of each difference by which what is allowed changes.
    pub eta: f64,
}

impl Default for Mirostat {
    /// Version 2, 5 bits, 0.1: the values of llama.cpp.
    fn default() -> Self {
        Self { version: MirostatVersion::V2, tau: 5.0, eta: 0.1 }
    }
}

impl Mirostat {
    /// The memory before the first token: twice the target is allowed.
    pub fn start(&self) -> Memory {
        Memory::allowing(2.0 * self.tau)
    }

    /// The memory after a token that had this probability.
    #[must_use]
    pub fn after(&self, memory: Memory, probability: f64) -> Memory {
        let Some(allowed) = memory.allowed() else { return memory };
        let surprise = if probability > 0.0 { -probability.log2() } else { allowed };
        Memory::allowing(allowed - self.eta * (surprise - self.tau))
    }
}

impl Truncation for Mirostat {
    fn keep(&self, place: &Place, view: &View<'_>) -> Option<Keep> {
        let allowed = place.memory.allowed()?;
        match self.version {
            MirostatVersion::V1 => by_zipf(allowed, view),
            MirostatVersion::V2 => {
                let normalizer = view.normalizer();
                let low = -allowed * LN_2;
                Keep::at_least(least(normalizer.max(), |logit| normalizer.log_prob(logit) >= low))
            }
        }
    }
}

/// The most probable tokens, as many as surprise less than allowed under a Zipf law.
fn by_zipf(allowed: f64, view: &View<'_>) -> Option<Keep> {
    const FIRST: usize = 100;
    let edge = kth_largest(view.logits, FIRST);
    let mut first = Buffer::fill(FIRST, |first| {
        scan::each_chunk_within(view.logits, edge.max(f32::MIN), f32::INFINITY, |_, chunk| {
            first.extend(chunk.iter().copied().filter(|logit| *logit >= edge && *logit > f32::NEG_INFINITY));
        });
    });
    first.as_mut_slice().sort_unstable_by(|a, b| b.total_cmp(a));
    let max = first[0];
    let exponent = |logit: f32| simd::exponent(logit, max, view.temperature);
    let (mut tb, mut tt) = (0.0, 0.0);
    for (i, pair) in first[..first.len().min(FIRST)].windows(2).enumerate() {
        let (t, b) = (((i + 2) as f64 / (i + 1) as f64).ln(), exponent(pair[0]) - exponent(pair[1]));
        if b.is_finite() {
            tb += t * b;
            tt += t * t;
        }
    }
    let slope = if tt > 0.0 { tb / tt } else { return None };
    let tokens = view.logits.len() as f64;
    // The limit at a slope of 1 is the logarithm of the number of tokens.
    let (over, flat) = (slope - 1.0, (slope - 1.0).abs() < 1e-9);
    let shape = if flat { 1.0 / tokens.ln() } else { over / (1.0 - tokens.powf(-over)) };
    let count = (shape * allowed.exp2()).powf(1.0 / slope);
    // A flat row allows all or one, and its equals share their fate anyway; a cast never overflows.
    let count = if count.is_nan() { 1 } else { (count as usize).max(1) };
    if count >= view.logits.len() {
        return None;
    }
    Keep::at_least(kth_largest(view.logits, count))
}

process_alone!(Mirostat);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, LogitsProcessor, Probs};
    use proptest::prelude::*;

    fn kept(version: MirostatVersion, allowed: f64, row: &[f32]) -> Vec<usize> {
        let mut row = row.to_vec();
        let context = Context::new(&[], 0).remembering(Memory::allowing(allowed));
        Mirostat { version, ..Default::default() }.process(&context, &mut row);
        (0..row.len()).filter(|&i| row[i] > f32::NEG_INFINITY).collect()
    }

    #[test]
    fn version_2_cuts_at_the_allowed_surprise() {
        // Surprises 1, 2, 3 and 3 bits.
        let row = [4f32, 2.0, 1.0, 1.0].map(f32::ln);
        let kept = |allowed| kept(MirostatVersion::V2, allowed, &row);
        assert_eq!(kept(3.1), [0, 1, 2, 3]);
        assert_eq!(kept(2.5), [0, 1]);
        assert_eq!(kept(1.5), [0]);
        assert_eq!(kept(-7.0), [0], "one is always left");
        let mut alone = row;
        Mirostat::default().process(&Context::new(&[], 0), &mut alone);
        assert_eq!(alone, row, "without a memory nothing is excluded");
    }

    proptest! {
        /// The formula of version 1, written down from the paper once more.
        #[test]
        fn version_1_follows_its_formula(row in prop::collection::vec(-5.0..5.0f32, 2..400), allowed in 0.1..9.0f64) {
            let mut p = Probs::softmax(&row).to_vec();
            p.sort_by(|a, b| b.total_cmp(a));
            let (mut tb, mut tt) = (0.0, 0.0);
            for i in 0..99.min(p.len() - 1) {
                let t = ((i as f64 + 2.0) / (i as f64 + 1.0)).ln();
                tb += t * (p[i] / p[i + 1]).ln();
                tt += t * t;
            }
            let s = tb / tt;
            let n = p.len() as f64;
            let k = ((s - 1.0) * 2f64.powf(allowed) / (1.0 - n.powf(1.0 - s))).powf(1.0 / s);
            prop_assume!((k - k.round()).abs() > 1e-6 && (s - 1.0).abs() > 1e-6);
            let wanted = p[(k as usize).clamp(1, p.len()) - 1];
            let probs = Probs::softmax(&row);
            let expected: Vec<_> = (0..row.len()).filter(|&i| probs.get(i as u32) >= wanted * (1.0 - 1e-12)).collect();
            prop_assert_eq!(kept(MirostatVersion::V1, allowed, &row), expected);
        }
    }

    #[test]
    fn what_is_allowed_follows_the_surprises() {
        let mirostat = Mirostat { tau: 3.0, eta: 0.5, ..Default::default() };
        let start = mirostat.start();
        assert_eq!(start.allowed(), Some(6.0));
        assert_eq!(mirostat.after(start, 0.5).allowed(), Some(7.0));
        assert_eq!(mirostat.after(start, 2f64.powi(-7)).allowed(), Some(4.0));
        assert_eq!(mirostat.after(start, 0.0).allowed(), Some(4.5), "as if 6 bits, what was allowed");
        assert_eq!(mirostat.after(Memory::off(), 0.5), Memory::off());
    }
}
