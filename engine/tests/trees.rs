//! Whole texts whose drafts are trees: their law is that of plain decoding, exact to within rounding, and wrong trees
//! are found.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::{DraftRequest, Drafter, ModelDrafter, NgramDrafter};
use drafthorse_engine::{Engine, ErrorKind, Finish, SessionOptions, Step};
use drafthorse_logits::{
    Branching, Constraint, ConstraintError, DraftTree, Draws, Guidance, LogProbsOf, LogProbsOptions, Matcher,
    Origin, Purpose, RankAcceptance, SamplingOptions, Scores, TokenId, TreePlan, TreeVerdict,
    exact::{distance, outcomes},
    processors::Mirostat,
};
use drafthorse_model::{KvCache, LanguageModel, ModelError, Segment, TableModel};
use drafthorse_verifier::{AcceptanceRule, Guide, Lossless, rule};
use std::{collections::HashMap, sync::Arc};

const PROMPT: [TokenId; 2] = [0, 1];

type Law = HashMap<Vec<TokenId>, f64>;

fn expert(vocab: usize) -> Arc<TableModel> {
    Arc::new(TableModel::random(vocab, 1.5, 3))
}

fn model_drafter(vocab: usize) -> ModelDrafter {
    ModelDrafter::new(Arc::new(TableModel::random(vocab, 2.0, 7)))
}

fn engine(vocab: usize, drafter: impl Drafter + 'static, rule: Arc<dyn AcceptanceRule>) -> Engine {
    Engine::builder().expert(expert(vocab)).drafter(drafter).rule(rule).build().unwrap()
}

fn plan(branching: Branching, shape: &str) -> TreePlan {
    TreePlan { branching, shape: shape.parse().unwrap() }
}

fn options(max_tokens: usize) -> SessionOptions {
    let sampling = SamplingOptions { temperature: 1.0, ..Default::default() };
    SessionOptions { sampling, max_tokens, ..Default::default() }
}

fn with_tree(options: &SessionOptions, plan: TreePlan) -> SessionOptions {
    SessionOptions { tree: Some(plan), draft_length: None, ..options.clone() }
}

/// No drafts, and yet what the drafter says at each position, which laws of cascades are made of.
fn plain(options: &SessionOptions) -> SessionOptions {
    SessionOptions { tree: None, draft_length: Some(1.into()), ..options.clone() }
}

fn law(engine: &mut Engine, options: &SessionOptions) -> Law {
    outcomes(|draws| {
        let steps = engine.session_with(&PROMPT, options, draws).unwrap();
        steps.flat_map(|step| step.unwrap().tokens).map(|token| token.id).collect()
    })
}

/// Shapes whose outcomes are few enough to be walked: every drawn child multiplies them.
fn shapes(branching: Branching, name: &str) -> &'static [&'static str] {
    match (branching, name) {
        (Branching::TopChildren, _) => &["2", "2x1", "2x2", "3x1"],
        (Branching::WithoutReplacement, "lossless") => &["2", "2x1", "2x2"],
        _ => &["2", "2x1"],
    }
}

#[test]
fn texts_follow_the_law_whatever_the_tree() {
    for name in ["lossless", "exact-match", "cascade-diff:lenience=0.1", "cascade-token-v3:lenience=0.4"] {
        let mut engine = engine(3, model_drafter(3), rule(name).unwrap());
        let options = options(3);
        let expected = law(&mut engine, &plain(&options));
        for branching in Branching::ALL {
            for shape in shapes(branching, name) {
                let law = law(&mut engine, &with_tree(&options, plan(branching, shape)));
                assert!(distance(&law, &expected) < 1e-9, "{name} {branching:?} {shape}");
            }
        }
        let best = law(&mut engine, &with_tree(&options, plan(Branching::TopChildren, "best:4:2:3")));
        assert!(distance(&best, &expected) < 1e-9, "{name} best");
    }
}

/// Penalties count the tokens of each path, truncation is that of each point.
#[test]
fn processors_go_along_every_path() {
    let warped = SamplingOptions {
        temperature: 0.8,
        top_p: 0.9,
        presence_penalty: 0.7,
        frequency_penalty: 0.3,
        repetition_penalty: 1.3,
        ..Default::default()
    };
    let surprising =
        SamplingOptions { temperature: 1.0, mirostat: Some(Mirostat::default()), ..Default::default() };
    for sampling in [warped, surprising] {
        for name in ["lossless", "exact-match"] {
            let mut engine = engine(3, model_drafter(3), rule(name).unwrap());
            let options = SessionOptions { sampling: sampling.clone(), ..options(3) };
            let expected = law(&mut engine, &plain(&options));
            for (branching, shape) in
                [(Branching::TopChildren, "2x2"), (Branching::WithoutReplacement, "2x1")]
            {
                let law = law(&mut engine, &with_tree(&options, plan(branching, shape)));
                assert!(distance(&law, &expected) < 1e-9, "{name} {branching:?} {sampling:?}");
            }
        }
    }
}

