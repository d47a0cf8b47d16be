use super::{Context, LogitsProcessor, penalties::bounded};
use crate::{TokenId, TokenSet, buffer::Buffer};
use std::borrow::Cow;

/// Penalises going on with a repetition: a token that followed an earlier occurrence of the last `n` tokens,
/// with `n` at least `allowed_length`, loses `multiplier * base^(n - allowed_length)`.
///
/// Repetitions are looked for in prompt and text, and do not reach over a breaker.
///
/// Source: p-e-w, "DRY: A modern repetition penalty that reliably prevents looping", 2024, a sampler of
/// text-generation-webui and llama.cpp.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Dry {
    /// The penalty of a repetition of the allowed length; 0 is off.
    pub multiplier: f32,
    /// By which it grows with every further token, at least 1.
    pub base: f32,
    /// The longest repetition that goes free, at least 1.
    pub allowed_length: usize,
    /// How many of the last tokens are looked at; 0 is all of them.
    pub last_n: usize,
    /// Sequences of tokens over which no repetition reaches. A breaker of one token is never penalised.
    pub breakers: Vec<Vec<TokenId>>,
}

impl Default for Dry {
    /// Off; otherwise the values of llama.cpp, without breakers.
    fn default() -> Self {
        Self { multiplier: 0.0, base: 1.75, allowed_length: 2, last_n: 0, breakers: Vec::new() }
    }
}

impl Dry {
    /// The same, ready for many rows. As a processor of its own it sorts its breakers anew for every row.
    pub(crate) fn ready(&self) -> ReadyDry<'static> {
        let breakers = Breakers::new(&self.breakers);
        ReadyDry { dry: Cow::Owned(Self { breakers: Vec::new(), ..self.clone() }), breakers }
    }
}

/// Tokens from here on are in no vocabulary, and shall not make a set of bits large.
const MOST: TokenId = 1 << 24;

/// Breakers so that a text is looked through once for all that are one token, which on the command line are hundreds.
#[derive(Clone, Debug)]
struct Breakers {
    tokens: TokenSet,
    sequences: Vec<Vec<TokenId>>,
}

impl Breakers {
    fn new(breakers: &[Vec<TokenId>]) -> Self {
        let single = |breaker: &&Vec<TokenId>| matches!(breaker[..], [token] if token < MOST);
        let (single, sequences): (Vec<_>, Vec<_>) =
            breakers.iter().filter(|breaker| !breaker.is_empty()).partition(single);
        let tokens: Vec<_> = single.into_iter().flatten().copied().collect();
        let vocab = tokens.iter().max().map_or(0, |&highest| highest as usize + 1);
        Self { tokens: TokenSet::of(vocab, &tokens), sequences: sequences.into_iter().cloned().collect() }
    }

    /// Whether `token` is a breaker of one token.
    fn contains(&self, token: TokenId) -> bool {
        self.tokens.contains(token) || self.sequences.iter().any(|breaker| breaker[..] == [token])
    }

    /// How many tokens at the end of the text come after its last breaker.
    fn unbroken(&self, tokens: &[TokenId]) -> usize {
        let last = tokens.iter().rposition(|&token| self.tokens.contains(token));
        let after = last.map_or(tokens.len(), |last| tokens.len() - last - 1);
        self.sequences.iter().fold(after, |after, breaker| {
            // Only one that ends later would make a difference.
            let near = &tokens[tokens.len() - (after + breaker.len()).min(tokens.len())..];
            let start = near.windows(breaker.len()).rposition(|window| window == &breaker[..]);
            start.map_or(after, |start| near.len() - start - breaker.len())
        })
    }
}

/// [`Dry`] with its breakers apart.
#[derive(Clone, Debug)]
pub(crate) struct ReadyDry<'a> {
    dry: Cow<'a, Dry>,
    breakers: Breakers,
}

