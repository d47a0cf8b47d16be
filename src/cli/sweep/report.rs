//! What a sweep says in the end: a table, JSON and CSV.

use super::{
    metric::Metric,
    summary::{Estimate, Summary},
};
use crate::cli::{
    failure::Failure,
    json::Machine,
    output::{decimal, numbers, table},
};
use csv_core::{WriteResult, Writer};
use serde::Serialize;
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// The points of one task.
#[derive(Serialize)]
pub(super) struct TaskReport {
    pub(super) task: String,
    pub(super) file: Option<String>,
    /// How many prompts the points cover, and how many there are.
    pub(super) prompts: usize,
    pub(super) of: usize,
    /// What is quality for the Pareto front.
    pub(super) metric: Metric,
    pub(super) points: Vec<Summary>,
}

/// A point that does not fit the drafter.
#[derive(Serialize)]
pub(super) struct Skipped {
    pub(super) point: String,
    pub(super) why: String,
}

#[derive(Serialize)]
pub(super) struct Report<'a> {
    pub(super) machine: Machine,
    pub(super) settings: &'a Value,
    pub(super) definitions: &'a str,
    pub(super) complete: bool,
    pub(super) expert_parameters: usize,
    pub(super) drafter_parameters: usize,
    pub(super) skipped: &'a [Skipped],
    pub(super) tasks: &'a [TaskReport],
}

pub(super) const DEFINITIONS: &str = "\
log-probability rewards laws that are sharper than the expert's own: read it beside TV, and prefer references;
each text is timed once, so points whose times differ by less than their errors are equally fast;
time = seconds a token / those of the expert alone on the same prompts in the same run, without reading the prompt;
compute = parameters x rows a token / those of the expert alone; mean ± standard error over prompts (jackknife);
tokens/pass = tokens / passes of the expert; accept = accepted / examined; reject = refused / examined;
defer = share of positions at which the expert was asked although the drafter could have decided;
TV = mean total variation between the rule's law and the expert's; * = on the Pareto front of time and quality";

/// Writes what programs read.
pub(super) fn write(report: &Report<'_>, folder: &Path) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(report)? + "\n";
    file(&folder.join("sweep.json"), json.as_bytes())?;
    file(&folder.join("sweep.csv"), &csv(report.tasks))
}

