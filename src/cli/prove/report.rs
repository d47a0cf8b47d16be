//! What `prove` says in the end.

use super::args::ProveArgs;
use crate::cli::{
    failure::Failure,
    json::Machine,
    output::{count, table},
};
use drafthorse::{
    Transformer,
    proof::{Control, Difference, Outcome, ProofOptions, Report, Test, TestKind, TopTwo},
    verifier::{Kind, describe},
};
use serde::Serialize;
use std::io::Write;

#[derive(Serialize)]
struct Json<'a> {
    machine: Machine,
    expert: &'a str,
    drafter: &'a str,
    rules: Vec<String>,
    draft_lengths: &'a [usize],
    prompts: usize,
    max_tokens: usize,
    seeds: u64,
    seed: u64,
    temperature: f32,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    #[serde(flatten)]
    report: &'a Report,
}

pub(super) fn write(
    args: &ProveArgs,
    expert: &Transformer,
    options: &ProofOptions,
    prompts: usize,
    report: &Report,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &json(args, expert, options, prompts, report))?;
        return Ok(writeln!(out)?);
    }
    let weights = args.models.load_options(false).weights.name();
    writeln!(
        out,
        "expert {} ({weights}) and drafter {} on {}; {}, sampled texts at temperature {}\n",
        args.expert,
        args.drafter,
        expert.device(),
        count(prompts, "prompt"),
        args.temperature,
    )?;
    let header = ["test", "rule", "k", "compared", "found", "p-value", "result"];
    writeln!(out, "{}\n", table(header, groups(&report.tests).iter().map(|group| row(group))))?;
    for difference in report.tests.iter().filter_map(first_difference) {
        writeln!(out, "{difference}\n")?;
    }
    for deviation in report.failed().filter_map(deviation) {
        writeln!(out, "{deviation}\n")?;
    }
    let header = ["wrong on purpose", "found by", "p-value", "tests failed"];
    writeln!(out, "{}\n", table(header, report.controls.iter().map(control)))?;
    notes(&mut out, options, report)?;
    Ok(writeln!(out, "{}", verdict(options, report))?)
}

fn json<'a>(
    args: &'a ProveArgs,
    expert: &Transformer,
    options: &'a ProofOptions,
    prompts: usize,
    report: &'a Report,
) -> Json<'a> {
    Json {
        machine: Machine::new(expert.device().to_string(), &args.models),
        expert: &args.expert,
        drafter: &args.drafter,
        rules: options.rules.iter().map(|rule| describe(&**rule)).collect(),
        draft_lengths: &options.draft_lengths,
        prompts,
        max_tokens: options.max_tokens,
        seeds: options.seeds,
        seed: options.seed,
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        report,
    }
}

/// The tests of one kind and rule.
fn groups(tests: &[Test]) -> Vec<Vec<&Test>> {
    let mut groups: Vec<Vec<&Test>> = Vec::new();
    for test in tests {
        let same = |group: &&mut Vec<&Test>| group[0].kind == test.kind && group[0].rule == test.rule;
        match groups.iter_mut().find(same) {
            Some(group) => group.push(test),
            None => groups.push(vec![test]),
        }
    }
    groups.sort_by_key(|group| group[0].kind);
    groups
}

fn row(group: &[&Test]) -> [String; 7] {
    let first = group[0];
    let mut lengths: Vec<_> = group.iter().map(|test| test.k).collect();
    lengths.dedup();
    lengths.sort_unstable();
    lengths.dedup();
    let worst = group.iter().min_by(|a, b| a.p.unwrap_or(2.0).total_cmp(&b.p.unwrap_or(2.0)));
    let worst = worst.copied().unwrap_or(first);
    [
        first.kind.label().into(),
        first.rule.clone(),
        lengths.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        compared(group),
        found(worst, group),
        worst.p.map_or("-".into(), p_value),
        result(group).into(),
    ]
}

fn compared(group: &[&Test]) -> String {
    let samples: u64 = group.iter().map(|test| test.samples).sum();
    match group[0].kind {
        TestKind::GreedyIdentity | TestKind::SeedIdentity => {
            format!("{samples} texts with those of k = 0")
        }
        _ => format!("{samples} texts in {}", count(group.len(), "test")),
    }
}

/// The value of the worst test of a group.
fn found(worst: &Test, group: &[&Test]) -> String {
    let of = if group.len() > 1 { "worst: " } else { "" };
    match (worst.kind, worst.degrees, worst.expected) {
        (TestKind::GreedyIdentity | TestKind::SeedIdentity, ..) => {
            let differ: f64 = group.iter().map(|test| test.statistic).sum();
            if differ == 0.0 { "all the same".into() } else { format!("{differ:.0} differ") }
        }
        _ if worst.outcome == Outcome::Untested => "nothing to compare".into(),
        (_, Some(_), _) if worst.statistic.is_infinite() => "tokens that the law excludes".into(),
        (_, Some(degrees), _) => {
            let degrees = count(degrees, "degree");
            format!("{of}chi-square {:.1}, {degrees} of freedom", worst.statistic)
        }
        (_, None, Some(expected)) => {
            format!("{of}{:.4} of {}, on paper {expected:.4}", worst.statistic, worst.samples)
        }
        (_, None, None) => String::new(),
    }
}

