//! How a model's tree of drafts grows: a level at a time, with one forward each.

use crate::{DraftRequest, model::score_row};
use drafthorse_logits::{Branching, DraftTree, Draws, Memory, Probs, Scores, TokenId, TreeShape, largest};
use drafthorse_model::{ModelError, SequenceModel, Tree};

/// A tree in the making.
pub(crate) struct Growth<'a> {
    model: &'a mut dyn SequenceModel,
    sequence: &'a [TokenId],
    request: &'a DraftRequest<'a>,
    tree: DraftTree,
    /// What the sampler remembers at each point.
    memories: Vec<Memory>,
    /// How probable the path to each point is by what the drafter says of its tokens.
    reached: Vec<f64>,
}

impl<'a> Growth<'a> {
    pub(crate) fn new(
        model: &'a mut dyn SequenceModel,
        sequence: &'a [TokenId],
        request: &'a DraftRequest<'a>,
        branching: Branching,
    ) -> Self {
        let tree = DraftTree::new(branching, None);
        Self { model, sequence, request, tree, memories: vec![request.memory], reached: vec![1.0] }
    }

    pub(crate) fn grow(mut self, shape: &TreeShape, draws: &mut dyn Draws) -> Result<DraftTree, ModelError> {
        match *shape {
            TreeShape::Best { nodes, depth, children } => {
                self.grow_best(depth.min(self.request.max), children, draws)?;
                self.keep_best(nodes);
            }
            _ => self.grow_fixed(shape.parents().unwrap_or_default(), draws)?,
        }
        if self.request.score_after {
            self.score_rest()?;
        }
        Ok(self.tree)
    }

    /// The given shape, as deep as may be.
    fn grow_fixed(&mut self, parents: &[Option<usize>], draws: &mut dyn Draws) -> Result<(), ModelError> {
        // The points of a level, each with its place in the shape.
        let mut level = vec![(0, None)];
        for depth in 0..self.request.max {
            let count = |place: Option<usize>| parents.iter().filter(|parent| **parent == place).count();
            level.retain(|(_, place)| count(*place) > 0);
            if level.is_empty() || !self.read_level(depth)? {
                break;
            }
            let mut next = Vec::new();
            for (point, place) in level {
                let below = parents.iter().enumerate().filter(|(_, parent)| **parent == place);
                let places: Vec<_> = below.map(|(node, _)| node).collect();
                let nodes = self.branch(point, places.len(), depth, draws);
                next.extend(nodes.into_iter().zip(places).map(|(node, place)| (node + 1, Some(place))));
            }
            next.retain(|(point, _)| !self.is_repeated(point - 1));
            level = next;
        }
        Ok(())
    }

    /// The most probable nodes of each level get children.
    fn grow_best(&mut self, depths: usize, children: usize, draws: &mut dyn Draws) -> Result<(), ModelError> {
        let mut level = vec![0];
        for depth in 0..depths {
            level.sort_by(|a, b| self.reached[*b].total_cmp(&self.reached[*a]));
            level.truncate(children);
            if level.is_empty() || !self.read_level(depth)? {
                break;
            }
            let grown = level.iter().flat_map(|point| self.branch(*point, children, depth, draws));
            level = grown.map(|node| node + 1).collect();
        }
        Ok(())
    }

    /// Cuts the tree down to its most probable nodes.
    fn keep_best(&mut self, nodes: usize) {
        let mut best: Vec<usize> = (0..self.tree.len()).collect();
        // Nothing is more probable than what comes before it, which comes first among equals.
        best.sort_by(|a, b| self.reached[*b + 1].total_cmp(&self.reached[*a + 1]));
        best.truncate(nodes);
        best.sort_unstable();
        let cut = DraftTree::new(self.tree.branching, None);
        let old = std::mem::replace(&mut self.tree, cut);
        let mut points = vec![None; old.len() + 1];
        points[0] = Some(0);
        self.tree.scores[0].clone_from(&old.scores[0]);
        for node in best {
            let above = old.parents[node].map_or(0, |parent| parent + 1);
            let Some(above) = points[above] else { continue };
            let new = self.tree.push(above, old.tokens[node]);
            points[node + 1] = Some(new + 1);
            self.tree.scores[new + 1].clone_from(&old.scores[node + 1]);
        }
        let kept = points.iter().zip(&self.memories).filter(|(to, _)| to.is_some());
        self.memories = kept.map(|(_, memory)| *memory).collect();
    }

    /// Has the model read the nodes of the last level and scores them; whether there was room.
    fn read_level(&mut self, depth: usize) -> Result<bool, ModelError> {
        if self.sequence.len() + depth > self.model.context_len() {
            return Ok(false);
        }
        let first = (0..=self.tree.len()).find(|point| self.tree.depth_of(*point) == depth);
        self.read_from(first.unwrap_or(self.tree.len() + 1))?;
        Ok(true)
    }

