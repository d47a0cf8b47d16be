use super::edges::{Edges, NONE};
use drafthorse_logits::TokenId;

/// The longest suffix that is told apart from longer ones.
///
/// Source: `SuffixDecoding` uses 24 to 64.
pub(crate) const DEPTH: u32 = 64;

/// The state of the empty suffix.
pub(crate) const ROOT: u32 = 0;

/// Every run of up to [`DEPTH`] tokens of some texts, with how often it stands there and what followed it.
///
/// A state is a class of runs that end at the same places, one of which is a suffix of the other. Reading a token
/// takes amortised constant time for the states, and a step for each suffix of the text that is a class of its own.
///
/// Source: the suffix automaton of Blumer et al., 1985, for several texts and cut at a depth; the counts are those of
/// Oliaro et al., "`SuffixDecoding`", 2025.
#[derive(Clone, Debug)]
pub(crate) struct Automaton {
    states: Vec<State>,
    edges: Edges,
    /// The class of the last `at` tokens of the text that is being read.
    last: u32,
    at: u32,
    /// How many different tokens it has read: no state has more edges.
    tokens: usize,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// The class of the longest suffix of its runs that ends at more places.
    link: u32,
    /// Length of its longest run.
    len: u32,
    /// At how many places its runs end.
    count: u32,
    /// At how many of them a token follows.
    followed: u32,
    /// The edge that was taken most often, the latest among equals.
    best: u32,
    /// Its first edge.
    first: u32,
}

/// A token that followed a run, with its share among all that did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Next {
    pub(crate) token: TokenId,
    pub(crate) share: f64,
    pub(crate) state: u32,
}

impl Default for Automaton {
    fn default() -> Self {
        Self { states: vec![State::new(0)], edges: Edges::default(), last: ROOT, at: 0, tokens: 0 }
    }
}

impl State {
    fn new(len: u32) -> Self {
        Self { link: ROOT, len, count: 0, followed: 0, best: NONE, first: NONE }
    }
}

impl Automaton {
    /// Begins another text.
    pub(crate) fn begin(&mut self) {
        (self.last, self.at) = (ROOT, 0);
    }

    /// Goes on after a text, or the beginning of one, that was read before: of a long one its last [`DEPTH`] tokens.
    pub(crate) fn resume(&mut self, text: &[TokenId]) {
        let run = &text[text.len().saturating_sub(DEPTH as usize)..];
        let mut place = Place::default();
        run.iter().for_each(|&token| place.advance(self, token));
        (self.last, self.at) = (place.state, place.len);
    }

    /// Forgets everything but the memory it has.
    pub(crate) fn clear(&mut self) {
        self.states.clear();
        self.states.push(State::new(0));
        self.edges.clear();
        self.tokens = 0;
        self.begin();
    }

    /// The text goes on with `token`.
    pub(crate) fn push(&mut self, token: TokenId) {
        let mut start = self.last;
        if self.at == DEPTH {
            self.at -= 1;
            start = self.containing(start, self.at);
        }
        let length = self.at + 1;
        let current = match self.edges.find(start, token) {
            Some(_) => self.split(start, token, length),
            None => self.grow(start, token, length),
        };
        self.count(start, token, current);
        (self.last, self.at) = (current, length);
    }

    /// A state for a run that was not there before.
    fn grow(&mut self, start: u32, token: TokenId, length: u32) -> u32 {
        let current = self.add_state(State::new(length));
        let mut at = start;
        while self.edges.find(at, token).is_none() {
            self.add_edge(at, token, current);
            if at == ROOT {
                return current;
            }
            at = self.states[at as usize].link;
        }
        let length = self.states[at as usize].len.min(DEPTH - 1) + 1;
        let link = self.split(at, token, length);
        self.states[current as usize].link = link;
        current
    }

    /// The state of the runs of up to `length` tokens that `from` reaches by `token`: the one it reaches if it has no
    /// longer ones, else a part of it.
    fn split(&mut self, from: u32, token: TokenId, length: u32) -> u32 {
        let whole = self.target(from, token);
        if whole == NONE || self.states[whole as usize].len == length {
            return whole;
        }
        let part =
            self.add_state(State { len: length, best: NONE, first: NONE, ..self.states[whole as usize] });
        let State { first, best, .. } = self.states[whole as usize];
        let copies: Vec<_> = self.edges.of(first).map(|(at, edge)| (at, edge.token, edge.target)).collect();
        for (at, token, target) in copies.into_iter().rev() {
            let copy = self.add_edge(part, token, target);
            if at == best {
                self.states[part as usize].best = copy;
            }
        }
        self.states[whole as usize].link = part;
        let mut at = from;
        while let Some(edge) = self.edges.find(at, token)
            && self.edges.get(edge).is_some_and(|edge| edge.target == whole)
        {
            self.edges.set_target(edge, part);
            if at == ROOT {
                break;
            }
            at = self.states[at as usize].link;
        }
        part
    }

