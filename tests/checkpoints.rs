//! Checkpoints as they come: in pieces, in other types, damaged; and the cache behind the model.

mod common;

use common::{parity_folders, read_expected};
use drafthorse::{
    DeviceChoice, LanguageModel, ModelError, TokenId, Transformer, WeightType,
    logits::Logits,
    model::{CachedModel, KvCache, LoadedDevice, Segment},
    open_device,
};
use half::{bf16, f16};
use proptest::{prelude::*, sample::Index};
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
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn f32(shape: &[usize], values: impl IntoIterator<Item = f32>) -> Self {
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    fn values(&self) -> impl Iterator<Item = f32> {
        self.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
    }

    fn view(&self) -> TensorView<'_> {
        TensorView::new(self.dtype, self.shape.clone(), &self.bytes).unwrap()
    }
}

/// A checkpoint that a test changes before it is written.
#[derive(Clone)]
struct Checkpoint {
    config: Value,
    tensors: BTreeMap<String, Stored>,
}

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
const NORM: &str = "model.norm.weight";

impl Checkpoint {
    fn read() -> Self {
        let bytes = fs::read(llama().join(WEIGHTS)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().map(|(name, view)| {
            (name, Stored { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() })
        });
        let config = fs::read_to_string(llama().join("config.json")).unwrap();
        Self { config: serde_json::from_str(&config).unwrap(), tensors: tensors.collect() }
    }

    fn changed(change: impl FnOnce(&mut Self)) -> Self {
        let mut checkpoint = Self::read();
        change(&mut checkpoint);
        checkpoint
    }

    /// Every tensor as `store` makes it.
    fn mapped(store: impl Fn(&Stored) -> Stored) -> Self {
        Self::changed(|c| c.tensors.values_mut().for_each(|tensor| *tensor = store(tensor)))
    }

    fn write(&self) -> TempDir {
        let folder = self.write_config();
        write_tensors(&folder.path().join(WEIGHTS), self.tensors.iter());
        folder
    }

    fn write_config(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), self.config.to_string()).unwrap();
        folder
    }

    /// In `count` files with an index.
    fn write_shards(&self, count: usize) -> TempDir {
        let folder = self.write_config();
        let name = |shard: usize| format!("model-{shard:05}-of-{count:05}.safetensors");
        let of =
            |shard| self.tensors.iter().enumerate().filter(move |(i, _)| i % count == shard).map(|(_, t)| t);
        (0..count).for_each(|shard| write_tensors(&folder.path().join(name(shard)), of(shard)));
        let map: BTreeMap<_, _> =
            (0..count).flat_map(|s| of(s).map(move |(tensor, _)| (tensor, name(s)))).collect();
        fs::write(folder.path().join(INDEX), json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
        folder
    }
}

fn write_tensors<'a>(path: &Path, tensors: impl Iterator<Item = (&'a String, &'a Stored)>) {
    fs::write(path, safetensors::serialize(tensors.map(|(name, t)| (name, t.view())), None).unwrap())
        .unwrap();
}

fn fixture(name: &str) -> PathBuf {
    parity_folders().into_iter().find(|folder| folder.ends_with(name)).unwrap()
}

fn llama() -> PathBuf {
    fixture("llama")
}

fn cpu() -> LoadedDevice {
    open_device(DeviceChoice::Cpu).unwrap()
}

fn open(folder: &Path, weights: WeightType) -> Result<Transformer, ModelError> {
    Transformer::open(folder, &cpu(), weights)
}

fn logits(folder: &Path, weights: WeightType) -> Logits {
    static TOKENS: LazyLock<Vec<TokenId>> = LazyLock::new(|| read_expected(&llama()).tokens);
    CachedModel::new(Arc::new(open(folder, weights).unwrap())).logits(&TOKENS, TOKENS.len()).unwrap()
}

/// The error of a folder that must not open, and that its text says all of `parts`.
#[track_caller]
fn refused(folder: &Path, weights: WeightType, parts: &[&str]) -> ModelError {
    let error = open(folder, weights).unwrap_err();
    let text = error.to_string();
    assert!(!matches!(error, ModelError::Backend { .. }), "it panicked inside: {text}");
    for part in parts {
        assert!(text.contains(part), "`{text}` does not say `{part}`");
    }
    error
}

