use super::*;
use crate::Probs;
use proptest::prelude::*;

fn row(weights: &[f64]) -> Scores {
    let probs = Probs::normalize(weights.to_vec()).unwrap();
    Scores::from_probs(probs.clone(), probs)
}

/// Two children of the root, one child of each.
fn tree(branching: Branching) -> DraftTree {
    let mut tree = DraftTree::new(branching, Some(row(&[3.0, 1.0, 0.0])));
    for (point, token) in [(0, 0), (0, 1), (1, 2), (2, 1)] {
        tree.push(point, token);
    }
    tree.scores[1] = Some(row(&[0.0, 0.0, 1.0]));
    tree.scores[2] = Some(row(&[0.0, 1.0, 0.0]));
    tree
}

#[test]
fn a_broken_contract_is_named() {
    let ok = tree(Branching::WithoutReplacement);
    assert_eq!(ok.check(3, 2), Ok(()));
    assert_eq!(ok.check(3, 1), Err(TreeError::TooDeep { depth: 2, max: 1 }));
    assert_eq!(ok.check(4, 2), Err(TreeError::Vocabulary { point: 0, found: 3, expected: 4 }));
    let mut short = ok.clone();
    short.scores.pop();
    assert_eq!(short.check(3, 2), Err(TreeError::Lengths { tokens: 4, parents: 4, scores: 4 }));
    let mut late = ok.clone();
    late.parents[1] = Some(1);
    assert_eq!(late.check(3, 2), Err(TreeError::Order { node: 1, parent: 1 }));
    let mut unscored = ok.clone();
    unscored.scores[2] = None;
    assert_eq!(unscored.check(3, 2), Err(TreeError::Unscored { point: 2 }));
    let mut twice = ok.clone();
    twice.tokens[1] = 0;
    assert_eq!(twice.check(3, 2), Err(TreeError::Repeated { node: 1, token: 0 }));
    twice.branching = Branching::WithReplacement;
    assert_eq!(twice.check(3, 2), Ok(()));
    let mut lie = ok.clone();
    lie.tokens[1] = 2;
    assert_eq!(lie.check(3, 2), Err(TreeError::Impossible { node: 1, token: 2 }));
    lie.branching = Branching::TopChildren;
    assert_eq!(lie.check(3, 2), Ok(()), "what is chosen need not be probable");
    lie.tokens[1] = 3;
    assert_eq!(lie.check(3, 2), Err(TreeError::Token { node: 1, token: 3, vocab: 3 }));
    let mut beyond = ok;
    beyond.push(0, 2);
    assert_eq!(beyond.check(3, 2), Ok(()), "nothing else is left");
}

