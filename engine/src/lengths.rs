//! How a session keeps to a draft length, and what it tells one that learns.

use crate::{
    Asked, Error, Session, SessionOptions, Step,
    draft::Draft,
    length::{Bounds, Choices, Controller, Outcome, Plan, Rows, Times, TreeOutcome, Way, Why},
    watch::Watch,
};
use drafthorse_drafter::Drafter;
use drafthorse_logits::{Proposal, Sampler, TreeShape, Verdict};
use drafthorse_verifier::{AcceptanceRule, Verifier};
use std::time::{Duration, Instant};

/// The way a session generates, as far as draft lengths depend on it.
pub(crate) fn way(
    options: &SessionOptions,
    rule: &dyn AcceptanceRule,
    sampler: &Sampler,
    (verifier, drafter, watch): (&Verifier, &dyn Drafter, &Watch),
) -> Way {
    let rows = match sampler.is_argmax() {
        _ if drafter.mixes_beliefs() => Rows::Away,
        false => Rows::There,
        true if verifier.keeps_rows() || !drafter.is_calibrated() => Rows::Away,
        true => Rows::Read,
    };
    let trees = options.tree.as_ref().and_then(|plan| match plan.shape {
        TreeShape::Auto { nodes, depth, children } => {
            Some(Choices { nodes, depth, children, by_drafter: !drafter.is_calibrated() })
        }
        _ => None,
    });
    Way {
        trees,
        rule: rule.name().to_owned(),
        rows,
        constrained: options.constraint.is_some(),
        keeps_logits: options.log_probs.is_some() || watch.is_on(),
        guided: options.guide.is_some(),
    }
}

impl Session<'_> {
    /// Lets the drafter read the prompt ahead, unless it is not expected to be asked.
    pub(crate) fn prepare_drafter(&mut self) -> Result<(), Error> {
        let learnt = &mut self.engine.learnt;
        let prepares = match self.bounds {
            Bounds::Set { .. } => self.bounds.drafts(),
            Bounds::Learnt => learnt.controller().is_some_and(Controller::prepares),
        };
        if !prepares {
            return Ok(());
        }
        let (start, drafter) = (Instant::now(), &mut self.engine.drafter);
        let ahead = &self.sequence[..self.prompt - 1];
        drafter.prepare(ahead).map_err(|error| Error::drafter(drafter.name(), error))?;
        self.read = ahead.len();
        if let (Bounds::Learnt, Some(controller)) = (&self.bounds, learnt.controller()) {
            controller.prepared(ahead.len(), start.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Decides what the round may draft.
    pub(crate) fn plan_round(&mut self) {
        // The last token of a round never is a drafted one, so one less than what is left.
        let (left, lag) = (self.emitter.left() - 1, self.lag());
        let idle = !self.bounds.drafts() || (left == 0 && !self.rule.needs_draft_after());
        self.plan = if idle { Plan::default() } else { self.engine.learnt.plan(&self.bounds, left, lag) };
    }

    /// Tokens the drafter has not read.
    fn lag(&self) -> usize {
        self.sequence.len().saturating_sub(self.read)
    }

    /// Whether rows of the drafter are looked at for the draft length's sake.
    pub(crate) fn reads_rows(&self) -> bool {
        self.plan.stop.is_some() || (self.plan.confidences && self.engine.drafter.is_calibrated())
    }

    /// Leaves of a proposal of point masses what is worth its rows. They depend on the text before them alone, so that
    /// looking at them does not bend the law.
    pub(crate) fn cut(&self, proposal: &mut Proposal) -> Vec<f64> {
        let confidences = self.engine.drafter.confidences();
        let mut drawn = proposal.tokens.iter().zip(&proposal.scores);
        let points = drawn.all(|(token, scores)| scores.probs().as_point() == Some(*token));
        if self.engine.drafter.is_calibrated() || confidences.len() != proposal.tokens.len() || !points {
            return Vec::new();
        }
        if matches!(self.bounds, Bounds::Learnt) && self.engine.drafter.mixes_beliefs() {
            return Vec::new();
        }
        let length = match (&self.bounds, &self.plan.cut) {
            (Bounds::Set { length, .. }, _) => length.cut(confidences),
            (Bounds::Learnt, Some(cut)) => cut.best(confidences).max(self.plan.least.min(confidences.len())),
            (Bounds::Learnt, None) => confidences.len(),
        };
        let after = usize::from(proposal.scores.len() > proposal.tokens.len());
        proposal.tokens.truncate(length);
        proposal.scores.truncate(length + after);
        confidences[..length].to_vec()
    }

    pub(crate) fn asked_for(&self) -> Asked {
        match (self.plan.max, self.plan.why) {
            (0, Why::Plain | Why::Idle) => Asked::Idle,
            (0, _) => Asked::Nothing,
            (max, Why::Probe) => Asked::Probe(max),
            (max, _) => Asked::Tokens(max),
        }
    }

    /// Tells a draft length that learns what became of a round.
    pub(crate) fn learn_length(&mut self, draft: &Draft, verdict: &Verdict, step: &Step) {
        let lag = self.lag();
        let is_tree = !step.ranks.is_empty();
        if self.plan.max > 0 {
            self.read = self.sequence.len() + step.drafted;
        }
        if !matches!(self.bounds, Bounds::Learnt) {
            return;
        }
        let seconds = |time: Duration| time.as_secs_f64();
        let confidences = draft.confidences(verdict.examined(), self.reads_rows());
        let outcome = Outcome {
            drafted: step.drafted,
            examined: step.examined,
            accepted: step.accepted,
            forced: step.forced,
            lag,
            times: Times {
                draft: seconds(step.draft_time),
                rest: seconds(step.verify_time) + seconds(step.other_time),
            },
            confidences: &confidences,
            offers: draft.offers(),
            tree: is_tree.then_some(TreeOutcome { depth: step.depth, ranks: &step.ranks }),
        };
        if let Some(speculation) = self.engine.learnt.learn(&self.plan, outcome) {
            self.stats.speculation = Some(speculation);
        }
    }
}
