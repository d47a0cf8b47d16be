//! Trees of drafts through the transformer: their rows are, to the bit on the CPU, those of each branch by itself.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{generate, parity_folders};
use drafthorse::{
    DeviceChoice, Engine, ExactMatch, LanguageModel, ModelDrafter, ModelError, SamplingOptions,
    SessionOptions, TokenId, Transformer, WeightType,
    cost::Counted,
    demo,
    logits::{Branching, Combine, TreePlan, Weights},
    model::{CacheType, CachedModel, Ensemble, LayeredLaw, LoadOptions, LoadedDevice, Tree, adapters},
    open_device,
};
use std::{path::Path, sync::Arc};

/// Vocabulary of the fixtures.
const VOCAB: TokenId = 320;

/// Node 3 follows node 1, as nodes 4 and 5 do node 3; the last path is the longest.
const PARENTS: [Option<usize>; 8] = [None, None, Some(0), Some(1), Some(3), Some(3), None, Some(5)];

fn tokens(count: usize) -> Vec<TokenId> {
    (0..count as TokenId).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) % VOCAB).collect()
}

fn path(node: usize) -> Vec<usize> {
    let mut path: Vec<_> = std::iter::successors(Some(node), |node| PARENTS[*node]).collect();
    path.reverse();
    path
}

fn models(device: &LoadedDevice, options: LoadOptions) -> Vec<Arc<Transformer>> {
    let open = |folder: &Path| Arc::new(Transformer::open(folder, device, options).unwrap());
    parity_folders().iter().map(|folder| open(folder)).collect()
}

fn cpu() -> LoadedDevice {
    open_device(DeviceChoice::Cpu).unwrap()
}

/// The text that ends with a node.
fn text(sequence: &[TokenId], nodes: &[TokenId], node: usize) -> Vec<TokenId> {
    sequence.iter().copied().chain(path(node).into_iter().map(|node| nodes[node])).collect()
}

fn each_type() -> [LoadOptions; 3] {
    let of = |weights, cache| LoadOptions { weights, cache };
    [
        of(WeightType::F32, CacheType::F32),
        of(WeightType::F32, CacheType::F16),
        of(WeightType::F16, CacheType::F32),
    ]
}

#[test]
fn rows_of_a_tree_are_those_of_its_branches() {
    for model in each_type().into_iter().flat_map(|options| models(&cpu(), options)) {
        // Beyond the window of the fixture that has one, and at the beginning of a text.
        for length in [1, 2, 37, 70] {
            let all = tokens(length + PARENTS.len());
            let (sequence, nodes) = all.split_at(length);
            let mut cached = CachedModel::new(model.clone());
            cached.logits(&sequence[..=length / 2], 0).unwrap();
            let tree = Tree { tokens: nodes, parents: &PARENTS };
            let logits = cached.tree_logits(sequence, tree, nodes.len() + 1).unwrap();
            let alone =
                |text: &[TokenId]| CachedModel::new(model.clone()).logits(text, 1).unwrap().row(0).to_vec();
            assert!(logits.row(0) == alone(sequence), "{model:?} after the sequence of {length}");
            for node in 0..nodes.len() {
                let text = text(sequence, nodes, node);
                assert!(logits.row(node + 1) == alone(&text), "{model:?}: node {node} after {length}");
            }
            let astray = alone(&[sequence, &nodes[..2]].concat());
            assert!(logits.row(2) != astray, "a row that saw its sibling would be found");
        }
    }
}

