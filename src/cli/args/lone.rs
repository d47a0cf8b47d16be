//! A model by itself.

use super::{Cache, ModelArgs, Weights};
use crate::cli::{drafters::WayArgs, failure::Failure, parts};
use clap::Args;
use drafthorse::{DeviceChoice, Transformer};
use std::sync::Arc;

/// A model without a drafter.
#[derive(Args, Clone)]
pub(crate) struct LoneArgs {
    /// The model: a Hugging Face folder, demo, demo-drafter, or bench-134m
    #[arg(
        short = 'm',
        long = "model",
        visible_alias = "expert",
        value_name = "DIR",
        default_value = "demo",
        help_heading = "Model"
    )]
    pub(crate) name: String,
    /// Where the weights and the computation live: auto, cpu, vulkan, vulkan:N, metal or webgpu
    #[arg(long, value_name = "DEVICE", default_value = "auto", help_heading = "Model")]
    device: DeviceChoice,
    /// Type in which weights are held, whatever the checkpoint's (bf16 too)
    #[arg(long, visible_alias = "dtype", value_enum, default_value = "f32", help_heading = "Model")]
    weights: Weights,
    /// Type in which keys and values of earlier tokens are held
    #[arg(long, value_enum, default_value = "f32", alias = "kv-cache-dtype", help_heading = "Model")]
    cache_type: Cache,
    /// Processors to compute with; without it, all. Results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Model")]
    threads: Option<u16>,
}

impl LoneArgs {
    /// Opens the model.
    pub(crate) fn open(&self) -> Result<Arc<Transformer>, Failure> {
        parts::expert(&self.name, &self.models())
    }

    /// How it is held, and models beside it.
    pub(crate) fn models(&self) -> ModelArgs {
        ModelArgs {
            device: self.device,
            weights: self.weights,
            cache_type: self.cache_type,
            threads: self.threads,
            draft_device: None,
            draft_weights: None,
            ngram_min: 1,
            ngram_max: 1,
            ways: WayArgs::default(),
        }
    }
}