    /// Every suffix of the text stands at one more place, and every one before it is followed at one more.
    fn count(&mut self, start: u32, token: TokenId, current: u32) {
        let mut at = current;
        loop {
            let state = &mut self.states[at as usize];
            state.count += 1;
            if at == ROOT {
                break;
            }
            at = state.link;
        }
        at = start;
        loop {
            let edge = self.edges.find(at, token).unwrap_or(NONE);
            let best = self.states[at as usize].best;
            let counts = [edge, best].map(|edge| self.count_of(edge));
            let state = &mut self.states[at as usize];
            state.followed += 1;
            if counts[0] >= counts[1] {
                state.best = edge;
            }
            if at == ROOT {
                return;
            }
            at = state.link;
        }
    }

    /// How often the run of an edge stands there; never for none.
    fn count_of(&self, edge: u32) -> u32 {
        self.edges.get(edge).map_or(0, |edge| self.states[edge.target as usize].count)
    }

    fn target(&self, from: u32, token: TokenId) -> u32 {
        self.edges.find(from, token).and_then(|at| self.edges.get(at)).map_or(NONE, |edge| edge.target)
    }

    /// The class of the suffix of `length` tokens of a run of `state`.
    fn containing(&self, mut state: u32, length: u32) -> u32 {
        while state != ROOT && self.states[self.states[state as usize].link as usize].len >= length {
            state = self.states[state as usize].link;
        }
        state
    }

    fn add_state(&mut self, state: State) -> u32 {
        self.states.push(state);
        self.states.len() as u32 - 1
    }

    fn add_edge(&mut self, from: u32, token: TokenId, target: u32) -> u32 {
        let state = &mut self.states[from as usize];
        state.first = self.edges.add(from, token, target, state.first);
        self.tokens += usize::from(from == ROOT);
        state.first
    }

    /// Where the text that is being read ends.
    pub(crate) fn end(&self) -> Place {
        Place { state: self.last, len: self.at }
    }

    /// How often the longest run of a place stands in the texts.
    #[cfg(test)]
    pub(crate) fn occurrences(&self, place: Place) -> u32 {
        self.states[place.state as usize].count
    }

    /// What followed the runs of a state most often.
    pub(crate) fn best(&self, state: u32) -> Option<Next> {
        let found = &self.states[state as usize];
        let edge = self.edges.get(found.best)?;
        let share = f64::from(self.states[edge.target as usize].count) / f64::from(found.followed);
        Some(Next { token: edge.token, share, state: self.inner(edge.target) })
    }

    /// All that followed the runs of a state.
    pub(crate) fn all(&self, state: u32) -> impl Iterator<Item = Next> {
        let found = &self.states[state as usize];
        self.edges.of(found.first).map(|(_, edge)| {
            let share = f64::from(self.states[edge.target as usize].count) / f64::from(found.followed);
            Next { token: edge.token, share, state: self.inner(edge.target) }
        })
    }

    /// The state from which a run goes on: of one as long as they get, all but its first token.
    fn inner(&self, state: u32) -> u32 {
        if self.states[state as usize].len == DEPTH { self.containing(state, DEPTH - 1) } else { state }
    }

    /// The next shorter suffix that stands at more places, with its length.
    pub(crate) fn shorter(&self, state: u32) -> (u32, u32) {
        let link = self.states[state as usize].link;
        (link, self.states[link as usize].len)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.states.capacity() * size_of::<State>() + self.edges.bytes()
    }

    /// Whether the next token surely takes no more memory.
    pub(crate) fn has_room(&self) -> bool {
        let edges = self.tokens + DEPTH as usize;
        self.states.len() + 2 <= self.states.capacity() && self.edges.spare() > edges
    }
}

/// The longest suffix of some text that stands in an automaton.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) state: u32,
    pub(crate) len: u32,
}

impl Place {
    /// The text goes on with `token`.
    pub(crate) fn advance(&mut self, automaton: &Automaton, token: TokenId) {
        *self = self.inner(automaton);
        loop {
            let target = automaton.target(self.state, token);
            if target != NONE {
                *self = Self { state: target, len: self.len + 1 };
                return;
            }
            if self.state == ROOT {
                *self = Self::default();
                return;
            }
            (self.state, self.len) = automaton.shorter(self.state);
        }
    }

