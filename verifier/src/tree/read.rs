use crate::{AcceptanceRule, Guide, Needs, Reading, Verifier};
use drafthorse_logits::{
    Context, DraftTree, Draws, Logits, Memory, Proposal, Sampler, Scores, TokenId, TreeVerdict,
};
use drafthorse_model::{ModelError, Tree};

/// What is to be verified in a round whose drafts branch.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct TreeRound<'a> {
    /// All tokens so far.
    pub sequence: &'a [TokenId],
    /// How many of them are the prompt.
    pub prompt: usize,
    /// What is remembered of them: surprises under the expert's law.
    pub memory: Memory,
    /// What may follow.
    pub tree: &'a DraftTree,
    /// Turns logits into scores, along every path by itself.
    pub sampler: &'a Sampler,
    /// Whether the expert's logits are wanted besides.
    pub keep_logits: bool,
    /// What the expert's logits are pushed away from, if anything.
    pub guide: Option<&'a Guide>,
}

/// What an expert says at every point of a [`TreeRound`].
#[derive(Clone, Debug)]
pub struct TreeReading {
    scores: Vec<Scores>,
    logits: Option<Logits>,
}

impl Verifier {
    /// Whether the expert reads a tree of drafts in one pass.
    pub fn reads_trees(&self) -> bool {
        self.model().reads_trees()
    }

    /// What the expert says at every point of a tree, in one forward pass; of each row its most probable token alone
    /// where the rule needs no more.
    ///
    /// # Errors
    ///
    /// As [`CachedModel::tree_logits`](drafthorse_model::CachedModel::tree_logits), and rows of logits from which no
    /// token can be drawn.
    pub fn read_tree(
        &mut self,
        round: &TreeRound<'_>,
        rule: &dyn AcceptanceRule,
    ) -> Result<TreeReading, ModelError> {
        let DraftTree { tokens, parents, .. } = round.tree;
        let (tree, rows) = (Tree { tokens, parents }, tokens.len() + 1);
        let whole = round.keep_logits || round.guide.is_some() || rule.needs() == Needs::Raw;
        if !whole && round.sampler.temperature_alone() == Some(0.0) {
            let (best, vocab) =
                (self.model_mut().tree_argmax(round.sequence, tree, rows)?, self.vocab_size());
            let scores = best.into_iter().map(|token| Scores::point(token, vocab)).collect();
            return Ok(TreeReading { scores, logits: None });
        }
        let mut logits = self.model_mut().tree_logits(round.sequence, tree, rows)?;
        if let Some(guide) = round.guide {
            let other = [&guide.negative, &round.sequence[round.prompt..]].concat();
            let other = self.guide_mut().tree_logits(&other, tree, rows)?;
            let guided =
                logits.iter().zip(other.iter()).flat_map(|(row, other)| guide.guidance.logits(row, other));
            logits = Logits::new(guided.collect(), logits.vocab_size());
        }
        let scores = score(round, &logits)?;
        Ok(TreeReading { scores, logits: round.keep_logits.then_some(logits) })
    }
}

/// What the rows of all points say to the sampler, each after the tokens of its own path.
fn score(round: &TreeRound<'_>, logits: &Logits) -> Result<Vec<Scores>, ModelError> {
    let tree = round.tree;
    let mut memories = vec![round.memory];
    let mut scores: Vec<Scores> = Vec::with_capacity(logits.rows());
    let mut text = round.sequence.to_vec();
    for (point, row) in logits.iter().enumerate() {
        text.truncate(round.sequence.len());
        text.extend(tree.path(point).into_iter().map(|node| tree.tokens[node]));
        if let Some(node) = point.checked_sub(1) {
            let above = tree.parents[node].map_or(0, |parent| parent + 1);
            let memory = round.sampler.remember(memories[above], &scores[above], tree.tokens[node]);
            memories.push(memory);
        }
        let context = Context::new(&text, round.prompt).remembering(memories[point]);
        scores.push(round.sampler.scores(&context, row)?);
    }
    Ok(scores)
}

impl TreeReading {
    /// The expert's scores, one a point.
    pub fn rows(&self) -> &[Scores] {
        &self.scores
    }

    /// Decides the round it is a reading of.
    pub fn judge(
        &self,
        round: &TreeRound<'_>,
        rule: &dyn AcceptanceRule,
        draws: &mut dyn Draws,
    ) -> TreeVerdict {
        rule.judge_tree(round.tree, &self.scores, round.sequence.len(), draws)
    }

    /// The round as if its path had been drafted alone: the proposal, which ends with the first of the refused tokens if
    /// the round does, and the reading of its positions.
    pub fn along(self, tree: &DraftTree, verdict: &TreeVerdict) -> (Proposal, Reading) {
        let points: Vec<usize> = std::iter::once(0).chain(verdict.path.iter().map(|node| node + 1)).collect();
        let refused = tree.children(verdict.point()).next();
        let tokens = verdict.path.iter().copied().chain(refused).map(|node| tree.tokens[node]).collect();
        let drafts = points.iter().map_while(|point| tree.scores[*point].clone()).collect();
        let scores: Vec<_> = points.iter().map(|point| self.scores[*point].clone()).collect();
        let logits = self.logits.map(|logits| {
            let rows = points.iter().flat_map(|point| logits.row(*point)).copied().collect();
            Logits::new(rows, logits.vocab_size())
        });
        (Proposal { tokens, scores: drafts }, Reading::scores(scores).with_logits(logits))
    }
}
