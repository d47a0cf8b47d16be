//! A model that drafts for itself writes what it writes alone, reads no row twice and takes no second copy of the
//! weights.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "../logits/tests/common/counting.rs"]
mod counting;

use common::{AlwaysAccept, generate, run};
use drafthorse::{
    DeviceChoice, DraftRequest, Drafter, Engine, ModelDrafter, ModelError, SamplingOptions, SessionOptions,
    TokenId, Transformer, WeightType, demo,
    logits::{Branching, Context, Logits, Memory, Sampler, SeededDraws, TreePlan, argmax},
    model::{CachedModel, EarlyExit, ExitReader, RowsRead, Shortcut, adapters, open_device},
    proof::{Pair, Subject},
    self_speculation::{self, SearchOptions},
    synthetic::random_tokens,
    verifier::{RULES, rule},
};
use std::{sync::Arc, time::Duration};

const LAYERS: usize = 4;
const VOCAB: usize = 50;

/// A model of four layers, generated.
fn small(device: DeviceChoice) -> Arc<Transformer> {
    let config = format!(
        r#"{{"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": {LAYERS},
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": {VOCAB}, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false}}"#
    );
    let device = open_device(device).unwrap();
    Arc::new(Transformer::generated("layers", &config, 5, &device, WeightType::F32).unwrap())
}

fn demo_expert() -> Arc<Transformer> {
    demo::expert(&open_device(DeviceChoice::Cpu).unwrap(), WeightType::F32).unwrap()
}

fn prompts(model: &Transformer) -> Vec<Vec<TokenId>> {
    let texts = [
        "Question: Anna has 12 apples and gives 5 of them to Tom. How many apples are left?\nAnswer:",
        "It was a dark and stormy night, and the old house at the end of the lane",
        "def fibonacci(n):\n    if n < 2:\n        return n\n",
    ];
    texts.iter().map(|text| model.tokenizer().unwrap().encode(text).unwrap()).collect()
}

fn shortcut(name: &str) -> Shortcut {
    name.parse().unwrap()
}

fn options(k: usize, tokens: usize) -> SessionOptions {
    SessionOptions { max_tokens: tokens, draft_length: Some(k.into()), ..Default::default() }
}

fn plain(model: &Arc<Transformer>) -> Engine {
    Engine::builder().expert(model.clone()).build().unwrap()
}

#[test]
fn greedy_tokens_are_those_of_the_model_alone() {
    let model = demo_expert();
    let prompts = prompts(&model);
    let alone: Vec<_> =
        prompts.iter().map(|prompt| generate(&mut plain(&model), prompt, &options(0, 48))).collect();
    let mut credulous_differs = false;
    for name in ["exit:1", "exit:3", "exit:5", "skip:2", "skip:3,5", "skip:2-5"] {
        let mut engine = self_speculation::builder(&model, &shortcut(name)).unwrap().build().unwrap();
        assert_eq!(engine.drafter().name(), name);
        for k in [0, 1, 3, 6] {
            for (prompt, alone) in prompts.iter().zip(&alone) {
                assert_eq!(&generate(&mut engine, prompt, &options(k, 48)), alone, "{name}, k = {k}");
            }
        }
        // The same comparison sees a rule that keeps what the drafter says.
        let credulous = SessionOptions { rule: Some(Arc::new(AlwaysAccept)), ..options(3, 48) };
        credulous_differs |= generate(&mut engine, &prompts[0], &credulous) != alone[0];
    }
    assert!(credulous_differs);
}

/// Under every rule and at every temperature, expert and drafter that share a memory write what two models that share
/// none write: what they say is the same to the bit, and all the rest is the engine.
#[test]
fn sharing_changes_nothing_under_any_rule() {
    let model = demo_expert();
    let prompt = &prompts(&model)[1];
    let separate = |layer| {
        let drafter = Arc::new(model.shortened(&Shortcut::Exit(layer)).unwrap());
        Engine::builder().expert(model.clone()).drafter(ModelDrafter::new(drafter)).build().unwrap()
    };
    let mut shared = self_speculation::builder(&model, &Shortcut::Exit(4)).unwrap().build().unwrap();
    let (mut apart, mut other_exit) = (separate(4), separate(2));
    let mut differences = 0;
    for info in RULES {
        for temperature in [0.0, 0.9] {
            let sampling = SamplingOptions { temperature, ..Default::default() };
            let rule = Some(rule(info.name).unwrap());
            let options = SessionOptions { sampling, rule, seed: 3, ..options(3, 24) };
            let found = generate(&mut shared, prompt, &options);
            assert_eq!(found, generate(&mut apart, prompt, &options), "{} at {temperature}", info.name);
            differences += usize::from(found != generate(&mut other_exit, prompt, &options));
        }
    }
    assert!(differences > 0, "the comparison sees another drafter");
}

