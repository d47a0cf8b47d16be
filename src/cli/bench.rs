//! `drafthorse bench`

use super::{
    Outcome,
    args::BenchArgs,
    failure::Failure,
    interrupt::{INTERRUPTED, Interrupt},
    json::{Machine, StatsJson},
    output::{self, count, numbers, table},
    parts::{self, DrafterPart},
    prompts::{self, Prompt},
};
use drafthorse::{SessionOptions, Stats, TokenId, Transformer};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{collections::BTreeSet, io::Write, process::ExitCode, sync::Arc};

/// A drafter with a draft length; the first of all is plain decoding.
struct Setting {
    drafter: DrafterPart,
    k: usize,
}

/// One text of one setting.
#[derive(Serialize)]
struct Run {
    /// Index in the summary.
    setting: usize,
    repetition: usize,
    prompt: usize,
    category: String,
    drafter: String,
    k: usize,
    prompt_tokens: usize,
    same_text_as_plain: bool,
    #[serde(serialize_with = "as_json")]
    stats: Stats,
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
    /// Runs whose text is that of plain decoding.
    same_text: usize,
    runs: usize,
}

#[derive(Serialize)]
struct Report<'a> {
    machine: Machine,
    expert: &'a str,
    rule: &'a str,
    temperature: f32,
    max_tokens: usize,
    repetitions: usize,
    prompts: usize,
    interrupted: bool,
    summary: &'a [Summary],
    runs: &'a [Run],
}

