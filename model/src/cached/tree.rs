//! Trees after a sequence, read at once.

use crate::{
    CachedModel, KvCache, LanguageModel, ModelError, Segment, Tree,
    language_model::{check_answers, check_shape},
};
use drafthorse_logits::{Logits, RowAnswer, RowQuestion, TokenId};

/// More tokens of the sequence than this are read before the tree, which then meets fewer rows.
const TOGETHER: usize = 16;

/// A tree in a cache, behind the tokens of the sequence.
#[derive(Debug)]
pub(super) struct HeldTree {
    tokens: Vec<TokenId>,
    parents: Vec<Option<usize>>,
}

impl HeldTree {
    /// The longest path from the root whose tokens `rest` begins with.
    fn longest(&self, rest: &[TokenId]) -> Vec<usize> {
        let mut best = Vec::new();
        // Each node with its path, as far as it agrees.
        let mut paths: Vec<Option<Vec<usize>>> = Vec::with_capacity(self.tokens.len());
        for (node, parent) in self.parents.iter().enumerate() {
            let above = parent.map_or(Some(Vec::new()), |parent| paths[parent].clone());
            let path =
                above.filter(|above| rest.get(above.len()) == Some(&self.tokens[node])).map(|mut path| {
                    path.push(node);
                    path
                });
            if let Some(path) = path.as_ref().filter(|path| path.len() > best.len()) {
                best.clone_from(path);
            }
            paths.push(path);
        }
        best
    }
}

pub(super) fn unread() -> ModelError {
    let message = "this model reads tokens one after the other alone; draft without a tree".into();
    ModelError::Tree { message }
}

impl<M: LanguageModel> CachedModel<M> {
    /// Logits after each of the last `rows` of the tokens of `sequence` and, after them, of `tree`.
    ///
    /// Where the next sequence goes on with a path of the tree, what was read of the path is kept.
    ///
    /// # Shapes
    ///
    /// `[rows, vocab]`; with a row for every point of the tree, `rows` is one more than it has tokens.
    ///
    /// # Errors
    ///
    /// As [`logits`](Self::logits); parents that do not come before their children, and a model that does not
    /// [read trees](LanguageModel::reads_trees).
    pub fn tree_logits(
        &mut self,
        sequence: &[TokenId],
        tree: Tree<'_>,
        rows: usize,
    ) -> Result<Logits, ModelError> {
        self.read_tree(sequence, tree, rows, |model, segment| {
            let logits = model.forward(segment)?.pop();
            let logits = logits.unwrap_or_else(|| Logits::new(Vec::new(), model.vocab_size()));
            check_shape(&logits, rows, model.vocab_size())?;
            Ok(logits)
        })
    }

    /// What the rows after each of the last `questions.len()` of the tokens of `sequence` and, after them, of `tree` say
    /// at a temperature.
    ///
    /// # Errors
    ///
    /// As [`tree_logits`](Self::tree_logits), and rows from which no token can be drawn.
    pub fn tree_answers(
        &mut self,
        sequence: &[TokenId],
        tree: Tree<'_>,
        questions: &[RowQuestion],
        temperature: f32,
    ) -> Result<Vec<RowAnswer>, ModelError> {
        let (rows, vocab) = (questions.len(), self.model().vocab_size());
        self.read_tree(sequence, tree, rows, |model, segment| {
            let answers = model.answer(segment, questions, temperature)?;
            check_answers(&answers, rows, vocab)?;
            Ok(answers)
        })
    }

