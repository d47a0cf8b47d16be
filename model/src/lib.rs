//! Language models for drafthorse.
//!
//! [`LanguageModel`] is what the engine needs of a model: read some tokens after what a cache holds,
//! return logits. [`CachedModel`] makes of it a function of the whole sequence that remembers. There
//! are two models: [`Transformer`] on Burn, opened from a Hugging Face folder (feature `transformer`),
//! and [`TableModel`], tiny and exact, for tests, documentation and examples.
//!
//! # Example
//!
//! ```
//! use drafthorse_model::{CachedModel, TableModel};
//! use std::sync::Arc;
//!
//! let model = Arc::new(TableModel::random(5, 1.0, 42));
//! let mut cached = CachedModel::new(model);
//! let one = cached.logits(&[1, 2, 3], 2)?; // after 2 and after 3
//! let two = cached.logits(&[1, 2, 4], 1)?; // keeps what it read of 1 and 2
//! assert_eq!((one.rows(), two.rows()), (2, 1));
//! # Ok::<(), drafthorse_model::ModelError>(())
//! ```

mod cached;
mod ensemble;
mod error;
mod language_model;
mod law;
mod layered;
mod shortcut;
mod table;
mod text;
mod token_bytes;
mod translation;
mod vocabulary;

#[cfg(feature = "transformer")]
mod device;
#[cfg(feature = "transformer")]
mod text_stream;
#[cfg(feature = "transformer")]
mod tokenizer;
#[cfg(feature = "transformer")]
mod transformer;

pub use cached::{CachedModel, SequenceModel};
pub use ensemble::{Ensemble, EnsembleCache};
pub use error::ModelError;
pub use language_model::{KvCache, LanguageModel, Segment, Tree};
pub use law::{EarlyLayers, LawSpec, LayerLaw, LayeredLaw};
pub use layered::{LayerLogits, LayerStates, LayeredModel};
pub use shortcut::Shortcut;
pub use table::TableModel;
pub use text::{Detokenizer, TextDecoder};
pub use token_bytes::{AddedToken, ByteCoding, TokenBytes, token_bytes};
pub use translation::{
    Overlap, Spelling, TextCoder, TextOverlap, TokenMap, Transcriber, TranslatedModel, Translation,
};
pub use vocabulary::{Difference, Vocabulary};

#[cfg(feature = "transformer")]
pub use device::{
    Adapter, AdapterKind, DeviceChoice, LoadedDevice, adapters, open_device, set_threads, threads,
};
#[cfg(feature = "transformer")]
pub use text_stream::TextStream;
#[cfg(feature = "transformer")]
pub use tokenizer::Tokenizer;
#[cfg(feature = "transformer")]
pub use transformer::{
    CacheType, EarlyExit, EmbeddedModel, ExitCache, ExitReader, GenerationConfig, LoadOptions, ModelConfig,
    RowsRead, Transformer, TransformerCache, WeightType,
};