    /// The place from which the text goes on: of a suffix as long as they get, all but its first token.
    pub(crate) fn inner(self, automaton: &Automaton) -> Self {
        let len = self.len.min(DEPTH - 1);
        Self { state: automaton.containing(self.state, len), len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    type Counts = HashMap<Vec<TokenId>, (u32, HashMap<TokenId, u32>)>;

    /// How often each run stands in the texts, and what follows it, by hand.
    fn by_hand(texts: &[Vec<TokenId>]) -> Counts {
        let mut counts = Counts::new();
        for text in texts {
            for end in 1..=text.len() {
                for start in end.saturating_sub(DEPTH as usize)..end {
                    let entry = counts.entry(text[start..end].to_vec()).or_default();
                    entry.0 += 1;
                    if let Some(&next) = text.get(end) {
                        *entry.1.entry(next).or_default() += 1;
                    }
                }
            }
        }
        counts
    }

    fn place_of(automaton: &Automaton, run: &[TokenId]) -> Place {
        let mut place = Place::default();
        run.iter().for_each(|&token| place.advance(automaton, token));
        place
    }

    fn check(automaton: &Automaton, texts: &[Vec<TokenId>]) {
        for (run, (count, followers)) in by_hand(texts) {
            let place = place_of(automaton, &run);
            assert_eq!((place.len as usize, automaton.occurrences(place)), (run.len(), count), "{run:?}");
            if run.len() == DEPTH as usize {
                continue;
            }
            let total = f64::from(followers.values().sum::<u32>());
            let shares: HashMap<_, _> =
                automaton.all(place.state).map(|next| (next.token, next.share)).collect();
            let wanted = followers.iter().map(|(&token, &n)| (token, f64::from(n) / total)).collect();
            assert_eq!(shares, wanted, "after {run:?}");
            let best = automaton.best(place.state).map(|next| next.share);
            assert_eq!(best, followers.values().max().map(|&n| f64::from(n) / total), "after {run:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn runs_are_counted_as_by_hand(
            texts in prop::collection::vec(prop::collection::vec(0u32..3, 0..40), 1..4)
        ) {
            let mut automaton = Automaton::default();
            for text in &texts {
                automaton.begin();
                text.iter().for_each(|&token| automaton.push(token));
            }
            check(&automaton, &texts);
        }

        /// Where runs are cut: a text that repeats itself is longer than the depth.
        #[test]
        fn long_runs_are_counted_up_to_the_depth(
            piece in prop::collection::vec(0u32..3, 1..50), times in 1usize..6, tail in prop::collection::vec(0u32..3, 0..9)
        ) {
            let text = [piece.repeat(times), tail, piece].concat();
            let mut automaton = Automaton::default();
            text.iter().for_each(|&token| automaton.push(token));
            check(&automaton, &[text]);
        }

        /// A text that is taken back and goes on otherwise: the runs that end before stay, the other end is counted too.
        #[test]
        fn a_text_goes_on_from_any_place(
            text in prop::collection::vec(0u32..3, 1..100), keep in 0usize..100, other in prop::collection::vec(0u32..3, 0..90)
        ) {
            let keep = keep.min(text.len());
            let mut automaton = Automaton::default();
            text.iter().for_each(|&token| automaton.push(token));
            automaton.resume(&text[..keep]);
            other.iter().for_each(|&token| automaton.push(token));
            let whole = [&text[..keep], &other].concat();
            for end in 1..=whole.len() {
                for start in end.saturating_sub(DEPTH as usize)..end {
                    prop_assert_eq!(place_of(&automaton, &whole[start..end]).len as usize, end - start);
                }
            }
            prop_assert_eq!(automaton.end(), place_of(&automaton, &whole));
            let read = text.len() + other.len();
            prop_assert_eq!(automaton.occurrences(Place::default()) as usize, read);
        }

        #[test]
        fn memory_is_linear(text in prop::collection::vec(0u32..4, 1000..3000)) {
            let mut automaton = Automaton::default();
            text.iter().for_each(|&token| automaton.push(token));
            prop_assert!(automaton.states.len() <= 2 * text.len() && automaton.edges.spare() < 8 * text.len());
        }
    }

    #[test]
    fn what_is_cleared_is_gone() {
        let mut automaton = Automaton::default();
        [1, 2, 1, 2].iter().for_each(|&token| automaton.push(token));
        automaton.clear();
        assert_eq!(place_of(&automaton, &[1]).len, 0);
        [3, 3].iter().for_each(|&token| automaton.push(token));
        check(&automaton, &[vec![3, 3]]);
    }
}