/// After every path, also one that was read in part, the cache gives what a fresh one gives.
#[test]
fn a_cache_that_kept_a_path_is_like_a_fresh_one() {
    let all = tokens(45 + PARENTS.len());
    let (sequence, nodes) = all.split_at(45);
    for model in each_type().into_iter().flat_map(|options| models(&cpu(), options)) {
        for node in 0..nodes.len() {
            let mut cached = CachedModel::new(model.clone());
            let tree = Tree { tokens: nodes, parents: &PARENTS };
            cached.tree_logits(sequence, tree, 1).unwrap();
            let next = [text(sequence, nodes, node), vec![7, 8]].concat();
            let whole = CachedModel::new(model.clone()).logits(&next, next.len()).unwrap();
            let found = cached.logits(&next, 2).unwrap();
            assert!(found.row(0) == whole.row(next.len() - 2), "{model:?}: node {node}");
            assert!(found.row(1) == whole.row(next.len() - 1), "{model:?}: node {node}");
            // A tree after a tree, and a text that goes back behind both.
            let again = cached.tree_logits(&next, tree, nodes.len()).unwrap();
            let other = [next.clone(), vec![nodes[0], nodes[2]]].concat();
            let fresh = CachedModel::new(model.clone()).logits(&other, 1).unwrap();
            assert!(again.row(2) == fresh.row(0), "{model:?}: node {node}");
            let back = cached.logits(&next[..40], 1).unwrap();
            assert!(back.row(0) == whole.row(39), "{model:?}: node {node}");
        }
    }
}

/// Models made of others read trees as these do.
#[test]
fn laws_of_layers_and_ensembles_read_trees_too() {
    fn check<M: LanguageModel>(model: M) {
        let model = Arc::new(model);
        let all = tokens(40 + PARENTS.len());
        let (sequence, nodes) = all.split_at(40);
        let mut cached = CachedModel::new(model.clone());
        let tree = Tree { tokens: nodes, parents: &PARENTS };
        for _ in 0..2 {
            let logits = cached.tree_logits(sequence, tree, nodes.len() + 1).unwrap();
            for node in 0..nodes.len() {
                let text = text(sequence, nodes, node);
                let alone = CachedModel::new(model.clone()).logits(&text, 1).unwrap();
                assert!(logits.row(node + 1) == alone.row(0), "node {node}");
            }
            let next = [text(sequence, nodes, 7), vec![5]].concat();
            let fresh = CachedModel::new(model.clone()).logits(&next, 1).unwrap();
            assert!(cached.logits(&next, 1).unwrap() == fresh);
        }
    }
    let models = models(&cpu(), WeightType::F32.into());
    check(LayeredLaw::new(models[0].clone(), &"sled".parse().unwrap()).unwrap());
    check(
        Ensemble::new(models[..2].to_vec(), Combine::Mixture(Weights::new(vec![0.5, 0.5]).unwrap())).unwrap(),
    );
}

#[test]
fn a_path_costs_no_second_reading() {
    let model = models(&cpu(), WeightType::F32.into()).remove(0);
    let counted = Arc::new(Counted::new(model));
    let mut cached = CachedModel::new(counted.clone());
    let all = tokens(20 + PARENTS.len());
    let (sequence, nodes) = all.split_at(20);
    cached.tree_logits(sequence, Tree { tokens: nodes, parents: &PARENTS }, 9).unwrap();
    assert_eq!(counted.rows(), 28);
    cached.logits(&[text(sequence, nodes, 7), vec![5]].concat(), 1).unwrap();
    assert_eq!(counted.rows(), 29, "nodes 1, 3, 5 and 7 are there");
}

#[test]
fn a_chain_as_a_tree_is_the_chain() {
    let all = tokens(30);
    let parents: Vec<_> = (0..10).map(|node: usize| node.checked_sub(1)).collect();
    for model in models(&cpu(), WeightType::F32.into()) {
        let tree = Tree { tokens: &all[20..], parents: &parents };
        let found = CachedModel::new(model.clone()).tree_logits(&all[..20], tree, 11).unwrap();
        assert!(found == CachedModel::new(model).logits(&all, 11).unwrap());
    }
}

