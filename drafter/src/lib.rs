//! Drafters: what proposes the tokens an expert verifies.
//!
//! * [`ModelDrafter`]: a small language model;
//! * [`NgramDrafter`]: looks up what followed the last tokens when they stood in the text before;
//! * [`SuffixDrafter`]: as that, for suffixes of any length, with counts, and in the texts of earlier requests too;
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

mod drafter;
mod error;
mod model;
mod ngram;
mod none;
mod running;
mod suffix;

pub use drafter::{DraftRequest, Drafter, StopRule};
pub use error::DrafterError;
pub use model::ModelDrafter;
pub use ngram::NgramDrafter;
pub use none::NoDrafter;
pub use suffix::{Branch, StoreMemory, SuffixDrafter, SuffixOptions, SuffixStore};
