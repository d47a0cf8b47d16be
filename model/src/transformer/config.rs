//! What `config.json` says.

use super::json::{parse_json, read_text};
use crate::ModelError;
use serde::Deserialize;
use std::path::Path;

/// The architectures one [`Transformer`](super::Transformer) covers. To add a llama-shaped one, add an
/// arm to [`Architecture::of`] and a fixture.
const SUPPORTED: &[&str] = &["llama", "mistral", "qwen2", "qwen3"];

/// Beyond this a number of layers is taken for damage.
const MOST_LAYERS: usize = 10_000;

/// The shape of a transformer, as its `config.json` gives it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools, reason = "each says whether some tensors are there")]
pub struct ModelConfig {
    /// Name of the architecture (`model_type`).
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Length of a head.
    pub head_dim: usize,
    /// Number of logits in a row.
    pub vocab_size: usize,
    /// The most tokens a sequence may have.
    pub context_len: usize,
    /// Added to the mean square in every normalisation.
    pub norm_epsilon: f64,
    /// Whether the head uses the embedding's weights.
    pub tied_head: bool,
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the output projection of attention has a bias.
    pub output_bias: bool,
    /// Whether queries and keys are normalised head by head.
    pub qk_norm: bool,
    /// How many positions each layer sees; `None` is all.
    pub windows: Vec<Option<usize>>,
    /// The rotary embedding.
    pub rope: RopeConfig,
}

/// The rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RopeConfig {
    /// Base of the wavelengths.
    pub theta: f64,
    /// How the wavelengths are stretched for longer contexts.
    pub scaling: RopeScaling,
}

/// How wavelengths are stretched.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every one by this factor.
    Linear(f64),
    /// Long ones by `factor`, short ones not, with a smooth passage between (Llama 3.1).
    Llama3 {
        /// The stretch of long wavelengths.
        factor: f64,
        /// Wavelengths above `original / low` are stretched whole.
        low_freq_factor: f64,
        /// Wavelengths below `original / high` are left alone.
        high_freq_factor: f64,
        /// The context before stretching.
        original_context: f64,
    },
}

#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    hidden_act: Option<String>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
    quantization_config: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
struct RawRope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

/// What the name of an architecture implies.
#[allow(clippy::struct_excessive_bools, reason = "each says whether some tensors are there")]
struct Architecture {
    qkv_bias: bool,
    output_bias: bool,
    qk_norm: bool,
    tied_by_default: bool,
    /// When `sliding_window` holds.
    window: Window,
}

/// When an architecture heeds `sliding_window`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Window {
    Never,
    Always,
    /// Where `use_sliding_window` says so.
    OnRequest,
}

impl Architecture {
    fn of(model_type: &str, raw: &RawConfig) -> Option<Self> {
        let bias = raw.attention_bias.unwrap_or(false);
        let plain = Self {
            qkv_bias: bias,
            output_bias: bias,
            qk_norm: false,
            tied_by_default: false,
            window: Window::Never,
        };
        match model_type {
            "llama" => Some(plain),
            "mistral" => Some(Self { qkv_bias: false, output_bias: false, window: Window::Always, ..plain }),
            "qwen2" => Some(Self { qkv_bias: true, output_bias: false, window: Window::OnRequest, ..plain }),
            "qwen3" => Some(Self { qk_norm: true, window: Window::OnRequest, ..plain }),
            _ => None,
        }
    }
}

impl ModelConfig {
    /// Reads `config.json` of a Hugging Face folder.
    ///
    /// # Errors
    ///
    /// The file is missing, no JSON, lacks a key, contradicts itself, or describes an architecture that
    /// is not supported.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        Self::parse(&path, &read_text(&path)?)
    }

    /// The same from the text of a `config.json`; `path` only stands in errors.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ModelError> {
        let path = path.to_owned();
        let raw: RawConfig = parse_json(&path, text)?;
        let fail = |message: String| ModelError::Config { path: path.clone(), message };
        let model_type = raw.model_type.clone().ok_or_else(|| fail("`model_type` is missing".into()))?;
        let Some(architecture) = Architecture::of(&model_type, &raw) else {
            return Err(ModelError::UnknownArchitecture { path, found: model_type, supported: SUPPORTED });
        };
        raw.resolve(model_type, &architecture).map_err(fail)
    }
}

