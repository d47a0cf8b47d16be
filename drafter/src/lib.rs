//! Drafters: what proposes the tokens an expert verifies.
//!
//! * [`ModelDrafter`]: a small language model;
//! * [`TranslatedDrafter`]: a language model with another tokenizer than the expert's, by the tokens that both share
//!   ([`TokenDrafter`]) or as text ([`TextDrafter`]);
//! * [`NgramDrafter`]: looks up what followed the last tokens when they stood in the text before;
//! * [`SuffixDrafter`]: as that, for suffixes of any length, with counts, and in the texts of earlier requests too;
//! * [`NgramMemoryDrafter`]: looks up what followed the last tokens most often in all texts so far;
//! * [`HybridDrafter`]: several of them, of which each round uses the one that pays most;
//! * [`ChainDrafter`]: a small language model, whose tokens a smaller drafter guesses;
//! * [`NoDrafter`]: proposes nothing, which makes every round plain decoding;
//! * anything that implements [`Drafter`].
//!
//! # Example
//!
//! ```
//! use drafthorse_drafter::{DraftRequest, Drafter, NgramDrafter};
//! use drafthorse_logits::{Memory, Sampler, SamplingOptions, SeededDraws};
//!
//! let sampler = Sampler::new(&SamplingOptions::default())?;
//! let (prompt, memory) = (6, Memory::off());
//! let request =
//!     DraftRequest { max: 2, score_after: false, raw: true, vocab: 10, prompt, memory, sampler: &sampler, stop: None };
//! let mut drafter = NgramDrafter::default();
//! let proposal = drafter.propose(&[5, 6, 7, 8, 5, 6], &request, &mut SeededDraws::new(0, 1))?;
//! assert_eq!(proposal.tokens, [7, 8]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chain;
mod disk;
mod drafter;
mod error;
mod hybrid;
mod memory;
mod model;
mod ngram;
mod none;
mod running;
mod suffix;
mod translated;
mod tree;

pub use chain::ChainDrafter;
pub use disk::{Fingerprint, StoreError};
pub use drafter::{DraftRequest, Drafter, PartCounts, StopRule};
pub use error::DrafterError;
pub use hybrid::{Clock, HybridDrafter, SystemClock};
pub use memory::{NgramMemory, NgramMemoryDrafter, NgramMemoryOptions};
pub use model::ModelDrafter;
pub use ngram::NgramDrafter;
pub use none::NoDrafter;
pub use suffix::{Branch, StoreMemory, SuffixDrafter, SuffixOptions, SuffixStore};
pub use translated::{Bridge, Choice, TextDrafter, TokenDrafter, TranslatedDrafter};
