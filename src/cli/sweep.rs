//! `drafthorse sweep`

pub(crate) mod args;
mod axis;
mod grid;
mod measure;
mod metric;
mod plot;
mod report;
mod run;
mod store;
mod style;
mod summary;
mod task;

use super::{
    Outcome,
    failure::Failure,
    interrupt::{INTERRUPTED, Interrupt},
    json::Machine,
    output,
    parts::Parts,
};
use args::SweepArgs;
use grid::{Method, Point};
use indicatif::{ProgressBar, ProgressStyle};
use measure::Measure;
use metric::Metric;
use report::{Report, Skipped, TaskReport};
use run::Run;
use serde_json::{Value, json};
use std::{collections::HashSet, process::ExitCode};
use store::Store;
use task::Task;

pub(crate) fn run(args: &SweepArgs) -> Outcome {
    let interrupt = Interrupt::listen();
    if args.max_tokens == 0 || args.draft_length == 0 || args.limit == Some(0) {
        return Err(Failure::new("--max-tokens, --k and --limit must be at least 1"));
    }
    let points = grid::points(args.rules.as_deref())?;
    let parts = Parts::open(&args.parts(), args.drafter.as_deref())?;
    if parts.drafter.is_none() {
        return Err(Failure::new("a sweep needs a drafter; name a folder, demo or ngram with --drafter"));
    }
    let tasks = task::tasks(args, &parts.expert)?;
    let metrics = tasks.iter().map(|task| metrics(args, task)).collect::<Result<Vec<_>, _>>()?;
    let mut measure = Measure::new(args, &parts)?;
    let (points, skipped) = fitting(points, &measure)?;
    let settings = settings(args, &parts, &tasks)?;
    let mut store = Store::open(&args.out, &settings, args.restart)?;
    let complete = measure_all(&mut measure, &mut store, &tasks, &points, &interrupt)?;
    let sweep = Sweep { args, parts: &parts, settings: &settings, points: &points, skipped: &skipped };
    let tasks: Vec<_> = tasks.iter().zip(metrics).collect();
    sweep.write(&store, &tasks, measure.parameters(), complete)?;
    if complete {
        return Ok(ExitCode::SUCCESS);
    }
    output::note("interrupted: what was measured is kept, and the same command goes on from there");
    Ok(ExitCode::from(INTERRUPTED))
}

/// What is quality in a task, the deciding measure first.
fn metrics(args: &SweepArgs, task: &Task) -> Result<Vec<Metric>, Failure> {
    let (referenced, numbers) = task.references();
    let Some(wrong) = args.metric.iter().find(|metric| match metric {
        Metric::LogProbability => false,
        Metric::LastNumber => !numbers,
        _ => !referenced,
    }) else {
        let default = match (referenced, numbers) {
            (_, true) => Metric::LastNumber,
            (true, false) => Metric::Chrf,
            (false, false) => Metric::LogProbability,
        };
        let asked = &args.metric;
        return Ok(if asked.is_empty() { vec![default] } else { asked.clone() });
    };
    let (name, task) = (wrong.name(), &task.name);
    Err(Failure::new(format!(
        "--metric {name} needs references, for last-number ones that end with a number, and task {task} has prompts without; use --metric log-probability"
    )))
}

/// The points that fit the drafter, and the others.
fn fitting(points: Vec<Point>, measure: &Measure<'_>) -> Result<(Vec<Point>, Vec<Skipped>), Failure> {
    let (mut fit, mut skipped) = (Vec::new(), Vec::new());
    for point in points {
        match measure.unfit(&point)? {
            None => fit.push(point),
            Some(why) => skipped.push(Skipped { point: point.id, why }),
        }
    }
    let mut reasons = HashSet::new();
    for skipped in skipped.iter().filter(|skipped| reasons.insert(skipped.why.clone())) {
        output::note(&format!("left out: {}: {}", skipped.point, skipped.why));
    }
    Ok((fit, skipped))
}

/// What must be the same for texts to be comparable.
fn settings(args: &SweepArgs, parts: &Parts, tasks: &[Task]) -> Result<Value, Failure> {
    let machine = serde_json::to_value(Machine::new(parts.expert.device().to_string(), &args.models))?;
    let tasks: Vec<_> = tasks
        .iter()
        .map(|task| json!({ "name": task.name, "prompts": task.items.len(), "digest": task.digest() }))
        .collect();
    let sampling = args.sampling.options(parts.expert.tokenizer(), args.max_tokens)?;
    Ok(json!({
        "version": machine["version"],
        "expert": args.expert,
        "drafter": parts.drafter.name(),
        "ngram": [args.models.ngram_min, args.models.ngram_max],
        "device": machine["device"],
        "weights": machine["weights"],
        "draft_weights": machine["draft_weights"],
        "cache_type": machine["cache_type"],
        "threads": machine["threads"],
        "cpu": machine["cpu"],
        "draft_length": args.draft_length,
        "max_tokens": args.max_tokens,
        "sampling": format!("{sampling:?}"),
        "seed": args.sampling.seed(),
        "stop": args.stop,
        "ignore_eos": args.ignore_eos,
        "tasks": tasks,
    }))
}

