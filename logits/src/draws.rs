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

    /// As [`accept`](Self::accept) where several drafted tokens compete for `position`: this is number `candidate`, from
    /// 0. Each has a decision of its own; draws that tell decisions apart by their keys must tell these apart.
    fn accept_candidate(&mut self, position: usize, _candidate: usize, probability: f64) -> bool {
        self.accept(position, probability)
    }

    /// A drafted token for `position`, number `candidate` of several that compete for it.
    fn pick_candidate(&mut self, position: usize, _candidate: usize, probs: &Probs) -> TokenId {
        self.pick(position, Purpose::Draft, probs)
    }

    /// A token for `position` of the sequence, distributed as `probs`, by noise that is the position's alone:
    /// similar distributions mostly give the same token. Draws without such noise pick one.
    fn race(&mut self, position: usize, probs: &Probs) -> TokenId {
        self.pick(position, Purpose::Target, probs)
    }

    /// The number `u` by which [`pick`](Self::pick) would take [`Probs::quantile`] there, where picks are
    /// made so; asking changes nothing. With it a token can be drawn where the distribution lies. Without,
    /// which is the default, distributions are brought to `pick`.
    fn noise(&self, _position: usize, _purpose: Purpose) -> Option<f64> {
        None
    }

    /// The draws of the round that many rounds later, to be taken to another thread: what is drawn there is what will be
    /// drawn here, whatever happens between. `None`, the default, where that cannot be known.
    fn ahead(&self, _rounds: u64) -> Option<SeededDraws> {
        None
    }
}

/// Draws that follow a seed: the number for a decision is a pure function of seed, round, position and
/// purpose (`ChaCha8`), so neither threads nor their timing can change a text.
///
/// Two of them are equal where every draw is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeededDraws {
    seed: u64,
    round: u64,
    raced: bool,
}

impl SeededDraws {
    /// The draws of one round of a generation.
    pub fn new(seed: u64, round: u64) -> Self {
        Self { seed, round, raced: false }
    }

    /// The same draws, but drafts follow the noise of their position ([`Draws::race`]).
    #[must_use]
    pub fn raced(self) -> Self {
        Self { raced: true, ..self }
    }

    fn uniform(&self, position: usize, purpose: u64) -> f64 {
        unit(self.bits(position, purpose))
    }