impl ReadyDry<'_> {
    /// Calls `found` for each token that would go on with repetitions, with the length of the longest.
    fn for_each_repetition(&self, tokens: &[TokenId], mut found: impl FnMut(TokenId, usize)) {
        let limit = self.breakers.unbroken(tokens);
        if limit < self.dry.allowed_length {
            return;
        }
        let matches = matches_of_end(tokens);
        let length = |end: u32| (matches[end as usize] as usize).min(limit);
        let next = |end: u32| tokens[end as usize];
        let mut ends = Buffer::fill(0, |ends| {
            ends.extend((1..tokens.len() as u32).filter(|end| length(*end) >= self.dry.allowed_length));
        });
        ends.as_mut_slice().sort_unstable_by_key(|end| (next(*end), length(*end)));
        for same in ends.chunk_by(|a, b| next(*a) == next(*b)) {
            let longest = same[same.len() - 1];
            found(next(longest), length(longest));
        }
    }
}

/// For each `end`, how many tokens before it are also the last ones of all, in linear time (the Z function of
/// the reversed text; Gusfield, "Algorithms on Strings, Trees, and Sequences", 1997).
fn matches_of_end(tokens: &[TokenId]) -> Buffer<u32> {
    let n = tokens.len();
    let at = |i: usize| tokens[n - 1 - i];
    let mut matches = Buffer::fill(n + 1, |z| z.resize(n + 1, 0));
    let z = matches.as_mut_slice();
    let (mut left, mut right) = (0, 0);
    for i in 1..n {
        let mut length = if i < right { (right - i).min(z[i - left] as usize) } else { 0 };
        while i + length < n && at(length) == at(i + length) {
            length += 1;
        }
        z[i] = length as u32;
        if i + length > right {
            (left, right) = (i, i + length);
        }
    }
    z.reverse();
    matches
}

impl LogitsProcessor for Dry {
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        let breakers = Breakers::new(&self.breakers);
        ReadyDry { dry: Cow::Borrowed(self), breakers }.process(context, row);
    }

    fn is_pure(&self) -> bool {
        true
    }
}