/// Writes every text that is missing; whether that came to its end.
fn measure_all(
    measure: &mut Measure<'_>,
    store: &mut Store,
    tasks: &[Task],
    points: &[Point],
    interrupt: &Interrupt,
) -> Result<bool, Failure> {
    let there: HashSet<(String, usize, String)> =
        store.runs().iter().map(|run| (run.task.clone(), run.prompt, run.point.clone())).collect();
    let is_missing = |task: &Task, prompt: usize, point: &Point| {
        !there.contains(&(task.name.clone(), prompt, point.id.clone()))
    };
    let mut plan = Vec::new();
    for task in tasks {
        for prompt in 0..task.items.len() {
            let missing: Vec<&Point> =
                points.iter().filter(|point| is_missing(task, prompt, point)).collect();
            if !missing.is_empty() {
                plan.push((task, prompt, in_turn(&points[0], missing, prompt)));
            }
        }
    }
    let texts = plan.iter().map(|(_, _, points)| points.len()).sum::<usize>();
    let bar = ProgressBar::new(texts as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} texts, {eta} left: {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let complete = follow(&plan, measure, store, interrupt, &bar);
    bar.finish_and_clear();
    complete
}

/// The expert first, which all others are compared with, even where it was measured in an earlier start of
/// the program; the others from one end and from the other, so that their order favours none.
fn in_turn<'a>(expert: &'a Point, mut missing: Vec<&'a Point>, prompt: usize) -> Vec<&'a Point> {
    missing.retain(|point| !matches!(point.method, Method::Expert));
    if prompt % 2 == 1 {
        missing.reverse();
    }
    missing.insert(0, expert);
    missing
}

type Plan<'a> = [(&'a Task, usize, Vec<&'a Point>)];

fn follow(
    plan: &Plan<'_>,
    measure: &mut Measure<'_>,
    store: &mut Store,
    interrupt: &Interrupt,
    bar: &ProgressBar,
) -> Result<bool, Failure> {
    if let Some((task, prompt, points)) = plan.first() {
        // Warm-up, not counted.
        for point in points.iter().take(WARM_UP) {
            measure.run(point, *prompt, &task.items[*prompt], interrupt)?;
        }
    }
    for (task, prompt, points) in plan {
        for point in points {
            bar.set_message(format!("{} {}: {}", task.name, prompt + 1, point.id));
            let run = if interrupt.seen() {
                None
            } else {
                measure.run(point, *prompt, &task.items[*prompt], interrupt)?
            };
            let Some(run) = run else { return Ok(false) };
            let session = store.session();
            store.add(&Run { session, task: task.name.clone(), prompt: *prompt, ..run })?;
            bar.inc(1);
        }
    }
    Ok(true)
}

/// Texts written before any is counted.
const WARM_UP: usize = 3;

/// What was measured, and how.
struct Sweep<'a> {
    args: &'a SweepArgs,
    parts: &'a Parts,
    settings: &'a Value,
    points: &'a [Point],
    skipped: &'a [Skipped],
}

impl Sweep<'_> {
    fn write(
        &self,
        store: &Store,
        tasks: &[(&Task, Vec<Metric>)],
        parameters: (usize, usize),
        complete: bool,
    ) -> Result<(), Failure> {
        let out = &self.args.out;
        let mut reports = Vec::new();
        for (task, metrics) in tasks {
            let (points, prompts) =
                summary::summarize(self.points, store.runs(), &task.name, parameters, metrics[0]);
            if prompts == 0 {
                continue;
            }
            let (name, file, of) = (task.name.clone(), task.file.clone(), task.items.len());
            let report = TaskReport { task: name, file, prompts, of, metric: metrics[0], points };
            for (at, metric) in metrics.iter().enumerate() {
                let name = if at == 0 { String::new() } else { format!("-{}", metric.name()) };
                let picture = plot::draw(&report, *metric, &self.subtitle(prompts));
                report::file(&out.join(format!("{}{name}.svg", task.name)), picture.as_bytes())?;
            }
            write_out(&report::print(&report))?;
            reports.push(report);
        }
        let (expert_parameters, drafter_parameters) = parameters;
        let report = Report {
            machine: Machine::new(self.parts.expert.device().to_string(), &self.args.models),
            settings: self.settings,
            definitions: report::DEFINITIONS,
            complete,
            expert_parameters,
            drafter_parameters,
            skipped: self.skipped,
            tasks: &reports,
        };
        report::write(&report, out)?;
        write_out(&format!("{}\nresults are in {}\n", report::DEFINITIONS, out.display()))
    }

    fn subtitle(&self, prompts: usize) -> String {
        let (args, drafter) = (self.args, self.parts.drafter.name());
        format!(
            "expert {}, drafter {drafter}, k = {}, temperature {}, {} of up to {} tokens",
            args.expert,
            args.draft_length,
            args.sampling.temperature,
            output::count(prompts, "prompt"),
            args.max_tokens,
        )
    }
}

fn write_out(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

#[cfg(test)]
mod tests {
    use super::{grid::EXPERT, *};

    #[test]
    fn the_expert_comes_first_and_the_others_from_both_ends() {
        let points = grid::points(Some("drafter,lossless,exact-match")).map_err(|_| "refused").unwrap();
        let order = |prompt: usize, from: usize| -> Vec<&str> {
            let missing = points[from..].iter().collect();
            in_turn(&points[0], missing, prompt).iter().map(|point| point.id.as_str()).collect()
        };
        assert_eq!(order(0, 0), [EXPERT, "drafter", "lossless", "exact-match"]);
        assert_eq!(order(1, 0), [EXPERT, "exact-match", "lossless", "drafter"]);
        assert_eq!(order(2, 3), [EXPERT, "exact-match"], "to compare with, once more");
    }
}
