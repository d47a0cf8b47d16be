//! Drafts from what followed the last tokens wherever they stood before.

mod automaton;
mod drafter;
mod edges;
mod fitting;
mod paths;
mod saved;
mod store;
mod undo;

pub use drafter::{SuffixDrafter, SuffixOptions};
pub use paths::Branch;
pub use store::{StoreMemory, SuffixStore};