/// What a reader that has read nothing before says.
fn fresh(model: &Arc<Transformer>, exit: Option<usize>, sequence: &[TokenId], rows: usize) -> Logits {
    let mut reader = CachedModel::new(model.clone());
    match exit {
        None => reader.logits(sequence, rows).unwrap(),
        Some(layer) => reader.layer_logits(sequence, rows, &[layer]).unwrap().early.remove(0),
    }
}

/// Texts that begin alike and go on in one of several ways.
fn some_text(call: u64) -> (Vec<TokenId>, usize) {
    let dice = random_tokens(call, 4, 1000);
    let (common, more) = (dice[0] as usize % 20, 1 + dice[1] as usize % 8);
    let text = [&random_tokens(1000, common, VOCAB)[..], &random_tokens(u64::from(dice[2]) % 3, more, VOCAB)];
    let text = text.concat();
    let rows = dice[3] as usize % (text.len() + 1);
    (text, rows)
}

fn close(a: &Logits, b: &Logits, tolerance: f32) -> bool {
    a.rows() == b.rows()
        && a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| (a - b).abs() <= tolerance)
}

/// Asks both readers of a pair for texts in no order, and compares with readers that have read nothing.
fn check_pair(model: &Arc<Transformer>, calls: u64, tolerance: f32) {
    for exit in 1..LAYERS {
        let pair = EarlyExit::new(model, exit).unwrap();
        let (mut expert, mut drafter) = (CachedModel::new(pair.expert()), CachedModel::new(pair.drafter()));
        for call in 0..calls {
            let (text, rows) = some_text(call);
            match call % 3 {
                0 => {
                    let found = expert.logits(&text, rows).unwrap();
                    assert!(close(&found, &fresh(model, None, &text, rows), tolerance), "{exit} {call}");
                }
                1 => {
                    let found = drafter.logits(&text, rows).unwrap();
                    assert!(
                        close(&found, &fresh(model, Some(exit), &text, rows), tolerance),
                        "{exit} {call}"
                    );
                }
                _ => {
                    let mut longer = text.clone();
                    for said in drafter.continue_greedily(&text, 4).unwrap() {
                        assert_eq!(
                            said,
                            argmax(fresh(model, Some(exit), &longer, 1).row(0)),
                            "{exit} {call}"
                        );
                        longer.push(said);
                    }
                    let found = expert.logits(&longer, 5).unwrap();
                    assert!(close(&found, &fresh(model, None, &longer, 5), tolerance), "{exit} {call}");
                }
            }
        }
    }
}

#[test]
fn readers_that_share_say_what_readers_alone_say_to_the_bit() {
    let model = small(DeviceChoice::Cpu);
    check_pair(&model, 120, 0.0);
    // Another exit is not taken for it.
    let (text, _) = some_text(4);
    let mut drafter = CachedModel::new(EarlyExit::new(&model, 2).unwrap().drafter());
    assert_ne!(drafter.logits(&text, 1).unwrap(), fresh(&model, Some(1), &text, 1));
}

#[test]
fn readers_on_a_gpu_say_what_readers_alone_say() {
    let Some(adapter) = adapters().into_iter().find(|a| matches!(a.choice, DeviceChoice::Vulkan(_))) else {
        assert!(std::env::var_os("DRAFTHORSE_REQUIRE_VULKAN").is_none(), "no Vulkan adapter on this machine");
        return println!("NOT RUN: no Vulkan adapter on this machine");
    };
    check_pair(&small(adapter.choice), 30, 1e-4);
}

#[test]
fn drafted_rows_go_through_every_layer_once() {
    let model = small(DeviceChoice::Cpu);
    let pair = EarlyExit::new(&model, 2).unwrap();
    let (mut expert, mut drafter) = (CachedModel::new(pair.expert()), CachedModel::new(pair.drafter()));
    let text = random_tokens(1, 10, VOCAB);
    // The prompt but its last token, as an engine reads it.
    expert.logits(&text[..9], 0).unwrap();
    drafter.logits(&text[..9], 0).unwrap();
    assert_eq!(pair.rows_read(), RowsRead { first: 9, rest: 9 });
    let said = drafter.continue_greedily(&text, 4).unwrap();
    assert_eq!(pair.rows_read(), RowsRead { first: 13, rest: 9 }, "the last is not read");
    let text = [&text[..], &said].concat();
    expert.logits(&text, 5).unwrap();
    assert_eq!(pair.rows_read(), RowsRead { first: 14, rest: 14 });
    // All are kept: the next draft reads what the expert added.
    drafter.continue_greedily(&[&text[..], &[7]].concat(), 1).unwrap();
    assert_eq!(pair.rows_read(), RowsRead { first: 15, rest: 14 });
    // A drafter with a memory of its own leaves all layers to the expert.
    CachedModel::new(pair.drafter()).continue_greedily(&[&text[..], &[8]].concat(), 3).unwrap();
    assert_eq!(pair.rows_read(), RowsRead { first: 15, rest: 14 });
    // Once the first is gone, the next one shares.
    drop(drafter);
    CachedModel::new(pair.drafter()).logits(&[&text[..], &[9]].concat(), 1).unwrap();
    assert_eq!(pair.rows_read(), RowsRead { first: 16, rest: 14 });
}