#[test]
fn guided_texts_follow_their_law() {
    let mut engine = engine(3, model_drafter(3), Arc::new(Lossless));
    let guide = Some(Guide { negative: vec![2, 2], guidance: Guidance::new(1.7).unwrap() });
    let options = SessionOptions { guide, ..options(3) };
    let expected = law(&mut engine, &plain(&options));
    let unguided = law(&mut engine, &plain(&SessionOptions { guide: None, ..options.clone() }));
    assert!(distance(&expected, &unguided) > 0.01);
    let law = law(&mut engine, &with_tree(&options, plan(Branching::TopChildren, "2x2")));
    assert!(distance(&law, &expected) < 1e-9);
}

/// Changes the trees of another drafter.
struct Tampered<F>(ModelDrafter, F);

impl<F: FnMut(&mut DraftTree, &[TokenId]) + Send> Drafter for Tampered<F> {
    fn name(&self) -> &'static str {
        "tampered"
    }

    fn is_calibrated(&self) -> bool {
        true
    }

    fn drafts_trees(&self) -> bool {
        true
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<drafthorse_logits::Proposal, ModelError> {
        self.0.propose(sequence, request, draws)
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
            self.1(tree, sequence);
        }
        Ok(tree)
    }
}

fn cut(tree: &mut DraftTree, nodes: usize) {
    tree.tokens.truncate(nodes);
    tree.parents.truncate(nodes);
    tree.scores.truncate(nodes + 1);
}

#[test]
fn trees_that_lie_are_found() {
    let off = |branching, shape, tamper: fn(&mut DraftTree, &[TokenId])| {
        let mut engine = engine(3, Tampered(model_drafter(3), tamper), Arc::new(Lossless));
        let options = options(3);
        let expected = law(&mut engine, &plain(&options));
        distance(&law(&mut engine, &with_tree(&options, plan(branching, shape))), &expected)
    };
    // Nothing is changed.
    assert!(off(Branching::WithoutReplacement, "2", |_, _| {}) < 1e-9);
    // Chosen children said to be drawn.
    let lie = |tree: &mut DraftTree, _: &[TokenId]| tree.branching = Branching::WithoutReplacement;
    assert!(off(Branching::TopChildren, "2", lie) > 1e-3);
    // Drawn without replacement, said to be drawn with it.
    let lie = |tree: &mut DraftTree, _: &[TokenId]| tree.branching = Branching::WithReplacement;
    assert!(off(Branching::WithoutReplacement, "2", lie) > 1e-3);
    // Drawn children that are dropped for what they are.
    let picky = |tree: &mut DraftTree, _: &[TokenId]| {
        if tree.tokens.first() == Some(&0) {
            cut(tree, 0);
        }
    };
    assert!(off(Branching::WithoutReplacement, "1", picky) > 1e-3);
    // Chosen children may be dropped.
    assert!(off(Branching::TopChildren, "2", picky) < 1e-9);
    // Whether children get children may depend on the tokens before them.
    let lawful = |tree: &mut DraftTree, _: &[TokenId]| {
        if tree.tokens.first() == Some(&0) {
            cut(tree, 2);
        }
    };
    assert!(off(Branching::WithoutReplacement, "2x1", lawful) < 1e-9);
}

/// A rule whose text goes on from the wrong point.
struct Astray;

impl AcceptanceRule for Astray {
    fn name(&self) -> &'static str {
        "astray"
    }

    fn target<'a>(
        &self,
        _: &'a Scores,
        expert: &'a Scores,
    ) -> std::borrow::Cow<'a, drafthorse_logits::Probs> {
        std::borrow::Cow::Borrowed(expert.probs())
    }

    fn judge_tree(
        &self,
        tree: &DraftTree,
        expert: &[Scores],
        position: usize,
        draws: &mut dyn Draws,
    ) -> TreeVerdict {
        let mut verdict = Lossless.judge_tree(tree, expert, position, draws);
        if verdict.origin == Origin::Bonus {
            verdict.next = draws.pick(position, Purpose::Target, expert[0].probs());
        }
        verdict
    }
}

