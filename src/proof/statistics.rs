//! Tests of counts against a law.

use serde::Serialize;
use statrs::{
    distribution::{Binomial, ChiSquared, ContinuousCDF, DiscreteCDF},
    function::gamma::gamma_lr,
};

/// Bins with an expected count below this are pooled.
const LEAST_EXPECTED: f64 = 5.0;

/// What a chi-square test found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct ChiSquare {
    /// Sum of (observed - expected)^2 / expected over the bins; infinite where something impossible was seen.
    pub statistic: f64,
    /// Bins less one.
    pub degrees: usize,
    /// The probability of a statistic as large as this if the law is right.
    pub p: f64,
    /// The token that is farthest off: the most frequent impossible one, or else the largest summand.
    pub farthest: usize,
}

/// Compares counts with the law they shall follow; tokens expected fewer than five times are pooled.
///
/// `None` where there is nothing to compare: no counts, or a law that leaves fewer than two bins.
///
/// Source: Pearson, 1900.
///
/// # Panics
///
/// If there are not as many counts as probabilities.
pub fn chi_square(counts: &[u64], law: &[f64]) -> Option<ChiSquare> {
    assert_eq!(counts.len(), law.len(), "a count for each probability");
    let total = counts.iter().sum::<u64>() as f64;
    let bins = bins(counts, law, total);
    let degrees = bins.len().checked_sub(1).filter(|degrees| *degrees > 0)?;
    let impossible = (0..counts.len()).filter(|&token| counts[token] > 0 && law[token] <= 0.0);
    if let Some(farthest) = impossible.max_by_key(|&token| counts[token]) {
        return Some(ChiSquare { statistic: f64::INFINITY, degrees, p: 0.0, farthest });
    }
    let summand = |token: usize| {
        let expected = law[token] * total;
        (counts[token] as f64 - expected).powi(2) / expected.max(LEAST_EXPECTED)
    };
    let farthest = (0..counts.len()).max_by(|&a, &b| summand(a).total_cmp(&summand(b)))?;
    let statistic = bins.iter().map(|(seen, expected)| (seen - expected).powi(2) / expected).sum();
    let p = ChiSquared::new(degrees as f64).expect("at least one degree of freedom").sf(statistic);
    Some(ChiSquare { statistic, degrees, p, farthest })
}

/// Observed and expected count of each bin.
fn bins(counts: &[u64], law: &[f64], total: f64) -> Vec<(f64, f64)> {
    let pairs = counts.iter().zip(law).map(|(&count, &p)| (count as f64, p * total));
    let (mut bins, rare): (Vec<_>, Vec<_>) = pairs.partition(|(_, expected)| *expected >= LEAST_EXPECTED);
    let pooled = rare.into_iter().fold((0.0, 0.0), |sum, bin| (sum.0 + bin.0, sum.1 + bin.1));
    if pooled.1 >= LEAST_EXPECTED {
        bins.push(pooled);
    } else if let Some(least) = bins.iter_mut().min_by(|a, b| a.1.total_cmp(&b.1)) {
        *least = (least.0 + pooled.0, least.1 + pooled.1);
    }
    bins
}

/// The exact binomial test: how probable a number of successes as far as this from `chance` is, on both sides.
/// `None` without trials, and where the chance is within rounding of 0 or 1 and nothing contradicts it.
///
/// # Panics
///
/// If there are more successes than trials.
pub fn binomial(successes: u64, trials: u64, chance: f64) -> Option<f64> {
    assert!(successes <= trials, "{successes} successes of {trials}");
    let chance = chance.clamp(0.0, 1.0);
    let certain = (chance < 1e-12 && successes == 0) || (chance > 1.0 - 1e-12 && successes == trials);
    if trials == 0 || certain {
        return None;
    }
    let law = Binomial::new(chance, trials).ok()?;
    let at_most = law.cdf(successes);
    let at_least = if successes == 0 { 1.0 } else { law.sf(successes - 1) };
    Some((2.0 * at_most.min(at_least)).min(1.0))
}

