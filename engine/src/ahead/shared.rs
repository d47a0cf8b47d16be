//! What the two threads share: the drafter, and what is ready.

use super::{outcomes::Outcomes, plan::Plan};
use drafthorse_drafter::{DraftRequest, Drafter};
use drafthorse_logits::{Draws, Proposal, Scores, SeededDraws, TokenId, Verdict};
use drafthorse_model::ModelError;
use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Work for the other thread.
pub(super) struct Job {
    pub(super) plan: Arc<Plan>,
    pub(super) outcomes: Outcomes,
}

/// A piece of a draft.
pub(super) enum Piece {
    /// A token with the scores it was drawn from.
    Token(TokenId, Scores),
    /// The scores after the last token.
    After(Scores),
}

/// A draft that was made ahead, as far as it is.
struct Branch {
    accepted: usize,
    token: TokenId,
    pieces: VecDeque<(Piece, Duration)>,
}

impl Branch {
    fn is(&self, (accepted, token): (usize, TokenId)) -> bool {
        (self.accepted, self.token) == (accepted, token)
    }
}

/// What is ready.
#[derive(Default)]
struct Table {
    plan: Option<Arc<Plan>>,
    branches: Vec<Branch>,
    /// The branch that is being taken.
    wanted: Option<(usize, TokenId)>,
}

impl Table {
    /// Work of other plans comes to nothing.
    fn is_of(&self, epoch: u64) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.epoch == epoch)
    }
}

impl Piece {
    pub(super) fn token(&self) -> Option<TokenId> {
        match self {
            Self::Token(token, _) => Some(*token),
            Self::After(_) => None,
        }
    }
}

pub(super) struct Shared {
    /// Who works with it holds it for one step at a time, or for a draft that is waited for.
    drafter: Mutex<Box<dyn Drafter>>,
    /// Verdicts it has not heard yet. It hears them before its next step.
    verdicts: Mutex<Vec<Verdict>>,
    table: Mutex<Table>,
    /// Counts plans. Work of a plan with another number is dropped.
    epoch: AtomicU64,
    /// What the drafter said as it panicked. Nothing is asked of it afterwards.
    panic: Mutex<Option<String>>,
    /// A draft for another outcome is taken, which tests must find.
    #[cfg(test)]
    pub(super) mistake: std::sync::atomic::AtomicBool,
}