    /// Reads what is new of `sequence`, and the tree by `last`.
    fn read_tree<T>(
        &mut self,
        sequence: &[TokenId],
        tree: Tree<'_>,
        rows: usize,
        last: impl FnOnce(&M, &mut [Segment<'_, M::Cache>]) -> Result<T, ModelError>,
    ) -> Result<T, ModelError> {
        if !self.model().reads_trees() {
            return Err(unread());
        }
        let depths = tree.depths()?;
        if tree.tokens.is_empty() {
            return self.read(sequence, rows, last);
        }
        let all = sequence.len() + tree.tokens.len();
        if rows > all {
            return Err(ModelError::Rows { rows, tokens: all });
        }
        let context = self.model().context_len();
        let length = sequence.len() + depths.iter().max().map_or(0, |depth| depth + 1);
        if length > context {
            return Err(ModelError::ContextFull { length, context });
        }
        let before = rows.saturating_sub(tree.tokens.len());
        self.check(sequence, before)?;
        let at = self.rewind(sequence, before);
        if sequence.len() - at > TOGETHER.max(before) {
            self.logits(&sequence[..sequence.len() - before.max(1)], 0)?;
        }
        self.append_tree(sequence, tree, rows, last)
    }

    /// Reads what is left of the sequence with the tree.
    fn append_tree<T>(
        &mut self,
        sequence: &[TokenId],
        tree: Tree<'_>,
        rows: usize,
        last: impl FnOnce(&M, &mut [Segment<'_, M::Cache>]) -> Result<T, ModelError>,
    ) -> Result<T, ModelError> {
        let new = &sequence[self.tokens.len()..];
        let tokens = [new, tree.tokens].concat();
        let chain = (0..new.len()).map(|index| index.checked_sub(1));
        let root = new.len().checked_sub(1);
        let below = tree.parents.iter().map(|parent| parent.map_or(root, |parent| Some(new.len() + parent)));
        let parents: Vec<_> = chain.chain(below).collect();
        let segment = Segment { tokens: &tokens, parents: Some(&parents), rows, cache: &mut self.cache };
        let out = last(&self.model, &mut [segment])?;
        self.tokens.extend_from_slice(new);
        self.tree = Some(HeldTree { tokens: tree.tokens.to_vec(), parents: tree.parents.to_vec() });
        Ok(out)
    }

    /// Keeps of the tree in the cache what `sequence` goes on with.
    pub(super) fn keep_branch(&mut self, sequence: &[TokenId]) {
        let Some(tree) = self.tree.take() else { return };
        let start = self.tokens.len();
        // A forward that broke off has left nothing that could be kept.
        let whole = self.cache.len() == start + tree.tokens.len();
        match sequence.strip_prefix(&self.tokens[..]).filter(|_| whole) {
            Some(rest) => {
                let path = tree.longest(rest);
                self.cache.keep_path(start, &path);
                self.tokens.extend_from_slice(&rest[..path.len()]);
            }
            None => self.cache.truncate(start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableModel;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// The parents of a tree, each an earlier node or the root.
    fn parents(choices: &[usize]) -> Vec<Option<usize>> {
        choices.iter().enumerate().map(|(node, choice)| (choice % (node + 1)).checked_sub(1)).collect()
    }

    fn path(parents: &[Option<usize>], node: usize) -> Vec<usize> {
        let mut path: Vec<_> = std::iter::successors(Some(node), |node| parents[*node]).collect();
        path.reverse();
        path
    }

    proptest! {
        /// Every row of a tree is what its own path alone gives, whatever was read before and whatever comes next.
        #[test]
        fn any_history_of_trees_gives_what_fresh_models_give(
            calls in prop::collection::vec(
                (prop::collection::vec(0u32..3, 1..6), prop::collection::vec((0u32..3, 0usize..6), 0..6), 0usize..6), 1..10)
        ) {
            let model = Arc::new(TableModel::random(3, 1.0, 9));
            let mut cached = CachedModel::new(model.clone());
            let mut sequence = vec![0];
            for (more, nodes, extra) in calls {
                let (tokens, choices): (Vec<_>, Vec<_>) = nodes.into_iter().unzip();
                let parents = parents(&choices);
                let rows = (1 + tokens.len() + extra).min(sequence.len() + tokens.len());
                let tree = Tree { tokens: &tokens, parents: &parents };
                let found = cached.tree_logits(&sequence, tree, rows).unwrap();
                prop_assert_eq!(found.rows(), rows);
                for (node, row) in (0..tokens.len()).zip((0..rows).rev().take(tokens.len()).collect::<Vec<_>>().into_iter().rev()) {
                    let text: Vec<_> = path(&parents, node).into_iter().map(|node| tokens[node]).collect();
                    let text = [&sequence[..], &text].concat();
                    prop_assert_eq!(found.row(row), model.row(&text), "{:?}", text);
                }
                for back in 0..rows - tokens.len() {
                    let text = &sequence[..sequence.len() - back];
                    prop_assert_eq!(found.row(rows - tokens.len() - 1 - back), model.row(text));
                }
                // The next sequence follows a path where there is one, or not at all.
                match tokens.len() {
                    0 => sequence = more,
                    count => {
                        sequence.extend(path(&parents, more.len() % count).into_iter().map(|node| tokens[node]));
                        sequence.push(more[0]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_path_of_the_tree_is_not_read_again() {
        let model = Arc::new(TableModel::random(5, 1.0, 8));
        let mut cached = CachedModel::new(model.clone());
        let tree = Tree { tokens: &[1, 2, 3, 4], parents: &[None, None, Some(1), Some(2)] };
        cached.tree_logits(&[0, 0], tree, 5).unwrap();
        assert_eq!((cached.tokens.len(), cached.cache.len()), (2, 6));
        assert_eq!(cached.rewind(&[0, 0, 2, 3, 1], 1), 4, "2 and 3 were read in the tree");
        assert_eq!((cached.tokens.clone(), cached.cache.len()), (vec![0, 0, 2, 3], 4));
        let fresh = CachedModel::new(model).logits(&[0, 0, 2, 3, 1], 3).unwrap();
        assert_eq!(cached.logits(&[0, 0, 2, 3, 1], 3).unwrap(), fresh);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let mut cached = CachedModel::new(Arc::new(TableModel::random(3, 1.0, 1).with_context(4)));
        let mut read = |tokens: &[TokenId], parents: &[Option<usize>], rows| {
            cached.tree_logits(&[0, 1], Tree { tokens, parents }, rows).map(|logits| logits.rows())
        };
        assert_eq!(
            read(&[0, 1, 2, 0], &[None, None, None, Some(0)], 5).unwrap(),
            5,
            "four rows, two positions"
        );
        assert!(matches!(read(&[0], &[Some(0)], 1), Err(ModelError::Tree { .. })));
        assert!(matches!(read(&[0, 1], &[None], 1), Err(ModelError::Tree { .. })));
        assert!(matches!(read(&[3], &[None], 1), Err(ModelError::Token { token: 3, vocab: 3 })));
        assert!(matches!(read(&[0], &[None], 4), Err(ModelError::Rows { rows: 4, tokens: 3 })));
        let deep = read(&[0, 0, 0], &[None, Some(0), Some(1)], 1);
        assert!(matches!(deep, Err(ModelError::ContextFull { length: 5, context: 4 })));
        assert_eq!(read(&[], &[], 1).unwrap(), 1);
    }
}
