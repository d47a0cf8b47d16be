//! Weights and caches in every type: drafting changes no token, fewer bits cost little, and weights stay in
//! the file they came in where that will do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{generate, parity_folders, read_expected};
use drafthorse::{
    DeviceChoice, Engine, ModelDrafter, SessionOptions, TokenId, Transformer, WeightType,
    logits::Logits,
    model::{CacheType, CachedModel, EmbeddedModel, LoadOptions, LoadedDevice},
    open_device,
};
use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{fs, path::Path, sync::Arc};
use tempfile::TempDir;

const TOKENIZER: &[u8] = include_bytes!("../assets/demo/tokenizer.json");

const EXPERT: EmbeddedModel = EmbeddedModel {
    name: "expert",
    config: include_str!("../assets/demo/expert/config.json"),
    tokenizer: TOKENIZER,
    weights: include_bytes!("../assets/demo/expert/model.safetensors"),
};

const DRAFTER: EmbeddedModel = EmbeddedModel {
    name: "drafter",
    config: include_str!("../assets/demo/drafter/config.json"),
    tokenizer: TOKENIZER,
    weights: include_bytes!("../assets/demo/drafter/model.safetensors"),
};

const PROMPTS: [&str; 8] = [
    "Question: What is 27 plus 15?\nAnswer:",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "The captain looked at the sea for a long while before he",
    "fn main() {\n    let numbers = vec![1, 2, 3];\n",
    "\"My dear Mr. Bennet,\" said his lady to him one day,",
    "Question: A box holds 6 eggs. How many eggs are in 7 boxes?\nAnswer:",
    "It was a dark and stormy night, and the old house at the end of the lane",
    "for i in range(10):\n    for j in range(10):\n        print(",
];

fn cpu() -> LoadedDevice {
    open_device(DeviceChoice::Cpu).unwrap()
}

/// Every type of weights with every type of cache.
fn all_options() -> impl Iterator<Item = LoadOptions> {
    let caches = [CacheType::F32, CacheType::F16];
    WeightType::ALL.into_iter().flat_map(move |weights| caches.map(|cache| LoadOptions { weights, cache }))
}

fn embedded(model: &EmbeddedModel, options: impl Into<LoadOptions>) -> Arc<Transformer> {
    Arc::new(Transformer::embedded(model, &cpu(), options).unwrap())
}

fn open(folder: &Path, options: impl Into<LoadOptions>) -> Arc<Transformer> {
    Arc::new(Transformer::open(folder, &cpu(), options).unwrap())
}

fn prompts(model: &Transformer) -> Vec<Vec<TokenId>> {
    PROMPTS.iter().map(|prompt| model.tokenizer().unwrap().encode(prompt).unwrap()).collect()
}

fn texts(engine: &mut Engine, prompts: &[Vec<TokenId>], max_tokens: usize, k: usize) -> Vec<Vec<TokenId>> {
    let options = SessionOptions { max_tokens, draft_length: Some(k.into()), ..Default::default() };
    prompts.iter().map(|prompt| generate(engine, prompt, &options)).collect()
}

fn pair(expert: Arc<Transformer>, drafter: Arc<Transformer>) -> Engine {
    Engine::builder().expert(expert).drafter(ModelDrafter::new(drafter)).build().unwrap()
}

/// Logits after every token.
fn logits(model: &Arc<Transformer>, tokens: &[TokenId]) -> Logits {
    CachedModel::new(model.clone()).logits(tokens, tokens.len()).unwrap()
}

fn bits(logits: &Logits) -> Vec<u32> {
    logits.iter().flatten().map(|x| x.to_bits()).collect()
}

#[test]
fn drafting_changes_no_token_of_the_demo_pair() {
    let mut all = Vec::new();
    for options in all_options() {
        let (expert, drafter) = (embedded(&EXPERT, options), embedded(&DRAFTER, options));
        let prompts = &prompts(&expert)[..3];
        let mut engine = pair(expert, drafter);
        let alone = texts(&mut engine, prompts, 64, 0);
        for k in [2, 4] {
            assert_eq!(texts(&mut engine, prompts, 64, k), alone, "{options:?}, k = {k}");
        }
        all.push(alone);
    }
    assert!(all.iter().any(|texts| *texts != all[0]), "the comparison sees other weights");
}

/// A model drafts for another that holds the same weights in another type.
#[test]
fn drafting_changes_no_token_of_any_architecture() {
    for folder in parity_folders() {
        let expected = read_expected(&folder);
        for options in all_options() {
            let mut engine = pair(open(&folder, options), open(&folder, WeightType::Q4));
            let prompts = [expected.greedy_prompt.clone(), expected.tokens[..9].to_vec()];
            let alone = texts(&mut engine, &prompts, 40, 0);
            for k in [2, 4] {
                let what = format!("{}, {options:?}, k = {k}", folder.display());
                assert_eq!(texts(&mut engine, &prompts, 40, k), alone, "{what}");
            }
        }
    }
}

/// How the tokens are split into forwards changes no bit.
#[test]
fn rows_do_not_depend_on_their_number() {
    for folder in parity_folders() {
        let tokens = read_expected(&folder).tokens;
        for options in all_options() {
            let model = open(&folder, options);
            let whole = logits(&model, &tokens);
            for step in [1, 3, 5, 9] {
                let mut cached = CachedModel::new(model.clone());
                for end in (step..=tokens.len()).step_by(step) {
                    let part = cached.logits(&tokens[..end], step).unwrap();
                    for row in 0..step {
                        let same = part.row(row) == whole.row(end - step + row);
                        assert!(same, "{}, {options:?} by {step}", folder.display());
                    }
                }
            }
        }
    }
}