#[test]
fn paths_children_and_depths() {
    let tree = tree(Branching::TopChildren);
    assert_eq!(tree.children(0).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(tree.children(2).collect::<Vec<_>>(), [3]);
    assert_eq!((tree.path(4), tree.path(0)), (vec![1, 3], vec![]));
    assert_eq!((tree.depth(), tree.depth_of(4), tree.depth_of(0)), (2, 2, 0));
    let verdict = |path: &[usize], origin| TreeVerdict { path: path.to_vec(), next: 0, origin };
    let ranked = |children, stands| Ranked { children, stands };
    let whole = verdict(&[1, 3], Origin::Bonus);
    assert_eq!(whole.ranks(&tree), [ranked(2, Some(1)), ranked(1, Some(0))]);
    assert_eq!((whole.point(), whole.as_chain().examined()), (4, 2));
    let none = verdict(&[], Origin::Replacement);
    assert_eq!((none.ranks(&tree), none.as_chain().examined()), (vec![ranked(2, None)], 1));
    let half = verdict(&[0], Origin::Replacement);
    assert_eq!(half.ranks(&tree), [ranked(2, Some(0)), ranked(1, None)]);
}

#[test]
fn a_chain_is_a_tree() {
    let scores = vec![row(&[1.0, 1.0]); 3];
    let chain = DraftTree::chain(Proposal { tokens: vec![1, 0], scores });
    assert_eq!((chain.parents.clone(), chain.check(2, 2)), (vec![None, Some(0)], Ok(())));
    assert!(chain.scores[2].is_some());
}

#[test]
fn shapes_as_text() {
    for text in [
        "1",
        "2x2",
        "3x1x1",
        "3x2+1",
        "2x1+0",
        "2x0+1x3",
        "3x2+0+1x1+0+2x1+1",
        "best:8:4:3",
        "auto",
        "auto:9:3:2",
    ] {
        assert_eq!(text.parse::<TreeShape>().unwrap().to_string(), text);
    }
    let shape = TreeShape::fixed(&[None, None, Some(0)]).unwrap();
    assert_eq!((shape.to_string(), shape.depth()), ("2x1+0".into(), 2));
    let shuffled = TreeShape::fixed(&[None, None, Some(1), Some(0), Some(1)]).unwrap();
    assert_eq!((shuffled.to_string(), shuffled.nodes()), ("2x1+2".into(), 5));
    for text in ["", "x", "2x", "+", "2x1+", "best:1", "best:1:2:3:4", "auto:1", "autos", "two"] {
        assert_eq!(text.parse::<TreeShape>(), Err(ShapeError::Text { found: text.into() }));
    }
    assert_eq!("0".parse::<TreeShape>(), Err(ShapeError::Empty));
    assert_eq!("best:4:0:2".parse::<TreeShape>(), Err(ShapeError::Empty));
    assert_eq!("99x99".parse::<TreeShape>(), Err(ShapeError::TooLarge { nodes: 99 + 99 * 99 }));
    assert_eq!(TreeShape::chain(usize::MAX), Err(ShapeError::TooLarge { nodes: 1025 }));
    assert_eq!(TreeShape::fixed(&[None, Some(1)]), Err(ShapeError::Order { node: 1 }));
    assert_eq!(TreeShape::fixed(&[None, Some(0), None]), Err(ShapeError::Order { node: 2 }));
    let shape = TreeShape::Best { nodes: 4, depth: 2, children: 2 };
    let plan = TreePlan { branching: Branching::WithReplacement, shape };
    assert_eq!(plan.check(), Err(ShapeError::Anticipating { branching: "with-replacement" }));
    for branching in Branching::ALL {
        assert_eq!(branching.name().parse(), Ok(branching));
    }
}

/// What a tree brings where the `b`-th child of a point stands with probability `ranks[b]`.
fn expected(parents: &[Option<usize>], ranks: &[f64]) -> f64 {
    let mut reached: Vec<f64> = Vec::new();
    let mut total = 1.0;
    for (node, parent) in parents.iter().enumerate() {
        let rank = parents[..node].iter().filter(|other| *other == parent).count();
        let p = parent.map_or(1.0, |parent| reached[parent]) * ranks.get(rank).copied().unwrap_or(0.0);
        reached.push(p);
        total += p;
    }
    total
}

/// All trees of `nodes` nodes, level after level, each once or more often.
fn all_trees(nodes: usize) -> Vec<Vec<Option<usize>>> {
    let mut all = vec![vec![]];
    for node in 0..nodes {
        let grow = |tree: &Vec<Option<usize>>| {
            let points = std::iter::once(None).chain((0..node).map(Some));
            points.map(|point| [&tree[..], &[point]].concat()).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(grow).collect();
    }
    all.retain(|tree| TreeShape::fixed(tree).is_ok());
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// No tree of up to six nodes brings more than the one that is said to be best, and that one brings what is said.
    #[test]
    fn the_best_tree_is_the_best_of_all(weights in prop::collection::vec(0.0..1.0f64, 1..4), rest in 0.0..1.0f64) {
        let sum = weights.iter().sum::<f64>() + rest;
        let ranks: Vec<f64> = weights.iter().map(|w| w / sum).collect();
        let best = BestTree::new(&ranks, 6, 4);
        for nodes in 1..=6 {
            for depth in 1..=4 {
                let trees = all_trees(nodes);
                let trees = trees.iter().filter(|tree| TreeShape::fixed(tree).unwrap().depth() <= depth);
                let most = trees.map(|tree| expected(tree, &ranks)).fold(1.0, f64::max);
                // Fewer nodes can be enough, and more never bring less.
                let said = best.tokens(nodes, depth);
                prop_assert!((said - most).abs() < 1e-12, "{nodes} nodes, {depth} deep: {said} of {most}");
                if let Some(shape) = best.shape(nodes, depth) {
                    let parents = shape.parents().unwrap();
                    prop_assert!(parents.len() <= nodes && shape.depth() <= depth);
                    prop_assert!((expected(parents, &ranks) - said).abs() < 1e-12);
                    prop_assert_eq!(shape.to_string().parse(), Ok(shape));
                }
            }
        }
    }
}

#[test]
fn where_only_the_first_child_stands_the_best_tree_is_a_chain() {
    let best = BestTree::new(&[0.8, 0.0, 0.0], 12, 5);
    assert_eq!(best.shape(12, 5), Some(TreeShape::chain(5).unwrap()));
    assert_eq!(best.shape(3, 5), Some(TreeShape::chain(3).unwrap()));
    assert!((best.tokens(2, 5) - (1.0 + 0.8 + 0.64)).abs() < 1e-12);
    assert_ne!(BestTree::new(&[0.6, 0.3], 4, 5).shape(4, 5), Some(TreeShape::chain(4).unwrap()));
    assert_eq!(BestTree::new(&[0.0, 0.0], 4, 2).shape(4, 2), None, "nothing is worth drafting");
}

#[test]
fn the_fastest_tree_depends_on_what_rows_cost() {
    let best = BestTree::new(&[0.6, 0.2, 0.1], 16, 6);
    let free = vec![1.0; 17];
    let (wide, speed) = best.fastest(0.01, &free).unwrap();
    assert!(wide.nodes() > 10 && speed > 2.0, "{wide} {speed}");
    let dear: Vec<f64> = (0..17).map(|m| 1.0 + 0.5 * f64::from(m)).collect();
    let (narrow, _) = best.fastest(0.01, &dear).unwrap();
    assert_eq!(narrow, TreeShape::chain(1).unwrap());
    let linear: Vec<f64> = (1..18).map(f64::from).collect();
    assert!(best.fastest(0.01, &linear).is_none(), "every row costs as much as a pass");
    assert!(best.fastest(0.01, &[]).is_none());
    // A chain has the closed form of Leviathan et al., Theorem 3.8.
    let chain = BestTree::new(&[0.7], 6, 6);
    let (shape, speed) = chain.fastest(0.05, &[1.0; 7]).unwrap();
    assert_eq!(shape, TreeShape::chain(6).unwrap());
    assert!((speed - (1.0 - 0.7f64.powi(7)) / (0.3 * (6.0 * 0.05 + 1.0))).abs() < 1e-12);
}

#[test]
fn ranks_are_learned_from_verdicts() {
    let mut learned = RankAcceptance::default();
    let before = learned.probabilities(3);
    assert_eq!(before, [0.5, 0.25, 0.125]);
    for i in 0..1000 {
        let stands = [Some(0), Some(0), Some(0), Some(1), None][i % 5];
        learned.observe(&[Ranked { children: 2, stands }]);
        learned.observe(&[]);
    }
    let after = learned.probabilities(3);
    assert!((after[0] - 0.6).abs() < 1e-3 && (after[1] - 0.2).abs() < 1e-3, "{after:?}");
    assert!(after[2] > 0.0 && after.iter().sum::<f64>() <= 1.0 + 1e-12, "unseen ranks keep a chance");
    let free = learned.fastest(3, 4, 0.0, &[1.0; 9]);
    assert_eq!(free, BestTree::new(&after, 8, 4).fastest(0.0, &[1.0; 9]));
    assert!(free.is_some_and(|(shape, speed)| shape.nodes() == 8 && speed > 1.5));
    let mut twice = learned.clone();
    twice.merge(&learned);
    assert_eq!((twice.points(), learned.points()), (2000, 1000));
}