fn result(group: &[&Test]) -> &'static str {
    let any = |outcome| group.iter().any(|test| test.outcome == outcome);
    match () {
        () if any(Outcome::Failed) => "FAILED",
        () if any(Outcome::NearTies) => "near ties",
        () if any(Outcome::Passed) => "passed",
        () => "not tested",
    }
}

/// A probability, short.
fn p_value(p: f64) -> String {
    match p {
        0.001.. => format!("{p:.3}"),
        1e-300.. => format!("{p:.0e}"),
        _ => "<1e-300".into(),
    }
}

/// What is known of the first text of a test that differs.
fn first_difference(test: &Test) -> Option<String> {
    let Difference { prompt, position, plain, speculative, rows, plain_pass, verify_pass, .. } =
        test.differences.first()?;
    let gap = |pass: &TopTwo| {
        let ([a, b], [x, y]) = (pass.tokens, pass.logits);
        format!("token {a} {x:.6}, token {b} {y:.6}, gap {:.2e}", pass.gap())
    };
    let difference = &test.differences[0];
    Some(format!(
        "{}, {}, k = {}: {} of {} texts differ, the first after prompt {} at token {}: {plain} without drafts, {speculative} with\n  \
         pass of 1 row:   {}\n  pass of {rows} rows:  {}\n  logits of the passes differ by up to {:.1e}: {}",
        test.kind.label(),
        test.rule,
        test.k,
        test.differences.len(),
        test.samples,
        prompt + 1,
        position + 1,
        gap(plain_pass),
        gap(verify_pass),
        difference.logit_difference,
        difference.cause.label(),
    ))
}

/// What is known of a law that does not hold.
fn deviation(test: &Test) -> Option<String> {
    let place = format!("{}, {}, k = {}, after {}", test.kind.label(), test.rule, test.k, test.at);
    let p = p_value(test.p?);
    let what = match (test.farthest, test.expected) {
        (Some(far), _) if far.expected == 0.0 => {
            format!("token {} came {} times, and the law excludes it", far.token, far.seen)
        }
        (Some(far), _) => format!(
            "chi-square {:.1}; farthest off is token {}, which came {} times instead of {:.1}",
            test.statistic, far.token, far.seen, far.expected
        ),
        (None, expected) => {
            format!("{:.4} of {} accepted, on paper {:.4}", test.statistic, test.samples, expected?)
        }
    };
    Some(format!("{place}: p-value {p}\n  {what}"))
}

fn control(control: &Control) -> [String; 4] {
    let (by, p) = match control.failed.first() {
        Some(test) => (
            format!("{}, k = {}", test.kind.label(), test.k),
            test.p.map_or(format!("{:.0} of {} texts differ", test.statistic, test.samples), p_value),
        ),
        None => ("NOTHING".into(), "-".into()),
    };
    [control.name.clone(), by, p, format!("{} of {}", control.failed.len(), control.tests)]
}

fn notes(out: &mut impl Write, options: &ProofOptions, report: &Report) -> Result<(), Failure> {
    let place = |place: &drafthorse::proof::Place| {
        format!("{} (total variation of drafter and expert {:.2})", place.label, place.total_variation)
    };
    let places: Vec<_> = report.places.iter().map(place).collect();
    writeln!(out, "Laws were tested after {}; the second token after token {}.", places.join(" and "), {
        let tokens: Vec<_> = report.places.iter().map(|place| place.first_token.to_string()).collect();
        tokens.join(" and ")
    })?;
    for rule in options.rules.iter().filter(|rule| rule.kind() != Kind::Lossless) {
        let (name, promise) = (describe(&**rule), rule.kind().label());
        writeln!(
            out,
            "{name} [{promise}]: the law on paper is the one that the rule states, not the expert's."
        )?;
    }
    let values = report.tests.iter().filter(|test| test.p.is_some()).count();
    writeln!(
        out,
        "A test fails with a p-value below {:.1e}: level {} over {} (Bonferroni).",
        report.threshold,
        report.level,
        count(values, "p-value"),
    )?;
    Ok(())
}

fn verdict(options: &ProofOptions, report: &Report) -> String {
    let rules: Vec<_> = options.rules.iter().map(|rule| describe(&**rule)).collect();
    if report.proved {
        let ties = report.tests.iter().filter(|test| test.outcome == Outcome::NearTies).count();
        let ties = match ties {
            0 => String::new(),
            ties => format!(
                "; texts of {} differ by near ties, as this device's rounding allows",
                count(ties, "test")
            ),
        };
        return format!(
            "proved: {} of {} passed, and all {} wrong verifiers were found{ties}",
            count(report.tests.len(), "test"),
            rules.join(" and "),
            report.controls.len(),
        );
    }
    let failed = report.failed().count();
    let missed: Vec<_> = report.missed().map(|control| format!("`{}`", control.name)).collect();
    let mut reasons = Vec::new();
    if failed > 0 {
        reasons.push(format!("{} failed", count(failed, "test")));
    }
    if !missed.is_empty() {
        let differ = report.places.iter().any(|place| place.total_variation > 0.01);
        let remedy = if differ {
            format!(
                "draw more texts with --seeds {}, or give more prompts, among which places are chosen where a wrong law shows",
                options.seeds.saturating_mul(4)
            )
        } else {
            "drafter and expert say the same, and then it is not wrong: give another drafter or other prompts"
                .to_owned()
        };
        let missed = missed.join(" and ");
        reasons.push(format!("the tests have too little power to see {missed}; {remedy}"));
    }
    format!("NOT proved: {}", reasons.join(", and "))
}
