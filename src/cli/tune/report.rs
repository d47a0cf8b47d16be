//! What `tune` says in the end.

use super::{HOPELESS, Tuning, trial::Trial};
use crate::cli::{
    config::Choice,
    failure::Failure,
    json,
    output::{decimal, numbers, table},
};
use drafthorse::{Kind, rule};
use serde_json::{Value, json};
use std::{io::Write, path::Path};

pub(super) fn write(
    tuning: &Tuning<'_>,
    choice: Option<&Choice>,
    written: Option<&Path>,
) -> Result<(), Failure> {
    let mut trials: Vec<_> = tuning.trials.iter().filter(|trial| trial.predicted.is_some()).collect();
    let speed = |trial: &Trial| trial.best().map_or(0.0, |best| best.1);
    trials.sort_by(|a, b| speed(b).total_cmp(&speed(a)).then(predicted(b).total_cmp(&predicted(a))));
    if tuning.args.json {
        return json::print(&object(tuning, &trials, choice, written));
    }
    let mut out = std::io::stdout().lock();
    print(tuning, &trials, &mut out)?;
    for excluded in &tuning.found.excluded {
        writeln!(out, "left out: {}: {}", excluded.drafter, excluded.reason)?;
    }
    if !tuning.found.excluded.is_empty() {
        writeln!(out)?;
    }
    let Some(choice) = choice else {
        return Ok(writeln!(out, "interrupted: nothing is chosen, and nothing was written")?);
    };
    if choice.drafter == "none" {
        writeln!(out, "Plain decoding is the fastest: no drafter pays here.")?;
    } else {
        writeln!(
            out,
            "The fastest: drafter {}, {}, rule {}{}: {:.2} times plain decoding.",
            choice.drafter,
            choice.drafts(),
            choice.rule,
            if is_lossy(&choice.rule) { " [lossy: it changes the text]" } else { "" },
            choice.speedup
        )?;
    }
    match written {
        Some(path) => writeln!(
            out,
            "Written to {}; `drafthorse generate -m {}` uses it from now on{}.",
            path.display(),
            tuning.args.expert,
            if choice.subject.sampled { " when it samples" } else { " at temperature 0" }
        )?,
        None => writeln!(out, "Nothing was written.")?,
    }
    Ok(())
}

fn is_lossy(name: &str) -> bool {
    rule(name).is_ok_and(|rule| rule.kind() != Kind::Lossless)
}

fn predicted(trial: &Trial) -> f64 {
    trial.predicted.map_or(0.0, |predicted| predicted.speedup)
}

fn print(tuning: &Tuning<'_>, trials: &[&Trial], out: &mut impl Write) -> Result<(), Failure> {
    let rows = trials.iter().map(|trial| {
        let stats = &trial.observed.stats;
        let best = trial.best();
        [
            trial.drafter.clone(),
            trial.rule.clone() + if is_lossy(&trial.rule) { " [lossy]" } else { "" },
            decimal(stats.acceptance_rate(), 2),
            decimal(trial.predicted.map(|p| p.draft_cost), 2),
            trial.predicted.map_or("-".into(), |p| p.k.to_string()),
            decimal(trial.predicted.map(|p| p.speedup), 2),
            best.map_or("-".into(), |(run, _)| run.drafts.to_string()),
            decimal(best.map(|best| best.1), 2),
            reason(trial),
        ]
    });
    let header =
        ["drafter", "rule", "acceptance", "draft cost", "best k", "predicted", "fastest", "measured", ""];
    let (args, points) = (tuning.args, tuning.costs.points());
    let most = points.last().map_or(1, |point| point.rows);
    writeln!(
        out,
        "expert {} in {} on {}: {:.0} tokens/s plainly, a forward of {most} rows costs {:.2} of one row\n",
        args.expert,
        args.models.load_options(false).weights.name(),
        tuning.expert.device(),
        1.0 / tuning.step,
        tuning.costs.verify(most),
    )?;
    writeln!(out, "{}\n", numbers(table(header, rows), 2))?;
    writeln!(
        out,
        "predicted and measured: tokens per second over plain decoding; draft cost: a drafted token / a step of the\nexpert; best k: by the prediction; measured: the fastest of that, `auto`, and a tree where one is predicted to pay,\nbest of its turns, in turn with plain decoding\n"
    )?;
    Ok(())
}

/// Why a trial is not among the fast ones.
fn reason(trial: &Trial) -> String {
    let Some(predicted) = trial.predicted else { return String::new() };
    let stats = &trial.observed.stats;
    match stats.acceptance_rate() {
        None => "it drafts nothing here".into(),
        Some(rate) if predicted.speedup < HOPELESS || predicted.k == 0 => {
            format!("does not pay: draft costs {:.2} of a step at acceptance {rate:.2}", predicted.draft_cost)
        }
        Some(_) => String::new(),
    }
}

fn object(tuning: &Tuning<'_>, trials: &[&Trial], choice: Option<&Choice>, written: Option<&Path>) -> Value {
    let trial = |trial: &&Trial| {
        let stats = &trial.observed.stats;
        let run = |run: &super::Run| {
            json!({
                "draft_length": run.drafts.length(),
                "tree": run.drafts.tree().map(|plan| plan.shape.to_string()),
                "speedup": run.speedup(),
                "tokens_per_second": run.own.tokens_per_second(),
                "tokens_per_second_without_drafts": run.plain.tokens_per_second(),
            })
        };
        json!({
            "drafter": trial.drafter,
            "rule": trial.rule,
            "acceptance_rate": stats.acceptance_rate(),
            "accepted_per_position": stats.accepted_at,
            "rounds": stats.rounds,
            "draft_cost": trial.predicted.map(|p| p.draft_cost),
            "predicted_draft_length": trial.predicted.map(|p| p.k),
            "predicted_speedup": trial.predicted.map(|p| p.speedup),
            "measured": trial.runs.iter().map(run).collect::<Vec<_>>(),
            "note": reason(trial),
        })
    };
    let points = tuning.costs.points().iter();
    json!({
        "expert": tuning.args.expert,
        "device": tuning.expert.device().to_string(),
        "weights": tuning.args.models.load_options(false).weights.name(),
        "tokens_per_second": 1.0 / tuning.step,
        "verify_cost": points.map(|point| json!({ "rows": point.rows, "cost": point.verify })).collect::<Vec<_>>(),
        "trials": trials.iter().map(trial).collect::<Vec<_>>(),
        "excluded": tuning.found.excluded,
        "interrupted": tuning.interrupt.seen(),
        "choice": choice,
        "written": written,
    })
}
