use super::{candidates::Point, couple_point};
use crate::AcceptanceRule;
use drafthorse_logits::{DraftTree, Draws, Origin, Purpose, Scores, TokenId, TreeVerdict};

/// Decides a tree point by point from the root on: the walk goes on at the child that stands, and ends with a
/// replacement where none does, or a bonus where there are none. `position` is that of the first drafted tokens in the
/// sequence.
///
/// This is [`couple_candidates`](crate::couple_candidates) at each point of the path, for the rule's target there: the
/// text follows the rule's law exactly, whatever the tree. On a chain it is [`judge`](crate::judge).
///
/// # Shapes
///
/// `expert` has one row a point, one more than the tree has nodes.
///
/// # Panics
///
/// If `expert` has too few rows, or the tree breaks its [contract](DraftTree::check).
///
/// Source: Miao et al., "`SpecInfer`", 2024, Algorithm 2; Chen et al., "Sequoia", 2024, Algorithm 2.
pub fn judge_tree<R: AcceptanceRule + ?Sized>(
    rule: &R,
    tree: &DraftTree,
    expert: &[Scores],
    position: usize,
    draws: &mut dyn Draws,
) -> TreeVerdict {
    walk(tree, |point, tokens, depth| {
        let (expert, position) = (&expert[point], position + depth);
        let Some(draft) = &tree.scores[point] else {
            assert!(tokens.is_empty(), "children of a point without scores");
            return Err(draws.pick(position, Purpose::Target, &rule.undrafted(expert)));
        };
        let at = Point { branching: tree.branching, tokens, draft: draft.probs(), position };
        couple_point(at, |token| rule.acceptance(token, draft, expert), || rule.target(draft, expert), draws)
    })
}

/// A token is drawn at each point, and the walk goes on at the child that is the same.
pub(crate) fn match_tree(tree: &DraftTree, mut draw: impl FnMut(usize, usize) -> TokenId) -> TreeVerdict {
    walk(tree, |point, tokens, depth| {
        let drawn = draw(point, depth);
        tokens.iter().position(|token| *token == drawn).ok_or(drawn)
    })
}

/// Walks from the root as `decide` says of each point, the tokens of its children and its depth.
fn walk(
    tree: &DraftTree,
    mut decide: impl FnMut(usize, &[TokenId], usize) -> Result<usize, TokenId>,
) -> TreeVerdict {
    let (mut path, mut point) = (Vec::new(), 0);
    loop {
        let children: Vec<_> = tree.children(point).collect();
        let tokens: Vec<_> = children.iter().map(|node| tree.tokens[*node]).collect();
        match decide(point, &tokens, path.len()) {
            Ok(child) => {
                path.push(children[child]);
                point = children[child] + 1;
            }
            Err(next) => {
                let origin = if children.is_empty() { Origin::Bonus } else { Origin::Replacement };
                return TreeVerdict { path, next, origin };
            }
        }
    }
}
