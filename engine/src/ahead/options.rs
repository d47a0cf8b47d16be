/// How drafting ahead is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct AheadOptions {
    /// For how many ways in which a verification can turn out drafts are made ahead at most, up to 1000. 0 makes none.
    pub outcomes: usize,
    /// When drafts are made ahead.
    pub when: AheadWhen,
}

/// When drafts are made ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AheadWhen {
    /// In every round.
    Always,
    /// Where it was measured that a token takes less time with it than without: both are tried in turns, more and more
    /// seldom while the answer stays the same.
    Measured {
        /// What to begin with: on where the drafter has a device, or processors, that the expert leaves free.
        spare: bool,
    },
}

impl Default for AheadOptions {
    /// Six outcomes, measured; begins with on where the machine has more than two processors.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { outcomes: 6, when: AheadWhen::Measured { spare: processors > 2 } }
    }
}
