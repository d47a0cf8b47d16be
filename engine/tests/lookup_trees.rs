//! Trees of tokens that were looked up: whatever is remembered and however it branches, the law of a text stays what it
//! is, and trees that are said to be drawn are found.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::{
    Clock, DraftRequest, Drafter, HybridDrafter, ModelDrafter, NgramDrafter, SuffixDrafter, SuffixOptions,
    SuffixStore,
};
use drafthorse_engine::{Engine, SessionOptions, Step};
use drafthorse_logits::{
    Branching, DraftTree, Draws, Probs, Proposal, SamplingOptions, Scores, TokenId, TreePlan, TreeVerdict,
    Verdict,
    exact::{distance, outcomes},
};
use drafthorse_model::{ModelError, TableModel};
use drafthorse_verifier::rule;
use std::{collections::HashMap, sync::Arc, time::Duration};

type Law = HashMap<Vec<TokenId>, f64>;
type Make = fn() -> Box<dyn Drafter>;

const VOCAB: usize = 3;
const PROMPT: [TokenId; 4] = [0, 1, 0, 1];

/// A drafter that knows texts in which the same tokens went on differently.
fn suffix() -> SuffixDrafter {
    let store = SuffixStore::new(SuffixStore::MIN_BYTES).unwrap();
    for text in [[0, 1, 2, 2, 0, 1, 2, 1], [1, 0, 1, 1, 2, 0, 1, 0], [2, 1, 0, 2, 1, 1, 0, 0]] {
        store.add(&text);
    }
    let options = SuffixOptions { factor: 3.0, offset: 3.0, keep_prompts: true, ..SuffixOptions::default() };
    SuffixDrafter::new(Arc::new(store)).with_options(options).unwrap()
}

/// No time passes.
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

fn hybrid(parts: Vec<Box<dyn Drafter>>) -> Box<dyn Drafter> {
    Box::new(HybridDrafter::new(parts).unwrap().with_min_confidence(0.9).unwrap().with_clock(Stopped))
}

fn model() -> Box<dyn Drafter> {
    Box::new(ModelDrafter::new(Arc::new(TableModel::random(VOCAB, 2.0, 7))))
}

const DRAFTERS: [(&str, Make); 3] = [
    ("suffix", || Box::new(suffix())),
    ("suffix, else a model", || hybrid(vec![Box::new(suffix()), model()])),
    ("n-grams, else suffix", || hybrid(vec![Box::new(NgramDrafter::default()), Box::new(suffix())])),
];

fn engine(drafter: Box<dyn Drafter>, name: &str) -> Engine {
    let expert = Arc::new(TableModel::random(VOCAB, 1.5, 3));
    Engine::builder().expert(expert).drafter(drafter).rule(rule(name).unwrap()).build().unwrap()
}

fn options(max_tokens: usize) -> SessionOptions {
    let sampling = SamplingOptions { temperature: 1.0, ..Default::default() };
    SessionOptions { sampling, max_tokens, draft_length: Some(0.into()), ..Default::default() }
}

fn with_tree(max_tokens: usize, branching: Branching, shape: &str) -> SessionOptions {
    let tree = Some(TreePlan { branching, shape: shape.parse().unwrap() });
    SessionOptions { tree, draft_length: None, ..options(max_tokens) }
}

/// The law of texts of a fresh engine, which is as if nothing had been generated before.
fn law(make: &dyn Fn() -> Box<dyn Drafter>, name: &str, options: &SessionOptions) -> Law {
    outcomes(|draws| {
        let mut engine = engine(make(), name);
        let steps = engine.session_with(&PROMPT, options, draws).unwrap();
        steps.flat_map(|step| step.unwrap().tokens).map(|token| token.id).collect()
    })
}

#[test]
fn texts_follow_the_law_whatever_was_looked_up() {
    for (drafter, make) in DRAFTERS {
        for name in ["lossless", "exact-match"] {
            let expected = law(&make, name, &options(4));
            for (branching, shape) in [
                (Branching::TopChildren, "2x1"),
                (Branching::TopChildren, "3x2+1"),
                (Branching::TopChildren, "best:5:3:2"),
                (Branching::WithoutReplacement, "2"),
            ] {
                let law = law(&make, name, &with_tree(4, branching, shape));
                assert!(distance(&law, &expected) < 1e-9, "{drafter} {name} {branching:?} {shape}");
            }
        }
    }
}

/// A comparison in which nothing branches, or nothing stands, would prove nothing.
#[test]
fn trees_branch_and_are_learnt_from() {
    for (drafter, make) in DRAFTERS {
        let mut engine = engine(make(), "lossless");
        let options = SessionOptions { seed: 1, ..with_tree(200, Branching::TopChildren, "best:8:4:3") };
        let steps: Vec<Step> = engine.session(&PROMPT, &options).unwrap().map(Result::unwrap).collect();
        let wide = steps.iter().filter(|step| step.drafted > step.depth).count();
        let second =
            steps.iter().flat_map(|step| &step.ranks).filter(|point| point.stands == Some(1)).count();
        // Where n-grams have something to say, it is a chain.
        let least = if drafter.starts_with("suffix") { (10, 3) } else { (3, 0) };
        assert!(wide > least.0 && second >= least.1, "{drafter}: {wide} branch, {second} second children");
        assert!(steps.iter().all(|step| step.drafted <= 8 && step.depth <= 4), "{drafter}");
    }
    let store: Arc<SuffixStore> = Arc::default();
    for _ in 0..2 {
        let mut engine = engine(Box::new(SuffixDrafter::new(store.clone())), "lossless");
        let session = engine.session(&PROMPT, &with_tree(20, Branching::TopChildren, "2x2")).unwrap();
        session.for_each(|step| drop(step.unwrap()));
    }
    // Of a last round without drafts nothing is heard.
    let lengths: Vec<_> = store.texts().iter().map(Vec::len).collect();
    assert!(lengths.len() == 2 && lengths.iter().all(|length| (15..=20).contains(length)), "{lengths:?}");
}

/// Says of what was looked up that it was drawn.
struct Liar(SuffixDrafter);

impl Drafter for Liar {
    fn name(&self) -> &'static str {
        "liar"
    }

    fn drafts_trees(&self) -> bool {
        true
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        self.0.propose(sequence, request, draws)
    }

    fn observe(&mut self, verdict: &Verdict) {
        self.0.observe(verdict);
    }

    fn propose_tree(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        plan: &TreePlan,
        draws: &mut dyn Draws,
    ) -> Result<Option<DraftTree>, ModelError> {
        let mut tree = self.0.propose_tree(sequence, request, plan, draws)?;
        if let Some(tree) = &mut tree {
            tree.branching = Branching::WithoutReplacement;
            let even = Probs::normalize(vec![1.0; request.vocab]).unwrap();
            let points = tree.scores.iter_mut().flatten();
            points.for_each(|scores| *scores = Scores::from_probs(even.clone(), even.clone()));
        }
        Ok(tree)
    }

    fn observe_tree(&mut self, tree: &DraftTree, verdict: &TreeVerdict) {
        self.0.observe_tree(tree, verdict);
    }
}

#[test]
fn what_was_looked_up_was_not_drawn() {
    let off = |make: Make| {
        let tree = with_tree(3, Branching::TopChildren, "2x1");
        distance(&law(&make, "lossless", &tree), &law(&make, "lossless", &options(3)))
    };
    assert!(off(|| Box::new(suffix())) < 1e-9);
    assert!(off(|| Box::new(Liar(suffix()))) > 1e-3);
}