#[test]
fn rules_that_go_astray_are_found() {
    let mut engine = engine(3, model_drafter(3), Arc::new(Astray));
    let options = options(3);
    let expected = law(&mut engine, &SessionOptions { draft_length: Some(0.into()), ..options.clone() });
    let law = law(&mut engine, &with_tree(&options, plan(Branching::WithoutReplacement, "2")));
    assert!(distance(&law, &expected) > 1e-3);
}

fn steps(engine: &mut Engine, options: &SessionOptions) -> Vec<Step> {
    engine.session(&PROMPT, options).unwrap().map(Result::unwrap).collect()
}

fn ids(steps: &[Step]) -> Vec<TokenId> {
    steps.iter().flat_map(|step| &step.tokens).map(|token| token.id).collect()
}

#[test]
fn the_same_seed_gives_the_same_text_where_rules_say_so() {
    for (name, temperature) in [("lossless", 0.0), ("exact-match", 1.0), ("coupled-noise", 1.0)] {
        let mut engine = engine(12, model_drafter(12), rule(name).unwrap());
        let sampling = SamplingOptions { temperature, ..Default::default() };
        let options = SessionOptions { sampling, seed: 11, ..options(40) };
        let none = SessionOptions { draft_length: Some(0.into()), ..options.clone() };
        let expected = ids(&steps(&mut engine, &none));
        for branching in Branching::ALL {
            for shape in ["3", "2x2x1", "1x1x1"] {
                let options = with_tree(&options, plan(branching, shape));
                assert_eq!(ids(&steps(&mut engine, &options)), expected, "{name} {branching:?} {shape}");
            }
        }
    }
}

/// With one child a point sampled drafts are a chain, draw for draw.
#[test]
fn a_tree_of_one_branch_is_the_chain() {
    for name in ["lossless", "cascade-token-v3:lenience=0.4", "coupled-noise"] {
        let mut engine = engine(12, model_drafter(12), rule(name).unwrap());
        for seed in 0..20 {
            let options = SessionOptions { seed, ..options(30) };
            let chain = SessionOptions { draft_length: Some(3.into()), ..options.clone() };
            let tree = with_tree(&options, plan(Branching::WithoutReplacement, "1x1x1"));
            let (chain, tree) = (steps(&mut engine, &chain), steps(&mut engine, &tree));
            assert_eq!(ids(&chain), ids(&tree), "{name}");
            let counts = |steps: &[Step]| -> Vec<_> {
                steps.iter().map(|s| (s.drafted, s.examined, s.accepted, s.depth)).collect()
            };
            assert_eq!(counts(&chain), counts(&tree), "{name}");
        }
    }
}

#[test]
fn the_numbers_of_trees_add_up() {
    let mut engine = engine(12, model_drafter(12), Arc::new(Lossless));
    let tree = with_tree(&options(300), plan(Branching::TopChildren, "4x2"));
    let mut session = engine.session(&PROMPT, &tree).unwrap();
    let mut learned = RankAcceptance::default();
    let mut accepted = 0;
    for step in &mut session {
        let step = step.unwrap();
        let last = step.finish.is_some();
        assert!(step.depth <= 2 && (step.drafted == 12 || step.drafted <= 4), "{step:?}");
        assert!(last || step.tokens.len() == step.accepted + 1);
        assert_eq!(step.ranks.len(), step.examined);
        assert_eq!(step.ranks.iter().filter(|point| point.stands.is_some()).count(), step.accepted);
        accepted += step.accepted as u64;
        learned.observe(&step.ranks);
    }
    let stats = session.stats();
    assert_eq!(stats.accepted + stats.replaced, stats.examined);
    assert_eq!((stats.accepted, stats.accepted_at.len(), stats.emitted), (accepted, 2, 300));
    let ranks = learned.probabilities(4);
    assert!(ranks.iter().sum::<f64>() > 0.25 && stats.tokens_per_expert_pass().unwrap() > 1.25, "{ranks:?}");
}

/// What is told of a token of the path is what is told of it without a tree.
#[test]
fn tokens_of_a_path_carry_what_they_would_without() {
    let mut engine = engine(12, model_drafter(12), rule("exact-match").unwrap());
    let log_probs = Some(LogProbsOptions { top: 3, of: LogProbsOf::Processed });
    let options = SessionOptions { log_probs, certainties: true, record: true, ..options(40) };
    let none = SessionOptions { draft_length: Some(0.into()), ..options.clone() };
    let plain = steps(&mut engine, &none);
    let trees = steps(&mut engine, &with_tree(&options, plan(Branching::TopChildren, "3x2")));
    let told = |steps: &[Step]| -> Vec<_> {
        let tokens = steps.iter().flat_map(|step| step.tokens.clone());
        tokens.map(|token| (token.id, token.log_probs, token.certainty)).collect()
    };
    assert_eq!(told(&plain), told(&trees));
    assert!(trees.iter().all(|step| step.judged.len() == step.examined));
}

