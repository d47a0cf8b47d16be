//! The cache of the transformer: it grows, is cut short and fails without a trace in any logit.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/checkpoint.rs"]
mod checkpoint;
mod common;

use checkpoint::{Checkpoint, WEIGHTS, open};
use common::parity_folders;
use drafthorse::{
    LanguageModel, ModelError, TokenId, Transformer, WeightType,
    logits::Logits,
    model::{CachedModel, KvCache, Segment, TransformerCache},
};
use proptest::prelude::*;
use serde_json::json;
use std::{
    fs,
    sync::{Arc, LazyLock},
};

/// Vocabulary of the fixtures.
const VOCAB: TokenId = 320;

static LLAMA: LazyLock<Arc<Transformer>> = LazyLock::new(|| model("llama", 2048));

/// With layers that see a window of the cache only.
static MISTRAL: LazyLock<Arc<Transformer>> = LazyLock::new(|| model("mistral", 2048));

/// A fixture with another context.
fn model(name: &str, context: usize) -> Arc<Transformer> {
    let source = parity_folders().into_iter().find(|folder| folder.ends_with(name)).unwrap();
    let config = fs::read_to_string(source.join("config.json")).unwrap();
    let mut checkpoint = Checkpoint { config: serde_json::from_str(&config).unwrap(), ..Checkpoint::read() };
    checkpoint.config["max_position_embeddings"] = json!(context);
    let folder = checkpoint.write_config();
    fs::copy(source.join(WEIGHTS), folder.path().join(WEIGHTS)).unwrap();
    Arc::new(open(folder.path(), WeightType::F32).unwrap())
}

/// Tokens without a pattern.
fn tokens(count: usize) -> Vec<TokenId> {
    (0..count as TokenId).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) % VOCAB).collect()
}

fn read(model: &Transformer, cache: &mut TransformerCache, tokens: &[TokenId], rows: usize) -> Logits {
    model.forward(&mut [Segment::new(tokens, rows, cache)]).unwrap().remove(0)
}

/// Logits after every token, read in one forward into a cache of its own.
fn at_once(model: &Transformer, tokens: &[TokenId]) -> Logits {
    read(model, &mut model.new_cache(), tokens, tokens.len())
}

fn assert_rows(logits: &Logits, whole: &Logits, end: usize) {
    for row in 0..logits.rows() {
        let position = end - logits.rows() + row;
        assert!(logits.row(row) == whole.row(position), "logits after {} tokens", position + 1);
    }
}

/// Memory is taken for 512 positions at first and doubled twice on the way.
#[test]
fn a_cache_that_grows_loses_nothing() {
    let tokens = tokens(1100);
    for model in [&*LLAMA, &*MISTRAL] {
        let whole = at_once(model, &tokens);
        for step in [1, 7, 300, 511, 512, 513] {
            let mut cache = model.new_cache();
            for chunk in tokens.chunks(step) {
                let logits = read(model, &mut cache, chunk, chunk.len());
                assert_rows(&logits, &whole, cache.len());
            }
            assert_eq!(cache.len(), tokens.len());
        }
    }
}

/// The same through the model that remembers, which reads long prompts in pieces.
#[test]
fn a_long_prompt_gives_what_one_forward_gives() {
    let tokens = tokens(1100);
    let whole = at_once(&LLAMA, &tokens);
    for rows in [1, 2, 511, 513, 1100] {
        assert_rows(&CachedModel::new(LLAMA.clone()).logits(&tokens, rows).unwrap(), &whole, tokens.len());
    }
}

#[test]
fn a_cache_cut_short_forgets_the_rest() {
    let old = tokens(700);
    for model in [&*LLAMA, &*MISTRAL] {
        for keep in [0, 1, 300, 511, 512, 513, 699, 700] {
            let mut cache = model.new_cache();
            read(model, &mut cache, &old, 0);
            cache.truncate(9999);
            assert_eq!(cache.len(), old.len(), "nothing to cut off");
            cache.truncate(keep);
            assert_eq!((cache.len(), cache.is_empty()), (keep, keep == 0));
            let new: Vec<_> = old[..keep].iter().copied().chain([5, 4, 3, 2, 1]).collect();
            let logits = read(model, &mut cache, &new[keep..], 5);
            assert_rows(&logits, &at_once(model, &new), new.len());
        }
    }
}

/// The comparisons above can fail: a token more or less behind is another text.
#[test]
fn what_was_read_before_matters() {
    let tokens = tokens(600);
    let mut other = tokens.clone();
    other[3] = (other[3] + 1) % VOCAB;
    let (a, b) = (at_once(&LLAMA, &tokens), at_once(&LLAMA, &other));
    assert!(a.row(2) == b.row(2) && a.row(3) != b.row(3) && a.row(599) != b.row(599));
}

