use crate::{Probs, TokenId};
use rand::{Rng, SeedableRng, rngs::ChaCha8Rng};

/// What a draw is for. Part of its key, so no two decisions share a random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The drafter draws a token.
    Draft,
    /// A refused token is replaced.
    Replacement,
    /// A token is drawn from the target distribution itself: the bonus, every token of plain
    /// decoding, and every token of exact match. Keyed by seed and position alone, not by round:
    /// plain decoding and exact match with any drafter meet the same number at the same position.
    Target,
}

/// The source of every random decision of a generation.
///
/// Decisions, not numbers: an implementation may follow a seed ([`SeededDraws`]) or walk all outcomes
/// and weigh each ([`exact::outcomes`](crate::exact::outcomes)), and the code that asks is the same.
pub trait Draws {
    /// A new round begins; rounds count from 1.
    fn begin_round(&mut self, _round: u64) {}

    /// Whether the drafted token at `position` of the sequence stands; `probability` in `[0, 1]`.
    fn accept(&mut self, position: usize, probability: f64) -> bool;

    /// A token for `position` of the sequence, distributed as `probs`.
    fn pick(&mut self, position: usize, purpose: Purpose, probs: &Probs) -> TokenId;

    /// The number `u` by which [`pick`](Self::pick) would take [`Probs::quantile`] there, where picks are
    /// made so; asking changes nothing. With it a token can be drawn where the distribution lies. Without,
    /// which is the default, distributions are brought to `pick`.
    fn noise(&self, _position: usize, _purpose: Purpose) -> Option<f64> {
        None
    }
}

/// Draws that follow a seed: the number for a decision is a pure function of seed, round, position and
/// purpose (`ChaCha8`), so neither threads nor their timing can change a text.
#[derive(Clone, Debug)]
pub struct SeededDraws {
    seed: u64,
    round: u64,
}

impl SeededDraws {
    /// The draws of one round of a generation.
    pub fn new(seed: u64, round: u64) -> Self {
        Self { seed, round }
    }

    fn uniform(&self, position: usize, purpose: u64) -> f64 {
        // A target draw happens once a position; all others may be repeated for the same position in a
        // later round, where reusing the number would tie it to what is already known.
        let round = if purpose == TARGET { 0 } else { self.round };
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([self.seed, round, position as u64, purpose]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let bits = ChaCha8Rng::from_seed(key).next_u64() >> 11;
        bits as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

const ACCEPT: u64 = 0;
const DRAFT: u64 = 1;
const REPLACEMENT: u64 = 2;
const TARGET: u64 = 3;

fn key(purpose: Purpose) -> u64 {
    match purpose {
        Purpose::Draft => DRAFT,
        Purpose::Replacement => REPLACEMENT,
        Purpose::Target => TARGET,
    }
}

impl<D: Draws + ?Sized> Draws for &mut D {
    fn begin_round(&mut self, round: u64) {
        (**self).begin_round(round);
    }

    fn accept(&mut self, position: usize, probability: f64) -> bool {
        (**self).accept(position, probability)
    }

    fn pick(&mut self, position: usize, purpose: Purpose, probs: &Probs) -> TokenId {
        (**self).pick(position, purpose, probs)
    }

    fn noise(&self, position: usize, purpose: Purpose) -> Option<f64> {
        (**self).noise(position, purpose)
    }
}

impl Draws for SeededDraws {
    fn begin_round(&mut self, round: u64) {
        self.round = round;
    }

    fn accept(&mut self, position: usize, probability: f64) -> bool {
        probability >= 1.0 || self.uniform(position, ACCEPT) < probability
    }

    fn pick(&mut self, position: usize, purpose: Purpose, probs: &Probs) -> TokenId {
        if let Some(token) = probs.as_point() {
            return token;
        }
        probs.quantile(self.uniform(position, key(purpose)))
    }

    fn noise(&self, position: usize, purpose: Purpose) -> Option<f64> {
        Some(self.uniform(position, key(purpose)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_independent_and_target_draws_ignore_the_round() {
        let probs = Probs::normalize(vec![1.0; 1000]).unwrap();
        let pick = |round, position, purpose| SeededDraws::new(7, round).pick(position, purpose, &probs);
        assert_eq!(pick(1, 5, Purpose::Target), pick(2, 5, Purpose::Target));
        assert_ne!(pick(1, 5, Purpose::Draft), pick(2, 5, Purpose::Draft));
        assert_ne!(pick(1, 5, Purpose::Draft), pick(1, 6, Purpose::Draft));
        assert_ne!(pick(1, 5, Purpose::Draft), pick(1, 5, Purpose::Replacement));
    }

    #[test]
    fn the_noise_is_what_picks_are_made_of() {
        let probs = Probs::normalize((1..50).map(f64::from).collect()).unwrap();
        let mut draws = SeededDraws::new(9, 4);
        for position in 0..200 {
            for purpose in [Purpose::Draft, Purpose::Replacement, Purpose::Target] {
                let noise = draws.noise(position, purpose).unwrap();
                assert_eq!(probs.quantile(noise), draws.pick(position, purpose, &probs));
            }
        }
    }

    #[test]
    fn uniform_has_mean_one_half_and_accept_follows_its_probability() {
        let mut draws = SeededDraws::new(3, 0);
        let n = 20_000;
        let mean = (0..n).map(|i| draws.uniform(i, DRAFT)).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 5.0 * (1.0 / 12.0f64 / n as f64).sqrt());
        let accepted = (0..n).filter(|&i| draws.accept(i, 0.3)).count() as f64 / n as f64;
        assert!((accepted - 0.3).abs() < 5.0 * (0.21 / n as f64).sqrt());
        assert!(draws.accept(0, 1.0) && !draws.accept(0, 0.0));
    }
}
