//! Walks along trees of candidates.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{scores, top};
use drafthorse_logits::{
    Branching, DraftTree, Draws, Origin, Probs, Proposal, Purpose, Scores, SeededDraws, TokenId,
    exact::{distance, outcomes},
};
use drafthorse_verifier::{
    AcceptanceRule, Block, CascadeDiff, CascadeTokenV3, ExactMatch, Lossless, RuleError, rule,
};
use std::collections::HashMap;

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
