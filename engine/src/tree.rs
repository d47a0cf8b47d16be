//! Rounds whose drafts branch.

use crate::{
    Engine, Error, ErrorKind, Session, SessionOptions,
    decide::{Decided, JudgedTree},
    draft::Draft,
};
use drafthorse_logits::{DraftTree, TreePlan, TreeShape, TreeVerdict};
use drafthorse_verifier::{AcceptanceRule, TreeRound};
use std::time::Instant;

/// Whether trees can be drafted, read and judged as the plan says; returns how deep they are.
pub(crate) fn check_tree(
    plan: &TreePlan,
    options: &SessionOptions,
    rule: &dyn AcceptanceRule,
    engine: &Engine,
) -> Result<usize, Error> {
    let fail = |kind, message: String| Err(Error::new(kind, message));
    plan.check().map_err(|error| Error::new(ErrorKind::Option, error.to_string()))?;
    rule.check_trees()?;
    if options.draft_length.is_some() {
        let message = "a tree of drafts has its own depth; leave the draft length out, or the tree";
        return fail(ErrorKind::Option, message.into());
    }
    if options.constraint.is_some() {
        let message =
            "a constraint goes along one text, and a tree of drafts has several; draft without a tree";
        return fail(ErrorKind::Option, message.into());
    }
    if !engine.verifier.reads_trees() {
        let message = "the expert cannot read a tree of drafts in one pass, as a model with an early exit (`exit:`) cannot; draft without a tree, or skip layers instead (`skip:`)";
        return fail(ErrorKind::Option, message.into());
    }
    if !engine.drafter.drafts_trees() {
        let name = engine.drafter.name();
        let message =
            format!("drafter `{name}` proposes no trees; use a model as drafter, or draft without a tree");
        return fail(ErrorKind::Option, message);
    }
    Ok(plan.shape.depth())
}

impl Session<'_> {
    /// A round with a tree; `None` where none is wanted or none can be had, as at the end of a text.
    pub(crate) fn decide_tree(&mut self, start: Instant) -> Result<Option<Decided>, Error> {
        let Some(tree) = self.draft_tree()? else { return Ok(None) };
        let draft_time = start.elapsed();
        let before_verify = Instant::now();
        let round = TreeRound {
            sequence: &self.sequence,
            prompt: self.prompt,
            memory: self.memory,
            tree: &tree,
            sampler: &self.sampler,
            keep_logits: self.keeps_logits(),
            guide: self.guide.as_ref(),
        };
        let reading = self.engine.verifier.read_tree(&round, &*self.rule);
        let reading = reading.map_err(|error| self.expert_error(error))?;
        let verify_time = before_verify.elapsed();
        let verdict = reading.judge(&round, &*self.rule, &mut *self.draws);
        self.check_path(&tree, &verdict)?;
        self.engine.drafter.observe_tree(&tree, &verdict);
        let (nodes, depth, ranks) = (tree.len(), tree.depth(), verdict.ranks(&tree));
        let (proposal, reading) = reading.along(&tree, &verdict);
        Ok(Some(Decided {
            draft: Draft::path(proposal),
            reading,
            verdict: verdict.as_chain(),
            tree: Some(JudgedTree { nodes, depth, ranks }),
            draft_time,
            verify_time,
        }))
    }

    fn draft_tree(&mut self) -> Result<Option<DraftTree>, Error> {
        // The last token of a round never is a drafted one, so one less than what is left.
        let left = self.emitter.left() - 1;
        let Some(mut plan) = self.tree.clone().filter(|_| left > 0) else { return Ok(None) };
        if matches!(plan.shape, TreeShape::Auto { .. }) {
            let Some(shape) = self.plan.tree.clone() else { return Ok(None) };
            plan.shape = shape;
        }
        let max = plan.shape.depth().min(left);
        let sequence = std::mem::take(&mut self.sequence);
        let wanted = (self.memory, max, self.rule.needs_draft_after());
        let tree = self
            .asked(wanted, |drafter, request, draws| drafter.propose_tree(&sequence, request, &plan, draws));
        self.sequence = sequence;
        let Some(tree) = tree? else { return Ok(None) };
        let vocab = self.engine.verifier.vocab_size();
        tree.check(vocab, max).map_err(|error| Error::tree(self.engine.drafter.name(), error))?;
        Ok(Some(tree))
    }

    /// Rules of the user's own decide too.
    fn check_path(&self, tree: &DraftTree, verdict: &TreeVerdict) -> Result<(), Error> {
        let before = std::iter::once(None).chain(verdict.path.iter().copied().map(Some));
        let follows = |(node, before): (&usize, Option<usize>)| tree.parents.get(*node) == Some(&before);
        let is_path = verdict.path.iter().zip(before).all(follows);
        if is_path && (verdict.next as usize) < self.engine.verifier.vocab_size() {
            return Ok(());
        }
        let (rule, TreeVerdict { path, next, .. }) = (self.rule.name(), verdict);
        let (nodes, vocab) = (tree.len(), self.engine.verifier.vocab_size());
        let message = format!(
            "rule `{rule}` took the path {path:?} through a tree of {nodes} nodes and went on with token {next} of a vocabulary of {vocab}; its `judge_tree` is wrong"
        );
        Err(Error::new(ErrorKind::Rule, message))
    }
}
