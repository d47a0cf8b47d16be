use super::{
    edges::{Edges, NONE},
    undo::{Change, Journal, Mark},
};
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
    /// What it takes to forget tokens, where that is wanted.
    journal: Option<Journal>,
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
        let (states, edges) = (vec![State::new(0)], Edges::default());
        Self { states, edges, last: ROOT, at: 0, tokens: 0, journal: None }
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

    /// The same for a text whose last `depth` tokens can be forgotten again.
    pub(crate) fn with_undo(depth: usize) -> Self {
        Self { journal: Some(Journal::new(depth)), ..Self::default() }
    }

    /// Forgets the last tokens of the text, as if they had not been read; `false` where it remembers too little for that.
    pub(crate) fn forget(&mut self, tokens: usize) -> bool {
        (0..tokens).all(|_| self.forget_last())
    }

    fn forget_last(&mut self) -> bool {
        let Some((mark, changes)) = self.journal.as_mut().and_then(Journal::take) else { return false };
        for change in changes {
            match change {
                Change::Counted { state } => self.states[state as usize].count -= 1,
                Change::Followed { state, best } => {
                    let state = &mut self.states[state as usize];
                    state.followed -= 1;
                    state.best = best;
                }
                Change::Linked { state, link } => self.states[state as usize].link = link,
                Change::Moved { edge, target } => self.edges.set_target(edge, target),
            }
        }
        while self.edges.len() > mark.edges
            && let Some((state, first)) = self.edges.pop()
        {
            self.states[state as usize].first = first;
        }
        self.states.truncate(mark.states);
        (self.last, self.at, self.tokens) = (mark.last, mark.at, mark.tokens);
        true
    }

    fn note(&mut self, change: Change) {
        if let Some(journal) = &mut self.journal {
            journal.note(change);
        }
    }

    /// Forgets everything but the memory it has.
    pub(crate) fn clear(&mut self) {
        self.states.clear();
        self.states.push(State::new(0));
        self.edges.clear();
        self.tokens = 0;
        self.journal.iter_mut().for_each(Journal::clear);
        self.begin();
    }

    /// The text goes on with these tokens.
    pub(crate) fn extend(&mut self, tokens: &[TokenId]) {
        for &token in tokens {
            self.push(token);
        }
    }

    /// The text goes on with `token`.
    pub(crate) fn push(&mut self, token: TokenId) {
        let Self { last, at, tokens, .. } = *self;
        let (states, edges) = (self.states.len(), self.edges.len());
        self.journal
            .iter_mut()
            .for_each(|journal| journal.begin(Mark { states, edges, last, at, tokens, changes: 0 }));
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
        let link = std::mem::replace(&mut self.states[whole as usize].link, part);
        self.note(Change::Linked { state: whole, link });
        let mut at = from;
        while let Some(edge) = self.edges.find(at, token)
            && self.edges.get(edge).is_some_and(|edge| edge.target == whole)
        {
            self.edges.set_target(edge, part);
            self.note(Change::Moved { edge, target: whole });
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
            self.states[at as usize].count += 1;
            self.note(Change::Counted { state: at });
            if at == ROOT {
                break;
            }
            at = self.states[at as usize].link;
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
            self.note(Change::Followed { state: at, best });
            if at == ROOT {
                return;
            }
            at = self.states[at as usize].link;
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
        let journal = self.journal.as_ref().map_or(0, Journal::bytes);
        self.states.capacity() * size_of::<State>() + self.edges.bytes() + journal
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
    fn advance(&mut self, automaton: &Automaton, token: TokenId) {
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

    /// The place after some more tokens of the text.
    pub(crate) fn read(mut self, automaton: &Automaton, tokens: &[TokenId]) -> Self {
        for &token in tokens {
            self.advance(automaton, token);
        }
        self
    }

    /// The place from which the text goes on: of a suffix as long as they get, all but its first token.
    pub(crate) fn inner(self, automaton: &Automaton) -> Self {
        let len = self.len.min(DEPTH - 1);
        Self { state: automaton.containing(self.state, len), len }
    }
}

#[cfg(test)]
mod tests;
