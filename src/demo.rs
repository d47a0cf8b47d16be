//! The demo pair: a small expert and a smaller drafter that are part of the program.
//!
//! They were trained for this project on public-domain novels, arithmetic problems, Rust texts and
//! Python code (`assets/README.md`) and share one tokenizer. They are small enough to try everything
//! with, on any machine, without a download.

use drafthorse_model::{
    EmbeddedModel, LoadOptions, LoadedDevice, ModelConfig, ModelError, Tokenizer, Transformer,
};
use std::sync::Arc;

const TOKENIZER: &[u8] = include_bytes!("../assets/demo/tokenizer.json");

const EXPERT: EmbeddedModel = EmbeddedModel {
    name: "demo expert",
    config: include_str!("../assets/demo/expert/config.json"),
    tokenizer: TOKENIZER,
    weights: include_bytes!("../assets/demo/expert/model.safetensors"),
};

const DRAFTER: EmbeddedModel = EmbeddedModel {
    name: "demo drafter",
    config: include_str!("../assets/demo/drafter/config.json"),
    tokenizer: TOKENIZER,
    weights: include_bytes!("../assets/demo/drafter/model.safetensors"),
};

/// The expert: 5.4 M parameters.
///
/// # Errors
///
/// The device fails.
pub fn expert(
    device: &LoadedDevice,
    options: impl Into<LoadOptions>,
) -> Result<Arc<Transformer>, ModelError> {
    Transformer::embedded(&EXPERT, device, options).map(Arc::new)
}

/// The drafter: 0.9 M parameters.
///
/// # Errors
///
/// The device fails.
pub fn drafter(
    device: &LoadedDevice,
    options: impl Into<LoadOptions>,
) -> Result<Arc<Transformer>, ModelError> {
    Transformer::embedded(&DRAFTER, device, options).map(Arc::new)
}

/// Configuration and tokenizer of the expert, without its weights.
///
/// # Errors
///
/// None in a program that was built whole.
pub fn expert_facts() -> Result<(ModelConfig, Tokenizer), ModelError> {
    EXPERT.facts()
}

/// Configuration and tokenizer of the drafter, without its weights.
///
/// # Errors
///
/// None in a program that was built whole.
pub fn drafter_facts() -> Result<(ModelConfig, Tokenizer), ModelError> {
    DRAFTER.facts()
}
