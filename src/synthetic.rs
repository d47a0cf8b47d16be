//! A generated model for measuring speed: its weights are random, so its text means nothing.

use drafthorse_model::{LoadedDevice, ModelError, Transformer, WeightType};
use std::sync::Arc;

/// What the model is called on the command line.
pub const BENCH_134M: &str = "bench-134m";

const CONFIG: &str = r#"{
    "model_type": "llama", "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 12, "num_key_value_heads": 12, "vocab_size": 32000,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "tie_word_embeddings": false
}"#;

/// A Llama of 134 M parameters (12 layers, width 768, 12 heads, feed-forward 2048, vocabulary 32000),
/// generated anew, always the same.
///
/// # Errors
///
/// The device fails.
pub fn bench_134m(device: &LoadedDevice, weights: WeightType) -> Result<Arc<Transformer>, ModelError> {
    Transformer::generated(BENCH_134M, CONFIG, 134, device, weights).map(Arc::new)
}
