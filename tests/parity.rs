//! Logits of every supported architecture against Hugging Face transformers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{parity_folders, read_expected};
use drafthorse::{
    logits::{Logits, TokenId, argmax},
    model::{
        CachedModel, DeviceChoice, LanguageModel, LoadedDevice, Segment, Transformer, TransformerCache,
        WeightType, adapters, open_device,
    },
};
use std::{path::Path, sync::Arc};

fn open(folder: &Path, device: &LoadedDevice, weights: WeightType) -> Arc<Transformer> {
    Arc::new(Transformer::open(folder, device, weights).unwrap())
}

fn largest_difference(logits: &Logits, expected: &[Vec<f32>]) -> f32 {
    assert_eq!(logits.rows(), expected.len());
    let rows = logits.iter().zip(expected);
    rows.flat_map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b).abs())).fold(0.0, f32::max)
}

fn greedy(model: &Arc<Transformer>, prompt: &[TokenId], count: usize) -> Vec<TokenId> {
    let mut cached = CachedModel::new(model.clone());
    let mut sequence = prompt.to_vec();
    for _ in 0..count {
        let logits = cached.logits(&sequence, 1).unwrap();
        sequence.push(argmax(logits.row(0)));
    }
    sequence.split_off(prompt.len())
}

/// Compares logits and greedy tokens with the reference; returns how many checkpoints were compared.
fn compare(device: &LoadedDevice, weights: WeightType, tolerance: f32) -> usize {
    let folders = parity_folders();
    for folder in &folders {
        let expected = read_expected(folder);
        let model = open(folder, device, weights);
        let logits = CachedModel::new(model.clone()).logits(&expected.tokens, expected.tokens.len()).unwrap();
        let difference = largest_difference(&logits, &expected.logits);
        assert!(difference < tolerance, "{}: logits differ by {difference}", folder.display());
        println!("{} on {device} as {weights:?}: largest difference {difference:.1e}", folder.display());
        if weights == WeightType::F32 {
            assert_eq!(
                greedy(&model, &expected.greedy_prompt, expected.greedy.len()),
                expected.greedy,
                "{}",
                folder.display()
            );
        }
    }
    folders.len()
}

#[test]
fn cpu_f32_agrees_with_the_reference() {
    assert_eq!(compare(&open_device(DeviceChoice::Cpu).unwrap(), WeightType::F32, 1e-4), 5);
}

#[test]
fn cpu_f16_is_close_to_the_reference() {
    compare(&open_device(DeviceChoice::Cpu).unwrap(), WeightType::F16, 2e-2);
}

/// Runs on the first Vulkan adapter there is, a software one too. Where there is none it fails if
/// `DRAFTHORSE_REQUIRE_VULKAN` is set, as it is in CI, and says so otherwise.
#[test]
fn vulkan_agrees_with_the_reference() {
    let Some(adapter) = adapters().into_iter().find(|a| matches!(a.choice, DeviceChoice::Vulkan(_))) else {
        assert!(std::env::var_os("DRAFTHORSE_REQUIRE_VULKAN").is_none(), "no Vulkan adapter on this machine");
        println!("NOT RUN: no Vulkan adapter on this machine");
        return;
    };
    println!("{} ({})", adapter.name, adapter.kind);
    assert_eq!(compare(&open_device(adapter.choice).unwrap(), WeightType::F32, 2e-3), 5);
}

/// An embedding too large for one buffer of a small device (128 MiB) is held, and read, in parts.
#[test]
fn a_vocabulary_larger_than_a_buffer() {
    const CONFIG: &str = r#"{
        "model_type": "llama", "hidden_size": 512, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 8, "vocab_size": 70000, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true
    }"#;
    let Some(adapter) = adapters().into_iter().find(|a| matches!(a.choice, DeviceChoice::Vulkan(_))) else {
        return println!("NOT RUN: no Vulkan adapter on this machine");
    };
    let [vulkan, cpu] = [adapter.choice, DeviceChoice::Cpu].map(|choice| {
        let model =
            Transformer::generated("large", CONFIG, 1, &open_device(choice).unwrap(), WeightType::F32);
        CachedModel::new(Arc::new(model.unwrap())).logits(&[3, 69_999, 30_000, 65_535, 65_536], 5).unwrap()
    });
    let rows: Vec<Vec<f32>> = cpu.iter().map(<[f32]>::to_vec).collect();
    let difference = largest_difference(&vulkan, &rows);
    assert!(difference < 2e-3, "logits differ by {difference}");
    assert!(rows.iter().flatten().any(|logit| logit.abs() > 0.1), "nothing was compared");
}

