//! Parts for measuring: a generated model whose text means nothing, and a drafter that is right as often as
//! it is told.

mod drafter;

pub use drafter::SyntheticDrafter;

use drafthorse_logits::TokenId;
use drafthorse_model::{LoadOptions, LoadedDevice, ModelError, Transformer};
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
pub fn bench_134m(
    device: &LoadedDevice,
    options: impl Into<LoadOptions>,
) -> Result<Arc<Transformer>, ModelError> {
    Transformer::generated(BENCH_134M, CONFIG, 134, device, options).map(Arc::new)
}

/// Random tokens below `vocab`, the same for the same seed: a prompt for models without a tokenizer.
///
/// ```
/// let tokens = drafthorse::synthetic::random_tokens(7, 64, 1000);
/// assert!(tokens.len() == 64 && tokens.iter().all(|&token| token < 1000));
/// ```
pub fn random_tokens(seed: u64, count: usize, vocab: usize) -> Vec<TokenId> {
    (0..count).map(|i| (hash(seed, i as u64) % vocab.max(1) as u64) as TokenId).collect()
}

/// Bits that look random, always the same for the same two numbers.
///
/// Source: Steele et al., "Fast splittable pseudorandom number generators", 2014 (`SplitMix64`).
fn hash(seed: u64, index: u64) -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let start = mix(seed.wrapping_add(STEP));
    mix(start.wrapping_add(index.wrapping_add(1).wrapping_mul(STEP)))
}
