//! All runs of a setting in one row.

use super::{
    Bench,
    report::{Run, length_as_json},
    setting::Setting,
};
use drafthorse::{DraftLength, Stats};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// All runs of one setting, or those of one family of prompts.
#[derive(Serialize)]
pub(super) struct Summary {
    pub(super) drafter: String,
    #[serde(serialize_with = "length_as_json")]
    pub(super) k: DraftLength,
    /// `None`: of all prompts.
    pub(super) category: Option<String>,
    pub(super) acceptance_rate: Option<f64>,
    pub(super) draft_yield: Option<f64>,
    pub(super) tokens_per_expert_pass: Option<f64>,
    /// Time of a drafter step / time of an expert step of plain decoding.
    pub(super) draft_cost: Option<f64>,
    /// Time of the expert's pass / time of its pass in plain decoding.
    pub(super) verify_cost: Option<f64>,
    pub(super) tokens_per_second: Option<f64>,
    /// Tokens per second over those of plain decoding in the same repetition: mean, and deviation.
    pub(super) speedup: Option<f64>,
    /// `None` for a single repetition.
    pub(super) speedup_deviation: Option<f64>,
    /// The same with the best repetition of each text on both sides, which a busy machine disturbs less.
    pub(super) best_speedup: Option<f64>,
    /// Tokens per expert pass / the mean cost of a round, as measured apart from the engine; `None` for
    /// plain decoding.
    pub(super) predicted_speedup: Option<f64>,
    /// Speedup / predicted speedup.
    pub(super) engine_efficiency: Option<f64>,
    /// Runs whose text is that of plain decoding.
    pub(super) same_text: usize,
    pub(super) runs: usize,
}

/// Every setting, over all prompts or over those of a family.
pub(super) fn summaries(bench: &Bench<'_>, runs: &[Run], category: Option<&str>) -> Vec<Summary> {
    let runs: Vec<_> = runs.iter().filter(|run| category.is_none_or(|name| run.category == name)).collect();
    let settings = bench.settings.iter().enumerate();
    settings.map(|(index, setting)| summarize(index, setting, &runs, category, bench)).collect()
}

fn summarize(
    index: usize,
    setting: &Setting,
    runs: &[&Run],
    category: Option<&str>,
    bench: &Bench<'_>,
) -> Summary {
    let of = |setting: usize, repetition: Option<usize>| {
        let mut total = Stats::default();
        let chosen = runs.iter().filter(|run| run.setting == setting);
        for run in chosen.filter(|run| repetition.is_none_or(|r| run.repetition == r)) {
            total.merge(&run.stats);
        }
        total
    };
    let (own, plain) = (of(index, None), of(0, None));
    let repetitions = runs.iter().map(|run| run.repetition + 1).max().unwrap_or(0);
    let speedups: Vec<f64> = (0..repetitions)
        .filter_map(|r| {
            let speed = |setting| of(setting, Some(r)).tokens_per_second();
            Some(speed(index)? / speed(0)?)
        })
        .collect();
    let (speedup, speedup_deviation) = mean_and_deviation(&speedups);
    let per = |time: Duration, count: u64| (count > 0).then(|| time.as_secs_f64() / count as f64);
    let over = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    let plain_pass = per(plain.verify_time, plain.rounds);
    let mine = || runs.iter().filter(|run| run.setting == index);
    let tokens_per_expert_pass = own.tokens_per_expert_pass();
    let round = || setting.costs(&bench.meter)?.mean_round(&rounds_by_drafted(mine().copied()));
    let predicted_speedup = if setting.is_plain() { None } else { over(tokens_per_expert_pass, round()) };
    Summary {
        drafter: setting.name.clone(),
        k: setting.length.clone(),
        category: category.map(str::to_owned),
        acceptance_rate: own.acceptance_rate(),
        draft_yield: own.draft_yield(),
        tokens_per_expert_pass,
        draft_cost: over(per(own.draft_time, own.drafted), plain_pass),
        verify_cost: over(per(own.verify_time, own.rounds), plain_pass),
        tokens_per_second: own.tokens_per_second(),
        speedup,
        speedup_deviation,
        best_speedup: over(best_speed(runs, index), best_speed(runs, 0)),
        predicted_speedup,
        engine_efficiency: over(speedup, predicted_speedup),
        same_text: mine().filter(|run| run.same_text_as_plain).count(),
        runs: mine().count(),
    }
}

/// Tokens per second, with the best repetition of every prompt.
fn best_speed(runs: &[&Run], setting: usize) -> Option<f64> {
    let mut best: BTreeMap<usize, (u64, f64)> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.setting == setting && run.stats.emitted > 0) {
        let (tokens, time) = (run.stats.emitted, run.stats.decode_time().as_secs_f64());
        let entry = best.entry(run.prompt).or_insert((tokens, time));
        if time / (tokens as f64) < entry.1 / entry.0 as f64 {
            *entry = (tokens, time);
        }
    }
    let (tokens, time) = best.values().fold((0, 0.0), |sum, text| (sum.0 + text.0, sum.1 + text.1));
    (time > 0.0).then(|| tokens as f64 / time)
}

fn rounds_by_drafted<'a>(runs: impl Iterator<Item = &'a Run>) -> Vec<u64> {
    runs.fold(Vec::new(), |mut sum: Vec<u64>, run| {
        sum.resize(sum.len().max(run.rounds_by_drafted.len()), 0);
        sum.iter_mut().zip(&run.rounds_by_drafted).for_each(|(a, b)| *a += b);
        sum
    })
}

/// Mean, and the deviation of the sample, where there are values enough.
fn mean_and_deviation(values: &[f64]) -> (Option<f64>, Option<f64>) {
    let n = values.len() as f64;
    if values.is_empty() {
        return (None, None);
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (Some(mean), (n > 1.0).then(|| (squares / (n - 1.0)).sqrt()))
}