impl ModelConfig {
    /// Number of parameters; a tied head counts once.
    pub fn parameters(&self) -> usize {
        let c = self;
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let biases = if c.qkv_bias { q + 2 * kv } else { 0 } + if c.output_bias { c.hidden_size } else { 0 };
        let norms = 2 * c.hidden_size + if c.qk_norm { 2 * c.head_dim } else { 0 };
        let matrices = c.hidden_size * (2 * q + 2 * kv + 3 * c.intermediate_size);
        let heads = if c.tied_head { 1 } else { 2 };
        heads * c.vocab_size * c.hidden_size + c.layers * (matrices + biases + norms) + c.hidden_size
    }
}

impl RawConfig {
    fn resolve(&self, model_type: String, architecture: &Architecture) -> Result<ModelConfig, String> {
        let hidden_size = positive("hidden_size", self.hidden_size)?;
        let heads = positive("num_attention_heads", self.num_attention_heads)?;
        let layers = positive("num_hidden_layers", self.num_hidden_layers)?;
        let kv_heads = positive("num_key_value_heads", self.num_key_value_heads.or(Some(heads)))?;
        let head_dim = positive("head_dim", self.head_dim.or(Some(hidden_size / heads)))?;
        if layers > MOST_LAYERS {
            return Err(format!("`num_hidden_layers` is {layers}; more than {MOST_LAYERS} cannot be right"));
        }
        if !heads.is_multiple_of(kv_heads) {
            return Err(format!("{heads} attention heads cannot be shared by {kv_heads} key-value heads"));
        }
        if !head_dim.is_multiple_of(2) {
            return Err(format!("head_dim {head_dim} is odd; rotary embedding needs pairs"));
        }
        self.refuse_unsupported()?;
        Ok(ModelConfig {
            hidden_size,
            intermediate_size: positive("intermediate_size", self.intermediate_size)?,
            layers,
            heads,
            kv_heads,
            head_dim,
            vocab_size: positive("vocab_size", self.vocab_size)?,
            context_len: positive("max_position_embeddings", self.max_position_embeddings)?,
            norm_epsilon: self.rms_norm_eps.unwrap_or(1e-6),
            tied_head: self.tie_word_embeddings.unwrap_or(architecture.tied_by_default),
            qkv_bias: architecture.qkv_bias,
            output_bias: architecture.output_bias,
            qk_norm: architecture.qk_norm,
            windows: self.windows(layers, architecture)?,
            rope: self.rope()?,
            model_type,
        })
    }

    fn refuse_unsupported(&self) -> Result<(), String> {
        if self.quantization_config.is_some() {
            return Err(
                "`quantization_config`: quantised checkpoints are not supported; use one in f32, f16 or bf16"
                    .into(),
            );
        }
        if self.rms_norm_eps.is_some_and(|epsilon| !(epsilon > 0.0 && epsilon < 1.0)) {
            return Err(format!("`rms_norm_eps` is {:?}; it must be above 0 and below 1", self.rms_norm_eps));
        }
        if self.mlp_bias == Some(true) {
            return Err("`mlp_bias` true is not supported".into());
        }
        match self.hidden_act.as_deref() {
            None | Some("silu" | "swish") => Ok(()),
            Some(other) => Err(format!("`hidden_act` {other} is not supported; silu is")),
        }
    }

    fn windows(&self, layers: usize, architecture: &Architecture) -> Result<Vec<Option<usize>>, String> {
        let wanted = match architecture.window {
            Window::Never => false,
            Window::Always => true,
            Window::OnRequest => self.use_sliding_window == Some(true),
        };
        let Some(window) = self.sliding_window.filter(|_| wanted) else { return Ok(vec![None; layers]) };
        if window == 0 {
            return Err("`sliding_window` is 0".into());
        }
        match &self.layer_types {
            Some(types) if types.len() != layers => {
                Err(format!("`layer_types` has {} entries for {layers} layers", types.len()))
            }
            Some(types) => types
                .iter()
                .map(|kind| match kind.as_str() {
                    "sliding_attention" => Ok(Some(window)),
                    "full_attention" => Ok(None),
                    other => Err(format!("layer type `{other}` is not supported")),
                })
                .collect(),
            None if architecture.window == Window::OnRequest => {
                let first = self.max_window_layers.unwrap_or(0);
                Ok((0..layers).map(|layer| (layer >= first).then_some(window)).collect())
            }
            None => Ok(vec![Some(window); layers]),
        }
    }

