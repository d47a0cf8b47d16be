//! Checkpoints that a test changes before they are written.
#![allow(dead_code, reason = "each test uses a part")]

use crate::common::{parity_folders, read_expected};
use drafthorse::{
    DeviceChoice, ModelError, TokenId, Transformer, WeightType, logits::Logits, model::CachedModel,
    open_device,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};
use tempfile::TempDir;

#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Stored {
    pub(crate) fn f32(shape: &[usize], values: impl IntoIterator<Item = f32>) -> Self {
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = f32> {
        self.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
    }

    pub(crate) fn view(&self) -> TensorView<'_> {
        TensorView::new(self.dtype, self.shape.clone(), &self.bytes).unwrap()
    }
}

/// A checkpoint that a test changes before it is written.
#[derive(Clone)]
pub(crate) struct Checkpoint {
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, Stored>,
}

pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(crate) const HEAD: &str = "lm_head.weight";
pub(crate) const NORM: &str = "model.norm.weight";

impl Checkpoint {
    pub(crate) fn read() -> Self {
        let bytes = fs::read(llama().join(WEIGHTS)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().map(|(name, view)| {
            (name, Stored { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() })
        });
        let config = fs::read_to_string(llama().join("config.json")).unwrap();
        Self { config: serde_json::from_str(&config).unwrap(), tensors: tensors.collect() }
    }

    pub(crate) fn changed(change: impl FnOnce(&mut Self)) -> Self {
        let mut checkpoint = Self::read();
        change(&mut checkpoint);
        checkpoint
    }

    /// Every tensor as `store` makes it.
    pub(crate) fn mapped(store: impl Fn(&Stored) -> Stored) -> Self {
        Self::changed(|c| c.tensors.values_mut().for_each(|tensor| *tensor = store(tensor)))
    }

    pub(crate) fn write(&self) -> TempDir {
        let folder = self.write_config();
        write_tensors(&folder.path().join(WEIGHTS), self.tensors.iter());
        folder
    }

    pub(crate) fn write_config(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), self.config.to_string()).unwrap();
        folder
    }

    /// In `count` files with an index.
    pub(crate) fn write_shards(&self, count: usize) -> TempDir {
        let folder = self.write_config();
        let name = |shard: usize| format!("model-{:05}-of-{count:05}.safetensors", shard + 1);
        let of =
            |shard| self.tensors.iter().enumerate().filter(move |(i, _)| i % count == shard).map(|(_, t)| t);
        (0..count).for_each(|shard| write_tensors(&folder.path().join(name(shard)), of(shard)));
        let map: BTreeMap<_, _> =
            (0..count).flat_map(|s| of(s).map(move |(tensor, _)| (tensor, name(s)))).collect();
        fs::write(folder.path().join(INDEX), json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
        folder
    }
}

pub(crate) fn write_tensors<'a>(path: &Path, tensors: impl Iterator<Item = (&'a String, &'a Stored)>) {
    fs::write(path, safetensors::serialize(tensors.map(|(name, t)| (name, t.view())), None).unwrap())
        .unwrap();
}

pub(crate) fn llama() -> PathBuf {
    parity_folders().into_iter().find(|folder| folder.ends_with("llama")).unwrap()
}

pub(crate) fn open(folder: &Path, weights: WeightType) -> Result<Transformer, ModelError> {
    Transformer::open(folder, &open_device(DeviceChoice::Cpu).unwrap(), weights)
}

pub(crate) fn logits(folder: &Path, weights: WeightType) -> Logits {
    static TOKENS: LazyLock<Vec<TokenId>> = LazyLock::new(|| read_expected(&llama()).tokens);
    CachedModel::new(Arc::new(open(folder, weights).unwrap())).logits(&TOKENS, TOKENS.len()).unwrap()
}
