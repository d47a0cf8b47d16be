use super::{
    automaton::Automaton,
    paths::{Branch, Path, Search},
    store::{Cursor, StoreMemory, SuffixStore},
};
use crate::{
    DraftRequest, Drafter, DrafterError,
    running::{Running, TAKEN_BACK},
};
use drafthorse_logits::{
    Branching, DraftTree, Draws, Proposal, Scores, TokenId, TreePlan, TreeVerdict, Verdict,
};
use drafthorse_model::ModelError;
use std::sync::Arc;

/// How a [`SuffixDrafter`] drafts and what it remembers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct SuffixOptions {
    /// Tokens drafted for each token of the match.
    pub factor: f64,
    /// Tokens drafted on top of that.
    pub offset: f64,
    /// A draft ends where it is less probable than this, by the shares of what followed.
    pub min_probability: f64,
    /// Whether generated texts are given to the store.
    pub learn: bool,
    /// Whether prompts are given to the store too.
    pub keep_prompts: bool,
}

impl Default for SuffixOptions {
    /// As many tokens as match, down to a probability of 0.1; generated texts are remembered, prompts are not.
    fn default() -> Self {
        Self { factor: 1.0, offset: 0.0, min_probability: 0.1, learn: true, keep_prompts: false }
    }
}

impl SuffixOptions {
    /// Whether the options can be used.
    ///
    /// # Errors
    ///
    /// [`DrafterError::OutOfRange`], naming the first that cannot.
    pub fn check(&self) -> Result<(), DrafterError> {
        let out = |option, value, range| Err(DrafterError::OutOfRange { option, value, range });
        if !(0.0..=1e6).contains(&self.factor) {
            return out("factor", self.factor, "0 to 1000000");
        }
        if !(-1e6..=1e6).contains(&self.offset) {
            return out("offset", self.offset, "-1000000 to 1000000");
        }
        if !(0.0..=1.0).contains(&self.min_probability) {
            return out("min probability", self.min_probability, "0 to 1");
        }
        Ok(())
    }
}

/// Drafts what followed the last tokens most often wherever they stood before: in the text so far, and in the texts of
/// earlier requests.
///
/// Of all suffixes that were found, from the longest down to a token, the one with the best draft decides: the one of
/// which most tokens are expected to be right. It pays where texts are made of pieces that come again: tool calls,
/// structured data, edits, code. A round costs a few microseconds, whatever is remembered.
///
/// It recognises a new text by its beginning. The generated part of the old one then goes to the store, which other
/// drafters may share. What it drafts depends on that store, so the same seed gives the same text as long as the store
/// is the same; the law of the text is never touched.
///
/// Its trees have its most probable tokens where they find a place in the shape. They are looked up and not drawn, so
/// that they are [chosen children](Branching::TopChildren) whatever the plan says. Where the law is made of what a
/// drafter says at every position ([`DraftRequest::score_after`]), it proposes chains.
///
/// Source: Oliaro et al., "`SuffixDecoding`: Extreme Speculative Decoding for Emerging AI Applications", 2025.
#[derive(Debug)]
pub struct SuffixDrafter {
    options: SuffixOptions,
    store: Arc<SuffixStore>,
    local: Automaton,
    running: Running,
    /// Where the text stands in the store.
    cursors: Vec<Cursor>,
    confidences: Vec<f64>,
}

