use drafthorse_logits::TokenId;

/// A place in an [`Edges`], or none.
pub(crate) const NONE: u32 = u32::MAX;

/// A step from a state to another by a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    from: u32,
    pub(crate) token: TokenId,
    pub(crate) target: u32,
    /// The next edge of the same state.
    pub(crate) next: u32,
}

/// All edges of an automaton: found by state and token, or listed state by state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edges {
    all: Vec<Edge>,
    /// Places in `all`, open addressing over a power of two.
    slots: Vec<u32>,
}

impl Edges {
    pub(crate) fn find(&self, from: u32, token: TokenId) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut slot = hash(from, token) & mask;
        loop {
            let at = self.slots[slot];
            let edge = self.all.get(at as usize)?;
            if edge.from == from && edge.token == token {
                return Some(at);
            }
            slot = (slot + 1) & mask;
        }
    }

    pub(crate) fn get(&self, at: u32) -> Option<&Edge> {
        self.all.get(at as usize)
    }

    /// Adds an edge that is not there yet, before the others of its state, the first of which is `next`.
    pub(crate) fn add(&mut self, from: u32, token: TokenId, target: u32, next: u32) -> u32 {
        let at = self.all.len() as u32;
        self.all.push(Edge { from, token, target, next });
        if self.all.len() * 4 > self.slots.len() * 3 {
            self.rehash((self.slots.len() * 2).max(64));
        } else {
            self.place(at);
        }
        at
    }

    pub(crate) fn set_target(&mut self, at: u32, target: u32) {
        self.all[at as usize].target = target;
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Takes back the last edge that was added: its state, and what is the first edge of it again.
    pub(crate) fn pop(&mut self) -> Option<(u32, u32)> {
        let at = self.all.len().checked_sub(1)? as u32;
        let Edge { from, token, next, .. } = self.all[at as usize];
        let mask = self.slots.len() - 1;
        let mut slot = hash(from, token) & mask;
        while self.slots[slot] != at {
            slot = (slot + 1) & mask;
        }
        // It was placed last, so nothing was placed behind it.
        self.slots[slot] = NONE;
        self.all.pop();
        Some((from, next))
    }

    /// The edges of a state, the first of which is `first`.
    pub(crate) fn of(&self, first: u32) -> impl Iterator<Item = (u32, &Edge)> {
        let mut at = first;
        std::iter::from_fn(move || {
            let edge = self.get(at)?;
            Some((std::mem::replace(&mut at, edge.next), edge))
        })
    }

    /// How many more fit without asking for memory.
    pub(crate) fn spare(&self) -> usize {
        let slots = (self.slots.len() * 3 / 4).saturating_sub(self.all.len());
        slots.min(self.all.capacity() - self.all.len())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<Edge>() + self.slots.capacity() * size_of::<u32>()
    }

    pub(crate) fn clear(&mut self) {
        self.all.clear();
        self.slots.fill(NONE);
    }

    fn rehash(&mut self, slots: usize) {
        self.slots = vec![NONE; slots];
        (0..self.all.len() as u32).for_each(|at| self.place(at));
    }

    fn place(&mut self, at: u32) {
        let Edge { from, token, .. } = self.all[at as usize];
        let mask = self.slots.len() - 1;
        let mut slot = hash(from, token) & mask;
        while self.slots[slot] != NONE {
            slot = (slot + 1) & mask;
        }
        self.slots[slot] = at;
    }
}

fn hash(from: u32, token: TokenId) -> usize {
    let key = (u64::from(from) << 32) | u64::from(token);
    let mix = (key ^ (key >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mix >> 24) as usize
}
