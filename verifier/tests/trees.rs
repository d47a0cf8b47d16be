//! Several candidates at one position, and walks along trees of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_logits::{
    Branching, DraftTree, Draws, Origin, Probs, Proposal, Purpose, Scores, SeededDraws, TokenId,
    exact::{distance, outcomes},
};
use drafthorse_verifier::{
    AcceptanceRule, Block, CascadeDiff, CascadeTokenV3, ExactMatch, Lossless, RuleError, SequentialTest,
    couple_candidates, rule,
};
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(serde::Deserialize)]
struct Golden {
    multi_draft: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    method: String,
    candidates: usize,
    q: Vec<f64>,
    p: Vec<f64>,
    any_accepted: f64,
    rho: Option<f64>,
    beta: Option<f64>,
    accept: Option<Vec<f64>>,
    residual: Option<Vec<f64>>,
    children: Option<Vec<TokenId>>,
}

fn probs(weights: &[f64]) -> Probs {
    Probs::normalize(weights.to_vec()).unwrap()
}

fn scores(weights: &[f64]) -> Scores {
    Scores::from_probs(probs(weights), probs(weights))
}

fn branching(method: &str) -> Branching {
    match method {
        "with_replacement" => Branching::WithReplacement,
        "without_replacement" => Branching::WithoutReplacement,
        "k_seq" => Branching::Sequential,
        "top_children" => Branching::TopChildren,
        other => panic!("method {other}"),
    }
}

/// The `count` most probable tokens, the lowest id among equals.
fn top(q: &Probs, count: usize) -> Vec<TokenId> {
    let mut all: Vec<TokenId> = (0..q.vocab_size() as TokenId).collect();
    all.sort_by(|a, b| q.get(*b).total_cmp(&q.get(*a)));
    all.truncate(count);
    all
}

/// Candidates proposed as `branching` says.
fn propose(branching: Branching, q: &Probs, count: usize, draws: &mut dyn Draws) -> Vec<TokenId> {
    if branching == Branching::TopChildren {
        return top(q, count);
    }
    let mut drawn = Vec::new();
    for candidate in 0..count {
        let law =
            if branching == Branching::WithoutReplacement { q.without(&drawn) } else { Some(q.clone()) };
        let Some(law) = law else { break };
        drawn.push(draws.pick_candidate(0, candidate, &law));
    }
    drawn
}

type Handle = fn(Branching, &[TokenId], (&Probs, &Probs), usize, &mut dyn Draws) -> Result<usize, TokenId>;

/// The law of what comes out, and how likely a candidate stands.
fn law(
    branching: Branching,
    q: &Probs,
    pi: &Probs,
    count: usize,
    handle: Handle,
) -> (HashMap<TokenId, f64>, f64) {
    let all = outcomes(|draws| {
        let tokens = propose(branching, q, count, draws);
        let found = handle(branching, &tokens, (q, pi), 0, draws);
        (found.map_or_else(|token| token, |index| tokens[index]), found.is_ok())
    });
    let (mut law, mut any) = (HashMap::new(), 0.0);
    for ((token, stands), weight) in all {
        *law.entry(token).or_insert(0.0) += weight;
        any += if stands { weight } else { 0.0 };
    }
    (law, any)
}

fn as_law(probs: &Probs) -> HashMap<TokenId, f64> {
    (0..).zip(probs.to_vec()).collect()
}

fn near(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-9)
}

#[test]
fn the_golden_cases_of_several_candidates() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../reference/golden/golden.toml");
    let golden: Golden = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in &golden.multi_draft {
        let (q, p, branching) = (probs(&case.q), probs(&case.p), branching(&case.method));
        let (law, any) = law(branching, &q, &p, case.candidates, couple_candidates);
        assert!(distance(&law, &as_law(&p)) < 1e-9, "{}", case.name);
        assert!((any - case.any_accepted).abs() < 1e-9, "{}: {any}", case.name);
        if let Some(children) = &case.children {
            assert_eq!(&top(&q, case.candidates), children);
        }
        if let (Some(rho), Some(beta)) = (case.rho, case.beta) {
            let test = SequentialTest::new(&q, &p, case.candidates);
            assert!((test.rho() - rho).abs() < 1e-9 && (test.beta() - beta).abs() < 1e-9, "{}", case.name);
            assert!((test.any() - any).abs() < 1e-9);
            let accept: Vec<f64> = (0..q.vocab_size() as TokenId).map(|v| test.acceptance(v)).collect();
            assert!(near(&accept, case.accept.as_ref().unwrap()), "{}", case.name);
            let residual = test.residual().unwrap().to_vec();
            assert!(near(&residual, case.residual.as_ref().unwrap()), "{}: {residual:?}", case.name);
        }
    }
    assert_eq!(golden.multi_draft.len(), 32);
}