/// The probability of `count` events or more where `expected` are expected (Poisson).
pub fn at_least(count: u64, expected: f64) -> f64 {
    if count == 0 { 1.0 } else { gamma_lr(count as f64, expected.max(f64::MIN_POSITIVE)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_logits::{Draws, Probs, Purpose, SeededDraws};

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6 * b.abs().max(1e-3), "{a} is not {b}");
    }

    #[test]
    fn values_are_those_of_the_tables() {
        // 50 and 30 of 80 where halves are expected: 100 / 40 + 100 / 40.
        let test = chi_square(&[50, 30], &[0.5, 0.5]).unwrap();
        assert_eq!((test.statistic, test.degrees), (5.0, 1));
        close(test.p, 0.025_347_319);
        // chi-square of 3 degrees at 7.814728 is .05.
        close(ChiSquared::new(3.0).unwrap().sf(7.814_727_903), 0.05);
        // 8 of 10 fair coins: 2 (45 + 10 + 1) / 1024.
        close(binomial(8, 10, 0.5).unwrap(), 112.0 / 1024.0);
        close(binomial(2, 10, 0.5).unwrap(), 112.0 / 1024.0);
        close(binomial(5, 10, 0.5).unwrap(), 1.0);
        // 1 - exp(-.5), and 1 - exp(-2) (1 + 2).
        close(at_least(1, 0.5), 0.393_469_340);
        close(at_least(2, 2.0), 0.593_994_150);
        assert_eq!((at_least(0, 0.0), at_least(3, 0.0)), (1.0, 0.0));
    }

    #[test]
    fn rare_tokens_are_pooled_and_impossible_ones_found() {
        // Expected 80, 12, 4, 3, 1: the last three are one bin.
        assert_eq!(chi_square(&[80, 12, 4, 3, 1], &[0.8, 0.12, 0.04, 0.03, 0.01]).unwrap().degrees, 2);
        // Expected 90, 8, 2: the last goes with the one before it.
        assert_eq!(chi_square(&[90, 8, 2], &[0.9, 0.08, 0.02]).unwrap().degrees, 1);
        let impossible = chi_square(&[50, 49, 1], &[0.5, 0.5, 0.0]).unwrap();
        assert_eq!((impossible.p, impossible.farthest), (0.0, 2));
        assert_eq!(chi_square(&[30, 40, 30], &[0.3, 0.3, 0.4]).unwrap().farthest, 1);
        assert_eq!(chi_square(&[100, 0], &[1.0, 0.0]), None);
        assert_eq!(chi_square(&[0, 0], &[0.5, 0.5]), None);
    }

    #[test]
    fn chances_of_zero_and_one() {
        assert_eq!(binomial(5, 5, 1.0), None);
        assert_eq!(binomial(0, 0, 0.5), None);
        assert_eq!(binomial(4, 5, 1.0), Some(0.0));
        assert_eq!(binomial(1, 5, 0.0), Some(0.0));
    }

    /// Under the law p-values are uniform; under another one they vanish.
    #[test]
    fn p_values_are_as_often_small_as_they_say() {
        let law = Probs::normalize((1..40).map(|i| 1.0 / f64::from(i * i)).collect()).unwrap();
        let wrong = Probs::normalize((1..40).map(|i| 1.0 / f64::from(i * i + 1)).collect()).unwrap();
        let sample = |probs: &Probs, seed: u64| {
            let (mut draws, mut counts) = (SeededDraws::new(seed, 0), vec![0; probs.vocab_size()]);
            (0..2000).for_each(|i| counts[draws.pick(i, Purpose::Draft, probs) as usize] += 1);
            counts
        };
        let p = |probs: &Probs, seed| chi_square(&sample(probs, seed), &law.to_vec()).unwrap().p;
        let small = (0..1000).filter(|&seed| p(&law, seed) < 0.1).count();
        assert!((60..140).contains(&small), "{small} of 1000 below .1");
        assert!((0..20).all(|seed| p(&wrong, seed) < 1e-6));
    }
}
