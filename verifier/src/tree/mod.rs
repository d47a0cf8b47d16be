//! Verifying trees of drafts.

mod candidates;
mod judge;
mod read;
mod sequential;

pub use candidates::couple_candidates;
pub use judge::judge_tree;
pub use read::{TreeReading, TreeRound};
pub use sequential::SequentialTest;

pub(crate) use candidates::couple_point;
pub(crate) use judge::match_tree;
