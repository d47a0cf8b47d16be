//! What expert and drafter think of every token of a text: the numbers, and a page to look at them.
//!
//! The text is read again, as it stands: at each position the models say what they would have said there. Unless a
//! field says otherwise, probabilities are those of [`Scores::raw`]: temperature 1, nothing filtered, after biases
//! and penalties.
//!
//! # Example
//!
//! ```
//! use drafthorse::{Lossless, SamplingOptions, TableModel, inspect::{Look, Sides, Text, look}, model::CachedModel};
//! use drafthorse::logits::Sampler;
//! use std::sync::Arc;
//!
//! let model = |seed| CachedModel::new(Arc::new(TableModel::random(8, 2.0, seed)));
//! let sampler = Sampler::new(&SamplingOptions { temperature: 1.0, ..Default::default() })?;
//! let (mut expert, mut drafter) = (model(1), model(2));
//! let sides = Sides { expert: &mut expert, drafter: Some(&mut drafter), rule: &Lossless, sampler: &sampler, prompt_sampler: &sampler };
//! let positions = look(sides, &Text::prompt(&[1, 5, 2]), &Look::default(), &|id| id.to_string())?;
//! let laws = &positions[2].pair.as_ref().unwrap().sampled;
//! assert!((laws.expected_acceptance - (1.0 - laws.total_variation)).abs() < 1e-12); // lossless
//! # Ok::<(), drafthorse::ModelError>(())
//! ```
//!
//! [`Scores::raw`]: drafthorse_logits::Scores::raw

mod belief;
mod layers;
mod look;
mod page;
mod record;
mod reliability;
mod text;
mod trace;

pub use layers::{LayerSource, WithLayers};
pub use look::{Look, Sides, Text, look};
pub use page::page;
pub use record::{
    Belief, Candidate, Facts, Generation, Histogram, Inspection, Laws, LensCell, Mean, Origin, Pair,
    Position, Round, Summary,
};
pub use reliability::{Bin, Reliability};
pub use text::{Names, pieces};
pub use trace::Trace;
