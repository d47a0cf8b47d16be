use std::fmt;

/// Whether speculation pays, and why: what a controller of the draft length makes of what it measured.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Speculation {
    /// Whether it drafts at the moment.
    pub pays: bool,
    /// Time of a drafted token, in rounds without drafts.
    pub draft_cost: f64,
    /// Time of a pass over the best draft, in passes of one row.
    pub verify_cost: f64,
    /// How likely the first token of a draft is accepted.
    pub acceptance: f64,
    /// The best draft length that is at least 1.
    pub length: usize,
    /// What it promises, over no drafts.
    pub speedup: f64,
}

impl fmt::Display for Speculation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { draft_cost, acceptance, length, verify_cost, .. } = self;
        write!(
            f,
            "draft costs {draft_cost:.2} of an expert step at acceptance {acceptance:.2}, a pass over {length} drafted {verify_cost:.2}"
        )
    }
}
