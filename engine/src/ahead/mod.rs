//! Drafts made ahead: while the expert verifies a proposal, a second thread drafts what may be asked for next.
//!
//! For each way in which the verification may turn out (so many tokens stand, and this one follows) the thread makes the
//! draft of the next round, with the draws of the next round. If it turns out so, the draft is there at once; if not, it is
//! dropped and a draft is made as always. Which of the two it is changes nothing but the time: draws are keyed by seed,
//! round, position and purpose, so a draft is the same whenever and wherever it is made.
//!
//! Source: Kumar, Dao, May, "Speculative Speculative Decoding", 2026.

mod about;
mod draft;
mod options;
mod outcomes;
mod pays;
mod plan;
mod shared;
mod stats;
#[cfg(test)]
mod tests;
mod worker;

pub use options::{AheadOptions, AheadWhen};
pub use stats::{AheadReport, AheadStats, AheadWhy};

use about::About;
use draft::Draft;
use drafthorse_drafter::{DraftRequest, Drafter, PartCounts};
use drafthorse_logits::{
    DraftTree, Draws, Memory, Proposal, SeededDraws, TokenId, TreePlan, TreeVerdict, Verdict,
};
use drafthorse_model::{ModelError, Vocabulary};
use outcomes::{Acceptance, Outcomes};
use pays::Pays;
use plan::{Asked, Plan};
use shared::{Job, Shared};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use worker::Worker;

/// A drafter that goes on drafting on a thread of its own while the expert works.
///
/// Texts are those of the drafter alone. Drafts are made ahead for drafters that draft token by token
/// ([`Drafter::is_stepwise`]) and whose proposals follow from sequence, request and draws alone ([`Drafter::is_pure`]), where
/// the draws of the next round are known ([`Draws::ahead`]) and the sampler neither follows the expert's surprises (mirostat)
/// nor a constraint. Elsewhere the drafter works as without this. Models whose rows depend on how many tokens are read at
/// once, as on some GPUs, may draft other tokens than in a round by round run; the law of the text is the same.
///
/// Drafter and expert then compute at the same time. On the CPU their operations run side by side: the helper threads go
/// with the operation that began first, and the other one does without. So the expert takes longer, and where no processor
/// is to spare nothing is won: [`AheadWhen::Measured`] finds that out.
///
/// A drafter that panics is not asked again: every further proposal is an error that says why.
///
/// ```
/// use drafthorse_drafter::ModelDrafter;
/// use drafthorse_engine::{Ahead, AheadOptions, Engine, SessionOptions};
/// use drafthorse_model::TableModel;
/// use std::sync::Arc;
///
/// let drafter = ModelDrafter::new(Arc::new(TableModel::random(8, 2.0, 2)));
/// let ahead = Ahead::new(drafter, AheadOptions::default());
/// let report = ahead.report();
/// let mut engine = Engine::builder().expert(Arc::new(TableModel::random(8, 2.0, 1))).drafter(ahead).build()?;
/// assert!(engine.session(&[1, 2], &SessionOptions::default())?.all(|step| step.is_ok()));
/// println!("{}", report.stats());
/// # Ok::<(), drafthorse_engine::Error>(())
/// ```
pub struct Ahead {
    about: About,
    options: AheadOptions,
    shared: Arc<Shared>,
    /// Started when it is first needed.
    worker: Option<Worker>,
    /// No thread could be had.
    threadless: bool,
    pays: Pays,
    acceptance: Acceptance,
    report: AheadReport,
    /// The most tokens asked for in the last round.
    asked: usize,
    /// What the drafter said of its last proposal; nothing where scores say it.
    confidences: Vec<f64>,
}

impl std::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ahead {{ {}, {:?} }}", self.about.name, self.options)
    }
}

/// How a draft came to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    Ready,
    InPart,
    Missed,
    Unprepared,
}

impl Ahead {
    /// Drafts with this drafter, ahead where that pays.
    pub fn new(drafter: impl Drafter + 'static, options: AheadOptions) -> Self {
        Self {
            about: About::of(&drafter),
            options,
            shared: Arc::new(Shared::new(Box::new(drafter))),
            worker: None,
            threadless: false,
            pays: Pays::new(options.when),
            acceptance: Acceptance::NEW,
            report: AheadReport::default(),
            asked: 0,
            confidences: Vec::new(),
        }
    }

    /// What became of drafts made ahead, to be read while the drafter is in an engine.
    pub fn report(&self) -> AheadReport {
        self.report.clone()
    }