/// A lock whose holder panicked is as good as any: drafters are asked within [`Shared::guarded`], and nothing else panics.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(drafter: Box<dyn Drafter>) -> Self {
        Self {
            drafter: Mutex::new(drafter),
            verdicts: Mutex::default(),
            table: Mutex::default(),
            epoch: AtomicU64::new(0),
            panic: Mutex::new(None),
            #[cfg(test)]
            mistake: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Drops what is being worked on; the number of the next plan.
    pub(super) fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn is_current(&self, epoch: u64) -> bool {
        self.epoch.load(Ordering::SeqCst) == epoch
    }

    pub(super) fn drafter(&self) -> MutexGuard<'_, Box<dyn Drafter>> {
        lock(&self.drafter)
    }

    /// Asks something of the drafter, whose panics become errors, from then on.
    pub(super) fn guarded<T>(
        &self,
        drafter: &mut Box<dyn Drafter>,
        ask: impl FnOnce(&mut dyn Drafter) -> Result<T, ModelError>,
    ) -> Result<T, ModelError> {
        if let Some(reason) = &*lock(&self.panic) {
            return Err(gone(&**drafter, reason.clone()));
        }
        let heard = std::mem::take(&mut *lock(&self.verdicts));
        let work = || {
            for verdict in &heard {
                drafter.observe(verdict);
            }
            ask(&mut **drafter)
        };
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let reason = reason(&*panic);
            *lock(&self.panic) = Some(reason.clone());
            Err(gone(&**drafter, reason))
        })
    }

    /// What became of the last draft, for the drafter to hear before its next step. Where nothing is made ready for that,
    /// there is nothing to go on with.
    pub(super) fn hear(&self, verdict: Verdict) {
        lock(&self.verdicts).push(verdict);
        let table = lock(&self.table);
        let outcome = (verdict.accepted, verdict.next);
        if table.plan.is_some() && !table.branches.iter().any(|branch| branch.is(outcome)) {
            self.next_epoch();
        }
    }

    /// A new plan, of which nothing is ready yet.
    pub(super) fn plan(&self, plan: Arc<Plan>) {
        *lock(&self.table) = Table { plan: Some(plan), ..Table::default() };
    }

    /// Nothing that is ready will be asked for.
    pub(super) fn forget(&self) {
        *lock(&self.table) = Table::default();
    }

    /// Whether there is a plan, and a branch of it was begun for this.
    pub(super) fn find(
        &self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &SeededDraws,
    ) -> Option<bool> {
        let mut table = lock(&self.table);
        let plan = table.plan.clone()?;
        let outcome = plan.outcome(sequence, request, draws);
        #[cfg(test)]
        let outcome = outcome.map(|outcome| self.mistaken(&table, outcome));
        let begun = |&outcome: &(usize, TokenId)| table.branches.iter().any(|branch| branch.is(outcome));
        table.wanted = outcome.filter(begun);
        Some(table.wanted.is_some())
    }

    #[cfg(test)]
    fn mistaken(&self, table: &Table, outcome: (usize, TokenId)) -> (usize, TokenId) {
        let other = table.branches.iter().find(|branch| branch.accepted == outcome.0);
        match other.filter(|_| self.mistake.load(Ordering::Relaxed)) {
            Some(branch) => (branch.accepted, branch.token),
            None => outcome,
        }
    }

    /// The next piece of the branch that was found, with the time it took.
    pub(super) fn take(&self) -> Option<(Piece, Duration)> {
        let mut table = lock(&self.table);
        let wanted = table.wanted?;
        table.branches.iter_mut().find(|branch| branch.is(wanted))?.pieces.pop_front()
    }

    /// A branch of a plan begins.
    pub(super) fn begin(&self, epoch: u64, accepted: usize, token: TokenId) {
        let mut table = lock(&self.table);
        if table.is_of(epoch) {
            table.branches.push(Branch { accepted, token, pieces: VecDeque::new() });
        }
    }

    /// A branch of a plan grows. Called by who holds the drafter, so that whoever gets it next finds the piece.
    pub(super) fn grow(&self, epoch: u64, branch: (usize, TokenId), piece: Piece, time: Duration) {
        let mut table = lock(&self.table);
        if table.is_of(epoch)
            && let Some(branch) = table.branches.iter_mut().find(|other| other.is(branch))
        {
            branch.pieces.push_back((piece, time));
        }
    }
}

/// One more piece of a draft that is wanted as `request` says: a token, or the scores after the last.
///
/// `None` where the drafter has none.
pub(super) fn step(
    drafter: &mut dyn Drafter,
    sequence: &[TokenId],
    request: &DraftRequest<'_>,
    draws: &mut dyn Draws,
) -> Result<Result<Option<Piece>, Proposal>, ModelError> {
    let mut proposal = drafter.propose(sequence, request, draws)?;
    let (tokens, rows) = (proposal.tokens.len(), proposal.scores.len());
    Ok(match (request.max, tokens, rows) {
        (1, 1, 1) => Ok(proposal.tokens.pop().zip(proposal.scores.pop()).map(|(t, s)| Piece::Token(t, s))),
        (0, 0, 1) => Ok(proposal.scores.pop().map(Piece::After)),
        (_, 0, 0) => Ok(None),
        _ => Err(proposal),
    })
}

fn gone(drafter: &dyn Drafter, reason: String) -> ModelError {
    ModelError::Panicked { what: format!("drafter `{}`", drafter.name()), reason }
}

fn reason(panic: &(dyn Any + Send)) -> String {
    let reason = panic.downcast_ref::<String>().map(String::as_str);
    reason.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it gave no reason").into()
}
