//! Checkpoints as they come: in pieces, in other types, damaged.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/checkpoint.rs"]
mod checkpoint;
mod common;

use checkpoint::{
    Checkpoint, EMBEDDING, HEAD, INDEX, NORM, Stored, WEIGHTS, llama, logits, open, write_tensors,
};
use drafthorse::{LanguageModel, ModelError, WeightType};
use half::{bf16, f16};
use proptest::{prelude::*, sample::Index};
use safetensors::Dtype;
use serde_json::{Value, json};
use std::{fs, path::Path};

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
        with_header(b, |h| h[NORM]["data_offsets"] = json!([1u64 << 40, (1u64 << 40) + 256]))
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

#[test]
fn tensors_that_do_not_fit_are_named() {
    let query = "model.layers.1.self_attn.q_proj.weight";
    let of = |change: fn(&mut Checkpoint)| Checkpoint::changed(change);
    for name in [query, EMBEDDING, NORM, HEAD, "model.layers.2.mlp.down_proj.weight"] {
        let mut missing = Checkpoint::read();
        missing.tensors.remove(name);
        let error = refused_f32(&missing, &[name, "is missing"]);
        assert!(
            matches!(&error, ModelError::MissingTensor { name: named, .. } if named == name),
            "{error:?}"
        );
    }
    let extra = of(|c| {
        let norm = c.tensors[NORM].clone();
        c.tensors.extend([("model.z".into(), norm.clone()), ("model.a".into(), norm)]);
    });
    let error = refused_f32(&extra, &["2 tensors have no place", "`model.a`", "is `model_type` right?"]);
    assert!(
        matches!(&error, ModelError::UnexpectedTensors { names, .. } if names == &["model.a", "model.z"])
    );
    let turned = of(|c| c.tensors.get_mut("model.layers.1.self_attn.k_proj.weight").unwrap().shape.reverse());
    let error =
        refused_f32(&turned, &["layers.1.self_attn.k_proj", "[64, 32]", "config.json asks for [32, 64]"]);
    assert!(matches!(error, ModelError::TensorShape { .. }), "{error:?}");
    let flat = of(|c| c.tensors.get_mut(NORM).unwrap().shape = vec![64, 1]);
    assert!(matches!(refused_f32(&flat, &[NORM, "[64, 1]", "[64]"]), ModelError::TensorShape { .. }));
    let wider = of(|c| c.config["vocab_size"] = json!(321));
    assert!(matches!(refused_f32(&wider, &[EMBEDDING, "[321, 64]"]), ModelError::TensorShape { .. }));
    let whole = of(|c| c.tensors.get_mut(NORM).unwrap().dtype = Dtype::I32);
    let error = refused_f32(&whole, &[NORM, "dtype I32", "supported are F32, F16 and BF16"]);
    assert!(matches!(error, ModelError::TensorDtype { .. }), "{error:?}");
}

#[test]
fn a_configuration_that_cannot_be_used_is_named() {
    let folder = Checkpoint::changed(|c| c.config["model_type"] = json!("mamba")).write();
    let path = folder.path().join("config.json");
    let refused = |parts: &[&str]| {
        refused(folder.path(), WeightType::F32, &[parts, &[path.to_str().unwrap()]].concat())
    };
    let error = refused(&["`mamba`", "supported are llama, mistral, qwen2, qwen3"]);
    assert!(matches!(error, ModelError::UnknownArchitecture { .. }), "{error:?}");
    for text in ["", "{", "model_type: llama", "[]", r#"{"model_type": 5}"#] {
        fs::write(&path, text).unwrap();
        assert!(matches!(refused(&[]), ModelError::Config { .. }), "{text:?}");
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(refused(&["cannot read"]), ModelError::Io { .. }));
}

/// Numbers that no memory holds are wrong like any others; nothing is allocated before they are compared.
#[test]
fn numbers_beyond_reason_are_refused() {
    let keys =
        ["hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size"];
    for key in keys.into_iter().chain(["head_dim", "num_hidden_layers"]) {
        // Small enough that no product of two overflows, but for the layers, whose number is one alone.
        let value = if key == "num_hidden_layers" { 1u64 << 62 } else { 1 << 40 };
        let folder = Checkpoint::changed(|c| c.config[key] = json!(value)).write();
        let result = std::panic::catch_unwind(|| open(folder.path(), WeightType::F32).map(|_| ()));
        let error = result.unwrap_or_else(|_| panic!("`{key}` {value} makes it panic")).unwrap_err();
        assert!(!matches!(error, ModelError::Backend { .. }), "{key}: {error}");
    }
}