    /// Newer files say everything in `rope_parameters`, older ones in `rope_theta` and `rope_scaling`.
    fn rope(&self) -> Result<RopeConfig, String> {
        let none = RawRope::default();
        let raw = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()).unwrap_or(&none);
        let theta = raw.rope_theta.or(self.rope_theta).unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 0.0) {
            return Err(format!("`rope_theta` is {theta}"));
        }
        let key = |name: &str, value: Option<f64>| match value {
            Some(value) if value > 0.0 && value.is_finite() => Ok(value),
            Some(value) => Err(format!("rope scaling: `{name}` is {value}; it must be above 0")),
            None => Err(format!("rope scaling: `{name}` is missing")),
        };
        let scaling = match raw.rope_type.as_deref() {
            None | Some("default") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear(key("factor", raw.factor)?),
            Some("llama3") => RopeScaling::Llama3 {
                factor: key("factor", raw.factor)?,
                low_freq_factor: key("low_freq_factor", raw.low_freq_factor)?,
                high_freq_factor: key("high_freq_factor", raw.high_freq_factor)?,
                original_context: key(
                    "original_max_position_embeddings",
                    raw.original_max_position_embeddings,
                )?,
            },
            Some(other) => {
                return Err(format!("rope type `{other}` is not supported; default, linear and llama3 are"));
            }
        };
        Ok(RopeConfig { theta, scaling })
    }
}

fn positive(name: &str, value: Option<usize>) -> Result<usize, String> {
    match value {
        None => Err(format!("`{name}` is missing")),
        Some(0) => Err(format!("`{name}` is 0")),
        Some(value) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(changes: &str) -> Result<ModelConfig, ModelError> {
        let mut json: serde_json::Value = serde_json::from_str(
            r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
                "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 128}"#,
        )
        .unwrap();
        let changes: serde_json::Value = serde_json::from_str(changes).unwrap();
        json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
        ModelConfig::read(folder.path())
    }

    #[test]
    fn old_and_new_rope_keys_mean_the_same() {
        let scaling = r#""factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64, "rope_type": "llama3""#;
        let old = config(&format!(r#"{{"rope_theta": 5e5, "rope_scaling": {{{scaling}}}}}"#)).unwrap();
        let new = config(&format!(r#"{{"rope_parameters": {{"rope_theta": 5e5, {scaling}}}}}"#)).unwrap();
        assert_eq!(old, new);
        assert_eq!(old.rope.theta, 5e5);
        assert!(matches!(old.rope.scaling, RopeScaling::Llama3 { factor: 8.0, .. }));
        assert_eq!(config("{}").unwrap().rope, RopeConfig { theta: 1e4, scaling: RopeScaling::None });
    }

    #[test]
    fn windows_follow_the_architecture() {
        let windows = |changes: &str| config(changes).unwrap().windows;
        assert_eq!(windows(r#"{"model_type": "mistral", "sliding_window": 9}"#), [Some(9), Some(9)]);
        assert_eq!(windows(r#"{"model_type": "mistral", "sliding_window": null}"#), [None, None]);
        assert_eq!(windows(r#"{"model_type": "qwen2", "sliding_window": 9}"#), [None, None]);
        assert_eq!(windows(r#"{"model_type": "llama", "sliding_window": 9}"#), [None, None]);
        let some = r#"{"model_type": "qwen2", "sliding_window": 9, "use_sliding_window": true, "max_window_layers": 1}"#;
        assert_eq!(windows(some), [None, Some(9)]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |changes: &str| config(changes).unwrap_err().to_string();
        assert!(
            message(r#"{"model_type": "mamba"}"#)
                .contains("model_type `mamba` is not supported; supported are llama, mistral")
        );
        assert!(message(r#"{"model_type": null}"#).contains("`model_type` is missing"));
        assert!(message(r#"{"vocab_size": null}"#).contains("`vocab_size` is missing"));
        assert!(message(r#"{"num_hidden_layers": 0}"#).contains("`num_hidden_layers` is 0"));
        assert!(message(r#"{"num_key_value_heads": 3}"#).contains("4 attention heads cannot be shared by 3"));
        assert!(message(r#"{"head_dim": 15}"#).contains("head_dim 15 is odd"));
        assert!(message(r#"{"hidden_act": "gelu"}"#).contains("gelu is not supported"));
        assert!(message(r#"{"mlp_bias": true}"#).contains("mlp_bias"));
        assert!(message(r#"{"quantization_config": {"bits": 4}}"#).contains("quantised checkpoints"));
        assert!(message(r#"{"rms_norm_eps": 0}"#).contains("rms_norm_eps"));
        assert!(message(r#"{"rope_scaling": {"type": "yarn"}}"#).contains("rope type `yarn`"));
        assert!(
            message(r#"{"rope_scaling": {"rope_type": "llama3", "factor": 8}}"#)
                .contains("`low_freq_factor` is missing")
        );
        assert!(message(r#"{"vocab_size": "many"}"#).contains("invalid type"));
        assert!(matches!(ModelConfig::read(Path::new("no such folder")), Err(ModelError::Io { .. })));
    }
}