impl Default for SuffixDrafter {
    /// With a store of its own.
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl SuffixDrafter {
    /// Drafts from this store and adds to it.
    pub fn new(store: Arc<SuffixStore>) -> Self {
        let (options, local, running) =
            (SuffixOptions::default(), Automaton::with_undo(TAKEN_BACK), Running::default());
        Self { options, store, local, running, cursors: Vec::new(), confidences: Vec::new() }
    }

    /// The same drafter with other options.
    ///
    /// # Errors
    ///
    /// As [`SuffixOptions::check`].
    pub fn with_options(mut self, options: SuffixOptions) -> Result<Self, DrafterError> {
        options.check()?;
        self.options = options;
        Ok(self)
    }

    /// The texts of earlier requests.
    pub fn store(&self) -> &Arc<SuffixStore> {
        &self.store
    }

    /// The bytes held for the text so far and by the store. The bound is the store's: the text so far is bounded by the
    /// model's context.
    pub fn memory(&self) -> StoreMemory {
        let memory = self.store.memory();
        StoreMemory { held: memory.held + self.local.bytes() + self.running.bytes(), ..memory }
    }

    /// Gives the text so far to the store, as it is given when another one begins or the drafter is dropped.
    pub fn end_text(&mut self) {
        self.remember();
        self.running.clear();
        self.local.clear();
        self.cursors.clear();
    }

    /// The most probable tokens after `sequence` as a tree of at most `max` tokens, each behind the one it follows.
    pub fn branches(&mut self, sequence: &[TokenId], prompt: usize, max: usize) -> Vec<Branch> {
        let options = self.options;
        self.tree(sequence, prompt, Search { options: &options, max, shape: None, vocab: usize::MAX })
    }

    fn tree(&mut self, sequence: &[TokenId], prompt: usize, search: Search<'_>) -> Vec<Branch> {
        let kept = self.follow(sequence, prompt);
        let mut best = (0.0, 0, Vec::new());
        search.tree(&self.local, self.local.end(), &mut best);
        self.store.tree(sequence, kept, &mut self.cursors, search, &mut best);
        best.2
    }

    fn path(&mut self, sequence: &[TokenId], prompt: usize, max: usize) -> Path {
        let kept = self.follow(sequence, prompt);
        let search = Search { options: &self.options, max, shape: None, vocab: usize::MAX };
        let mut best = Path::default();
        search.path(&self.local, self.local.end(), &mut best);
        self.store.path(sequence, kept, &mut self.cursors, search, &mut best);
        best
    }

    /// Reads what is new of the sequence; how many of the tokens read before still stand.
    fn follow(&mut self, sequence: &[TokenId], prompt: usize) -> usize {
        let step = self.running.compare(sequence, prompt);
        if step.is_new || step.is_next_turn {
            self.remember();
        }
        let kept = if step.is_new { 0 } else { step.common };
        let taken_back = self.running.tokens().len() - step.common;
        let read = if !step.is_new && self.local.forget(taken_back) {
            kept
        } else {
            self.local.clear();
            0
        };
        self.local.extend(&sequence[read..]);
        self.running.replace(sequence, prompt, &step);
        kept
    }

    fn remember(&mut self) {
        let text = self.running.take_unlearnt(self.options.keep_prompts);
        if self.options.learn {
            self.store.add(&text);
        }
    }
}

impl Drop for SuffixDrafter {
    fn drop(&mut self) {
        self.remember();
    }
}

impl Drafter for SuffixDrafter {
    fn name(&self) -> &'static str {
        "suffix"
    }

    fn prepare(&mut self, sequence: &[TokenId]) -> Result<(), ModelError> {
        self.follow(sequence, sequence.len() + 1);
        Ok(())
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let wanted = request.max.saturating_add(usize::from(request.score_after));
        let Path { mut tokens, shares, .. } = self.path(sequence, request.prompt, wanted);
        // A store may have been filled with the tokens of another model.
        let known = tokens.iter().take_while(|token| (**token as usize) < request.vocab).count();
        tokens.truncate(known);
        let scores = tokens.iter().map(|&token| Scores::point(token, request.vocab)).collect();
        tokens.truncate(request.max);
        self.confidences = shares;
        self.confidences.truncate(tokens.len());
        self.running.propose(&tokens);
        Ok(Proposal { tokens, scores })
    }

    fn end(&mut self, sequence: &[TokenId], prompt: usize) {
        self.follow(sequence, prompt);
        self.remember();
    }

    fn observe(&mut self, verdict: &Verdict) {
        self.running.observe(verdict);
    }

    fn drafts_trees(&self) -> bool {
        true
    }

    fn propose_tree(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        plan: &TreePlan,
        _draws: &mut dyn Draws,
    ) -> Result<Option<DraftTree>, ModelError> {
        if request.score_after || request.max == 0 {
            return Ok(None);
        }
        let (options, max) = (self.options, plan.shape.nodes());
        let shape = Some((&plan.shape, request.max));
        let search = Search { options: &options, max, shape, vocab: request.vocab };
        let branches = self.tree(sequence, request.prompt, search);
        if branches.is_empty() {
            return Ok(None);
        }
        let first = branches.iter().filter(|branch| branch.parent.is_none());
        self.confidences = vec![first.map(|branch| branch.probability).sum::<f64>().min(1.0)];
        Ok(Some(chosen(&branches, request.vocab)))
    }

    fn observe_tree(&mut self, tree: &DraftTree, verdict: &TreeVerdict) {
        let path: Vec<_> = verdict.path.iter().map(|node| tree.tokens[*node]).collect();
        self.running.propose(&path);
        self.running.observe(&verdict.as_chain());
    }

    fn confidences(&self) -> &[f64] {
        &self.confidences
    }
}

/// A tree of what was looked up. A point says the first of its children.
fn chosen(branches: &[Branch], vocab: usize) -> DraftTree {
    let mut tree = DraftTree::new(Branching::TopChildren, None);
    for branch in branches {
        let point = branch.parent.map_or(0, |parent| parent + 1);
        tree.scores[point].get_or_insert_with(|| Scores::point(branch.token, vocab));
        tree.push(point, branch.token);
    }
    tree
}

#[cfg(test)]
mod tests;