    /// Scores the points that are not scored yet, as far as there is room.
    fn score_rest(&mut self) -> Result<(), ModelError> {
        let room = self.sequence.len() + self.tree.depth() <= self.model.context_len();
        match self.tree.scores.iter().position(Option::is_none) {
            Some(first) if room => self.read_from(first),
            _ => Ok(()),
        }
    }

    /// Scores the points from `first` on that are not scored yet.
    fn read_from(&mut self, first: usize) -> Result<(), ModelError> {
        let DraftTree { tokens, parents, .. } = &self.tree;
        let rows = (tokens.len() + 1).saturating_sub(first);
        let logits = self.model.tree_logits(self.sequence, Tree { tokens, parents }, rows)?;
        let mut text = self.sequence.to_vec();
        for (point, row) in (first..).zip(logits.iter()) {
            if self.tree.scores[point].is_some() {
                continue;
            }
            text.truncate(self.sequence.len());
            text.extend(self.tree.path(point).into_iter().map(|node| self.tree.tokens[node]));
            self.tree.scores[point] = score_row(row, &text, self.memories[point], self.request)?;
        }
        Ok(())
    }

    /// Gives a point children; returns them.
    fn branch(&mut self, point: usize, count: usize, depth: usize, draws: &mut dyn Draws) -> Vec<usize> {
        let Some(scores) = self.tree.scores[point].clone() else { return Vec::new() };
        let law = ranking(&scores);
        let tokens = match self.tree.branching {
            Branching::TopChildren => top(law, count),
            branching => draw(branching, scores.probs(), count, self.sequence.len() + depth, draws),
        };
        let add = |token| {
            let memory = self.request.sampler.remember(self.memories[point], &scores, token);
            self.memories.push(memory);
            self.reached.push(self.reached[point] * law.get(token));
            self.tree.push(point, token)
        };
        tokens.into_iter().map(add).collect()
    }

    /// Whether a node came before among the children of its point and was refused if this one is looked at, which is
    /// then refused too.
    fn is_repeated(&self, node: usize) -> bool {
        let DraftTree { branching, tokens, parents, .. } = &self.tree;
        let before = (0..node).any(|other| (tokens[other], parents[other]) == (tokens[node], parents[node]));
        *branching == Branching::WithReplacement && before
    }
}

/// By what tokens are ranked: what is sampled, or what is behind it where that is a point.
fn ranking(scores: &Scores) -> &Probs {
    if scores.probs().as_point().is_some() { scores.raw() } else { scores.probs() }
}

/// The `count` most probable tokens, the lowest id among equals, and none that is impossible.
fn top(law: &Probs, count: usize) -> Vec<TokenId> {
    let best = largest(&law.row(), count).into_iter();
    best.filter(|(_, p)| *p > 0.0).map(|(token, _)| token).collect()
}

