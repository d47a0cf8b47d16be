//! Work shared among threads, without changing any result.

use rayon::prelude::*;

/// Below this many multiply-adds, waking another thread costs more than it saves.
const GRAIN: usize = 100_000;

/// Splits `out`, `parts` runs of `width` values, among the threads and calls `work(first part, run of
/// parts)` on each share. `cost` is the total number of multiply-adds.
pub(crate) fn split(out: &mut [f32], width: usize, cost: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let parts = out.len() / width.max(1);
    let threads = rayon::current_num_threads().min(cost / GRAIN).min(parts);
    if threads <= 1 {
        return work(0, out);
    }
    let share = parts.div_ceil(threads);
    out.par_chunks_mut(share * width).enumerate().for_each(|(index, chunk)| work(index * share, chunk));
}
