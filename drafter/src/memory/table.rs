use drafthorse_logits::TokenId;

/// How many followers of a context are told apart.
pub(crate) const FOLLOWERS: usize = 4;
/// How many contexts share a bucket.
const WAYS: usize = 4;

/// What followed a context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Of the context; 0 for none.
    pub(crate) key: u64,
    pub(crate) tokens: [TokenId; FOLLOWERS],
    pub(crate) counts: [u16; FOLLOWERS],
    /// How often anything followed.
    pub(crate) total: u16,
    /// How often it was noted, halved whenever a context of the bucket is forgotten.
    pub(crate) weight: u16,
}

/// The most frequent follower of a context.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Follower {
    pub(crate) token: TokenId,
    pub(crate) count: u16,
    pub(crate) share: f64,
}

/// Counts of what followed contexts, in a fixed number of places.
///
/// A context has its place in one of a few buckets; where that is full, the one that was noted least of late is
/// forgotten. Of more followers than there are places for, the frequent ones stay.
///
/// Source: the frequent followers are those of Misra and Gries, 1982.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    entries: Vec<Entry>,
}

impl Entry {
    fn note(&mut self, token: TokenId) {
        if self.total == u16::MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total /= 2;
        }
        self.total += 1;
        self.weight = self.weight.saturating_add(1);
        let known = |at: &usize| self.counts[*at] > 0 && self.tokens[*at] == token;
        if let Some(at) = (0..FOLLOWERS).find(known) {
            self.counts[at] += 1;
            return;
        }
        let rarest = (0..FOLLOWERS).min_by_key(|&at| self.counts[at]).unwrap_or_default();
        self.counts[rarest] = self.counts[rarest].saturating_sub(1);
        if self.counts[rarest] == 0 {
            (self.tokens[rarest], self.counts[rarest]) = (token, 1);
        }
    }

    fn best(&self) -> Option<Follower> {
        let at = (0..FOLLOWERS).rev().max_by_key(|&at| self.counts[at])?;
        let (token, count) = (self.tokens[at], self.counts[at]);
        let share = f64::from(count) / f64::from(self.total.max(1));
        (count > 0).then_some(Follower { token, count, share })
    }
}

impl Table {
    /// Bytes of the smallest table.
    pub(crate) const MIN_BYTES: usize = WAYS * size_of::<Entry>();

    /// A table of at most `bytes` bytes, and of one bucket at least.
    pub(crate) fn new(bytes: usize) -> Self {
        let buckets = (bytes / Self::MIN_BYTES).max(1);
        Self { entries: vec![Entry::default(); buckets * WAYS] }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    pub(crate) fn note(&mut self, key: u64, token: TokenId) {
        self.place(key).note(token);
    }

    /// Puts an entry where its context belongs.
    pub(crate) fn insert(&mut self, entry: Entry) {
        *self.place(entry.key) = entry;
    }

    pub(crate) fn best(&self, key: u64) -> Option<Follower> {
        self.entries[self.bucket(key)].iter().find(|entry| entry.key == key)?.best()
    }

    /// Those that are used.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.key != 0)
    }

    fn bucket(&self, key: u64) -> std::ops::Range<usize> {
        let buckets = (self.entries.len() / WAYS) as u128;
        let at = ((u128::from(key) * buckets) >> 64) as usize * WAYS;
        at..at + WAYS
    }

    /// The place of a context: its own, else a free one, else that of the one noted least.
    fn place(&mut self, key: u64) -> &mut Entry {
        let range = self.bucket(key);
        let bucket = &mut self.entries[range];
        let known = bucket.iter().position(|entry| entry.key == key);
        let at = known.or_else(|| bucket.iter().position(|entry| entry.key == 0)).unwrap_or_else(|| {
            for entry in bucket.iter_mut() {
                entry.weight /= 2;
            }
            // Among equals, another one each time.
            let ways = (0..WAYS).map(|at| (at + key as usize) % WAYS);
            ways.min_by_key(|&at| bucket[at].weight).unwrap_or_default()
        });
        if known.is_none() {
            bucket[at] = Entry { key, ..Entry::default() };
        }
        &mut bucket[at]
    }
}

/// The key of a context; never 0.
pub(crate) fn key(context: &[TokenId]) -> u64 {
    let mix = |key: u64, token: &TokenId| {
        let key = (key ^ (u64::from(*token) + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        key ^ (key >> 32)
    };
    let key = context.iter().fold(context.len() as u64, mix).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_are_counted() {
        let mut table = Table::new(1 << 16);
        for token in [5, 5, 6, 5] {
            table.note(key(&[1, 2]), token);
        }
        assert_eq!(table.best(key(&[1, 2])), Some(Follower { token: 5, count: 3, share: 0.75 }));
        assert_eq!(table.best(key(&[2, 1])), None);
        // Many rare followers do not drive out a frequent one.
        (100..140).for_each(|token| table.note(key(&[1, 2]), token));
        assert_eq!(table.best(key(&[1, 2])).map(|best| best.token), Some(5));
    }

    #[test]
    fn a_full_bucket_forgets_what_was_noted_least() {
        let mut table = Table::new(0);
        assert_eq!(table.bytes(), Table::MIN_BYTES);
        (0..4).for_each(|context| (0..=context).for_each(|_| table.note(key(&[context]), 7)));
        table.note(key(&[9]), 7);
        assert_eq!(table.best(key(&[0])), None);
        assert!((1..4).chain([9]).all(|context| table.best(key(&[context])).is_some()));
        // What is noted no more goes in the end.
        (10..40).for_each(|context| table.note(key(&[context]), 7));
        assert_eq!(table.best(key(&[3])), None);
    }

    #[test]
    fn counts_never_overflow() {
        let mut table = Table::new(0);
        (0..200_000).for_each(|i| table.note(1, u32::from(i % 3 == 0)));
        let best = table.best(1).expect("it was noted");
        assert!(best.token == 0 && (best.share - 2.0 / 3.0).abs() < 0.01, "{best:?}");
    }
}