/// Draws up to `count` tokens; how many depends on the law alone.
fn draw(
    branching: Branching,
    law: &Probs,
    count: usize,
    position: usize,
    draws: &mut dyn Draws,
) -> Vec<TokenId> {
    // More of what is certain would say nothing.
    let count = if law.as_point().is_some() { count.min(1) } else { count };
    let mut drawn = Vec::new();
    for candidate in 0..count {
        let rest = match (branching, candidate) {
            (Branching::WithoutReplacement, 1..) => law.without(&drawn),
            _ => Some(law.clone()),
        };
        // Where all that is possible was drawn, so that only what is impossible is left, it ends.
        match rest.map(|rest| draws.pick_candidate(position, candidate, &rest)) {
            Some(token) if law.get(token) > 0.0 => drawn.push(token),
            _ => break,
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Drafter, ModelDrafter};
    use drafthorse_logits::{Sampler, SamplingOptions, SeededDraws, TreePlan, exact::outcomes};
    use drafthorse_model::{LanguageModel, TableModel};
    use std::sync::Arc;

    fn plan(branching: Branching, shape: &str) -> TreePlan {
        TreePlan { branching, shape: shape.parse().expect("a shape") }
    }

    fn propose(
        model: &Arc<impl LanguageModel>,
        plan: &TreePlan,
        temperature: f32,
        (max, score_after): (usize, bool),
        draws: &mut dyn Draws,
    ) -> DraftTree {
        let sampler = Sampler::new(&SamplingOptions { temperature, ..Default::default() }).expect("options");
        let (prompt, memory, sampler, vocab) = (2, Memory::off(), &sampler, model.vocab_size());
        let request =
            DraftRequest { max, score_after, raw: true, vocab, prompt, memory, sampler, stop: None };
        let mut drafter = ModelDrafter::new(model.clone());
        let tree = drafter.propose_tree(&[0, 1], &request, plan, draws).expect("a model that works");
        let tree = tree.expect("a tree");
        assert_eq!(tree.check(vocab, max), Ok(()));
        tree
    }

    fn text(tree: &DraftTree, point: usize) -> Vec<TokenId> {
        [0, 1].into_iter().chain(tree.path(point).into_iter().map(|node| tree.tokens[node])).collect()
    }

    #[test]
    fn chosen_children_are_the_most_probable() {
        let model = Arc::new(TableModel::random(5, 1.0, 1));
        for temperature in [0.0, 0.8] {
            let draws = &mut SeededDraws::new(0, 1);
            let tree = propose(&model, &plan(Branching::TopChildren, "3x2"), temperature, (2, true), draws);
            assert_eq!((tree.len(), tree.depth()), (9, 2));
            assert!(tree.scores.iter().all(Option::is_some));
            for point in 0..4 {
                let row = model.row(&text(&tree, point));
                let mut best: Vec<TokenId> = (0..5).collect();
                best.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]));
                let children: Vec<_> = tree.children(point).map(|node| tree.tokens[node]).collect();
                assert_eq!(children, best[..children.len()]);
            }
        }
    }

    #[test]
    fn the_best_nodes_are_the_most_probable_of_all() {
        let model = Arc::new(TableModel::random(5, 2.0, 3));
        let draws = &mut SeededDraws::new(0, 1);
        let tree = propose(&model, &plan(Branching::TopChildren, "best:6:3:5"), 1.0, (3, true), draws);
        assert_eq!((tree.len(), tree.scores.iter().filter(|row| row.is_some()).count()), (6, 7));
        let probability = |text: &[TokenId]| {
            (2..text.len()).map(|at| Probs::softmax(model.row(&text[..at])).get(text[at])).product::<f64>()
        };
        let mut all = Vec::new();
        for a in 0..5 {
            all.push(vec![0, 1, a]);
            for b in 0..5 {
                all.push(vec![0, 1, a, b]);
                all.extend((0..5).map(|c| vec![0, 1, a, b, c]));
            }
        }
        all.sort_by(|a, b| probability(b).total_cmp(&probability(a)));
        let mut found: Vec<_> = (1..=6).map(|point| text(&tree, point)).collect();
        found.sort_by(|a, b| probability(b).total_cmp(&probability(a)));
        assert_eq!(found, all[..6]);
        for (point, row) in tree.scores.iter().enumerate() {
            let expected = Probs::softmax(model.row(&text(&tree, point)));
            assert_eq!(row.as_ref().map(Scores::probs), Some(&expected), "point {point}");
        }
    }

    #[test]
    fn a_tree_ends_where_it_must() {
        let model = Arc::new(TableModel::random(3, 1.0, 1).with_context(3));
        let draws = &mut SeededDraws::new(0, 1);
        for branching in Branching::ALL {
            let tree = propose(&model, &plan(branching, "2x2x2"), 1.0, (3, false), draws);
            assert_eq!(tree.depth(), 2, "after two and after three tokens");
            let tree = propose(&model, &plan(branching, "2x2x2"), 1.0, (1, false), draws);
            assert_eq!(tree.len(), 2, "one token is left");
            let tree = propose(&model, &plan(branching, "2x2"), 1.0, (0, true), draws);
            assert!(tree.is_empty() && tree.scores[0].is_some());
        }
        let wide = propose(&model, &plan(Branching::WithoutReplacement, "9"), 1.0, (1, false), draws);
        assert_eq!(wide.len(), 3, "there are no more tokens");
        let sharp = propose(&model, &plan(Branching::WithReplacement, "4"), 0.0, (1, false), draws);
        assert_eq!(sharp.len(), 1, "what is certain is proposed once");
    }

    /// The children of a point follow the law that is stated.
    #[test]
    fn drawn_children_follow_their_law() {
        let model = Arc::new(TableModel::random(3, 1.0, 5));
        let q = Probs::softmax(model.row(&[0, 1]));
        for branching in [Branching::WithReplacement, Branching::WithoutReplacement, Branching::Sequential] {
            let law = outcomes(|draws| propose(&model, &plan(branching, "2"), 1.0, (1, false), draws).tokens);
            for (tokens, weight) in law {
                let second = if branching == Branching::WithoutReplacement {
                    q.get(tokens[1]) / (1.0 - q.get(tokens[0]))
                } else {
                    q.get(tokens[1])
                };
                assert!((weight - q.get(tokens[0]) * second).abs() < 1e-12, "{branching:?} {tokens:?}");
            }
        }
    }
}