/// The context is a matter of positions, not of rows.
#[test]
fn trees_go_up_to_the_end_of_the_context() {
    let model = models(&cpu(), WeightType::F32.into()).remove(0);
    let context = model.context_len();
    let all = tokens(context + 4);
    let mut cached = CachedModel::new(model);
    let read = |cached: &mut CachedModel<Transformer>, length: usize| {
        let parents = [None, None, Some(0), Some(1)];
        cached.tree_logits(&all[..length], Tree { tokens: &all[..4], parents: &parents }, 5)
    };
    assert!(read(&mut cached, context - 2).is_ok());
    let error = read(&mut cached, context - 1);
    assert!(matches!(error, Err(ModelError::ContextFull { .. })));
    assert!(read(&mut cached, context - 3).is_ok());
}

#[test]
fn on_a_graphics_device_rows_are_nearly_the_same() {
    let software = adapters().into_iter().find(|a| matches!(a.choice, DeviceChoice::Vulkan(_)));
    assert!(software.is_some() || std::env::var_os("DRAFTHORSE_REQUIRE_VULKAN").is_none());
    let Some(software) = software else { return };
    let device = open_device(software.choice).unwrap();
    let all = tokens(40 + PARENTS.len());
    let (sequence, nodes) = all.split_at(40);
    for model in models(&device, WeightType::F32.into()) {
        let near =
            |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs().max(1.0));
        let mut cached = CachedModel::new(model.clone());
        let logits =
            cached.tree_logits(sequence, Tree { tokens: nodes, parents: &PARENTS }, nodes.len() + 1).unwrap();
        let mut alone = CachedModel::new(model.clone());
        for node in 0..nodes.len() {
            let text = text(sequence, nodes, node);
            assert!(near(logits.row(node + 1), alone.logits(&text, 1).unwrap().row(0)), "{model:?}: {node}");
        }
        let next = [text(sequence, nodes, 7), vec![5]].concat();
        let found = cached.logits(&next, 1).unwrap();
        assert!(near(found.row(0), alone.logits(&next, 1).unwrap().row(0)), "{model:?}");
    }
}

fn plan(branching: Branching, shape: &str) -> TreePlan {
    TreePlan { branching, shape: shape.parse().unwrap() }
}

/// The demo pair: no tree changes a token, greedily or where each position has its own draw.
#[test]
fn trees_change_no_token_of_the_demo_pair() {
    let device = cpu();
    let (expert, drafter) =
        (demo::expert(&device, WeightType::F32).unwrap(), demo::drafter(&device, WeightType::F32).unwrap());
    let tokenizer = expert.tokenizer().unwrap().clone();
    let mut engine = Engine::builder().expert(expert).drafter(ModelDrafter::new(drafter)).build().unwrap();
    for text in ["It was a dark and stormy night,", "def fibonacci(n):\n", "Question: What is 27 plus 15?\n"]
    {
        let prompt = tokenizer.encode(text).unwrap();
        for temperature in [0.0, 0.8] {
            let sampling = SamplingOptions { temperature, ..Default::default() };
            let rule: Option<Arc<dyn drafthorse::AcceptanceRule>> =
                if temperature > 0.0 { Some(Arc::new(ExactMatch)) } else { None };
            let plain = SessionOptions {
                sampling,
                max_tokens: 64,
                draft_length: Some(0.into()),
                rule,
                seed: 5,
                ..Default::default()
            };
            let expected = generate(&mut engine, &prompt, &plain);
            for (branching, shape) in [
                (Branching::TopChildren, "2x2x1"),
                (Branching::TopChildren, "best:8:4:4"),
                (Branching::WithoutReplacement, "3x1"),
                (Branching::WithReplacement, "2x2"),
            ] {
                let tree = Some(plan(branching, shape));
                let options = SessionOptions { tree, draft_length: None, ..plain.clone() };
                assert_eq!(
                    generate(&mut engine, &prompt, &options),
                    expected,
                    "{text} {branching:?} {shape}"
                );
            }
        }
    }
}