/// Writes a file.
pub(super) fn file(path: &Path, content: &[u8]) -> Result<(), Failure> {
    fs::write(path, content)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

/// The table of a task.
pub(super) fn print(report: &TaskReport) -> String {
    let metric = report.metric;
    let rows = report.points.iter().map(|s| {
        let quality = s.quality.get(&metric).copied();
        let log_probability = s.quality.get(&Metric::LogProbability).map(|estimate| estimate.mean);
        let mut cells = vec![
            if s.on_front { "*" } else { "" }.to_owned(),
            s.point.clone(),
            with_error(quality, 3),
            with_error(s.relative_time, 3),
            decimal(s.relative_compute.map(|estimate| estimate.mean), 3),
            decimal(s.tokens_per_expert_pass.map(|estimate| estimate.mean), 2),
            decimal(s.acceptance_rate, 3),
            decimal(s.rejection_rate, 3),
            decimal(s.deferral_rate, 3),
            decimal(s.mean_total_variation, 3),
        ];
        if metric != Metric::LogProbability {
            cells.insert(3, decimal(log_probability, 3));
        }
        cells
    });
    let mut header =
        vec!["", "point", metric.name(), "time", "compute", "tokens/pass", "accept", "reject", "defer", "TV"];
    if metric != Metric::LogProbability {
        header.insert(3, "log-prob.");
    }
    let (task, prompts, of) = (&report.task, report.prompts, report.of);
    format!("task {task}, {prompts} of {of} prompts\n\n{}\n", numbers(table(header, rows), 2))
}

fn with_error(estimate: Option<Estimate>, digits: usize) -> String {
    let error = |estimate: Estimate| estimate.standard_error.map(|error| format!(" ± {error:.digits$}"));
    let mean = decimal(estimate.map(|estimate| estimate.mean), digits);
    mean + &estimate.and_then(error).unwrap_or_default()
}

/// A row a point; a column for each measure of any task.
fn csv(tasks: &[TaskReport]) -> Vec<u8> {
    let points = || tasks.iter().flat_map(|task| task.points.iter().map(move |point| (task, point)));
    let metrics: BTreeSet<Metric> = points().flat_map(|(_, point)| point.quality.keys().copied()).collect();
    let both = |name: &str| [name.to_owned(), format!("{name}_se")];
    let fixed =
        ["task", "point", "curve", "promise", "dial", "value", "prompts", "on_front", "on_compute_front"];
    let rates = [
        "tokens_per_second",
        "mean_tokens",
        "acceptance_rate",
        "rejection_rate",
        "deferral_rate",
        "mean_total_variation",
        "mean_kl_nats",
    ];
    let mut header: Vec<String> = fixed.map(str::to_owned).to_vec();
    header
        .extend(["relative_time", "relative_compute", "tokens_per_expert_pass"].iter().flat_map(|n| both(n)));
    header.extend(rates.map(str::to_owned));
    header.extend(metrics.iter().flat_map(|metric| both(&metric.name().replace('-', "_"))));
    let mut out = Vec::new();
    record(&header, &mut out);
    for (task, point) in points() {
        record(&row(task, point, &metrics), &mut out);
    }
    out
}

fn row(task: &TaskReport, s: &Summary, metrics: &BTreeSet<Metric>) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    let both = |estimate: Option<Estimate>| {
        let error = estimate.and_then(|estimate| estimate.standard_error);
        [number(estimate.map(|estimate| estimate.mean)), number(error)]
    };
    let mut row = vec![
        task.task.clone(),
        s.point.clone(),
        s.curve.clone(),
        s.promise.to_owned(),
        s.dial.unwrap_or_default().to_owned(),
        number(s.value),
        task.prompts.to_string(),
        s.on_front.to_string(),
        s.on_compute_front.to_string(),
    ];
    row.extend([s.relative_time, s.relative_compute, s.tokens_per_expert_pass].into_iter().flat_map(both));
    let rates = [
        s.tokens_per_second,
        Some(s.mean_tokens),
        s.acceptance_rate,
        s.rejection_rate,
        s.deferral_rate,
        s.mean_total_variation,
        s.mean_kl_nats,
    ];
    row.extend(rates.map(number));
    row.extend(metrics.iter().flat_map(|metric| both(s.quality.get(metric).copied())));
    row
}

/// Adds a record, quoted where that is needed.
fn record(fields: &[String], out: &mut Vec<u8>) {
    let mut writer = Writer::new();
    let mut buffer = vec![0; 2 * fields.iter().map(String::len).sum::<usize>() + 4 * fields.len() + 4];
    let mut used = 0;
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            used += written(writer.delimiter(&mut buffer[used..]));
        }
        let (result, _, length) = writer.field(field.as_bytes(), &mut buffer[used..]);
        used += written((result, length));
    }
    used += written(writer.terminator(&mut buffer[used..]));
    out.extend_from_slice(&buffer[..used]);
}

fn written((result, length): (WriteResult, usize)) -> usize {
    debug_assert!(matches!(result, WriteResult::InputEmpty), "the buffer has room for every quote");
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_quoted_where_that_is_needed() {
        let mut out = Vec::new();
        record(&["a".into(), "b,\"c\"".into(), String::new(), "\n".into()], &mut out);
        record(&["\"\"\"\"\"\"\"\"".into()], &mut out);
        let quotes = "\"".repeat(18);
        assert_eq!(String::from_utf8(out).unwrap(), format!("a,\"b,\"\"c\"\"\",,\"\n\"\n{quotes}\n"));
    }
}
