//! A checkpoint of somebody else, with a real tokenizer, against Hugging Face transformers.
//!
//! It is not part of the project; where it does not lie beside the checkout, nothing is compared.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse::{
    DeviceChoice, TokenId, Transformer, WeightType,
    logits::argmax,
    model::{CachedModel, TextStream},
    open_device,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the reference says.
#[derive(serde::Deserialize)]
struct Expected {
    prompt: String,
    prompt_tokens: Vec<TokenId>,
    /// What follows the prompt.
    greedy: Vec<TokenId>,
    /// Prompt and what follows.
    text: String,
    tokens: Vec<TokenId>,
    /// The best token after each of `tokens`, and its logit.
    argmax: Vec<TokenId>,
    top_logit: Vec<f32>,
    logits_row0: Vec<f32>,
    logits_row63: Vec<f32>,
}

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models/stories260K");
    let found = folder.join("expected.json").exists();
    if !found {
        println!("NOT RUN: models/stories260K is not on this machine");
    }
    found.then_some(folder)
}

fn open() -> Option<(Arc<Transformer>, Expected)> {
    let folder = folder()?;
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let device = open_device(DeviceChoice::Cpu).unwrap();
    let model = Transformer::open(&folder, &device, WeightType::F32).unwrap();
    Some((Arc::new(model), serde_json::from_str(&expected).unwrap()))
}

#[test]
fn the_story_is_the_same() {
    let Some((model, expected)) = open() else { return };
    let tokenizer = model.tokenizer().unwrap();
    let prompt = tokenizer.encode(&expected.prompt).unwrap();
    assert_eq!(prompt, expected.prompt_tokens);
    let mut cached = CachedModel::new(model.clone());
    let mut stream = TextStream::after(tokenizer.clone(), &prompt);
    let (mut sequence, mut text) = (prompt.clone(), expected.prompt.clone());
    for _ in 0..expected.greedy.len() {
        let token = argmax(cached.logits(&sequence, 1).unwrap().row(0));
        sequence.push(token);
        text += &stream.push(token).unwrap();
    }
    text += &stream.finish().unwrap();
    assert_eq!(sequence[prompt.len()..], expected.greedy);
    assert_eq!(tokenizer.decode(&sequence).unwrap(), expected.text);
    assert_eq!(text, expected.text);
}

fn assert_near(ours: &[f32], reference: &[f32]) {
    assert_eq!(ours.len(), reference.len());
    for (token, (a, b)) in ours.iter().zip(reference).enumerate() {
        assert!((a - b).abs() < 1e-3, "token {token}: {a} instead of {b}");
    }
}

#[test]
fn the_logits_are_the_same() {
    let Some((model, expected)) = open() else { return };
    let logits = CachedModel::new(model).logits(&expected.tokens, expected.tokens.len()).unwrap();
    let best: Vec<TokenId> = logits.iter().map(argmax).collect();
    assert_eq!(best, expected.argmax);
    let top: Vec<f32> = logits.iter().zip(&best).map(|(row, &token)| row[token as usize]).collect();
    assert_near(&top, &expected.top_logit);
    assert_near(logits.row(0), &expected.logits_row0);
    assert_near(logits.row(63), &expected.logits_row63);
}
