//! Drafts from what followed the last few tokens in all texts so far.

mod drafter;
mod saved;
mod store;
mod table;

pub use drafter::{NgramMemoryDrafter, NgramMemoryOptions};
pub use store::NgramMemory;
