//! The decoder-only transformer of the Llama family on Burn.

mod cache;
mod checkpoint;
mod config;
mod exit;
mod forward;
mod generation;
mod json;
mod layers;
mod memory;
mod part;
mod rope;
mod rows;
mod weights;

pub use cache::TransformerCache;
pub use config::ModelConfig;
pub use exit::{EarlyExit, ExitCache, ExitReader};
pub use generation::GenerationConfig;
pub use memory::RowsRead;
pub use weights::{CacheType, LoadOptions, WeightType};

use crate::{
    KvCache, LanguageModel, LoadedDevice, ModelError, Segment, Tokenizer, Vocabulary,
    language_model::{answer_rows, greedy_steps},
};
use burn::tensor::Tensor;
use checkpoint::Checkpoint;
use drafthorse_logits::{Logits, RowAnswer, RowQuestion, TokenId};
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
    options: LoadOptions,
}

/// The files of a model, as parts of the program.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct EmbeddedModel {
    /// What it is called in errors.
    pub name: &'static str,
    /// `config.json`.
    pub config: &'static str,
    /// `tokenizer.json`.
    pub tokenizer: &'static [u8],
    /// `model.safetensors`.
    pub weights: &'static [u8],
}

impl EmbeddedModel {
    /// Configuration and tokenizer, without the weights.
    ///
    /// # Errors
    ///
    /// One of the two is not what it should be.
    pub fn facts(&self) -> Result<(ModelConfig, Tokenizer), ModelError> {
        let config = ModelConfig::parse(Path::new(self.name), self.config)?;
        Ok((config, Tokenizer::embedded(self.name, self.tokenizer)?))
    }
}

impl std::fmt::Debug for Transformer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (config, device) = (&self.config, &self.device.name);
        write!(f, "Transformer {{ {config:?} on {device} as {:?} }}", self.options)
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
    pub fn open(
        folder: &Path,
        device: &LoadedDevice,
        options: impl Into<LoadOptions>,
    ) -> Result<Self, ModelError> {
        let config = ModelConfig::read(folder)?;
        let generation = GenerationConfig::read(folder)?;
        let tokenizer = Tokenizer::find(folder)?;
        Self::load(config, generation, tokenizer, || Checkpoint::open(folder), device, options.into())
    }

    /// A model that is part of the program.
    ///
    /// # Errors
    ///
    /// As [`Transformer::open`].
    pub fn embedded(
        model: &EmbeddedModel,
        device: &LoadedDevice,
        options: impl Into<LoadOptions>,
    ) -> Result<Self, ModelError> {
        let name = Path::new(model.name);
        let (config, tokenizer) = model.facts()?;
        let generation = GenerationConfig::parse(name, model.config)?;
        let open = || Checkpoint::embedded(name, model.weights);
        Self::load(config, generation, Some(tokenizer), open, device, options.into())
    }

    /// A model of this shape with random weights and no tokenizer, the same for the same seed: its text
    /// means nothing, its speed is that of any model of the shape.
    ///
    /// # Errors
    ///
    /// The configuration is not what it should be, or the device fails.
    pub fn generated(
        name: &str,
        config: &str,
        seed: u64,
        device: &LoadedDevice,
        options: impl Into<LoadOptions>,
    ) -> Result<Self, ModelError> {
        let name = Path::new(name);
        let generation = GenerationConfig::parse(name, config)?;
        let config = ModelConfig::parse(name, config)?;
        Self::load(config, generation, None, || Ok(Checkpoint::generated(name, seed)), device, options.into())
    }

    fn load(
        config: ModelConfig,
        generation: GenerationConfig,
        tokenizer: Option<Tokenizer>,
        open: impl FnOnce() -> Result<Checkpoint, ModelError> + Send,
        device: &LoadedDevice,
        options: LoadOptions,
    ) -> Result<Self, ModelError> {
        if let Some(tokenizer) = &tokenizer {
            tokenizer.check_fits(config.vocab_size)?;
        }
        let half = options.weights == WeightType::F16 || options.cache == CacheType::F16;
        if half && !device.supports_f16() {
            let message = "has no 16-bit floats; hold weights in f32, q8 or q4 and the cache in f32".into();
            return Err(ModelError::Device { device: device.name.clone(), message });
        }
        let in_place = device.is_cpu();
        let load = || Weights::load(open()?, &config, device.burn(), options.weights, in_place);
        let weights = device.run(|| guarded(load))?;
        Ok(Self {
            frequencies: rope::frequencies(&config.rope, config.head_dim),
            tokenizer: tokenizer.map(Arc::new),
            device: device.clone(),
            config,
            generation,
            weights,
            options,
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

    fn check(&self, segments: &[Segment<'_, TransformerCache>]) -> Result<(), ModelError> {
        segments.iter().try_for_each(|segment| segment.check(self.config.vocab_size, self.config.context_len))
    }

    /// Reads segments that were checked, on the device's own stream.
    fn compute<T: Default + Send>(
        &self,
        segments: &mut [Segment<'_, TransformerCache>],
        finish: impl FnOnce(Option<Tensor<2>>) -> Result<T, ModelError> + Send,
    ) -> Result<T, ModelError> {
        if segments.is_empty() {
            return Ok(T::default());
        }
        self.device.run(|| guarded(|| self.run(self.ids(segments), segments, finish)))
    }

    /// The type in which the weight matrices are held.
    pub fn weight_type(&self) -> WeightType {
        self.options.weights
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

    fn reads_trees(&self) -> bool {
        true
    }

    fn new_cache(&self) -> TransformerCache {
        TransformerCache::new(self.options.cache)
    }

    fn forward(&self, segments: &mut [Segment<'_, TransformerCache>]) -> Result<Vec<Logits>, ModelError> {
        self.check(segments)?;
        let (rows, vocab) = (rows_of(segments), self.config.vocab_size);
        self.compute(segments, |logits| rows::read(logits, &rows, vocab))
    }

    fn keeps_rows(&self) -> bool {
        !self.device.is_cpu()
    }

    fn answer(
        &self,
        segments: &mut [Segment<'_, TransformerCache>],
        questions: &[RowQuestion],
        temperature: f32,
    ) -> Result<Vec<RowAnswer>, ModelError> {
        if !self.keeps_rows() {
            return Ok(answer_rows(&self.forward(segments)?, questions, temperature)?);
        }
        self.check(segments)?;
        self.compute(segments, |logits| rows::answer(logits, questions, temperature))
    }

    fn continue_greedily(
        &self,
        mut segment: Segment<'_, TransformerCache>,
        count: usize,
    ) -> Result<Vec<TokenId>, ModelError> {
        if self.keeps_rows() && count > 1 {
            let (before, context) = (segment.cache.len(), self.config.context_len);
            segment.rows = 1;
            segment.check(self.config.vocab_size, context)?;
            let length = before + segment.tokens.len() + count - 1;
            if length > context {
                return Err(ModelError::ContextFull { length, context });
            }
            if let Some(out) = self.device.run(|| guarded(|| self.chain(&mut segment, count)))? {
                return Ok(out);
            }
            // Step by step it turns out what is wrong.
            segment.cache.truncate(before);
        }
        greedy_steps(self, segment, count)
    }
}

fn rows_of(segments: &[Segment<'_, TransformerCache>]) -> Vec<usize> {
    segments.iter().map(|segment| segment.rows).collect()
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