    fn bits(&self, position: usize, purpose: u64) -> u64 {
        // A target draw happens once a position; all others may be repeated for the same position in a
        // later round, where reusing the number would tie it to what is already known.
        let round = if matches!(purpose, TARGET | RACE) { 0 } else { self.round };
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([self.seed, round, position as u64, purpose]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        ChaCha8Rng::from_seed(key).next_u64()
    }
}

/// The upper 53 bits as a number in `[0, 1)`.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// The first to arrive where `token` takes `E / probs(token)`, with `E` exponentially distributed and a
/// function of `key` and the token.
///
/// A token arrives first with its probability, and the same key gives two similar distributions the same
/// winner with a probability of at least `(1 - TV) / (1 + TV)`.
///
/// Source: the exponential race, or Gumbel-max: Maddison, Tarlow, Minka, "A* Sampling", 2014; shared noise for
/// drafter and expert: Daliri, Musco, Suresh, "Coupling without Communication and Drafter-Invariant
/// Speculative Decoding", 2024. The numbers: `SplitMix64` (Steele et al., 2014).
fn race(key: u64, probs: &[f64]) -> TokenId {
    let (mut first, mut arrival, mut state) = (0, f64::INFINITY, key);
    for (token, &p) in probs.iter().enumerate() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mix = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mix = (mix ^ (mix >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let u = unit(mix ^ (mix >> 31));
        // `-ln(1 - u)` is at least `u`: nearly all are too late without a logarithm.
        if u < arrival * p {
            let time = -(-u).ln_1p() / p;
            if time < arrival {
                (first, arrival) = (token, time);
            }
        }
    }
    first as TokenId
}

const ACCEPT: u64 = 0;
const DRAFT: u64 = 1;
const REPLACEMENT: u64 = 2;
const TARGET: u64 = 3;
const RACE: u64 = 4;
const COIN: u64 = 5;

/// The key of a purpose for one of several candidates; the first has that of a chain.
fn of_candidate(purpose: u64, candidate: usize) -> u64 {
    purpose | (candidate as u64) << 8
}

/// The number in `[0, 1)` by which a processor tosses its coin for a position: the same in every round.
pub(crate) fn coin(seed: u64, position: usize) -> f64 {
    SeededDraws::new(seed, 0).uniform(position, COIN)
}

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

    fn accept_candidate(&mut self, position: usize, candidate: usize, probability: f64) -> bool {
        (**self).accept_candidate(position, candidate, probability)
    }

    fn pick_candidate(&mut self, position: usize, candidate: usize, probs: &Probs) -> TokenId {
        (**self).pick_candidate(position, candidate, probs)
    }

    fn race(&mut self, position: usize, probs: &Probs) -> TokenId {
        (**self).race(position, probs)
    }

    fn noise(&self, position: usize, purpose: Purpose) -> Option<f64> {
        (**self).noise(position, purpose)
    }

    fn ahead(&self, rounds: u64) -> Option<SeededDraws> {
        (**self).ahead(rounds)
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
        if self.raced && purpose == Purpose::Draft {
            return self.race(position, probs);
        }
        probs.quantile(self.uniform(position, key(purpose)))
    }

    fn accept_candidate(&mut self, position: usize, candidate: usize, probability: f64) -> bool {
        probability >= 1.0 || self.uniform(position, of_candidate(ACCEPT, candidate)) < probability
    }

    fn pick_candidate(&mut self, position: usize, candidate: usize, probs: &Probs) -> TokenId {
        if let Some(token) = probs.as_point() {
            return token;
        }
        probs.quantile(self.uniform(position, of_candidate(DRAFT, candidate)))
    }

    fn race(&mut self, position: usize, probs: &Probs) -> TokenId {
        match (probs.as_point(), probs.as_slice()) {
            (None, Some(probs)) => race(self.bits(position, RACE), probs),
            (point, _) => point.unwrap_or_default(),
        }
    }

    fn noise(&self, position: usize, purpose: Purpose) -> Option<f64> {
        let raced = self.raced && purpose == Purpose::Draft;
        (!raced).then(|| self.uniform(position, key(purpose)))
    }

    fn ahead(&self, rounds: u64) -> Option<SeededDraws> {
        Some(Self { round: self.round.wrapping_add(rounds), ..self.clone() })
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
    fn draws_ahead_are_those_of_the_later_round() {
        let probs = Probs::normalize((1..50).map(f64::from).collect()).unwrap();
        let mut draws = SeededDraws::new(3, 7);
        let mut ahead = draws.ahead(2).unwrap();
        assert_ne!(draws, ahead);
        draws.begin_round(9);
        assert_eq!(draws, ahead);
        for position in 0..100 {
            let [now, then] = [&mut draws, &mut ahead].map(|d| d.pick(position, Purpose::Draft, &probs));
            assert_eq!(now, then);
            let raced = ahead.clone().raced().pick(position, Purpose::Draft, &probs);
            assert_eq!(raced, draws.race(position, &probs));
        }
        assert_eq!(ahead.clone().raced().noise(3, Purpose::Draft), None, "races have no quantile");
    }

    #[test]
    fn candidates_have_numbers_of_their_own_and_the_first_that_of_a_chain() {
        let probs = Probs::normalize(vec![1.0; 1000]).unwrap();
        let mut draws = SeededDraws::new(7, 3);
        let picks: Vec<_> = (0..8).map(|candidate| draws.pick_candidate(5, candidate, &probs)).collect();
        assert_eq!(picks[0], draws.pick(5, Purpose::Draft, &probs));
        assert!((1..8).all(|i| !picks[..i].contains(&picks[i])), "{picks:?}");
        let coins = |candidate: usize, position: usize| {
            (0..64).filter(|&i| SeededDraws::new(i, 3).accept_candidate(position, candidate, 0.5)).collect()
        };
        let (chain, first): (Vec<u64>, Vec<u64>) =
            ((0..64).filter(|&i| SeededDraws::new(i, 3).accept(9, 0.5)).collect(), coins(0, 9));
        assert_eq!(chain, first);
        assert_ne!(first, coins(1, 9));
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

    /// Two racers of the golden case: each follows its own law, and they agree as often as the closed form says.
    #[test]
    fn races_follow_their_laws_and_agree() {
        let (p, q) = ([0.25, 0.45, 0.1, 0.2], [0.5, 0.3, 0.15, 0.05]);
        let [p, q] = [p, q].map(|x| Probs::normalize(x.to_vec()).unwrap());
        let n = 40_000;
        let (mut counts, mut agree, mut independent) = ([[0.0; 4]; 2], 0.0, 0.0);
        for seed in 0..n {
            let mut draws = SeededDraws::new(seed, seed % 7);
            let [x, y] = [&p, &q].map(|probs| draws.race(3, probs));
            counts[0][x as usize] += 1.0;
            counts[1][y as usize] += 1.0;
            agree += f64::from(u8::from(x == y));
            independent += f64::from(u8::from(draws.race(4, &p) == y));
        }
        let n = n as f64;
        let near = |count: f64, p: f64| (count / n - p).abs() < 5.0 * (p * (1.0 - p) / n).sqrt();
        for (counts, probs) in counts.iter().zip([&p, &q]) {
            assert!((0..4).all(|v| near(counts[v as usize], probs.get(v))), "{counts:?}");
        }
        assert!(near(agree, 0.669_230_769), "{agree}");
        assert!(!near(independent, 0.669_230_769), "another position has other noise: {independent}");
    }

    #[test]
    fn a_race_is_won_by_the_earliest() {
        let probs = Probs::normalize((0..500).map(|v| f64::from(v % 7)).collect()).unwrap();
        for position in 0..200 {
            let winner = SeededDraws::new(5, 1).race(position, &probs);
            assert_eq!(winner, SeededDraws::new(5, 9).race(position, &probs), "rounds do not matter");
            assert!(probs.get(winner) > 0.0);
            // Without the other tokens it still wins; without it another one does.
            let only = |keep: &dyn Fn(TokenId) -> bool| {
                let weights = (0..500).map(|v| if keep(v) { probs.get(v) } else { 0.0 }).collect();
                SeededDraws::new(5, 1).race(position, &Probs::normalize(weights).unwrap())
            };
            assert_eq!(only(&|v| v == winner || v % 3 == 0), winner);
            assert_ne!(only(&|v| v != winner), winner);
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
