//! The decoder-only transformer of the Llama family on Burn.

mod cache;
mod checkpoint;
mod config;
mod forward;
mod rope;
mod weights;

pub use cache::TransformerCache;
pub use config::{GenerationConfig, ModelConfig};
pub use weights::WeightType;

use crate::{LanguageModel, LoadedDevice, ModelError, Segment, Tokenizer, Vocabulary};
use drafthorse_logits::Logits;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};
use weights::Weights;

/// A decoder-only transformer: Llama, Mistral, Qwen2 and Qwen3 checkpoints in Hugging Face layout.
///
/// Weights are never changed and shared by reference; any number of caches may read at the same time.
pub struct Transformer {
    config: ModelConfig,
    generation: GenerationConfig,
    tokenizer: Option<Arc<Tokenizer>>,
    weights: Weights,
    frequencies: Vec<f64>,
    device: LoadedDevice,
    weight_type: WeightType,
}

impl std::fmt::Debug for Transformer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (config, device) = (&self.config, &self.device.name);
        write!(f, "Transformer {{ {config:?} on {device} as {:?} }}", self.weight_type)
    }
}

impl Transformer {
    /// Opens a Hugging Face folder: `config.json`; `model.safetensors`, or shards listed in
    /// `model.safetensors.index.json`, in f32, f16 or bf16; `tokenizer.json` and
    /// `generation_config.json` where they are there.
    ///
    /// # Errors
    ///
    /// A file that is missing, damaged or contradicts another; the error names it.
    pub fn open(folder: &Path, device: &LoadedDevice, weight_type: WeightType) -> Result<Self, ModelError> {
        let config = ModelConfig::read(folder)?;
        let generation = GenerationConfig::read(folder)?;
        let tokenizer = Tokenizer::find(folder)?;
        if let Some(tokenizer) = &tokenizer {
            tokenizer.check_fits(config.vocab_size)?;
        }
        if weight_type == WeightType::F16 && !device.supports_f16() {
            let message = "has no 16-bit floats; use f32".into();
            return Err(ModelError::Device { device: device.name.clone(), message });
        }
        let load = || Weights::load(folder, &config, device.burn(), weight_type);
        let weights = device.run(|| guarded(load))?;
        Ok(Self {
            frequencies: rope::frequencies(&config.rope, config.head_dim),
            tokenizer: tokenizer.map(Arc::new),
            device: device.clone(),
            config,
            generation,
            weights,
            weight_type,
        })
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The tokens that open and end a text.
    pub fn generation_config(&self) -> &GenerationConfig {
        &self.generation
    }

    /// The tokenizer of the folder, if it has one.
    pub fn tokenizer(&self) -> Option<&Arc<Tokenizer>> {
        self.tokenizer.as_ref()
    }

    /// Where the weights are.
    pub fn device(&self) -> &LoadedDevice {
        &self.device
    }

    /// The type in which the weight matrices are held.
    pub fn weight_type(&self) -> WeightType {
        self.weight_type
    }

    /// Number of parameters; a tied head counts once.
    pub fn parameters(&self) -> usize {
        let c = &self.config;
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let biases = if c.qkv_bias { q + 2 * kv } else { 0 } + if c.output_bias { c.hidden_size } else { 0 };
        let norms = 2 * c.hidden_size + if c.qk_norm { 2 * c.head_dim } else { 0 };
        let matrices = c.hidden_size * (2 * q + 2 * kv + 3 * c.intermediate_size);
        let heads = if c.tied_head { 1 } else { 2 };
        heads * c.vocab_size * c.hidden_size + c.layers * (matrices + biases + norms) + c.hidden_size
    }
}

impl LanguageModel for Transformer {
    type Cache = TransformerCache;

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn context_len(&self) -> usize {
        self.config.context_len
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.tokenizer.as_deref().map(Tokenizer::vocabulary)
    }

    fn new_cache(&self) -> TransformerCache {
        TransformerCache::new()
    }

    fn forward(&self, segments: &mut [Segment<'_, TransformerCache>]) -> Result<Vec<Logits>, ModelError> {
        for segment in segments.iter() {
            segment.check(self.config.vocab_size, self.config.context_len)?;
        }
        if segments.is_empty() {
            return Ok(Vec::new());
        }
        self.device.run(|| guarded(|| self.run(segments)))
    }
}

/// Turns a panic of the tensor library into an error. What callers can get wrong is checked before; what
/// is left is a device that fails.
fn guarded<T>(work: impl FnOnce() -> Result<T, ModelError>) -> Result<T, ModelError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(ModelError::Backend { message: text.unwrap_or("it gave no reason").to_owned() })
    })
}
