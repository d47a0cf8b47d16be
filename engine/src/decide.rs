//! What is drafted in a round, read by the expert, and judged.

use crate::{Error, ErrorKind, Session, draft::Draft};
use drafthorse_logits::{Proposal, Ranked, Verdict};
use drafthorse_verifier::{Reading, Round};
use std::time::{Duration, Instant};

/// A round when it is decided.
pub(crate) struct Decided {
    pub(crate) draft: Draft,
    pub(crate) reading: Reading,
    pub(crate) verdict: Verdict,
    /// What was drafted instead of a chain, of which only the path is left in the draft.
    pub(crate) tree: Option<JudgedTree>,
    pub(crate) draft_time: Duration,
    pub(crate) verify_time: Duration,
}

/// What is told of a tree.
pub(crate) struct JudgedTree {
    pub(crate) nodes: usize,
    pub(crate) depth: usize,
    pub(crate) ranks: Vec<Ranked>,
}

impl Session<'_> {
    /// Drafts, reads and judges.
    pub(crate) fn decide(&mut self, start: Instant) -> Result<Decided, Error> {
        self.plan_round();
        if let Some(decided) = self.decide_tree(start)? {
            return Ok(decided);
        }
        let draft = self.draft()?;
        let draft_time = start.elapsed();
        let before_verify = Instant::now();
        let round = Round {
            sequence: &self.sequence,
            prompt: self.prompt,
            memory: self.memory,
            proposal: &draft.proposal,
            sampler: &self.sampler,
            keep_logits: self.keeps_logits(),
            guide: self.guide.as_ref(),
        };
        let reading = self.engine.verifier.read(&round, &*self.rule, &*self.draws);
        let reading = reading.map_err(|error| self.expert_error(error))?;
        let verify_time = before_verify.elapsed();
        let verdict = reading.judge(&round, &*self.rule, &mut *self.draws);
        self.check_verdict(&draft.proposal, verdict)?;
        if let Some(verdict) = draft.heard(verdict) {
            self.engine.drafter.observe(&verdict);
        }
        Ok(Decided { draft, reading, verdict, tree: None, draft_time, verify_time })
    }

    /// Whether the expert's logits are wanted besides its scores.
    pub(crate) fn keeps_logits(&self) -> bool {
        self.log_probs.is_some() || self.watch.is_on()
    }

    /// Rules of the user's own decide too.
    fn check_verdict(&self, proposal: &Proposal, verdict: Verdict) -> Result<(), Error> {
        let (drafted, vocab) = (proposal.tokens.len(), self.engine.verifier.vocab_size());
        if verdict.accepted <= drafted && (verdict.next as usize) < vocab {
            return Ok(());
        }
        let (rule, Verdict { accepted, next, .. }) = (self.rule.name(), verdict);
        let message = format!(
            "rule `{rule}` accepted {accepted} of {drafted} drafted tokens and went on with token {next} of a vocabulary of {vocab}; its `judge` is wrong"
        );
        Err(Error::new(ErrorKind::Rule, message))
    }
}
