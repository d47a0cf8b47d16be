use crate::TokenId;

/// A set of tokens of one vocabulary, a bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSet {
    words: Box<[u32]>,
    count: usize,
}

impl TokenSet {
    /// The tokens whose bits are set: bit `i` of word `j` is token `32 * j + i`. Those from `vocab` on do not
    /// count.
    pub fn from_words(mut words: Vec<u32>, vocab: usize) -> Self {
        words.resize(vocab.div_ceil(32), 0);
        if let (Some(last), bits @ 1..) = (words.last_mut(), vocab % 32) {
            *last &= (1 << bits) - 1;
        }
        let count = words.iter().map(|word| word.count_ones() as usize).sum();
        Self { words: words.into(), count }
    }

    /// These tokens; those from `vocab` on do not count.
    ///
    /// ```
    /// use drafthorse_logits::TokenSet;
    ///
    /// let set = TokenSet::of(40, &[3, 39, 90]);
    /// assert!(set.contains(39) && !set.contains(90));
    /// let mut row = [0.5; 41];
    /// set.restrict(&mut row);
    /// assert_eq!(row.iter().filter(|x| x.is_finite()).count(), 2);
    /// ```
    pub fn of(vocab: usize, tokens: &[TokenId]) -> Self {
        let mut words = vec![0; vocab.div_ceil(32)];
        for &token in tokens.iter().filter(|&&token| (token as usize) < vocab) {
            words[token as usize / 32] |= 1 << (token % 32);
        }
        Self::from_words(words, vocab)
    }

    /// Whether it holds `token`.
    pub fn contains(&self, token: TokenId) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its token, where it is a single one.
    pub fn only(&self) -> Option<TokenId> {
        if self.count == 1 { self.iter().next() } else { None }
    }

    /// Its tokens in order.
    pub fn iter(&self) -> impl Iterator<Item = TokenId> + '_ {
        (0..).zip(&self.words).filter(|(_, word)| **word != 0).flat_map(|(index, &word)| {
            (0..32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 32 + bit)
        })
    }

    /// Excludes all other tokens from a row of logits, also those beyond the vocabulary.
    pub fn restrict(&self, row: &mut [f32]) {
        for (index, logits) in row.chunks_mut(32).enumerate() {
            match self.words.get(index).copied().unwrap_or(0) {
                u32::MAX => {}
                0 => logits.fill(f32::NEG_INFINITY),
                word => {
                    let excluded = logits.iter_mut().enumerate().filter(|(bit, _)| word >> bit & 1 == 0);
                    excluded.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
                }
            }
        }
    }

    /// Whether a row of logits leaves any of its tokens possible.
    pub fn meets(&self, row: &[f32]) -> bool {
        self.iter().any(|token| row.get(token as usize).is_some_and(|logit| *logit > f32::NEG_INFINITY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(
            tokens in prop::collection::btree_set(0u32..100, 0..40), vocab in 1usize..100, row in 1usize..100,
        ) {
            let listed: Vec<_> = tokens.iter().copied().collect();
            let set = TokenSet::of(vocab, &listed);
            let known: BTreeSet<_> = tokens.into_iter().filter(|&t| (t as usize) < vocab).collect();
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), known.clone());
            prop_assert_eq!((set.len(), set.is_empty()), (known.len(), known.is_empty()));
            prop_assert_eq!(set.only(), known.first().copied().filter(|_| known.len() == 1));
            let mut logits = vec![1.0; row];
            prop_assert_eq!(set.meets(&logits), known.iter().any(|&t| (t as usize) < row));
            set.restrict(&mut logits);
            for (token, logit) in (0..).zip(logits) {
                prop_assert_eq!(logit == 1.0, known.contains(&token));
                prop_assert_eq!(set.contains(token), known.contains(&token));
            }
        }

        #[test]
        fn words_are_bits(words in prop::collection::vec(any::<u32>(), 0..5), vocab in 1usize..150) {
            let set = TokenSet::from_words(words.clone(), vocab);
            for token in 0..200u32 {
                let bit = words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
                prop_assert_eq!(set.contains(token), bit && (token as usize) < vocab);
            }
        }
    }
}
