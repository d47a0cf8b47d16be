//! Work shared among threads, without changing any result.
//!
//! A forward is a chain of some hundred short operations. Helpers therefore wait awake for the next one
//! for a moment before they sleep, and an operation never waits for a helper that is still asleep: whoever
//! is there takes the next unit of work until none is left.

use std::{
    cell::UnsafeCell,
    sync::{
        Arc, Mutex, OnceLock, TryLockError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::Thread,
};

/// Below this many multiply-adds a thread, waking another one costs more than it saves.
const GRAIN: usize = 30_000;

/// Times a helper looks for work before it sleeps: some ten microseconds.
const LOOKS: u32 = 4000;

/// In `state`: the job can be joined.
const OPEN: u64 = 1 << 31;

/// In `state`: helpers at work.
const ACTIVE: u64 = OPEN - 1;

type Job = dyn Fn() + Sync;

/// What the threads share: a job, and who works on it.
struct Board {
    /// Number of the job in the high half; then [`OPEN`] and [`ACTIVE`].
    state: AtomicU64,
    /// Valid while the job is open or someone is active.
    job: UnsafeCell<Option<*const Job>>,
    /// Helpers wanted at most.
    wanted: AtomicU64,
    panicked: AtomicBool,
}

// SAFETY: `job` is written only by the thread that holds the team's lock, while the job is closed and
// nobody is active, and read only by helpers that have counted themselves active since it was opened.
unsafe impl Sync for Board {}
// SAFETY: what the pointer points to is `Sync`.
unsafe impl Send for Board {}

struct Helper {
    thread: Thread,
    asleep: Arc<AtomicBool>,
}

struct Team {
    board: Arc<Board>,
    /// Held by the thread whose job is on the board.
    helpers: Mutex<Vec<Helper>>,
}

/// 0: as many as the machine has.
static LIMIT: AtomicUsize = AtomicUsize::new(0);

/// Sets how many threads an operation may use; 0 is as many as the machine has processors. Results do not
/// depend on it.
pub fn set_threads(count: usize) {
    LIMIT.store(count, Ordering::Relaxed);
}

/// How many threads an operation may use.
pub fn threads() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    match LIMIT.load(Ordering::Relaxed) {
        0 => *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from)),
        limit => limit,
    }
}

/// Calls `work` with every number below `units`, on several threads where `cost`, the number of
/// multiply-adds of all of them, is worth it.
pub(super) fn each(units: usize, cost: usize, work: impl Fn(usize) + Sync) {
    let most = threads().min(units).min(cost / GRAIN);
    let next = AtomicUsize::new(0);
    let job = || {
        loop {
            let unit = next.fetch_add(1, Ordering::Relaxed);
            if unit >= units {
                return;
            }
            work(unit);
        }
    };
    // Where another thread has the team, or this one already, it does its work alone.
    if most <= 1 || !team().run(most - 1, &job) {
        job();
    }
}

fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    TEAM.get_or_init(|| Team {
        board: Arc::new(Board {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            wanted: AtomicU64::new(0),
            panicked: AtomicBool::new(false),
        }),
        helpers: Mutex::new(Vec::new()),
    })
}

