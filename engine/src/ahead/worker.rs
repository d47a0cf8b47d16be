//! The other thread.

use super::{
    plan::Plan,
    shared::{Job, Piece, Shared, step},
};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use drafthorse_logits::{SeededDraws, TokenId};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How long a thread that is no longer wanted is waited for. It ends after the step it is in.
const PATIENCE: Duration = Duration::from_secs(1);

/// A thread that makes drafts ahead.
pub(super) struct Worker {
    jobs: Option<Sender<Job>>,
    /// To take back what was not begun.
    taken_back: Receiver<Job>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
}

impl Worker {
    /// `None` where no thread can be had.
    pub(super) fn start(shared: &Arc<Shared>) -> Option<Self> {
        let (jobs, receiver) = bounded::<Job>(1);
        let (alive, ended) = bounded::<()>(0);
        let (shared, taken_back) = (shared.clone(), receiver.clone());
        let work = move || {
            let _alive = alive;
            for job in receiver {
                run(&shared, job);
            }
        };
        thread::Builder::new().name("drafthorse-ahead".into()).spawn(work).ok()?;
        Some(Self { jobs: Some(jobs), taken_back, ended })
    }

    /// Gives it this to do, in the place of what it has not begun.
    pub(super) fn send(&self, mut job: Job) {
        let Some(jobs) = &self.jobs else { return };
        while let Err(TrySendError::Full(back)) = jobs.try_send(job) {
            let _older = self.taken_back.try_recv();
            job = back;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

/// Makes drafts for the outcomes of a job until there is another one. What fails here is tried again where it is wanted, and
/// says why then.
fn run(shared: &Shared, Job { plan, mut outcomes }: Job) {
    let mut draws = plan.draws.clone();
    if outcomes.more > 0 {
        let after = ask(shared, &plan, &plan.sequence, 0, &mut draws, |piece, _| piece);
        if let Some(Piece::After(scores)) = after {
            outcomes.add_after(plan.sequence.len() - plan.base, &scores);
        }
    }
    for outcome in outcomes.in_order() {
        if !shared.is_current(plan.epoch) {
            return;
        }
        branch(shared, &plan, (outcome.accepted, outcome.token), &mut draws);
    }
}

/// Makes the draft for an outcome.
fn branch(shared: &Shared, plan: &Plan, outcome: (usize, TokenId), draws: &mut SeededDraws) {
    let mut text = plan.text(outcome.0, outcome.1);
    shared.begin(plan.epoch, outcome.0, outcome.1);
    let grow = |piece: Piece, time| {
        let token = piece.token();
        shared.grow(plan.epoch, outcome, piece, time);
        token
    };
    for _ in 0..plan.length {
        let Some(Some(token)) = ask(shared, plan, &text, 1, draws, grow) else { return };
        text.push(token);
    }
    if plan.asked.score_after {
        ask(shared, plan, &text, 0, draws, grow);
    }
}

/// One step of the drafter, unless the plan is stale. What comes of it is shown to `keep` while the drafter is held.
fn ask<T>(
    shared: &Shared,
    plan: &Plan,
    text: &[TokenId],
    max: usize,
    draws: &mut SeededDraws,
    keep: impl FnOnce(Piece, Duration) -> T,
) -> Option<T> {
    let mut drafter = shared.drafter();
    if !shared.is_current(plan.epoch) {
        return None;
    }
    let request = plan.asked.request(max);
    let start = Instant::now();
    let piece = shared.guarded(&mut drafter, |drafter| step(drafter, text, &request, draws));
    Some(keep(piece.ok()?.ok()??, start.elapsed()))
}