pub(crate) fn run(args: &BenchArgs) -> Outcome {
    let interrupt = Interrupt::listen();
    if args.repetitions == 0 || args.max_tokens == 0 {
        return Err(Failure::new("--repetitions and --max-tokens must be at least 1"));
    }
    let expert = parts::expert(&args.parts)?;
    let settings = settings(args)?;
    let prompts = encode(args, &expert)?;
    let runs = measure(args, &expert, &settings, &prompts, &interrupt)?;
    let summaries: Vec<_> =
        settings.iter().enumerate().map(|(i, setting)| summarize(i, setting, &runs)).collect();
    let mut out = std::io::stdout().lock();
    if args.json {
        let report = Report {
            machine: Machine::new(expert.device().to_string()),
            expert: &args.parts.expert,
            rule: &args.parts.rule,
            temperature: args.sampling.temperature,
            max_tokens: args.max_tokens,
            repetitions: args.repetitions,
            prompts: prompts.len(),
            interrupted: interrupt.seen(),
            summary: &summaries,
            runs: &runs,
        };
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        print(args, &expert, &summaries, prompts.len(), &mut out)?;
    }
    if interrupt.seen() {
        output::note("interrupted: the numbers cover what was measured until then");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}

fn settings(args: &BenchArgs) -> Result<Vec<Setting>, Failure> {
    let mut settings = vec![Setting { drafter: DrafterPart::None, k: 0 }];
    let default = match parts::default_drafter(&args.parts) {
        "ngram" => vec!["ngram".to_owned()],
        model => vec![model.to_owned(), "ngram".to_owned()],
    };
    let mut names = if args.drafter.is_empty() { default } else { args.drafter.clone() };
    let mut seen = BTreeSet::from(["none".to_owned()]);
    names.retain(|name| seen.insert(name.clone()));
    for name in &names {
        let drafter = parts::drafter(name, &args.parts)?;
        let lengths: BTreeSet<_> = args.draft_lengths.iter().filter(|k| **k > 0).collect();
        settings.extend(lengths.into_iter().map(|&k| Setting { drafter: drafter.clone(), k }));
    }
    Ok(settings)
}

fn encode(args: &BenchArgs, expert: &Transformer) -> Result<Vec<(Prompt, Vec<TokenId>)>, Failure> {
    let Some(tokenizer) = expert.tokenizer() else {
        return Err(Failure::new(format!(
            "{} has no tokenizer.json, and prompts are text",
            args.parts.expert
        )));
    };
    let all = match &args.prompts {
        Some(path) => prompts::read(path)?,
        None => prompts::built_in(),
    };
    let mut encoded = Vec::new();
    for prompt in prompts::spread(&all, args.limit) {
        let tokens = tokenizer.encode(&prompt.text)?;
        // All texts must be equally long, with every setting.
        let room = expert.config().context_len.saturating_sub(tokens.len());
        if tokens.is_empty() || room < args.max_tokens {
            output::note(&format!(
                "left out: the prompt `{}...` has {} and leaves no room for {} in a context of {}",
                prompt.text.chars().take(30).collect::<String>(),
                count(tokens.len(), "token"),
                args.max_tokens,
                expert.config().context_len
            ));
            continue;
        }
        encoded.push((prompt, tokens));
    }
    if encoded.is_empty() {
        return Err(Failure::new("no prompts are left to measure with"));
    }
    Ok(encoded)
}

fn measure(
    args: &BenchArgs,
    expert: &Arc<Transformer>,
    settings: &[Setting],
    prompts: &[(Prompt, Vec<TokenId>)],
    interrupt: &Interrupt,
) -> Result<Vec<Run>, Failure> {
    let bar = ProgressBar::new(((args.repetitions * prompts.len() + 1) * settings.len()) as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} texts, {eta} left: {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    // Warm-up: everything once, not counted.
    for setting in settings {
        if generate(args, expert, setting, &prompts[0].1, interrupt)?.is_none() {
            return Ok(Vec::new());
        }
        bar.inc(1);
    }
    let mut runs = Vec::new();
    'all: for repetition in 0..args.repetitions {
        for (number, (prompt, tokens)) in prompts.iter().enumerate() {
            let mut plain = Vec::new();
            for (index, setting) in settings.iter().enumerate() {
                bar.set_message(format!("{} k={}", setting.drafter.name(), setting.k));
                let Some((stats, text)) = generate(args, expert, setting, tokens, interrupt)? else {
                    break 'all;
                };
                bar.inc(1);
                if setting.k == 0 {
                    plain.clone_from(&text);
                }
                runs.push(Run {
                    setting: index,
                    repetition,
                    prompt: number,
                    category: prompt.category.clone(),
                    drafter: setting.drafter.name().to_owned(),
                    k: setting.k,
                    prompt_tokens: tokens.len(),
                    same_text_as_plain: text == plain,
                    stats,
                });
            }
        }
    }
    bar.finish_and_clear();
    // A prompt that was not run with every setting would weigh on some and not on others.
    runs.truncate(runs.len() / settings.len() * settings.len());
    Ok(runs)
}

/// One text of one setting; `None` after Ctrl-C.
fn generate(
    args: &BenchArgs,
    expert: &Arc<Transformer>,
    setting: &Setting,
    prompt: &[TokenId],
    interrupt: &Interrupt,
) -> Result<Option<(Stats, Vec<TokenId>)>, Failure> {
    let engine = parts::engine(expert, &setting.drafter, &args.parts, setting.k)?;
    let options = SessionOptions {
        sampling: args.sampling.options(),
        seed: args.sampling.seed,
        max_tokens: args.max_tokens,
        ..Default::default()
    };
    parts::measure(engine, prompt, &options, interrupt)
}

fn summarize(index: usize, setting: &Setting, runs: &[Run]) -> Summary {
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
    let per = |time: std::time::Duration, count: u64| (count > 0).then(|| time.as_secs_f64() / count as f64);
    let over = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    let plain_pass = per(plain.verify_time, plain.rounds);
    let mine = || runs.iter().filter(|run| run.setting == index);
    Summary {
        drafter: setting.drafter.name().to_owned(),
        k: setting.k,
        acceptance_rate: own.acceptance_rate(),
        draft_yield: own.draft_yield(),
        tokens_per_expert_pass: own.tokens_per_expert_pass(),
        draft_cost: over(per(own.draft_time, own.drafted), plain_pass),
        verify_cost: over(per(own.verify_time, own.rounds), plain_pass),
        tokens_per_second: own.tokens_per_second(),
        speedup,
        speedup_deviation,
        same_text: mine().filter(|run| run.same_text_as_plain).count(),
        runs: mine().count(),
    }
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
    args: &BenchArgs,
    expert: &Transformer,
    summaries: &[Summary],
    prompts: usize,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let number = |value: Option<f64>, digits: usize| value.map_or("-".into(), |v| format!("{v:.digits$}"));
    let rows = summaries.iter().map(|s| {
        [
            s.drafter.clone(),
            s.k.to_string(),
            number(s.acceptance_rate, 3),
            number(s.draft_yield, 3),
            number(s.tokens_per_expert_pass, 2),
            number(s.draft_cost, 3),
            number(s.verify_cost, 2),
            number(s.tokens_per_second, 0),
            number(s.speedup, 2) + &s.speedup_deviation.map_or(String::new(), |d| format!(" ± {d:.2}")),
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
        "same text",
    ];
    writeln!(
        out,
        "expert {} on {}, rule {}, temperature {}, {} x {} x {}\n",
        args.parts.expert,
        expert.device(),
        args.parts.rule,
        args.sampling.temperature,
        count(prompts, "prompt"),
        count(args.max_tokens, "token"),
        count(args.repetitions, "repetition")
    )?;
    writeln!(out, "{}\n", numbers(table(header, rows), 1))?;
    writeln!(
        out,
        "acceptance = accepted / examined; yield = accepted / drafted; costs in expert passes of plain decoding;\nspeedup = tokens per second over plain decoding (k = 0) in the same repetition, mean ± deviation"
    )?;
    Ok(())
}