#[test]
fn a_reader_that_lags_behind_takes_nothing_from_the_other() {
    let model = demo_expert();
    let pair = EarlyExit::new(&model, 2).unwrap();
    let (mut expert, mut drafter) = (CachedModel::new(pair.expert()), CachedModel::new(pair.drafter()));
    // Long enough to be read in pieces.
    let text = random_tokens(1, 1100, 4000);
    expert.logits(&text, 0).unwrap();
    drafter.logits(&text, 0).unwrap();
    assert_eq!(pair.rows_read(), RowsRead { first: 1100, rest: 1100 });
    // The drafter goes ahead, and the expert follows in two steps.
    let text = [&text[..], &[5]].concat();
    let ahead = [&text[..], &drafter.continue_greedily(&text, 6).unwrap()].concat();
    assert_eq!(pair.rows_read(), RowsRead { first: 1106, rest: 1100 });
    let step = expert.logits(&ahead[..1104], 3).unwrap();
    assert_eq!(step, fresh(&model, None, &ahead[..1104], 3));
    assert_eq!(pair.rows_read(), RowsRead { first: 1106, rest: 1104 });
    assert_eq!(expert.logits(&ahead[..1106], 2).unwrap(), fresh(&model, None, &ahead[..1106], 2));
    assert_eq!(pair.rows_read(), RowsRead { first: 1106, rest: 1106 });
}

#[test]
fn a_whole_text_goes_through_every_layer_once_a_row() {
    let model = demo_expert();
    let pair = EarlyExit::new(&model, 4).unwrap();
    let drafter = ModelDrafter::new(pair.drafter());
    let mut engine = Engine::builder().expert(pair.expert()).drafter(drafter).build().unwrap();
    let prompt = &prompts(&model)[0];
    let done = run(engine.session(prompt, &options(3, 40)).unwrap());
    let RowsRead { first, rest } = pair.rows_read();
    let verified = done.stats.drafted + done.stats.rounds;
    assert_eq!((first, rest), (rest, (prompt.len() - 1) as u64 + verified));
}

#[test]
fn drafts_are_scored_by_the_exit() {
    let model = demo_expert();
    let prompt = prompts(&model).remove(1);
    let sampler = Sampler::new(&SamplingOptions { temperature: 0.7, ..Default::default() }).unwrap();
    let request = DraftRequest {
        max: 3,
        score_after: true,
        raw: true,
        vocab: model.config().vocab_size,
        prompt: prompt.len(),
        memory: Memory::off(),
        sampler: &sampler,
        stop: None,
    };
    let mut drafter = ModelDrafter::new(EarlyExit::new(&model, 4).unwrap().drafter());
    let proposal = drafter.propose(&prompt, &request, &mut SeededDraws::new(1, 1)).unwrap();
    assert_eq!((proposal.tokens.len(), proposal.scores.len()), (3, 4));
    let text = [&prompt[..], &proposal.tokens].concat();
    let (right, wrong) = (fresh(&model, Some(4), &text, 4), fresh(&model, Some(3), &text, 4));
    for (row, scores) in proposal.scores.iter().enumerate() {
        let law = |logits: &Logits| {
            sampler.scores(&Context::new(&text[..prompt.len() + row], prompt.len()), logits.row(row)).unwrap()
        };
        assert_eq!((scores.probs(), scores.raw()), (law(&right).probs(), law(&right).raw()));
        assert_ne!(scores.probs(), law(&wrong).probs());
    }
}

#[test]
fn no_weights_are_copied() {
    let device = open_device(DeviceChoice::Cpu).unwrap();
    let start = counting::bytes();
    let model = demo::expert(&device, WeightType::F32).unwrap();
    let loaded = counting::bytes() - start;
    assert!(loaded > 10_000_000, "{loaded} bytes");
    let start = counting::bytes();
    let parts = (EarlyExit::new(&model, 3).unwrap(), model.shortened(&shortcut("skip:2")).unwrap());
    let taken = counting::bytes() - start;
    assert!(taken < loaded / 100, "{taken} of {loaded} bytes for {parts:?}");
}