/// Distributions with zeros, points, equal ones, and nearly equal ones.
fn pair() -> impl Strategy<Value = (Probs, Probs)> {
    let weight = || prop_oneof![2 => Just(0.0), 5 => 1e-6..1.0f64];
    (2usize..5)
        .prop_flat_map(move |n| {
            (prop::collection::vec(weight(), n), prop::collection::vec(weight(), n), 0..6, 1e-16..1e-9f64)
        })
        .prop_filter_map("no mass", |(q, p, kind, nudge)| {
            let n = q.len();
            let p = match kind {
                0 => q.clone(),
                1 => q.iter().map(|w| w + nudge).collect(),
                _ => p,
            };
            let q = if kind == 5 { Probs::point(n as TokenId - 1, n) } else { Probs::normalize(q)? };
            Some((q, Probs::normalize(p)?))
        })
}

/// Each candidate by itself against the same target: wrong.
fn independent(
    _: Branching,
    tokens: &[TokenId],
    (q, pi): (&Probs, &Probs),
    position: usize,
    draws: &mut dyn Draws,
) -> Result<usize, TokenId> {
    let ratio = |token| (pi.get(token) / q.get(token)).min(1.0);
    let kept =
        tokens.iter().enumerate().find(|(i, token)| draws.accept_candidate(position, *i, ratio(**token)));
    if let Some((index, _)) = kept {
        return Ok(index);
    }
    let residual = pi.residual(q);
    Err(draws.pick(position, Purpose::Replacement, residual.as_ref().unwrap_or(pi)))
}

/// A chosen token judged as if it had been drawn: wrong.
fn as_if_drawn(
    _: Branching,
    tokens: &[TokenId],
    laws: (&Probs, &Probs),
    position: usize,
    draws: &mut dyn Draws,
) -> Result<usize, TokenId> {
    couple_candidates(Branching::WithoutReplacement, tokens, laws, position, draws)
}

proptest! {
    #[test]
    fn the_result_follows_the_target((q, pi) in pair(), count in 0usize..5) {
        for branching in Branching::ALL {
            let (law, _) = law(branching, &q, &pi, count, couple_candidates);
            prop_assert!(distance(&law, &as_law(&pi)) < 1e-9, "{branching:?} {count}");
        }
    }

    /// As on paper: a candidate more never hurts; one drawn candidate is refused with probability TV; without
    /// replacement some candidate stands wherever all that the target can say was proposed.
    #[test]
    fn more_candidates_stand_more_often((q, pi) in pair()) {
        for branching in Branching::ALL {
            let any: Vec<f64> = (0..5).map(|count| law(branching, &q, &pi, count, couple_candidates).1).collect();
            prop_assert!(any.windows(2).all(|pair| pair[1] >= pair[0] - 1e-9), "{branching:?} {any:?}");
            if branching.is_drawn() {
                prop_assert!((any[1] - (1.0 - pi.total_variation(&q))).abs() < 1e-9);
            } else {
                let said: f64 = top(&q, 3).into_iter().map(|token| pi.get(token)).sum();
                prop_assert!((any[3] - said).abs() < 1e-9);
            }
            if matches!(branching, Branching::WithoutReplacement | Branching::TopChildren) {
                prop_assert!(any[4] > 1.0 - 1e-9, "all four tokens were there");
            }
        }
    }
}

#[test]
fn wrong_couplings_are_found() {
    let (q, p) = (probs(&[0.5, 0.3, 0.15, 0.05]), probs(&[0.25, 0.45, 0.1, 0.2]));
    for (branching, count, wrong) in [
        (Branching::WithReplacement, 2, independent as Handle),
        (Branching::WithoutReplacement, 2, independent),
        (Branching::TopChildren, 1, as_if_drawn),
        (Branching::TopChildren, 2, as_if_drawn),
    ] {
        let off = distance(&law(branching, &q, &p, count, wrong).0, &as_law(&p));
        assert!(off > 0.02, "{branching:?} with {count}: {off}");
    }
    // With one drawn candidate the tests are the same.
    let (one, _) = law(Branching::WithReplacement, &q, &p, 1, independent);
    assert!(distance(&one, &as_law(&p)) < 1e-12);
}

/// Laws after each path of up to two tokens of three, as if two models had said them.
fn weights(path: &[TokenId], turn: usize) -> Scores {
    let start = path.iter().fold(turn, |sum, token| sum * 3 + *token as usize + 1);
    let row: Vec<f64> = (0..3).map(|v| [0.6, 0.25, 0.1, 0.4, 0.05][(start + 2 * v) % 5]).collect();
    scores(&row)
}

