//! What `bench` says in the end.

use super::{
    Bench,
    setting::{self, Setting},
    summary::{self, Summary},
};
use crate::cli::{
    args::BenchArgs,
    failure::Failure,
    json::{self, CostsJson, Machine, StatsJson},
    output::{count, decimal, numbers, table},
    parts,
};
use drafthorse::{DraftLength, Kind, Stats, verifier::describe};
use serde::Serialize;
use serde_json::Value;
use std::{collections::BTreeSet, io::Write};

/// One text of one setting.
#[derive(Serialize)]
pub(super) struct Run {
    /// Index in the summary.
    pub(super) setting: usize,
    pub(super) repetition: usize,
    pub(super) prompt: usize,
    pub(super) category: String,
    pub(super) drafter: String,
    #[serde(serialize_with = "length_as_json")]
    pub(super) k: DraftLength,
    pub(super) prompt_tokens: usize,
    pub(super) same_text_as_plain: bool,
    /// `[i]`: rounds in which `i` tokens were drafted.
    pub(super) rounds_by_drafted: Vec<u64>,
    #[serde(serialize_with = "as_json")]
    pub(super) stats: Stats,
}

pub(super) fn length_as_json<S: serde::Serializer>(
    length: &DraftLength,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    json::length(length).serialize(serializer)
}

fn as_json<S: serde::Serializer>(stats: &Stats, serializer: S) -> Result<S::Ok, S::Error> {
    StatsJson::from(stats).serialize(serializer)
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_category: Vec<Summary>,
    runs: &'a [Run],
}

pub(super) fn write(bench: &Bench<'_>, runs: &[Run], prompts: usize) -> Result<(), Failure> {
    let summaries = summary::summaries(bench, runs, None);
    let categories: BTreeSet<_> = runs.iter().map(|run| run.category.as_str()).collect();
    let families = if bench.args.by_category { categories.into_iter().collect() } else { Vec::new() };
    let by_category: Vec<_> =
        families.into_iter().map(|name| summary::summaries(bench, runs, Some(name))).collect();
    let mut out = std::io::stdout().lock();
    let args = bench.args;
    if !args.json {
        return print(bench, (&summaries, &by_category), prompts, &mut out);
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
        by_category: by_category.into_iter().flatten().collect(),
        runs,
    };
    serde_json::to_writer_pretty(&mut out, &report)?;
    Ok(writeln!(out)?)
}

fn print(
    bench: &Bench<'_>,
    (summaries, by_category): (&[Summary], &[Vec<Summary>]),
    prompts: usize,
    out: &mut impl Write,
) -> Result<(), Failure> {
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
    writeln!(out, "{}\n", rows(summaries))?;
    for family in by_category {
        let name = family.first().and_then(|summary| summary.category.as_deref()).unwrap_or_default();
        writeln!(out, "{name}\n{}\n", rows(family))?;
    }
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

fn rows(summaries: &[Summary]) -> comfy_table::Table {
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
            decimal(s.best_speedup, 2),
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
        "best",
        "efficiency",
        "same text",
    ];
    numbers(table(header, rows), 1)
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
speedup = tokens per second over plain decoding (k = 0) in the same repetition, mean ± deviation; best = the same with
the best repetition of each text on both sides;
efficiency = speedup / predicted speedup, which is tokens/pass / (drafted * draft cost + c(drafted + 1)), the mean
over all rounds, with costs measured apart from the engine";

const SYNTHETIC: &str = "\
synthetic A is no drafter but a way to measure the engine: it knows the text of plain decoding, is right with
probability A at each position, and takes a given share of an expert's step for each token";