#[test]
fn what_is_impossible_is_refused_by_name() {
    let model = small(DeviceChoice::Cpu);
    let error = |name: &str| self_speculation::builder(&model, &shortcut(name)).err().unwrap().to_string();
    assert_eq!(error("exit:4"), "`exit:4` is impossible in a model of 4 layers; leave after layer 1 to 3");
    assert_eq!(error("skip:1,2"), "`skip:1,2` is impossible in a model of 4 layers; skip 2 to 3");
    let tree = TreePlan { branching: Branching::TopChildren, shape: "2x1".parse().unwrap() };
    let options = SessionOptions { tree: Some(tree), ..Default::default() };
    let begun = |name: &str| {
        let mut engine = self_speculation::builder(&model, &shortcut(name)).unwrap().build().unwrap();
        engine.session(&[1, 2], &options).err().map(|error| error.to_string())
    };
    assert!(
        begun("exit:2")
            .unwrap()
            .contains("a model with an early exit (`exit:`) cannot; draft without a tree")
    );
    assert_eq!(begun("skip:2"), None, "the way out");
}

/// What is proved of an exit is what texts are generated with.
#[test]
fn proofs_are_of_engines_that_share() {
    let model = small(DeviceChoice::Cpu);
    for name in ["exit:2", "skip:2"] {
        let pair = Pair::of_shortcut(&model, &shortcut(name)).unwrap();
        let mut engine = pair.engine(2).unwrap();
        assert_eq!(engine.drafter().name(), name, "one of `builder`");
        let alone = generate(&mut plain(&model), &[1, 2, 3], &options(0, 24));
        assert_eq!(generate(&mut engine, &[1, 2, 3], &options(2, 24)), alone);
    }
    assert!(Pair::of_shortcut(&model, &Shortcut::Exit(4)).is_err());
}

#[test]
fn a_reader_that_failed_goes_on() {
    let model = small(DeviceChoice::Cpu);
    let pair = EarlyExit::new(&model, 2).unwrap();
    let (mut expert, mut drafter) = (CachedModel::new(pair.expert()), CachedModel::new(pair.drafter()));
    let text = random_tokens(1, 60, VOCAB);
    let full = |error: ModelError| matches!(error, ModelError::ContextFull { length: 66, context: 64 });
    assert!(full(drafter.continue_greedily(&text, 7).unwrap_err()));
    assert!(matches!(expert.logits(&[3, 99], 1), Err(ModelError::Token { token: 99, vocab: VOCAB })));
    let check = |expert: &mut CachedModel<ExitReader>, text: &[TokenId]| {
        assert_eq!(expert.logits(text, 2).unwrap(), fresh(&model, None, text, 2));
    };
    check(&mut expert, &text);
    check(&mut expert, &text[..7]);
}

#[test]
fn a_search_measures_what_it_can_in_its_time() {
    let model = demo_expert();
    let options = |seconds, temperature| SearchOptions {
        budget: Duration::from_secs(seconds),
        max_draft: 2,
        tokens: 12,
        sampling: SamplingOptions { temperature, ..Default::default() },
        seed: 1,
    };
    for temperature in [0.0, 0.8] {
        let search = self_speculation::search(&model, &prompts(&model), &options(600, temperature)).unwrap();
        assert!(search.complete);
        assert_eq!(search.positions, 36);
        for exit in Shortcut::exits(6) {
            assert!(search.candidates.iter().any(|found| found.shortcut == exit), "{exit}");
        }
        let skips = search.candidates.len() - 5;
        assert!((4 + 3..=4 + 3 + 2 + 1).contains(&skips), "{skips} sets");
        assert!(search.candidates.iter().all(|c| (0.0..=1.0).contains(&c.agreement) && c.speedup > 0.0));
        assert!(search.candidates.is_sorted_by(|a, b| a.speedup >= b.speedup));
        // More layers agree more.
        let agreement = |name: &str| {
            search.candidates.iter().find(|c| c.shortcut == shortcut(name)).map(|c| c.agreement).unwrap()
        };
        assert!(agreement("exit:1") < agreement("exit:5"));
    }
    let none = self_speculation::search(&model, &prompts(&model), &options(0, 0.0)).unwrap();
    assert!(!none.complete && none.candidates.is_empty() && none.best().is_none());
    assert!(matches!(
        self_speculation::search(&model, &[], &options(1, 0.0)),
        Err(ModelError::EmptySequence)
    ));
    let empty = [Vec::new()];
    assert!(matches!(
        self_speculation::search(&model, &empty, &options(1, 0.0)),
        Err(ModelError::EmptySequence)
    ));
}
