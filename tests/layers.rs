//! What a model says before its last layer: of every row, exactly, and at no cost to others.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse::{
    DeviceChoice, LanguageModel, ModelError, TokenId, Transformer, WeightType,
    logits::Logits,
    model::{KvCache, LayeredModel, Segment, TransformerCache, adapters, open_device},
};

const LAYERS: usize = 4;
const VOCAB: usize = 50;
const TOKENS: [TokenId; 7] = [3, 14, 15, 9, 26, 5, 35];

/// The first layers of one and the same model: weights are made from their names.
fn model(layers: usize, tied: bool, device: DeviceChoice) -> Transformer {
    let config = format!(
        r#"{{"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": {layers},
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": {VOCAB}, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": {tied}}}"#
    );
    Transformer::generated("layers", &config, 5, &open_device(device).unwrap(), WeightType::F32).unwrap()
}

fn segment<'a>(
    tokens: &'a [TokenId],
    rows: usize,
    cache: &'a mut TransformerCache,
) -> [Segment<'a, TransformerCache>; 1] {
    [Segment::new(tokens, rows, cache)]
}

fn forward(model: &Transformer, tokens: &[TokenId], rows: usize) -> Logits {
    model.forward(&mut segment(tokens, rows, &mut model.new_cache())).unwrap().remove(0)
}

#[test]
fn a_layer_says_what_the_model_without_the_layers_after_it_would() {
    for tied in [false, true] {
        let whole = model(LAYERS, tied, DeviceChoice::Cpu);
        let layers = [3, 1, 2, 1];
        for rows in [1, 3, TOKENS.len()] {
            let found =
                whole.forward_layers(&mut segment(&TOKENS, rows, &mut whole.new_cache()), &layers).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].last, forward(&whole, &TOKENS, rows));
            for (layer, early) in layers.iter().zip(&found[0].early) {
                assert_eq!(
                    early,
                    &forward(&model(*layer, tied, DeviceChoice::Cpu), &TOKENS, rows),
                    "layer {layer}"
                );
            }
        }
        // Another layer is not taken for it.
        let found = whole.forward_layers(&mut segment(&TOKENS, 1, &mut whole.new_cache()), &[1]).unwrap();
        assert_ne!(found[0].early[0], forward(&model(2, tied, DeviceChoice::Cpu), &TOKENS, 1));
    }
}

#[test]
fn layers_of_drafted_rows_are_those_of_single_steps() {
    let model = model(LAYERS, false, DeviceChoice::Cpu);
    let layers: Vec<_> = (0..LAYERS).collect();
    let mut cache = model.new_cache();
    model.forward(&mut segment(&TOKENS[..3], 0, &mut cache)).unwrap();
    let pass = model.forward_layers(&mut segment(&TOKENS[3..], 4, &mut cache), &layers).unwrap().remove(0);
    assert_eq!(cache.len(), TOKENS.len());
    cache.truncate(3);
    for (row, token) in TOKENS[3..].iter().enumerate() {
        let step = model.forward_layers(&mut segment(&[*token], 1, &mut cache), &layers).unwrap().remove(0);
        assert_eq!(step.last.row(0), pass.last.row(row));
        for layer in 0..LAYERS {
            assert_eq!(step.early[layer].row(0), pass.early[layer].row(row), "layer {layer}, row {row}");
        }
    }
}

#[test]
fn several_segments_and_segments_without_rows_keep_apart() {
    let model = model(LAYERS, false, DeviceChoice::Cpu);
    let (mut one, mut two, mut three) = (model.new_cache(), model.new_cache(), model.new_cache());
    let mut segments = [
        Segment::new(&TOKENS[..4], 2, &mut one),
        Segment::new(&TOKENS[4..], 0, &mut two),
        Segment::new(&TOKENS[2..5], 3, &mut three),
    ];
    let found = model.forward_layers(&mut segments, &[2, 0]).unwrap();
    for (found, (tokens, rows)) in
        found.iter().zip([(&TOKENS[..4], 2), (&TOKENS[4..], 0), (&TOKENS[2..5], 3)])
    {
        let alone =
            model.forward_layers(&mut segment(tokens, rows, &mut model.new_cache()), &[2, 0]).unwrap();
        assert_eq!(found, &alone[0]);
        assert_eq!((found.last.rows(), found.early.len()), (rows, 2));
    }
    assert!(model.forward_layers(&mut [], &[1]).unwrap().is_empty());
}

#[test]
fn hidden_states_are_what_the_logits_are_made_of() {
    let model = model(LAYERS, true, DeviceChoice::Cpu);
    let asked: Vec<_> = (0..=LAYERS).collect();
    let states =
        model.layer_states(&mut segment(&TOKENS, 2, &mut model.new_cache()), &asked).unwrap().remove(0);
    // Layer 0 is the embedding of the tokens read, whatever came before.
    let other =
        model.layer_states(&mut segment(&TOKENS[5..], 2, &mut model.new_cache()), &[0, 1]).unwrap().remove(0);
    assert_eq!((states.row(0, 0), states.row(0, 1)), (other.row(0, 0), other.row(0, 1)));
    assert_ne!(states.row(1, 0), other.row(1, 0), "later layers look back");
    assert_eq!(states.row(LAYERS, 1).len(), 32);
    // The norm is of weights around 1, the head the embedding: the order of logits follows from both.
    let logits = forward(&model, &TOKENS, 2);
    assert_eq!(logits.rows(), 2);
    let error =
        model.layer_states(&mut segment(&TOKENS, 1, &mut model.new_cache()), &[LAYERS + 1]).unwrap_err();
    assert!(matches!(error, ModelError::Layer { layer: 5, layers: 5 }), "{error}");
}

#[test]
fn a_layer_that_is_not_there_is_an_error_before_anything_is_read() {
    let model = model(LAYERS, false, DeviceChoice::Cpu);
    let mut cache = model.new_cache();
    let error = model.forward_layers(&mut segment(&TOKENS, 1, &mut cache), &[1, LAYERS]).unwrap_err();
    assert_eq!(error.to_string(), "layer 4 was asked for; below 4 is possible");
    assert_eq!(cache.len(), 0);
    let error = model.forward_layers(&mut segment(&[99], 1, &mut cache), &[1]).unwrap_err();
    assert!(matches!(error, ModelError::Token { token: 99, .. }));
}

#[test]
fn a_gpu_says_the_same_of_its_layers() {
    let Some(adapter) = adapters().into_iter().find(|a| matches!(a.choice, DeviceChoice::Vulkan(_))) else {
        assert!(std::env::var_os("DRAFTHORSE_REQUIRE_VULKAN").is_none(), "no Vulkan adapter on this machine");
        return println!("NOT RUN: no Vulkan adapter on this machine");
    };
    let [cpu, gpu] = [DeviceChoice::Cpu, adapter.choice].map(|choice| model(LAYERS, false, choice));
    let layers = [0, 2, 3];
    let read = |model: &Transformer| {
        model.forward_layers(&mut segment(&TOKENS, 3, &mut model.new_cache()), &layers).unwrap().remove(0)
    };
    let (cpu, gpu) = (read(&cpu), read(&gpu));
    let pairs = cpu.early.iter().chain([&cpu.last]).zip(gpu.early.iter().chain([&gpu.last]));
    for (layer, (cpu, gpu)) in pairs.enumerate() {
        for (a, b) in cpu.iter().flatten().zip(gpu.iter().flatten()) {
            assert!((a - b).abs() < 1e-4, "entry {layer}: {a} {b}");
        }
    }
}