/// Root of the mean squared difference.
fn distance(a: &Logits, b: &Logits) -> f64 {
    let squares: Vec<f64> =
        a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| f64::from(a - b).powi(2)).collect();
    (squares.iter().sum::<f64>() / squares.len() as f64).sqrt()
}

#[test]
fn fewer_bits_cost_little() {
    let [full, half, q8, q4] =
        [WeightType::F32, WeightType::F16, WeightType::Q8, WeightType::Q4].map(|w| embedded(&EXPERT, w));
    let prompts = prompts(&full);
    let text = |model: &Arc<Transformer>| {
        let mut engine = pair(model.clone(), embedded(&DRAFTER, WeightType::F32));
        texts(&mut engine, &prompts, 32, 4)
    };
    let (plain, few) = (text(&full), text(&q8));
    let same = plain.iter().zip(&few).filter(|(a, b)| a == b).count();
    println!("{same} of {} texts in q8 are those in f32", prompts.len());
    assert!(2 * same > prompts.len(), "{same}");
    for tokens in &prompts {
        let expected = logits(&full, tokens);
        let [half, q8, q4] = [&half, &q8, &q4].map(|model| distance(&logits(model, tokens), &expected));
        println!("logits differ by {half:.1e}, {q8:.1e}, {q4:.1e}");
        assert!(half < q8 && 3.0 * q8 < q4, "{half} {q8} {q4}");
    }
    for folder in parity_folders() {
        let tokens = read_expected(&folder).tokens;
        let of = |options: LoadOptions| logits(&open(&folder, options), &tokens);
        let expected = of(WeightType::F32.into());
        let cache = LoadOptions { cache: CacheType::F16, ..Default::default() };
        let [cache, half, q8, q4] =
            [cache, WeightType::F16.into(), WeightType::Q8.into(), WeightType::Q4.into()]
                .map(|options| distance(&of(options), &expected));
        println!("{}: {cache:.1e}, {half:.1e}, {q8:.1e}, {q4:.1e}", folder.display());
        assert!(cache > 0.0 && cache < q8 && half < q8 && q8 < q4, "{}", folder.display());
    }
}

/// A fixture with every tensor in one type, and `shift` bytes more before the first of them.
fn stored(folder: &Path, dtype: Dtype, shift: usize) -> TempDir {
    let file = fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let converted = |view: &TensorView<'_>| -> Vec<u8> {
        assert_eq!(view.dtype(), Dtype::F32);
        let values = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        // Numbers that both types have.
        let values = values.map(f16::from_f32);
        match dtype {
            Dtype::F16 => values.flat_map(f16::to_le_bytes).collect(),
            _ => values.flat_map(|x| x.to_f32().to_le_bytes()).collect(),
        }
    };
    let tensors: Vec<_> = tensors.tensors().into_iter().map(|(name, v)| (name, converted(&v), v)).collect();
    let views = tensors
        .iter()
        .map(|(name, bytes, view)| (name, TensorView::new(dtype, view.shape().to_vec(), bytes).unwrap()));
    let bytes = safetensors::serialize(views, None).unwrap();
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let longer = ((header + shift) as u64).to_le_bytes();
    let parts = [&longer, &bytes[8..8 + header], &vec![b' '; shift], &bytes[8 + header..]];
    let to = tempfile::tempdir().unwrap();
    fs::write(to.path().join("model.safetensors"), parts.concat()).unwrap();
    fs::copy(folder.join("config.json"), to.path().join("config.json")).unwrap();
    to
}

/// Whether the weights are still in the file, which then is part of the program's memory.
fn is_mapped(folder: &Path) -> Option<bool> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    Some(fs::read_to_string("/proc/self/maps").unwrap().contains(folder.to_str().unwrap()))
}

/// Weights that stay in the file give the bits of weights that were copied.
#[test]
fn weights_in_the_file_are_those_in_memory() {
    for folder in parity_folders() {
        let tokens = read_expected(&folder).tokens;
        for (weights, dtype, size) in [(WeightType::F32, Dtype::F32, 4), (WeightType::F16, Dtype::F16, 2)] {
            // Copied, as the type is another one.
            let other = if dtype == Dtype::F32 { Dtype::F16 } else { Dtype::F32 };
            let file = stored(&folder, other, 0);
            let model = open(file.path(), weights);
            assert_ne!(is_mapped(file.path()), Some(true), "{}, {weights:?}", folder.display());
            let copied = bits(&logits(&model, &tokens));
            for shift in 0..=8 {
                let file = stored(&folder, dtype, shift);
                let model = open(file.path(), weights);
                let what = format!("{}, {weights:?}, moved by {shift}", folder.display());
                let mapped = is_mapped(file.path());
                assert!(mapped.is_none_or(|mapped| mapped == (shift % size == 0)), "{what}: {mapped:?}");
                assert!(bits(&logits(&model, &tokens)) == copied, "{what}");
                drop(model);
                assert_ne!(is_mapped(file.path()), Some(true), "{what}");
            }
            // The comparison sees other weights.
            let few = open(file.path(), WeightType::Q8);
            assert!(bits(&logits(&few, &tokens)) != copied);
        }
    }
}
