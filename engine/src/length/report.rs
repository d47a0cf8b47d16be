use std::fmt;

/// What is known of whether drafting pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It pays.
    Pays,
    /// It does not pay.
    Loses,
    /// It did not seem to pay, by too few drafts to be sure.
    Unsure,
    /// It seems to pay, and waits until there is time to lose should it not.
    Waits,
}

/// Whether speculation pays, and why: what a controller of the draft length makes of what it measured.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Speculation {
    /// Whether it drafts at the moment.
    pub pays: bool,
    /// What is known of that.
    pub standing: Standing,
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
        f.write_str(match self.standing {
            Standing::Pays => "drafting pays",
            Standing::Loses => "drafting does not pay",
            Standing::Unsure => "too few drafts yet to say whether drafting pays",
            Standing::Waits => "drafting may pay and is tried again later",
        })?;
        let share = 100.0 * acceptance;
        write!(
            f,
            " (a drafted token takes {draft_cost:.2} of an expert step and is accepted in {share:.0} % of cases; a pass over {length} of them takes {verify_cost:.2})"
        )
    }
}
