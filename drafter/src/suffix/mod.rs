//! Drafts from what followed the last tokens wherever they stood before.

mod automaton;
mod drafter;
mod edges;
mod paths;
mod store;

pub use drafter::{SuffixDrafter, SuffixOptions};
pub use paths::Branch;
pub use store::{StoreMemory, SuffixStore};