/// A folder without weights, and folders that stand where a file should.
#[test]
fn files_that_are_not_there_are_named() {
    let folder = Checkpoint::read().write_config();
    for name in [WEIGHTS, "tokenizer.json", "generation_config.json"] {
        let path = folder.path().join(name);
        if name != WEIGHTS {
            fs::create_dir(&path).unwrap();
        }
        let error = refused(folder.path(), WeightType::F32, &["cannot read", path.to_str().unwrap()]);
        assert!(matches!(error, ModelError::Io { .. }), "{error:?}");
    }
    let nowhere = folder.path().join("nowhere");
    assert!(matches!(refused(&nowhere, WeightType::F32, &["nowhere"]), ModelError::Io { .. }));
}

#[test]
fn shards_give_the_same_bits() {
    let (checkpoint, whole) = (Checkpoint::read(), logits(&llama(), WeightType::F32));
    for count in [1, 2, 7] {
        assert_eq!(logits(checkpoint.write_shards(count).path(), WeightType::F32), whole, "{count} shards");
    }
}

#[test]
fn an_index_that_is_wrong_is_refused() {
    let checkpoint = Checkpoint::read();
    let folder = checkpoint.write_shards(2);
    let path = folder.path().join(INDEX);
    let text = fs::read_to_string(&path).unwrap();
    let index: Value = serde_json::from_str(&text).unwrap();
    let refused = |change: &dyn Fn(&mut Value), parts: &[&str]| {
        let mut index = index.clone();
        change(&mut index["weight_map"]);
        fs::write(&path, index.to_string()).unwrap();
        refused(folder.path(), WeightType::F32, parts)
    };
    let error =
        refused(&|map| map[NORM] = json!("model-3.safetensors"), &["cannot read", "model-3.safetensors"]);
    assert!(matches!(error, ModelError::Io { .. }), "{error:?}");
    let error =
        refused(&|map| map["model.more"] = json!("model-00001-of-00002.safetensors"), &["model.more", INDEX]);
    assert!(matches!(&error, ModelError::MissingTensor { name, .. } if name == "model.more"), "{error:?}");
    let error = refused(&|map| *map = json!(["a list"]), &[INDEX]);
    assert!(matches!(error, ModelError::Config { .. }), "{error:?}");
    // What lies outside of the folder is not even looked at: the file is there.
    let outside = checkpoint.write();
    let absolute = outside.path().join(WEIGHTS);
    let sideways = format!("../{}/{WEIGHTS}", outside.path().file_name().unwrap().to_str().unwrap());
    for shard in [absolute.to_str().unwrap(), &sideways, "sub/model.safetensors", ""] {
        let error = refused(&|map| map[NORM] = json!(shard), &[INDEX, shard, "is not a file of this folder"]);
        assert!(matches!(error, ModelError::Checkpoint { .. }), "{error:?}");
    }
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let checkpoint = Checkpoint::read();
    let folder = checkpoint.write_shards(2);
    let shard = folder.path().join("model-00002-of-00002.safetensors");
    write_tensors(&shard, checkpoint.tensors.iter());
    let error = refused(folder.path(), WeightType::F32, &["is in two shards", shard.to_str().unwrap()]);
    assert!(matches!(error, ModelError::Checkpoint { .. }), "{error:?}");
}

/// Widening 16 bits loses nothing: the model is that of the rounded values, in whatever type it is held.
#[test]
fn stored_halves_are_the_values_they_stand_for() {
    let half = |dtype, bytes: Vec<u8>, like: &Stored| Stored { dtype, shape: like.shape.clone(), bytes };
    let to_f16 =
        |t: &Stored| half(Dtype::F16, t.values().flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(), t);
    let to_bf16 =
        |t: &Stored| half(Dtype::BF16, t.values().flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(), t);
    let through_f16 = |t: &Stored| Stored::f32(&t.shape, t.values().map(|x| f16::from_f32(x).to_f32()));
    let through_bf16 = |t: &Stored| Stored::f32(&t.shape, t.values().map(|x| bf16::from_f32(x).to_f32()));
    let pairs = [
        (Checkpoint::mapped(to_f16), Checkpoint::mapped(through_f16)),
        (Checkpoint::mapped(to_bf16), Checkpoint::mapped(through_bf16)),
    ];
    for (stored, rounded) in pairs {
        let (stored, rounded) = (stored.write(), rounded.write());
        for weights in [WeightType::F32, WeightType::F16] {
            assert_eq!(logits(stored.path(), weights), logits(rounded.path(), weights), "{weights:?}");
        }
        assert_ne!(
            logits(stored.path(), WeightType::F32),
            logits(&llama(), WeightType::F32),
            "nothing was rounded"
        );
    }
}