impl LogitsProcessor for ReadyDry<'_> {
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        let dry = &*self.dry;
        if dry.multiplier == 0.0 {
            return;
        }
        let tokens = context.tokens();
        let looked_at = if dry.last_n == 0 { tokens.len() } else { dry.last_n.min(tokens.len()) };
        // The largest power that an f32 holds.
        let most =
            if dry.base > 1.000_001 { f64::from(f32::MAX).ln() / f64::from(dry.base).ln() } else { f64::MAX };
        self.for_each_repetition(&tokens[tokens.len() - looked_at..], |token, length| {
            if self.breakers.contains(token) {
                return;
            }
            let power = ((length - dry.allowed_length) as f64).min(most.floor());
            let penalty = f64::from(dry.multiplier) * f64::from(dry.base).powf(power);
            if let Some(logit) = row.get_mut(token as usize) {
                *logit = bounded(*logit, (f64::from(*logit) - penalty) as f32);
            }
        });
    }

    fn is_pure(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    fn dry() -> Dry {
        Dry { multiplier: 0.5, base: 2.0, ..Default::default() }
    }

    fn penalties(dry: &Dry, tokens: &[TokenId]) -> Vec<f32> {
        let mut row = vec![0.0; 6];
        dry.process(&Context::new(tokens, 0), &mut row);
        row.iter().map(|x| -x).collect()
    }

    #[test]
    fn the_penalty_grows_with_the_repetition() {
        assert_eq!(penalties(&dry(), &[1, 2, 3, 1]), [0.0; 6], "one token goes free");
        assert_eq!(penalties(&dry(), &[1, 2, 3, 1, 2]), [0.0, 0.0, 0.0, 0.5, 0.0, 0.0]);
        assert_eq!(penalties(&dry(), &[0, 1, 2, 3, 0, 1, 2]), [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        let two = penalties(&dry(), &[0, 1, 2, 3, 1, 2, 4, 0, 1, 2]);
        assert_eq!(two, [0.0, 0.0, 0.0, 1.0, 0.5, 0.0], "each by its longest");
        assert_eq!(penalties(&Dry { last_n: 4, ..dry() }, &[1, 2, 3, 1, 2]), [0.0; 6], "out of sight");
        assert_eq!(penalties(&Dry { allowed_length: 3, ..dry() }, &[1, 2, 3, 1, 2]), [0.0; 6]);
        assert_eq!(penalties(&Dry::default(), &[1, 2, 3, 1, 2]), [0.0; 6]);
    }

    #[test]
    fn breakers_end_repetitions() {
        let with = |breakers: &[&[TokenId]]| Dry {
            breakers: breakers.iter().map(|b| b.to_vec()).collect(),
            ..dry()
        };
        let tokens = [0, 1, 2, 3, 0, 1, 2];
        assert_eq!(penalties(&with(&[&[0]]), &tokens), [0.0, 0.0, 0.0, 0.5, 0.0, 0.0], "two are left");
        assert_eq!(penalties(&with(&[&[1]]), &tokens), [0.0; 6]);
        assert_eq!(penalties(&with(&[&[3, 0]]), &tokens), [0.0, 0.0, 0.0, 0.5, 0.0, 0.0]);
        assert_eq!(penalties(&with(&[&[3]]), &tokens), [0.0; 6], "a breaker is never penalised");
        assert_eq!(penalties(&with(&[&[]]), &tokens), penalties(&dry(), &tokens), "an empty one is none");
    }

    #[test]
    fn a_long_repetition_excludes_nothing() {
        let dry = Dry { multiplier: 9.0, ..dry() };
        let row = penalties(&dry, &[1; 4000]);
        assert_eq!(row[1], f32::MAX);
        assert!(row.iter().all(|x| x.is_finite()));
    }

    /// Each breaker looked for by itself.
    fn plain_unbroken(breakers: &[Vec<TokenId>], tokens: &[TokenId]) -> usize {
        let after = |breaker: &Vec<TokenId>| {
            let start = tokens.windows(breaker.len().max(1)).rposition(|window| window == &breaker[..])?;
            Some(tokens.len() - start - breaker.len())
        };
        breakers.iter().filter_map(after).min().unwrap_or(tokens.len())
    }

    /// As many as the command line makes of the usual ones.
    #[test]
    fn thousands_of_breakers() {
        let dry = Dry { breakers: (0..5000).map(|token| vec![50_000 + token]).collect(), ..dry() };
        let tokens: Vec<TokenId> = (0..4000).map(|i| i * i % 977).collect();
        let start = Instant::now();
        let plain = plain_unbroken(&dry.breakers, &tokens);
        println!("each by itself: {:?}", start.elapsed());
        let ready = dry.ready();
        let start = Instant::now();
        assert_eq!(ready.breakers.unbroken(&tokens), plain);
        println!("all at once: {:?}", start.elapsed());
        let mut row = vec![0.0; 1000];
        let start = Instant::now();
        ready.process(&Context::new(&tokens, 0), &mut row);
        println!("a row: {:?}", start.elapsed());
        assert!(row.iter().any(|x| *x < 0.0));
    }

    #[test]
    fn breakers_of_no_vocabulary_cost_nothing() {
        let far = Breakers::new(&[vec![TokenId::MAX], vec![3]]);
        assert!(far.contains(3) && far.contains(TokenId::MAX) && !far.contains(MOST));
        assert_eq!((far.tokens.len(), far.sequences.len()), (1, 1));
    }

    proptest! {
        #[test]
        fn the_last_breaker_is_found(
            tokens in prop::collection::vec(0u32..6, 0..30),
            breakers in prop::collection::vec(prop::collection::vec(0u32..9, 0..4), 0..5),
        ) {
            let found = Breakers::new(&breakers).unbroken(&tokens);
            prop_assert_eq!(found, plain_unbroken(&breakers, &tokens));
        }

        #[test]
        fn matches_are_those_of_a_plain_search(tokens in prop::collection::vec(0u32..3, 0..40)) {
            let matches = matches_of_end(&tokens);
            for end in 1..tokens.len() {
                let plain = (1..=end).take_while(|n| tokens[end - n] == tokens[tokens.len() - n]).count();
                prop_assert_eq!(matches[end] as usize, plain);
            }
        }
    }
}