/// A call of [`CachedModel::logits`]: the length of the prefix of one long text, what follows it, and rows.
fn call() -> impl Strategy<Value = (usize, Vec<TokenId>, usize)> {
    let prefix = prop_oneof![0usize..20, 500usize..530, 0usize..700];
    (prefix, prop::collection::vec(0u32..3, 1..8), prop_oneof![0usize..10, 0usize..600])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever was asked before, the answer is, bit for bit, that of a model that has read nothing.
    #[test]
    fn any_history_gives_what_a_fresh_model_gives(
        calls in prop::collection::vec(call(), 1..10), windowed in any::<bool>(),
    ) {
        let model = if windowed { &*MISTRAL } else { &*LLAMA };
        let (text, mut cached) = (tokens(700), CachedModel::new(model.clone()));
        for (prefix, tail, rows) in calls {
            let sequence = [&text[..prefix], &tail].concat();
            let rows = rows.min(sequence.len());
            let fresh = CachedModel::new(model.clone()).logits(&sequence, rows).unwrap();
            prop_assert!(cached.logits(&sequence, rows).unwrap() == fresh);
        }
    }
}

/// After an error the next call gives what a fresh model gives.
fn assert_works(cached: &mut CachedModel<Transformer>, sequence: &[TokenId]) {
    let fresh = CachedModel::new(cached.model().clone()).logits(sequence, 1).unwrap();
    assert!(cached.logits(sequence, 1).unwrap() == fresh, "after {} tokens", sequence.len());
}

#[test]
fn a_token_outside_the_vocabulary_does_no_harm() {
    let good = tokens(600);
    // At once, and after a first piece of the prompt was read.
    for place in [0, 100, 550, 599] {
        let mut cached = CachedModel::new(LLAMA.clone());
        for outside in [VOCAB, u32::MAX] {
            cached.logits(&good[..50], 1).unwrap();
            let mut bad = good.clone();
            bad[place] = outside;
            let error = cached.logits(&bad, 1).unwrap_err();
            assert!(
                matches!(error, ModelError::Token { token, vocab: 320 } if token == outside),
                "{error:?}"
            );
            assert_eq!(error.to_string(), format!("token {outside} is outside the vocabulary of 320 tokens"));
            assert_works(&mut cached, &good);
            assert_works(&mut cached, &good[..=place]);
        }
    }
}

#[test]
fn a_full_context_does_no_harm() {
    let model = model("llama", 530);
    let tokens = tokens(531);
    let mut cached = CachedModel::new(model.clone());
    assert_works(&mut cached, &tokens[..530]);
    let error = cached.logits(&tokens, 1).unwrap_err();
    assert!(matches!(error, ModelError::ContextFull { length: 531, context: 530 }), "{error:?}");
    assert_eq!(error.to_string(), "a sequence of 531 tokens exceeds the context of 530");
    assert_works(&mut cached, &tokens[..530]);
    assert_works(&mut cached, &tokens[..40]);
    let mut cache = model.new_cache();
    read(&model, &mut cache, &tokens[..530], 1);
    let mut one = [Segment::new(&tokens[..1], 1, &mut cache)];
    assert!(matches!(model.forward(&mut one), Err(ModelError::ContextFull { .. })));
    assert_eq!(cache.len(), 530, "a refused token was not read");
}

/// A forward with one segment that is refused reads none of the others.
#[test]
fn a_refused_segment_spares_the_others() {
    let (mut a, mut b) = (LLAMA.new_cache(), LLAMA.new_cache());
    let refused = |a: &mut TransformerCache, b: &mut TransformerCache, tokens: &[TokenId], rows| {
        let (first, second) = (Segment::new(&[1, 2], 2, a), Segment::new(tokens, rows, b));
        LLAMA.forward(&mut [first, second]).unwrap_err()
    };
    assert!(matches!(refused(&mut a, &mut b, &[], 0), ModelError::EmptySequence));
    assert!(matches!(refused(&mut a, &mut b, &[3], 2), ModelError::Rows { rows: 2, tokens: 1 }));
    assert!(matches!(refused(&mut a, &mut b, &[VOCAB], 1), ModelError::Token { .. }));
    assert_eq!((a.len(), b.len()), (0, 0));
    assert!(read(&LLAMA, &mut a, &[1, 2], 2) == at_once(&LLAMA, &[1, 2]));
    assert!(LLAMA.forward(&mut []).unwrap().is_empty());
}
