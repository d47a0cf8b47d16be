//! The machine's own limits, on all threads: how fast it reads memory and how fast it multiplies and adds.

mod bandwidth;
mod peak;

use std::{
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

/// What the machine can do at most.
pub(crate) struct Limits {
    pub(crate) threads: usize,
    /// Bytes per second of reading far more memory than the caches hold.
    pub(crate) bandwidth: f64,
    /// Floating point operations per second of f32 multiply-adds in registers; each counts two.
    pub(crate) peak: f64,
}

impl Limits {
    /// The best of several tries, and of what was measured `before`.
    pub(crate) fn measure(tries: usize, before: Option<&Self>) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let bandwidth = bandwidth::measure(threads, tries);
        let peak = peak::measure(threads, tries);
        Self {
            threads,
            bandwidth: before.map_or(bandwidth, |before| bandwidth.max(before.bandwidth)),
            peak: before.map_or(peak, |before| peak.max(before.peak)),
        }
    }
}

/// The shortest time in which all threads do their `work` at the same time; each begins with `prepare`,
/// which is not timed.
fn best<T>(
    threads: usize,
    tries: usize,
    prepare: impl Fn() -> T + Sync,
    work: impl Fn(&T) -> u64 + Sync,
) -> Duration {
    let barrier = Barrier::new(threads);
    let run = || {
        let state = prepare();
        let mut times = Vec::with_capacity(tries);
        for _ in 0..tries {
            barrier.wait();
            let start = Instant::now();
            black_box(work(black_box(&state)));
            // Nobody is done before all are.
            barrier.wait();
            times.push(start.elapsed());
        }
        times.into_iter().min()
    };
    let slowest = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        handles.into_iter().filter_map(|handle| handle.join().expect("the measuring runs")).max()
    });
    slowest.unwrap_or(Duration::MAX)
}
