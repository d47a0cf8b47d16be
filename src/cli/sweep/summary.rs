//! From texts to points: means, and how sure they are.

use super::{
    grid::{EXPERT, Point},
    metric::Metric,
    run::{Counts, Run},
};
use drafthorse::quality::front;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A number over all prompts, and its standard error by leaving out one prompt at a time (jackknife).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    /// `None` of a single prompt.
    pub(super) standard_error: Option<f64>,
}

/// A point of a task.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) point: String,
    pub(super) curve: String,
    pub(super) promise: &'static str,
    pub(super) dial: Option<&'static str>,
    pub(super) value: Option<f64>,
    pub(super) quality: BTreeMap<Metric, Estimate>,
    /// Seconds a token, over those of the expert alone on the same prompts in the same start of the program.
    pub(super) relative_time: Option<Estimate>,
    /// Parameters times rows a token, over those of the expert alone.
    pub(super) relative_compute: Option<Estimate>,
    /// `None` where the expert was never run.
    pub(super) tokens_per_expert_pass: Option<Estimate>,
    pub(super) tokens_per_second: Option<f64>,
    pub(super) mean_tokens: f64,
    pub(super) acceptance_rate: Option<f64>,
    pub(super) rejection_rate: Option<f64>,
    pub(super) deferral_rate: Option<f64>,
    pub(super) mean_total_variation: Option<f64>,
    /// Infinite (`null` in JSON) where the law can say what the expert, as sampled, cannot.
    pub(super) mean_kl_nats: Option<f64>,
    /// On the Pareto front of the first measure of quality and relative time.
    pub(super) on_front: bool,
    pub(super) on_compute_front: bool,
    pub(super) counts: Counts,
}

/// The points of a task over the prompts for which all of them are there; how many those are.
pub(super) fn summarize(
    points: &[Point],
    runs: &[Run],
    task: &str,
    parameters: (usize, usize),
    metric: Metric,
) -> (Vec<Summary>, usize) {
    let runs = Runs::new(runs, task);
    let prompts = runs.complete(points);
    if prompts.is_empty() {
        return (Vec::new(), 0);
    }
    let mut summaries: Vec<_> =
        points.iter().map(|point| runs.summary(point, &prompts, parameters)).collect();
    mark(&mut summaries, metric);
    (summaries, prompts.len())
}

/// Marks what no other point beats.
fn mark(summaries: &mut [Summary], metric: Metric) {
    let coordinates = |cost: fn(&Summary) -> Option<Estimate>| {
        let mean = |estimate: Option<Estimate>| estimate.map_or(f64::NAN, |estimate| estimate.mean);
        let point = |s: &Summary| (mean(cost(s)), mean(s.quality.get(&metric).copied()));
        summaries.iter().map(point).collect::<Vec<_>>()
    };
    let time = front(&coordinates(|summary| summary.relative_time));
    let compute = front(&coordinates(|summary| summary.relative_compute));
    for ((summary, time), compute) in summaries.iter_mut().zip(time).zip(compute) {
        (summary.on_front, summary.on_compute_front) = (time, compute);
    }
}

/// The texts of a task.
struct Runs<'a> {
    /// By prompt and point, the last where there are several.
    by_point: HashMap<(usize, &'a str), &'a Run>,
    /// The expert's by prompt and start of the program.
    expert: HashMap<(usize, usize), &'a Run>,
    prompts: BTreeSet<usize>,
}

impl<'a> Runs<'a> {
    fn new(runs: &'a [Run], task: &str) -> Self {
        let of_task = || runs.iter().filter(|run| run.task == task);
        Self {
            by_point: of_task().map(|run| ((run.prompt, run.point.as_str()), run)).collect(),
            expert: of_task()
                .filter(|run| run.point == EXPERT)
                .map(|run| ((run.prompt, run.session), run))
                .collect(),
            prompts: of_task().map(|run| run.prompt).collect(),
        }
    }

    fn complete(&self, points: &[Point]) -> Vec<usize> {
        let there = |prompt: usize| {
            points.iter().all(|point| self.by_point.contains_key(&(prompt, point.id.as_str())))
        };
        self.prompts.iter().copied().filter(|prompt| there(*prompt)).collect()
    }

    fn summary(&self, point: &Point, prompts: &[usize], parameters: (usize, usize)) -> Summary {
        let runs: Vec<&Run> = prompts.iter().map(|prompt| self.by_point[&(*prompt, &*point.id)]).collect();
        let mut counts = Counts::default();
        for run in &runs {
            counts.add(&run.counts);
        }
        let seconds: f64 = runs.iter().map(|run| run.seconds).sum();
        let tokens = |run: &Run| run.counts.emitted as f64;
        let compute = |run: &Run| {
            parameters.0 as f64 * run.counts.expert_rows as f64
                + parameters.1 as f64 * run.counts.drafter_rows as f64
        };
        // Of a text and of the expert's for the same prompt: what it cost, and for how many tokens.
        let against = |cost: &dyn Fn(&Run) -> f64| {
            let pair = |run: &&Run| {
                let expert = self.expert.get(&(run.prompt, run.session))?;
                Some([cost(run), tokens(run), cost(expert), tokens(expert)])
            };
            estimate(&runs.iter().filter_map(pair).collect::<Vec<_>>(), |[a, n, b, m]| (a / n) / (b / m))
        };
        let (ratio, c) = (|a: u64, b: u64| (b > 0).then(|| a as f64 / b as f64), &counts);
        let passes: Vec<_> = runs.iter().map(|run| [tokens(run), run.counts.expert_passes as f64]).collect();
        Summary {
            point: point.id.clone(),
            curve: point.curve.clone(),
            promise: point.kind,
            dial: point.dial,
            value: point.value,
            quality: qualities(&runs),
            relative_time: against(&|run| run.seconds),
            relative_compute: against(&compute),
            tokens_per_expert_pass: estimate(&passes, |[tokens, passes]| tokens / passes),
            tokens_per_second: (seconds > 0.0).then(|| counts.emitted as f64 / seconds),
            mean_tokens: counts.emitted as f64 / runs.len() as f64,
            acceptance_rate: ratio(c.accepted, c.examined),
            rejection_rate: ratio(c.rejected, c.examined),
            deferral_rate: ratio(c.deferred, c.decisions),
            mean_total_variation: (c.positions > 0).then(|| c.total_variation / c.positions as f64),
            mean_kl_nats: match (c.positions, c.finite) {
                (0, _) => None,
                (all, finite) if finite < all => Some(f64::INFINITY),
                (all, _) => Some(c.divergence / all as f64),
            },
            on_front: false,
            on_compute_front: false,
            counts,
        }
    }
}