impl Team {
    /// Runs `job` on this thread and on up to `wanted` helpers; false if the team is busy.
    fn run(&self, wanted: usize, job: &(dyn Fn() + Sync)) -> bool {
        let mut helpers = match self.helpers.try_lock() {
            Ok(helpers) => helpers,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        while helpers.len() < wanted {
            match Helper::start(&self.board) {
                Some(helper) => helpers.push(helper),
                None => break,
            }
        }
        let board = &*self.board;
        // SAFETY: only the lifetime is forgotten; `Closing` waits until nobody uses the pointer.
        let forgotten: *const Job = unsafe { std::mem::transmute::<&(dyn Fn() + Sync), &'static Job>(job) };
        // SAFETY: this thread holds the lock, the job is closed and nobody is active.
        unsafe { *board.job.get() = Some(forgotten) };
        board.wanted.store(wanted as u64, Ordering::Relaxed);
        let number = (board.state.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        board.state.store(number << 32 | OPEN, Ordering::SeqCst);
        {
            let _closing = Closing(board);
            for helper in helpers.iter().take(wanted) {
                if helper.asleep.load(Ordering::SeqCst) {
                    helper.thread.unpark();
                }
            }
            job();
        }
        assert!(!board.panicked.swap(false, Ordering::Relaxed), "a helper thread panicked");
        true
    }
}

/// Closes the job when dropped, also by a panic, and waits for those at work.
struct Closing<'a>(&'a Board);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let state = &self.0.state;
        state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while state.load(Ordering::Acquire) & ACTIVE != 0 {
            looks += 1;
            if looks < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

impl Helper {
    fn start(board: &Arc<Board>) -> Option<Self> {
        let (board, asleep) = (board.clone(), Arc::new(AtomicBool::new(false)));
        let flag = asleep.clone();
        let handle = std::thread::Builder::new()
            .name("drafthorse-kernel".into())
            .spawn(move || help(&board, &flag))
            .ok()?;
        Some(Self { thread: handle.thread().clone(), asleep })
    }
}

/// The life of a helper.
fn help(board: &Board, asleep: &AtomicBool) {
    let mut seen = 0;
    loop {
        seen = join(board, asleep, seen);
        // SAFETY: this thread is counted active since the job was open, so the pointer is set and what it
        // points to is kept until the count is taken back.
        let job = unsafe { (*board.job.get()).map(|job| &*job) };
        let job = std::panic::AssertUnwindSafe(|| job.map_or((), |job| job()));
        if std::panic::catch_unwind(job).is_err() {
            board.panicked.store(true, Ordering::Relaxed);
        }
        board.state.fetch_sub(1, Ordering::Release);
    }
}

/// Waits for a job other than number `seen` and joins it; its number.
fn join(board: &Board, asleep: &AtomicBool, seen: u64) -> u64 {
    let free = |state: u64| {
        state & OPEN != 0 && state >> 32 != seen && state & ACTIVE < board.wanted.load(Ordering::Relaxed)
    };
    let mut looks = 0;
    loop {
        let state = board.state.load(Ordering::Acquire);
        if free(state) {
            if board.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return state >> 32;
            }
        } else if looks < LOOKS {
            looks += 1;
            std::hint::spin_loop();
        } else {
            asleep.store(true, Ordering::SeqCst);
            // Looked at again after the flag is up: whoever opens a job later sees the flag.
            if !free(board.state.load(Ordering::SeqCst)) {
                std::thread::park();
            }
            asleep.store(false, Ordering::SeqCst);
            looks = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_done_once() {
        for round in 0..2000 {
            let counts: Vec<AtomicUsize> = (0..round % 37).map(|_| AtomicUsize::new(0)).collect();
            each(counts.len(), usize::MAX, |unit| {
                counts[unit].fetch_add(1, Ordering::Relaxed);
                if round % 400 == 7 {
                    // Long enough for helpers to fall asleep between jobs.
                    std::thread::sleep(std::time::Duration::from_micros(50));
                }
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "round {round}");
        }
    }

    #[test]
    fn many_callers_and_nested_calls_get_their_work_done() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let sum = AtomicUsize::new(0);
                        each(5, usize::MAX, |unit| {
                            each(3, usize::MAX, |inner| {
                                sum.fetch_add(unit * 3 + inner, Ordering::Relaxed);
                            });
                        });
                        assert_eq!(sum.load(Ordering::Relaxed), (0..15usize).sum::<usize>());
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_goes_on() {
        for _ in 0..20 {
            let failed = std::panic::catch_unwind(|| {
                each(8, usize::MAX, |unit| assert!(unit != 3, "unit 3"));
            });
            assert!(failed.is_err());
            each(8, usize::MAX, |_| ());
        }
    }
}