#[track_caller]
fn refused_f32(checkpoint: &Checkpoint, parts: &[&str]) -> ModelError {
    refused(checkpoint.write().path(), WeightType::F32, parts)
}

/// The header's JSON changed, its length corrected.
fn with_header(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header = serde_json::from_slice(header).unwrap();
    change(&mut header);
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn with_length(bytes: &[u8], length: u64) -> Vec<u8> {
    [&length.to_le_bytes(), &bytes[8..]].concat()
}

type Damage = fn(&[u8]) -> Vec<u8>;

const DAMAGES: &[(&str, Damage)] = &[
    ("no byte", |_| Vec::new()),
    ("less than the header's length", |b| b[..5].to_vec()),
    ("cut off within the header", |b| b[..1000].to_vec()),
    ("cut off within the data", |b| b[..b.len() - 1000].to_vec()),
    ("bytes behind the data", |b| [b, &[0; 10]].concat()),
    ("a header longer than the file", |b| with_length(b, b.len() as u64)),
    ("a header longer than anything", |b| with_length(b, u64::MAX)),
    ("no header", |b| with_length(b, 0)),
    ("a header that is no JSON", |b| [&b[..8], b"what is this", &b[20..]].concat()),
    ("a header that is no text", |b| [&b[..8], &[0xff; 12], &b[20..]].concat()),
    ("a header of other JSON", |b| with_header(b, |h| *h = json!([1, 2, 3]))),
    ("a tensor of more bytes than its shape", |b| {
        with_header(b, |h| h[NORM]["data_offsets"][1] = json!(571_140))
    }),
    ("a tensor behind the end", |b| {
        with_header(b, |h| h[NORM]["data_offsets"] = json!([1 << 40, (1u64 << 40) + 256]))
    }),
    ("tensors over each other", |b| with_header(b, |h| h[NORM]["data_offsets"] = json!([0, 256]))),
    ("a negative offset", |b| with_header(b, |h| h[NORM]["data_offsets"] = json!([-256, 0]))),
    ("a tensor that ends before it starts", |b| {
        with_header(b, |h| h[NORM]["data_offsets"] = json!([571_136, 570_880]))
    }),
    ("a shape beyond counting", |b| with_header(b, |h| h[NORM]["shape"] = json!([u64::MAX, 2]))),
    ("a type nobody knows", |b| with_header(b, |h| h[NORM]["dtype"] = json!("F33"))),
];

#[test]
fn a_damaged_file_is_named() {
    let folder = Checkpoint::read().write();
    let path = folder.path().join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    for (damage, apply) in DAMAGES {
        fs::write(&path, apply(&whole)).unwrap();
        println!("{damage}:");
        let error = refused(folder.path(), WeightType::F32, &[path.to_str().unwrap()]);
        println!("    {error}");
        assert!(matches!(&error, ModelError::Checkpoint { path: named, .. } if *named == path), "{error:?}");
    }
}

/// What is to be done about a file that broke off is the same whatever shows it.
#[test]
fn a_damaged_file_says_what_to_do() {
    let folder = Checkpoint::read().write();
    let path = folder.path().join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    let silent = DAMAGES.iter().filter(|(_, apply)| {
        fs::write(&path, apply(&whole)).unwrap();
        let text = open(folder.path(), WeightType::F32).unwrap_err().to_string();
        !["download", "truncated", "damaged"].iter().any(|word| text.contains(word))
    });
    assert_eq!(silent.map(|(damage, _)| damage).collect::<Vec<_>>(), [&""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever is changed in a file, it opens or is refused.
    #[test]
    fn no_file_makes_it_panic(
        flips in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4), cut in prop::option::of(any::<Index>()),
    ) {
        let folder = Checkpoint::read().write();
        let path = folder.path().join(WEIGHTS);
        let mut bytes = fs::read(&path).unwrap();
        for (place, byte) in flips {
            bytes[place.index(3000)] = byte;
        }
        bytes.truncate(cut.map_or(usize::MAX, |cut| cut.index(4000)));
        fs::write(&path, bytes).unwrap();
        if let Err(error) = open(folder.path(), WeightType::F32) {
            prop_assert!(!matches!(error, ModelError::Backend { .. }), "{}", error);
        }
    }
}