/// A tree with `shape` children a point, level after level.
fn draft(branching: Branching, shape: &[usize], draws: &mut dyn Draws) -> DraftTree {
    let mut tree = DraftTree::new(branching, Some(weights(&[], 1)));
    let mut level = vec![0];
    for (depth, &count) in shape.iter().enumerate() {
        let mut next = Vec::new();
        for point in level {
            let law = tree.scores[point].clone().unwrap();
            let mut drawn = Vec::new();
            for candidate in 0..count {
                let token = match branching {
                    Branching::TopChildren => top(law.probs(), count)[candidate],
                    Branching::WithoutReplacement => {
                        let rest = law.probs().without(&drawn).unwrap();
                        draws.pick_candidate(depth, candidate, &rest)
                    }
                    _ => draws.pick_candidate(depth, candidate, law.probs()),
                };
                drawn.push(token);
                let node = tree.push(point, token);
                let path: Vec<_> = tree.path(node + 1).into_iter().map(|node| tree.tokens[node]).collect();
                tree.scores[node + 1] = Some(weights(&path, 1));
                next.push(node + 1);
            }
        }
        level = next;
    }
    tree.check(3, shape.len()).unwrap();
    tree
}

/// What the expert says at every point.
fn expert(tree: &DraftTree) -> Vec<Scores> {
    let path = |point| tree.path(point).into_iter().map(|node| tree.tokens[node]).collect::<Vec<_>>();
    (0..=tree.len()).map(|point| weights(&path(point), 2)).collect()
}

/// The law of the first two tokens of a text whose first round is judged so, and then goes on by the rule's law.
fn text_law(rule: &dyn AcceptanceRule, branching: Branching, shape: &[usize]) -> HashMap<Vec<TokenId>, f64> {
    outcomes(|draws| {
        let tree = draft(branching, shape, draws);
        let verdict = rule.judge_tree(&tree, &expert(&tree), 0, draws);
        let mut text: Vec<_> = verdict.path.iter().map(|node| tree.tokens[*node]).collect();
        text.push(verdict.next);
        while text.len() < 2 {
            let (q, p) = (weights(&text, 1), weights(&text, 2));
            text.push(draws.pick(text.len(), Purpose::Target, &rule.target(&q, &p)));
        }
        text.truncate(2);
        text
    })
}

const SHAPES: [&[usize]; 5] = [&[], &[2], &[1, 1], &[2, 1], &[3]];

#[test]
fn trees_follow_the_law_of_every_rule() {
    let rules: [Box<dyn AcceptanceRule>; 6] = [
        Box::new(Lossless),
        Box::new(ExactMatch),
        Box::new(CascadeDiff { lenience: 0.1 }),
        Box::new(CascadeTokenV3 { lenience: 0.4 }),
        Box::new(rule("mentored:budget=0.05").unwrap()),
        Box::new(rule("coupled-noise").unwrap()),
    ];
    for rule in &rules {
        let plain = text_law(&**rule, Branching::TopChildren, &[]);
        for branching in Branching::ALL {
            for shape in SHAPES {
                let law = text_law(&**rule, branching, shape);
                assert!(distance(&law, &plain) < 1e-9, "{} {branching:?} {shape:?}", rule.name());
            }
        }
    }
    let other = text_law(&Lossless, Branching::TopChildren, &[]);
    assert!(distance(&text_law(&*rules[3], Branching::TopChildren, &[2, 1]), &other) > 0.01);
}

/// Walks on from the wrong child.
struct Astray;

impl AcceptanceRule for Astray {
    fn name(&self) -> &'static str {
        "astray"
    }

    fn target<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> std::borrow::Cow<'a, Probs> {
        std::borrow::Cow::Borrowed(expert.probs())
    }

    fn judge_tree(
        &self,
        tree: &DraftTree,
        expert: &[Scores],
        position: usize,
        draws: &mut dyn Draws,
    ) -> drafthorse_logits::TreeVerdict {
        let mut verdict = Lossless.judge_tree(tree, expert, position, draws);
        if let [first] = verdict.path[..] {
            // The bonus comes from a sibling's row.
            let sibling = tree.children(0).find(|node| *node != first).unwrap_or(first);
            verdict.next = draws.pick(position + 1, Purpose::Target, expert[sibling + 1].probs());
        }
        verdict
    }
}

