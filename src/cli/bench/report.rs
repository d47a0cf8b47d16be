//! What `bench` says in the end.

use super::{
    Bench,
    setting::{self, Setting},
};
use crate::cli::{
    args::BenchArgs,
    failure::Failure,
    json::{self, CostsJson, Machine, StatsJson},
    output::{count, decimal, numbers, table},
    parts,
};
use drafthorse::{Kind, Stats, verifier::describe};
use serde::Serialize;
use serde_json::Value;
use std::{io::Write, time::Duration};

/// One text of one setting.
#[derive(Serialize)]
pub(super) struct Run {
    /// Index in the summary.
    pub(super) setting: usize,
    pub(super) repetition: usize,
    pub(super) prompt: usize,
    pub(super) category: String,
    pub(super) drafter: String,
    pub(super) k: usize,
    pub(super) prompt_tokens: usize,
    pub(super) same_text_as_plain: bool,
    /// `[i]`: rounds in which `i` tokens were drafted.
    pub(super) rounds_by_drafted: Vec<u64>,
    #[serde(serialize_with = "as_json")]
    pub(super) stats: Stats,
}

fn as_json<S: serde::Serializer>(stats: &Stats, serializer: S) -> Result<S::Ok, S::Error> {
    StatsJson::from(stats).serialize(serializer)
}

/// All runs of one setting.
#[derive(Serialize)]
struct Summary {
    drafter: String,
    k: usize,
    acceptance_rate: Option<f64>,
    draft_yield: Option<f64>,
    tokens_per_expert_pass: Option<f64>,
    /// Time of a drafter step / time of an expert step of plain decoding.
    draft_cost: Option<f64>,
    /// Time of the expert's pass / time of its pass in plain decoding.
    verify_cost: Option<f64>,
    tokens_per_second: Option<f64>,
    /// Tokens per second over those of plain decoding in the same repetition: mean, and deviation.
    speedup: Option<f64>,
    /// `None` for a single repetition.
    speedup_deviation: Option<f64>,
    /// Tokens per expert pass / the mean cost of a round, as measured apart from the engine; `None` for
    /// plain decoding.
    predicted_speedup: Option<f64>,
    /// Speedup / predicted speedup.
    engine_efficiency: Option<f64>,
    /// Runs whose text is that of plain decoding.
    same_text: usize,
    runs: usize,
}

#[derive(Serialize)]
struct Report<'a> {
    machine: Machine,
    expert: &'a str,
    rule: Value,
    temperature: f32,
    max_tokens: usize,
    repetitions: usize,
    prompts: usize,
    interrupted: bool,
    /// Measured apart from the engine.
    costs: CostsJson,
    summary: &'a [Summary],
    runs: &'a [Run],
}

pub(super) fn write(bench: &Bench<'_>, runs: &[Run], prompts: usize) -> Result<(), Failure> {
    let summaries: Vec<_> =
        bench.settings.iter().enumerate().map(|(i, setting)| summarize(i, setting, runs, bench)).collect();
    let mut out = std::io::stdout().lock();
    let args = bench.args;
    if !args.json {
        return print(bench, &summaries, prompts, &mut out);
    }
    let report = Report {
        machine: Machine::new(bench.expert.device().to_string(), &bench.args.parts.models),
        expert: &args.parts.expert,
        rule: json::rule(&*parts::acceptance_rule(&args.parts)?),
        temperature: args.sampling.temperature,
        max_tokens: args.max_tokens,
        repetitions: args.repetitions,
        prompts,
        interrupted: bench.interrupt.seen(),
        costs: CostsJson::new(&bench.meter, setting::measured(bench.drafters)),
        summary: &summaries,
        runs,
    };
    serde_json::to_writer_pretty(&mut out, &report)?;
    Ok(writeln!(out)?)
}

fn summarize(index: usize, setting: &Setting, runs: &[Run], bench: &Bench<'_>) -> Summary {
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
    let round = || setting.costs(&bench.meter)?.mean_round(&rounds_by_drafted(mine()));
    let predicted_speedup = if setting.k > 0 { over(tokens_per_expert_pass, round()) } else { None };
    Summary {
        drafter: setting.name.clone(),
        k: setting.k,
        acceptance_rate: own.acceptance_rate(),
        draft_yield: own.draft_yield(),
        tokens_per_expert_pass,
        draft_cost: over(per(own.draft_time, own.drafted), plain_pass),
        verify_cost: over(per(own.verify_time, own.rounds), plain_pass),
        tokens_per_second: own.tokens_per_second(),
        speedup,
        speedup_deviation,
        predicted_speedup,
        engine_efficiency: over(speedup, predicted_speedup),
        same_text: mine().filter(|run| run.same_text_as_plain).count(),
        runs: mine().count(),
    }
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

fn print(
    bench: &Bench<'_>,
    summaries: &[Summary],
    prompts: usize,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let rows = summaries.iter().map(|s| {
        [
            s.drafter.clone(),
            s.k.to_string(),
            decimal(s.acceptance_rate, 3),
            decimal(s.draft_yield, 3),
            decimal(s.tokens_per_expert_pass, 2),
            decimal(s.draft_cost, 3),
            decimal(s.verify_cost, 2),
            decimal(s.tokens_per_second, 0),
            decimal(s.speedup, 2) + &s.speedup_deviation.map_or(String::new(), |d| format!(" ± {d:.2}")),
            decimal(s.engine_efficiency, 2),
            format!("{}/{}", s.same_text, s.runs),
        ]
    });
    let header = [
        "drafter",
        "k",
        "acceptance",
        "yield",
        "tokens/pass",
        "draft cost",
        "verify cost",
        "tokens/s",
        "speedup",
        "efficiency",
        "same text",
    ];
    let args = bench.args;
    writeln!(
        out,
        "expert {} in {} on {}, rule {}, temperature {}, {} x {} x {}\n",
        args.parts.expert,
        args.parts.models.load_options(false).weights.name(),
        bench.expert.device(),
        described(args)?,
        args.sampling.temperature,
        count(prompts, "prompt"),
        count(args.max_tokens, "token"),
        count(args.repetitions, "repetition")
    )?;
    writeln!(out, "{}\n", numbers(table(header, rows), 1))?;
    writeln!(out, "{DEFINITIONS}")?;
    let meter = &bench.meter;
    writeln!(
        out,
        "costs apart from the engine: forwards after {}, best of {}, in turn with the texts; a model's draft steps\ncome before each forward, as in a round",
        count(meter.length(), "token"),
        meter.sweeps()
    )?;
    if bench.settings.iter().any(Setting::is_synthetic) {
        writeln!(out, "{SYNTHETIC}")?;
    }
    Ok(())
}

/// The rule with its dials, and a word where it is not lossless.
fn described(args: &BenchArgs) -> Result<String, Failure> {
    let rule = parts::acceptance_rule(&args.parts)?;
    let label =
        if rule.kind() == Kind::Lossless { String::new() } else { format!(" [{}]", rule.kind().label()) };
    Ok(describe(&*rule) + &label)
}

const DEFINITIONS: &str = "\
acceptance = accepted / examined; yield = accepted / drafted; costs in expert passes of plain decoding;
speedup = tokens per second over plain decoding (k = 0) in the same repetition, mean ± deviation;
efficiency = speedup / predicted speedup, which is tokens/pass / (drafted * draft cost + c(drafted + 1)), the mean
over all rounds, with costs measured apart from the engine";

const SYNTHETIC: &str = "\
synthetic A is no drafter but a way to measure the engine: it knows the text of plain decoding, is right with
probability A at each position, and takes a given share of an expert's step for each token";
