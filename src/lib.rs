//! placeholder
pub use drafthorse_logits as logits;
pub use drafthorse_model as model;