#[test]
fn a_walk_that_goes_astray_is_found() {
    let plain = text_law(&Lossless, Branching::TopChildren, &[]);
    assert!(distance(&text_law(&Astray, Branching::WithoutReplacement, &[2]), &plain) > 0.01);
    assert!(distance(&text_law(&Astray, Branching::WithoutReplacement, &[1]), &plain) < 1e-9, "no sibling");
}

/// With one child a point the tree is the chain, draw for draw.
#[test]
fn a_chain_is_judged_as_a_chain() {
    let rules: [Box<dyn AcceptanceRule>; 4] = [
        Box::new(Lossless),
        Box::new(ExactMatch),
        Box::new(CascadeTokenV3 { lenience: 0.4 }),
        Box::new(rule("coupled-noise").unwrap()),
    ];
    for rule in &rules {
        for seed in 0..200 {
            let mut draws = SeededDraws::new(seed, 1 + seed % 5);
            let tree = draft(Branching::WithoutReplacement, &[1, 1, 1], &mut draws);
            let scores = tree.scores.iter().flatten().cloned().collect();
            let proposal = Proposal { tokens: tree.tokens.clone(), scores };
            let chain = rule.judge(&proposal, &expert(&tree), 0, &mut draws);
            for branching in [Branching::WithoutReplacement, Branching::WithReplacement] {
                let tree = DraftTree { branching, ..tree.clone() };
                let verdict = rule.judge_tree(&tree, &expert(&tree), 0, &mut draws);
                assert_eq!(verdict.as_chain(), chain, "{} {seed}", rule.name());
                assert_eq!(verdict.path, (0..chain.accepted).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn exact_match_says_what_plain_decoding_says() {
    for branching in Branching::ALL {
        for seed in 0..100 {
            let mut draws = SeededDraws::new(seed, 3);
            let tree = draft(branching, &[2, 2], &mut draws);
            let verdict = ExactMatch.judge_tree(&tree, &expert(&tree), 0, &mut draws);
            let mut text: Vec<_> = verdict.path.iter().map(|node| tree.tokens[*node]).collect();
            text.push(verdict.next);
            for (at, token) in text.iter().enumerate() {
                let plain =
                    SeededDraws::new(seed, 9).pick(at, Purpose::Target, weights(&text[..at], 2).probs());
                assert_eq!(*token, plain);
            }
        }
    }
}

#[test]
fn points_without_children_bring_a_bonus_and_joint_rules_refuse() {
    let tree = DraftTree::new(Branching::TopChildren, None);
    let verdict = Lossless.judge_tree(&tree, &expert(&tree), 0, &mut SeededDraws::new(1, 1));
    assert_eq!((verdict.path.len(), verdict.origin), (0, Origin::Bonus));
    assert_eq!(Block.check_trees(), Err(RuleError::Trees { rule: "block" }));
    assert!(Block.check_trees().unwrap_err().to_string().contains("use lossless"));
    assert_eq!(Lossless.check_trees(), Ok(()));
}

/// Seeded draws that do not tell candidates apart.
struct OneNumber(SeededDraws);

impl Draws for OneNumber {
    fn accept(&mut self, position: usize, probability: f64) -> bool {
        self.0.accept(position, probability)
    }

    fn pick(&mut self, position: usize, purpose: Purpose, probs: &Probs) -> TokenId {
        self.0.pick(position, purpose, probs)
    }
}

/// The law holds for draws by a seed too: every candidate has numbers of its own.
#[test]
fn seeded_candidates_follow_the_target() {
    let (q, p) = (probs(&[0.5, 0.3, 0.15, 0.05]), probs(&[0.25, 0.45, 0.1, 0.2]));
    let count = 20_000;
    let off = |branching, draws: &dyn Fn(u64) -> Box<dyn Draws>| {
        let mut found = [0.0; 4];
        for seed in 0..count {
            let mut draws = draws(seed);
            let tokens = propose(branching, &q, 3, &mut *draws);
            let token = couple_candidates(branching, &tokens, (&q, &p), 0, &mut *draws);
            found[token.map_or_else(|token| token, |index| tokens[index]) as usize] += 1.0;
        }
        let n = count as f64;
        let deviation = |v: usize| {
            let p = p.get(v as TokenId);
            (found[v] / n - p).abs() / (p * (1.0 - p) / n).sqrt()
        };
        (0..4).map(deviation).fold(0.0, f64::max)
    };
    for branching in Branching::ALL {
        let own = off(branching, &|seed| Box::new(SeededDraws::new(seed, 1)));
        assert!(own < 5.0, "{branching:?}: {own} standard deviations");
        let shared = off(branching, &|seed| Box::new(OneNumber(SeededDraws::new(seed, 1))));
        assert!(shared > 10.0, "{branching:?}: {shared} standard deviations");
    }
}