#[test]
fn texts_end_within_trees() {
    let mut engine = engine(12, model_drafter(12), rule("exact-match").unwrap());
    for max_tokens in 1..12 {
        let options = options(max_tokens);
        let none = SessionOptions { draft_length: Some(0.into()), ..options.clone() };
        let expected = ids(&steps(&mut engine, &none));
        let steps = steps(&mut engine, &with_tree(&options, plan(Branching::TopChildren, "3x3x1")));
        assert_eq!(ids(&steps), expected);
        assert_eq!(steps.last().unwrap().finish, Some(Finish::MaxTokens));
    }
    let small = Arc::new(TableModel::random(5, 1.0, 3).with_context(9));
    let mut engine =
        Engine::builder().expert(small).drafter(model_drafter(5)).draft_length(2).build().unwrap();
    let steps = steps(&mut engine, &with_tree(&options(99), plan(Branching::TopChildren, "3x3x1")));
    assert_eq!((ids(&steps).len(), steps.last().unwrap().finish.clone()), (7, Some(Finish::ContextEnd)));
}

/// A model that reads no trees.
struct Straight(TableModel);

impl LanguageModel for Straight {
    type Cache = <TableModel as LanguageModel>::Cache;

    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.0.context_len()
    }

    fn new_cache(&self) -> Self::Cache {
        self.0.new_cache()
    }

    fn forward(
        &self,
        segments: &mut [Segment<'_, Self::Cache>],
    ) -> Result<Vec<drafthorse_logits::Logits>, ModelError> {
        assert!(segments.iter().all(|segment| segment.parents.is_none() && segment.cache.len() < 99));
        self.0.forward(segments)
    }
}

#[derive(Debug)]
struct Anything;

impl Constraint for Anything {
    fn vocab_size(&self) -> usize {
        3
    }

    fn start(&self, _: &[TokenId]) -> Result<Box<dyn Matcher>, ConstraintError> {
        unreachable!("a session that is refused")
    }
}

#[test]
fn what_cannot_go_with_trees_is_refused() {
    let tree = || plan(Branching::TopChildren, "2x1");
    let refused = |engine: &mut Engine, options: SessionOptions, kind: ErrorKind| {
        let error = engine.session(&PROMPT, &options).unwrap_err();
        assert_eq!(error.kind(), kind);
        error.to_string()
    };
    let mut lossless = engine(3, model_drafter(3), Arc::new(Lossless));
    let base = with_tree(&options(3), tree());
    let both = SessionOptions { draft_length: Some(2.into()), ..base.clone() };
    assert!(refused(&mut lossless, both, ErrorKind::Option).contains("leave the draft length out"));
    let constraint: Option<Arc<dyn Constraint>> = Some(Arc::new(Anything));
    let constrained = SessionOptions { constraint, ..base.clone() };
    assert!(refused(&mut lossless, constrained, ErrorKind::Option).contains("draft without a tree"));
    let best = with_tree(&base, plan(Branching::WithReplacement, "best:4:2:2"));
    assert!(refused(&mut lossless, best, ErrorKind::Option).contains("top-children"));
    let block = SessionOptions { rule: Some(rule("block").unwrap()), ..base.clone() };
    assert!(refused(&mut lossless, block, ErrorKind::Rule).contains("use lossless"));
    let mut ngram = engine(3, NgramDrafter::default(), Arc::new(Lossless));
    assert!(refused(&mut ngram, base.clone(), ErrorKind::Option).contains("`ngram` proposes no trees"));
    let straight = Arc::new(Straight(TableModel::random(3, 1.0, 1)));
    let mut engine = Engine::builder().expert(straight).drafter(model_drafter(3)).build().unwrap();
    assert!(refused(&mut engine, base, ErrorKind::Option).contains("the expert cannot read"));
    let lies = |tree: &mut DraftTree, _: &[TokenId]| tree.tokens[0] = 99;
    let mut lying = self::engine(3, Tampered(model_drafter(3), lies), Arc::new(Lossless));
    let error = lying.session(&PROMPT, &with_tree(&options(3), tree())).unwrap().next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Drafter);
}
