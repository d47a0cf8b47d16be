use std::collections::VecDeque;

/// A change to what was there before a token was read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// The runs of a state end at one more place.
    Counted { state: u32 },
    /// A token follows the runs of a state at one more place; the best edge was another.
    Followed { state: u32, best: u32 },
    /// A state got another link.
    Linked { state: u32, link: u32 },
    /// An edge got another target.
    Moved { edge: u32, target: u32 },
}

/// How things stood before a token was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) states: usize,
    pub(crate) edges: usize,
    pub(crate) last: u32,
    pub(crate) at: u32,
    pub(crate) tokens: usize,
    /// Changes since.
    pub(crate) changes: usize,
}

/// What it takes to forget the last tokens again.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    depth: usize,
    marks: VecDeque<Mark>,
    changes: VecDeque<Change>,
}

impl Journal {
    /// For the last `depth` tokens.
    pub(crate) fn new(depth: usize) -> Self {
        Self { depth, marks: VecDeque::new(), changes: VecDeque::new() }
    }

    /// Another token is read.
    pub(crate) fn begin(&mut self, mark: Mark) {
        if self.marks.len() == self.depth
            && let Some(oldest) = self.marks.pop_front()
        {
            self.changes.drain(..oldest.changes);
        }
        self.marks.push_back(mark);
    }

    pub(crate) fn note(&mut self, change: Change) {
        if let Some(mark) = self.marks.back_mut() {
            mark.changes += 1;
            self.changes.push_back(change);
        }
    }

    /// How things stood before the last token, and what has changed since, the latest first.
    pub(crate) fn take(&mut self) -> Option<(Mark, Vec<Change>)> {
        let mark = self.marks.pop_back()?;
        let changes = self.changes.split_off(self.changes.len() - mark.changes);
        Some((mark, changes.into_iter().rev().collect()))
    }

    pub(crate) fn clear(&mut self) {
        self.marks.clear();
        self.changes.clear();
    }

    pub(crate) fn bytes(&self) -> usize {
        self.marks.capacity() * size_of::<Mark>() + self.changes.capacity() * size_of::<Change>()
    }
}