#[test]
fn values_beyond_f16_are_refused() {
    let with = |value: f32| {
        Checkpoint::changed(|c| {
            c.tensors.get_mut(EMBEDDING).unwrap().bytes[40..44].copy_from_slice(&value.to_le_bytes());
        })
    };
    for value in [65_520.0, -1e9, f32::INFINITY] {
        let folder = with(value).write();
        let error =
            refused(folder.path(), WeightType::F16, &[EMBEDDING, "beyond the range of f16; load with f32"]);
        assert!(matches!(&error, ModelError::F16Range { name, .. } if name == EMBEDDING), "{error:?}");
        open(folder.path(), WeightType::F32).unwrap();
    }
    // The largest value that still rounds to one of f16.
    open(with(65_519.0).write().path(), WeightType::F16).unwrap();
    // Norms are held in f32 whatever the matrices are.
    let norm = Checkpoint::changed(|c| {
        c.tensors.get_mut(NORM).unwrap().bytes[..4].copy_from_slice(&1e9f32.to_le_bytes());
    });
    open(norm.write().path(), WeightType::F16).unwrap();
}

#[test]
fn a_tied_head_is_the_embedding() {
    let copied = Checkpoint::changed(|c| {
        c.tensors.insert(HEAD.into(), c.tensors[EMBEDDING].clone());
    });
    let tied = Checkpoint::changed(|c| {
        c.tensors.remove(HEAD);
        c.config["tie_word_embeddings"] = json!(true);
    });
    // Exporters leave a head in the file, and buffers that follow from the configuration.
    let spare = Checkpoint::changed(|c| {
        c.config["tie_word_embeddings"] = json!(true);
        for layer in 0..3 {
            let name = format!("model.layers.{layer}.self_attn.rotary_emb.inv_freq");
            c.tensors.insert(name, Stored::f32(&[4], [1.0, 0.5, 0.25, 0.125]));
        }
    });
    for weights in [WeightType::F32, WeightType::F16] {
        let expected = logits(copied.write().path(), weights);
        assert_eq!(logits(tied.write().path(), weights), expected);
        assert_eq!(logits(spare.write().path(), weights), expected);
        assert_ne!(logits(&llama(), weights), expected, "the head of its own is another");
    }
}

#[test]
fn generation_config_is_read() {
    let folder = Checkpoint::read().write();
    let tokens = || {
        open(folder.path(), WeightType::F32).map(|m| m.generation_config().clone()).map(|g| (g.bos, g.eos))
    };
    assert_eq!(tokens().unwrap(), (Some(1), vec![2]));
    let path = folder.path().join("generation_config.json");
    fs::write(&path, r#"{"eos_token_id": [7, 8], "bos_token_id": 3, "temperature": 0.6}"#).unwrap();
    assert_eq!(tokens().unwrap(), (Some(3), vec![7, 8]));
    fs::write(&path, "nothing").unwrap();
    let error = refused(folder.path(), WeightType::F32, &[path.to_str().unwrap()]);
    assert!(matches!(error, ModelError::Config { .. }), "{error:?}");
}

/// Token `w` of the one that has an id beyond all others.
fn write_tokenizer(folder: &Path, last: u32) {
    let json = json!({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0, "w": last}, "unk_token": "a"}});
    fs::write(folder.join("tokenizer.json"), json.to_string()).unwrap();
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let folder = Checkpoint::read().write();
    let path = folder.path().join("tokenizer.json");
    assert!(open(folder.path(), WeightType::F32).unwrap().vocabulary().is_none());
    write_tokenizer(folder.path(), 319);
    assert_eq!(open(folder.path(), WeightType::F32).unwrap().vocabulary().unwrap().text(319), Some("w"));
    write_tokenizer(folder.path(), 320);
    let parts = [path.to_str().unwrap(), "token 320 (`w`)", "has 320 tokens", "not of one model"];
    let error = refused(folder.path(), WeightType::F32, &parts);
    assert!(matches!(error, ModelError::TokenizerVocabulary { token: 320, vocab: 320, .. }), "{error:?}");
    for text in ["", "{}", "no tokenizer", r#"{"model": {"type": "BPE"}}"#] {
        fs::write(&path, text).unwrap();
        let error = refused(folder.path(), WeightType::F32, &[path.to_str().unwrap()]);
        assert!(matches!(error, ModelError::Tokenizer { .. }), "{error:?}");
    }
}
