//! Several drafters, of which each round uses the one that pays most.

mod clock;
mod drafter;
mod merit;

pub use clock::{Clock, SystemClock};
pub use drafter::HybridDrafter;