/// Weights loaded on one thread, read on several at a time: one device serves them all.
#[test]
fn threads_share_a_device() {
    let software = adapters().into_iter().find(|a| matches!(a.choice, DeviceChoice::Vulkan(_)));
    assert!(software.is_some() || std::env::var_os("DRAFTHORSE_REQUIRE_VULKAN").is_none());
    for choice in [Some(DeviceChoice::Cpu), software.map(|a| a.choice)].into_iter().flatten() {
        let device = open_device(choice).unwrap();
        let folder = &parity_folders()[0];
        let expected = read_expected(folder);
        let model = open(folder, &device, WeightType::F32);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    assert_eq!(
                        greedy(&model, &expected.greedy_prompt, expected.greedy.len()),
                        expected.greedy
                    );
                });
            }
        });
    }
}

fn segment<'a>(
    tokens: &'a [TokenId],
    rows: usize,
    cache: &'a mut TransformerCache,
) -> Segment<'a, TransformerCache> {
    Segment::new(tokens, rows, cache)
}

/// Several sequences and chunks in one forward give, bit for bit, what each gives alone.
#[test]
fn ragged_segments_do_not_touch_each_other() {
    let device = open_device(DeviceChoice::Cpu).unwrap();
    for folder in parity_folders() {
        let model = open(&folder, &device, WeightType::F32);
        let tokens = read_expected(&folder).tokens;
        let alone = |tokens: &[TokenId], rows| CachedModel::new(model.clone()).logits(tokens, rows).unwrap();
        let (mut a, mut b, mut c) = (model.new_cache(), model.new_cache(), model.new_cache());
        // Different lengths and rows; the third only fills its cache.
        let first = model
            .forward(&mut [
                segment(&tokens[..7], 7, &mut a),
                segment(&tokens[3..4], 1, &mut b),
                segment(&tokens[..30], 0, &mut c),
            ])
            .unwrap();
        assert_eq!((&first[0], &first[1]), (&alone(&tokens[..7], 7), &alone(&tokens[3..4], 1)));
        assert_eq!(first[2].rows(), 0);
        let second = model
            .forward(&mut [
                segment(&tokens[30..], 3, &mut c),
                segment(&tokens[7..9], 2, &mut a),
                segment(&tokens[4..20], 5, &mut b),
            ])
            .unwrap();
        assert_eq!(second[0], alone(&tokens, 3));
        assert_eq!(second[1], alone(&tokens[..9], 2));
        assert_eq!(second[2], alone(&tokens[3..20], 5));
    }
}

/// The law behind greedy identity: how the tokens are split into forwards changes no bit.
#[test]
fn rows_do_not_depend_on_their_number() {
    let device = open_device(DeviceChoice::Cpu).unwrap();
    for weights in [WeightType::F32, WeightType::F16] {
        for folder in parity_folders() {
            let model = open(&folder, &device, weights);
            let tokens = read_expected(&folder).tokens;
            let whole = CachedModel::new(model.clone()).logits(&tokens, tokens.len()).unwrap();
            for step in [1, 2, 3, 5, 8, 13] {
                let mut cached = CachedModel::new(model.clone());
                for end in (step..=tokens.len()).step_by(step) {
                    let logits = cached.logits(&tokens[..end], step).unwrap();
                    for row in 0..step {
                        assert_eq!(
                            logits.row(row),
                            whole.row(end - step + row),
                            "{} by {step}",
                            folder.display()
                        );
                    }
                }
            }
        }
    }
}