fn qualities(runs: &[&Run]) -> BTreeMap<Metric, Estimate> {
    // Only what every text has: a mean over some of the prompts would be of another task.
    let metrics = runs.iter().take(1).flat_map(|run| run.quality.keys().copied());
    let metrics = metrics.filter(|metric| runs.iter().all(|run| run.quality.contains_key(metric)));
    let mean = |metric: Metric| {
        let values = runs.iter().filter_map(|run| run.quality.get(&metric));
        let values: Vec<_> = values.map(|value| [*value, 1.0]).collect();
        Some((metric, estimate(&values, |[sum, n]| sum / n)?))
    };
    metrics.filter_map(mean).collect()
}

/// A function of sums over prompts; `None` where it has no finite value.
fn estimate<const N: usize>(items: &[[f64; N]], function: fn([f64; N]) -> f64) -> Option<Estimate> {
    let mut sums = [0.0; N];
    for item in items {
        sums.iter_mut().zip(item).for_each(|(sum, value)| *sum += value);
    }
    let mean = Some(function(sums)).filter(|mean| mean.is_finite())?;
    let without = |item: &[f64; N]| {
        let mut rest = sums;
        rest.iter_mut().zip(item).for_each(|(sum, value)| *sum -= value);
        function(rest)
    };
    let (n, left): (f64, Vec<f64>) = (items.len() as f64, items.iter().map(without).collect());
    let center = left.iter().sum::<f64>() / n;
    let squares: f64 = left.iter().map(|value| (value - center).powi(2)).sum();
    let error = (squares * (n - 1.0) / n).sqrt();
    Some(Estimate { mean, standard_error: (items.len() > 1 && error.is_finite()).then_some(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_mean_the_error_is_the_usual_one() {
        let values = [3.0, 5.0, 10.0, 2.0];
        let estimate = estimate(&values.map(|value| [value, 1.0]), |[sum, n]| sum / n).unwrap();
        let deviation = (values.iter().map(|v| (v - 5.0f64).powi(2)).sum::<f64>() / 3.0).sqrt();
        assert_eq!(estimate.mean, 5.0);
        assert!((estimate.standard_error.unwrap() - deviation / 2.0).abs() < 1e-12);
    }

    #[test]
    fn what_has_no_value_has_none() {
        assert_eq!(estimate(&[[1.0, 0.0]], |[a, b]| a / b), None);
        assert_eq!(estimate(&[], |[a, b]: [f64; 2]| a / b), None);
        let single = estimate(&[[1.0, 2.0]], |[a, b]| a / b);
        assert_eq!(single, Some(Estimate { mean: 0.5, standard_error: None }));
    }

    fn run(point: &str, prompt: usize, session: usize, seconds: f64, emitted: u64) -> Run {
        let counts = Counts { emitted, expert_rows: emitted, ..Counts::default() };
        let (point, task) = (point.to_owned(), "t".to_owned());
        let quality = [(Metric::Chrf, seconds)].into();
        Run { session, task, prompt, point, counts, seconds, quality, ..Run::default() }
    }

    #[test]
    fn times_are_compared_within_a_start_of_the_program() {
        let points = super::super::grid::points(Some("drafter")).map_err(|_| "refused").unwrap();
        let mut runs = vec![
            run("expert", 0, 1, 10.0, 10),
            run("expert", 0, 2, 100.0, 10),
            run("drafter", 0, 2, 25.0, 5),
            run("expert", 1, 2, 100.0, 10),
        ];
        let summarize = |runs: &[Run]| summarize(&points, runs, "t", (100, 10), Metric::Chrf);
        let (summaries, prompts) = summarize(&runs);
        assert_eq!(prompts, 1, "the second prompt is not complete");
        assert_eq!(summaries[1].relative_time.unwrap().mean, 0.5);
        assert_eq!(summaries[0].relative_time.unwrap().mean, 1.0);
        assert_eq!(summaries[1].relative_compute.unwrap().mean, 1.0);
        assert!(summaries[0].on_front && summaries[1].on_front);
        assert_eq!(summaries[1].tokens_per_expert_pass, None);

        runs.push(run("drafter", 1, 2, 50.0, 10));
        let (summaries, prompts) = summarize(&runs);
        assert_eq!((prompts, summaries[1].relative_time.unwrap().mean), (2, 75.0 / 15.0 / 10.0));
        assert_eq!(summaries[1].quality[&Metric::Chrf].mean, 37.5);
        runs.retain(|run| run.prompt == 1 && run.point == "expert");
        assert_eq!(summarize(&runs).1, 0);
    }
}