    /// The draws of this round, if a draft can be made ahead of the next one; or why not.
    fn possible(&self, request: &DraftRequest<'_>, draws: &dyn Draws) -> Result<SeededDraws, &'static str> {
        if !self.about.is_foreseeable() {
            return Err("the drafter drafts all at once, or from what it has seen and heard");
        }
        if request.memory != Memory::off() {
            return Err("the sampler follows the expert's surprises (mirostat), which are not known ahead");
        }
        if !request.sampler.is_pure() {
            return Err("a constraint or processor follows the text, which is not known ahead");
        }
        if self.options.outcomes == 0 || self.threadless {
            return Err(if self.threadless { "no thread could be started" } else { "it is for no outcomes" });
        }
        draws.ahead(0).ok_or("the draws of the next round are not known ahead")
    }

    /// The draft, and how it came to be.
    fn draft(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
        here: Option<&SeededDraws>,
    ) -> Result<(Proposal, Came), ModelError> {
        let start = Instant::now();
        self.confidences.clear();
        let found = here.and_then(|here| self.shared.find(sequence, request, here));
        let ready = if found == Some(true) { self.ready(sequence, request, draws)? } else { None };
        let (proposal, came, saved) = if let Some(ready) = ready {
            ready
        } else {
            let came = if found.is_some() { Came::Missed } else { Came::Unprepared };
            (self.anew(sequence, request, draws, here.is_some())?, came, Duration::ZERO)
        };
        self.shared.forget();
        self.report.change(|stats| {
            stats.saved += saved;
            stats.waited += start.elapsed();
        });
        Ok((proposal, came))
    }

    /// The draft that was found, with what it lacks, and the time of what was there. `None` where nothing was.
    fn ready(
        &self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Option<(Proposal, Came, Duration)>, ModelError> {
        let mut draft = Draft::new(sequence, request);
        draft.take(&self.shared);
        if draft.is_complete() {
            return Ok(Some((draft.proposal, Came::Ready, draft.saved)));
        }
        self.shared.next_epoch();
        let mut drafter = self.shared.drafter();
        // The step that was waited for may have been one of this draft.
        draft.take(&self.shared);
        if !draft.is_begun() {
            return Ok(None);
        }
        self.shared.guarded(&mut drafter, |drafter| draft.go_on(drafter, draws))?;
        Ok(Some((draft.proposal, Came::InPart, draft.saved)))
    }

    /// Makes the draft. Where others may be made ahead of what comes of it, with raw scores, which say more of that.
    fn anew(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
        possible: bool,
    ) -> Result<Proposal, ModelError> {
        // What is being made is of no use any more, and its maker lets go of the drafter after its next step.
        self.shared.next_epoch();
        let request = DraftRequest { raw: request.raw || (possible && self.pays.is_on()), ..*request };
        let confidences = &mut self.confidences;
        let propose = |drafter: &mut dyn Drafter| {
            let proposal = drafter.propose(sequence, &request, draws)?;
            confidences.extend_from_slice(drafter.confidences());
            Ok(proposal)
        };
        self.shared.guarded(&mut self.shared.drafter(), propose)
    }

    /// Lets the other thread make drafts for what may come of this proposal.
    fn go_ahead(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        proposal: &Proposal,
        draws: SeededDraws,
    ) {
        if self.worker.is_none() {
            self.worker = Worker::start(&self.shared);
        }
        let Some(worker) = &self.worker else {
            self.threadless = true;
            return;
        };
        let plan = Arc::new(Plan {
            epoch: self.shared.next_epoch(),
            sequence: [sequence, &proposal.tokens].concat(),
            base: sequence.len(),
            length: outcomes::length(request, proposal),
            draws,
            asked: Asked::of(request),
        });
        let outcomes = Outcomes::of(proposal, self.acceptance.rate(), self.options.outcomes);
        self.shared.plan(plan.clone());
        worker.send(Job { plan, outcomes });
    }

    fn count(&self, came: Came, possible: Result<(), &'static str>) {
        let why = match (possible, self.pays.per_token()) {
            (Err(why), _) => AheadWhy::Impossible(why),
            (Ok(()), _) if self.pays.is_settled_by_order() => AheadWhy::Asked,
            (Ok(()), _) if self.pays.is_comparing() => AheadWhy::Comparing,
            (Ok(()), [Some(with), Some(without)]) => AheadWhy::Measured { with, without },
            (Ok(()), _) => AheadWhy::Begin,
        };
        self.report.change(|stats| {
            *match came {
                Came::Ready => &mut stats.hits,
                Came::InPart => &mut stats.partial,
                Came::Missed => &mut stats.misses,
                Came::Unprepared => &mut stats.unprepared,
            } += 1;
            (stats.on, stats.why) = (possible.is_ok() && self.pays.is_on(), why);
        });
    }
}

impl Drafter for Ahead {
    fn name(&self) -> &str {
        &self.about.name
    }

    fn vocab_size(&self) -> Option<usize> {
        self.about.vocab_size
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.about.vocabulary.as_ref()
    }

    fn context_len(&self) -> Option<usize> {
        self.about.context_len
    }

    fn is_calibrated(&self) -> bool {
        self.about.is_calibrated
    }

    fn is_stepwise(&self) -> bool {
        self.about.is_stepwise
    }

    fn is_pure(&self) -> bool {
        self.about.is_pure
    }

    fn prepare(&mut self, sequence: &[TokenId]) -> Result<(), ModelError> {
        self.shared.next_epoch();
        self.shared.forget();
        self.pays.interrupt();
        self.shared.guarded(&mut self.shared.drafter(), |drafter| drafter.prepare(sequence))
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let possible = self.possible(request, draws);
        if possible.is_ok() {
            self.pays.begin_round(Instant::now(), sequence.len(), self.asked + 1);
        } else {
            self.pays.interrupt();
        }
        self.asked = request.max;
        let (proposal, came) = self.draft(sequence, request, draws, possible.as_ref().ok())?;
        self.shared.next_epoch();
        if self.pays.is_on()
            && possible.is_ok()
            && !proposal.tokens.is_empty()
            && let Some(next) = draws.ahead(1)
        {
            self.go_ahead(sequence, request, &proposal, next);
        }
        self.count(came, possible.map(drop));
        Ok(proposal)
    }

    fn observe(&mut self, verdict: &Verdict) {
        self.acceptance.learn(verdict);
        self.shared.hear(*verdict);
        if !self.about.is_foreseeable() {
            // Nobody else asks it. If it panics, the next to ask says so.
            let _ = self.shared.guarded(&mut self.shared.drafter(), |_| Ok(()));
        }
    }

    /// Of drafters that remember texts, none is asked ahead.
    fn end(&mut self, sequence: &[TokenId], prompt: usize) {
        if !self.about.is_foreseeable() {
            // If it panics, the next to ask says so.
            let _ = self.shared.guarded(&mut self.shared.drafter(), |drafter| {
                drafter.end(sequence, prompt);
                Ok(())
            });
        }
    }

    /// The other thread ends with the step it is in. Where nothing is drafted ahead, the drafter rests too.
    fn rest(&mut self) {
        self.shared.next_epoch();
        self.shared.forget();
        self.pays.interrupt();
        if !self.about.is_foreseeable() {
            // Nobody else asks it. If it panics, the next to ask says so.
            let _ = self.shared.guarded(&mut self.shared.drafter(), |drafter| {
                drafter.rest();
                Ok(())
            });
        }
    }

    fn drafts_trees(&self) -> bool {
        self.about.drafts_trees
    }

    /// Trees are made when they are asked for, and not ahead.
    fn propose_tree(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        plan: &TreePlan,
        draws: &mut dyn Draws,
    ) -> Result<Option<DraftTree>, ModelError> {
        self.shared.next_epoch();
        self.shared.forget();
        self.pays.interrupt();
        let propose = |drafter: &mut dyn Drafter| drafter.propose_tree(sequence, request, plan, draws);
        self.shared.guarded(&mut self.shared.drafter(), propose)
    }

    fn observe_tree(&mut self, tree: &DraftTree, verdict: &TreeVerdict) {
        let hear = |drafter: &mut dyn Drafter| {
            drafter.observe_tree(tree, verdict);
            Ok(())
        };
        // If it panics, the next to ask says so.
        let _ = self.shared.guarded(&mut self.shared.drafter(), hear);
    }

    fn confidences(&self) -> &[f64] {
        &self.confidences
    }

    fn mixes_beliefs(&self) -> bool {
        self.about.mixes_beliefs
    }

    /// Waits for the step the other thread is in.
    fn parts(&self) -> Vec<PartCounts> {
        self.shared.drafter().parts()
    }
}

impl Drop for Ahead {
    /// Waits for the step the other thread is in, a second at most.
    fn drop(&mut self) {
        self.shared.next_epoch();
        self.worker = None;
    }
}
