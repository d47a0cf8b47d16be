//! What several tests need.
#![allow(dead_code, reason = "each test uses a part")]

use drafthorse::logits::TokenId;
use std::path::{Path, PathBuf};

/// What the reference says of a checkpoint.
#[derive(serde::Deserialize)]
pub struct Expected {
    pub tokens: Vec<TokenId>,
    pub logits: Vec<Vec<f32>>,
    pub greedy_prompt: Vec<TokenId>,
    pub greedy: Vec<TokenId>,
}

/// The checkpoints under `tests/fixtures/parity`.
pub fn parity_folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity");
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

pub fn read_expected(folder: &Path) -> Expected {
    serde_json::from_str(&std::fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap()
}
