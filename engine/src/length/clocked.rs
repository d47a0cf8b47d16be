//! Laws of texts whose draft lengths go by measured times: with a clock that is scripted, over all random outcomes.

use super::{Adaptive, DraftCosts, store::tests::Clock};
use crate::{Asked, Engine, SessionOptions};
use drafthorse_drafter::ModelDrafter;
use drafthorse_logits::{
    Branching, SamplingOptions, TokenId, TreePlan, TreeShape,
    exact::{distance, outcomes},
};
use drafthorse_model::TableModel;
use drafthorse_verifier::rule;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

type Law = HashMap<Vec<TokenId>, f64>;

/// What the drafter says after token 0 it says for good reasons, and knows it.
fn models() -> [Arc<TableModel>; 2] {
    [3.0, 0.0].map(|after_others| {
        let row = move |context: &[TokenId]| match context.last() {
            Some(0) => vec![1.0, 5.0, 0.0],
            Some(1) => vec![after_others, 0.0, 1.0],
            _ => vec![0.3, after_others, 0.5],
        };
        Arc::new(TableModel::from_fn(3, row))
    })
}

fn engine(name: &str, adaptive: &Adaptive) -> Engine {
    let [expert, drafter] = models();
    let parts = Engine::builder().expert(expert).drafter(ModelDrafter::new(drafter));
    let parts = parts.rule(rule(name).expect("a rule")).draft_length(adaptive.clone());
    parts.build().expect("models of one vocabulary")
}

fn options(tokens: usize) -> SessionOptions {
    let sampling = SamplingOptions { temperature: 1.0, ..Default::default() };
    SessionOptions { sampling, max_tokens: tokens, ..Default::default() }
}

fn law(
    engine: &mut Engine,
    options: &SessionOptions,
    mut reset: impl FnMut(&mut Engine),
) -> (Law, HashSet<Asked>) {
    let mut asked = HashSet::new();
    let law = outcomes(|draws| {
        reset(engine);
        let session = engine.session_with(&[0], options, draws).expect("a prompt");
        let mut text = Vec::new();
        for step in session {
            let step = step.expect("tables do not fail");
            asked.insert(step.asked);
            text.extend(step.tokens.iter().map(|token| token.id));
        }
        text
    });
    (law, asked)
}

fn plain(name: &str, tokens: usize, k: usize) -> Law {
    let options = SessionOptions { draft_length: Some(k.into()), ..options(tokens) };
    law(&mut engine(name, &Adaptive::default()), &options, |_| ()).0
}

/// From the first round of all, with times that come as they like.
#[test]
fn measured_lengths_keep_the_law() {
    let costs = DraftCosts::new(vec![(1, 1.0), (4, 1.2)], vec![(1, 0.1)]);
    let (fresh, seeded) = (Adaptive::up_to(3), Adaptive::up_to(3).starting_from(costs));
    for (name, k) in [("lossless", 0), ("block", 0), ("cascade-chow:lenience=0.4", 1)] {
        for (adaptive, tokens) in [(&fresh, 6), (&seeded, 4)] {
            let paper = plain(name, tokens, k);
            for seed in [1, 2, 3] {
                let mut engine = engine(name, adaptive);
                let reset = |engine: &mut Engine| {
                    engine.learnt.forget();
                    engine.learnt.clock = Some(Clock(seed));
                };
                let (law, asked) = law(&mut engine, &options(tokens), reset);
                let off = distance(&law, &paper);
                assert!(off < 1e-9, "{name}, {adaptive:?}: {off} off");
                assert!(asked.len() > 2, "{name}: {asked:?}");
            }
        }
    }
}

/// Trees from the first round of all, with times that come as they like.
#[test]
fn measured_trees_keep_the_law() {
    let costs = DraftCosts::new(vec![(1, 1.0), (9, 1.1)], vec![(1, 0.02)]);
    for branching in [Branching::TopChildren, Branching::WithoutReplacement] {
        let shape = TreeShape::Auto { nodes: 4, depth: 2, children: 2 };
        let tree = Some(TreePlan { branching, shape });
        let options = SessionOptions { tree, ..options(4) };
        for name in ["lossless", "exact-match"] {
            let mut engine = engine(name, &Adaptive::default());
            // An engine that knows its costs, so that it drafts from the first round on.
            drop(engine.session(&[0], &options).expect("a prompt"));
            let (_, way, _) = engine.learnt.kept.pop().expect("what the session goes by");
            let seeded = Adaptive::up_to(2).starting_from(costs.clone());
            engine.learnt.bounds(&seeded.into(), way);
            engine.learnt.kept[0].0 = Adaptive::up_to(2);
            let begun = engine.learnt.kept.clone();
            for seed in [1, 2] {
                let mut trees = 0;
                let law = outcomes(|draws| {
                    engine.learnt.kept.clone_from(&begun);
                    engine.learnt.clock = Some(Clock(seed));
                    let session = engine.session_with(&[0], &options, draws).expect("a prompt");
                    let steps: Vec<_> = session.map(|step| step.expect("tables do not fail")).collect();
                    trees += steps.iter().filter(|step| step.drafted > step.depth).count();
                    steps.iter().flat_map(|step| &step.tokens).map(|token| token.id).collect()
                });
                let off = distance(&law, &plain(name, 4, 0));
                assert!(off < 1e-9 && trees > 0, "{name}, {branching:?}: {off} off, {trees} trees");
            }
        }
    }
}

/// With confidences that have turned out to help, so that they decide along the draft.
#[test]
fn lengths_by_confidence_keep_the_law() {
    for name in ["lossless", "block"] {
        let costs = DraftCosts::new(vec![(1, 1.0), (4, 1.5)], vec![(1, 0.1)]);
        let mut engine = engine(name, &Adaptive::up_to(3).starting_from(costs));
        engine.learnt.clock = Some(Clock(5));
        let long = engine.session(&[0], &options(3000)).expect("a prompt");
        long.for_each(|step| drop(step.expect("tables do not fail")));
        let trained = engine.learnt.kept.clone();
        let lengths = std::cell::RefCell::new(HashSet::new());
        let reset = |engine: &mut Engine| {
            engine.learnt.kept.clone_from(&trained);
            engine.learnt.clock = Some(Clock(7));
            let controller = engine.learnt.controller().expect("a trained one");
            lengths.borrow_mut().insert(controller.plan(3, 0).stop.is_some());
        };
        let (law, _) = law(&mut engine, &options(4), reset);
        let off = distance(&law, &plain(name, 4, 0));
        assert!(off < 1e-9, "{name}: {off} off");
        assert!(lengths.borrow().contains(&true), "{name}: nothing decides along the draft");
    }
}
