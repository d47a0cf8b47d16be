//! A model that drafts for itself: with an exit after one of its layers, or without some of them.
//!
//! No second model is needed, and no second copy of the weights. Models that were trained for it draft well this way;
//! others as a rule do not. [`search`] measures what it brings.
//!
//! ```no_run
//! use drafthorse::{demo, model::{DeviceChoice, WeightType, open_device}, self_speculation};
//!
//! let expert = demo::expert(&open_device(DeviceChoice::Auto)?, WeightType::F32)?;
//! let mut engine = self_speculation::builder(&expert, &"exit:4".parse()?)?.draft_length(2).build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Source: Elhoushi et al., "`LayerSkip`", 2024; Zhang et al., "Draft & Verify", 2024.

mod agreement;
mod plan;
mod subject;

pub use agreement::Agreement;
pub use plan::{Candidate, Search};

use crate::{
    Engine, ModelDrafter, SamplingOptions, TokenId, Transformer,
    engine::EngineBuilder,
    model::{EarlyExit, ModelError, Shortcut},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The longest draft that a search thinks of.
const MAX_DRAFT: usize = 64;

/// An engine in which this model drafts for itself: its expert and its drafter are set.
///
/// With an early exit they share keys and values, so the engine keeps the drafter it has; without it, the expert is the
/// model as it is.
///
/// # Errors
///
/// The shortcut is impossible in this model.
pub fn builder(model: &Arc<Transformer>, shortcut: &Shortcut) -> Result<EngineBuilder, ModelError> {
    let name = shortcut.to_string();
    Ok(match shortcut {
        Shortcut::Exit(layer) => {
            let exit = EarlyExit::new(model, *layer)?;
            let drafter = ModelDrafter::new(exit.drafter()).named(name);
            Engine::builder().expert(exit.expert()).drafter(drafter)
        }
        Shortcut::Skip(_) => {
            let drafter = ModelDrafter::new(Arc::new(model.shortened(shortcut)?)).named(name);
            Engine::builder().expert(model.clone()).drafter(drafter)
        }
    })
}

/// What a search for a shortcut may cost, and for what it shall be good.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct SearchOptions {
    /// No further candidate is begun after this time. A quarter of it at most goes into writing texts.
    pub budget: Duration,
    /// The longest draft that is thought of, from 1 to 64.
    pub max_draft: usize,
    /// The most tokens that the model writes after each prompt; in them agreement is measured.
    pub tokens: usize,
    /// How tokens are sampled.
    pub sampling: SamplingOptions,
    /// For the texts.
    pub seed: u64,
}

impl Default for SearchOptions {
    fn default() -> Self {
        let sampling = SamplingOptions::default();
        Self { budget: Duration::from_mins(1), max_draft: 4, tokens: 64, sampling, seed: 0 }
    }
}

/// Looks for the shortcut that makes a model fastest, by measuring on texts that it writes after `prompts`.
///
/// All exits are judged from one pass with the logits of all layers. Of sets of layers to skip those are tried that come
/// from the best one so far by skipping one layer more. Agreement and costs are measured, speedups follow from them:
/// (1 + the sum of the survivals) / (the cost of drafting and of verifying).
///
/// # Errors
///
/// Options out of range, a prompt that the model cannot read, or a failure of the device.
pub fn search(
    model: &Arc<Transformer>,
    prompts: &[Vec<TokenId>],
    options: &SearchOptions,
) -> Result<Search, ModelError> {
    let start = Instant::now();
    let max_draft = options.max_draft.clamp(1, MAX_DRAFT);
    let mut subject = subject::Measured::new(model, prompts, options)?;
    plan::search(&mut subject, model.config().layers, max_draft, &|| start.elapsed() < options.budget)
}
