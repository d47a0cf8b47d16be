//! `drafthorse bench --verify-cost`

use super::setting::{self, share};
use crate::cli::{
    args::BenchArgs,
    drafters::DrafterPart,
    failure::Failure,
    interrupt::Interrupt,
    json::{CostsJson, Machine},
    output::{count, numbers, table},
    parts,
};
use drafthorse::{
    Transformer,
    cost::{CostMeter, RoundCosts},
};
use indicatif::ProgressBar;
use serde::Serialize;
use std::{io::Write, sync::Arc, time::Duration};

/// Tokens in the cache before every forward, where the context has room for them.
const LENGTH: usize = 128;
/// The most rows of a forward.
const ROWS: usize = 16;
/// The longest draft a speedup is predicted for.
const LONGEST: usize = 8;
const ACCEPTANCE: [f64; 5] = [0.5, 0.6, 0.7, 0.8, 0.9];

/// Sweeps end when there are enough of them or this time is over.
const SWEEPS: usize = 20;
const TIME: Duration = Duration::from_secs(10);
const FEWEST: usize = 3;

/// What to expect of a drafter.
#[derive(Serialize)]
struct Outlook {
    drafter: String,
    #[serde(skip)]
    costs: RoundCosts,
    /// Time of a draft step / time of a forward of one row, by draft length from 1.
    draft_cost: Vec<f64>,
    /// c(m) between the drafter's steps, by rows from 1.
    verify_cost: Vec<f64>,
    predictions: Vec<Prediction>,
}

#[derive(Serialize)]
struct Prediction {
    acceptance: f64,
    /// By draft length from 1.
    speedup: Vec<f64>,
    best_k: usize,
}

#[derive(Serialize)]
struct Report<'a> {
    machine: Machine,
    expert: &'a str,
    interrupted: bool,
    costs: CostsJson,
    drafters: &'a [Outlook],
}

pub(super) fn run(
    args: &BenchArgs,
    expert: &Arc<Transformer>,
    drafters: &[DrafterPart],
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    for drafter in drafters {
        // A drafter that does not fit drafts nothing, whatever its steps would cost.
        let begun = drafter.begin(parts::Expert::alone(expert))?;
        parts::engine(begun, expert, parts::acceptance_rule(&args.parts)?, 1.into())?;
    }
    let mut meter = setting::meter(expert, drafters, LENGTH, 1..=ROWS);
    let bar = ProgressBar::new(SWEEPS as u64);
    while meter.sweeps() < SWEEPS && !interrupt.seen() {
        if meter.sweeps() >= FEWEST && meter.spent() > TIME {
            break;
        }
        meter.sweep()?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let rates = if args.acceptance.is_empty() { ACCEPTANCE.to_vec() } else { args.acceptance.clone() };
    let outlooks: Vec<_> = outlooks(&meter, drafters, &rates);
    let mut out = std::io::stdout().lock();
    if !args.json {
        return print(args, expert, &meter, &outlooks, &mut out);
    }
    let report = Report {
        machine: Machine::new(expert.device().to_string(), &args.parts.models),
        expert: &args.parts.expert,
        interrupted: interrupt.seen(),
        costs: CostsJson::new(&meter, setting::measured(drafters)),
        drafters: &outlooks,
    };
    serde_json::to_writer_pretty(&mut out, &report)?;
    Ok(writeln!(out)?)
}

/// One for each drafter; none before the first sweep.
fn outlooks(meter: &CostMeter, drafters: &[DrafterPart], rates: &[f64]) -> Vec<Outlook> {
    let mut models = 0..;
    let costs = drafters.iter().filter_map(|part| {
        let costs = match part.model() {
            None if part.is_lookup() => meter.free(),
            None => None,
            Some(_) => meter.with_drafter(models.next()?),
        };
        Some((part.name().to_owned(), costs?))
    });
    costs.map(|(drafter, costs)| outlook(drafter, costs, rates)).collect()
}

fn outlook(drafter: String, costs: RoundCosts, rates: &[f64]) -> Outlook {
    let most = costs.points().iter().map(|point| point.rows).max().unwrap_or(1);
    let lengths = 1..=LONGEST.min(most - 1);
    let predictions = rates.iter().map(|&acceptance| {
        let speedup: Vec<_> = lengths.clone().map(|k| costs.speedup(acceptance, k)).collect();
        let best = lengths.clone().zip(&speedup).max_by(|a, b| a.1.total_cmp(b.1));
        Prediction { acceptance, best_k: best.map_or(0, |(k, _)| k), speedup }
    });
    Outlook {
        drafter,
        draft_cost: (1..most).map(|k| costs.draft(k) / k as f64).collect(),
        verify_cost: (1..=most).map(|rows| costs.verify(rows)).collect(),
        predictions: predictions.collect(),
        costs,
    }
}

fn print(
    args: &BenchArgs,
    expert: &Transformer,
    meter: &CostMeter,
    outlooks: &[Outlook],
    out: &mut impl Write,
) -> Result<(), Failure> {
    writeln!(
        out,
        "expert {} on {}, weights in {}, forwards after {}, best of {}\n",
        args.parts.expert,
        expert.device(),
        format!("{:?}", expert.weight_type()).to_lowercase(),
        count(meter.length(), "token"),
        meter.sweeps()
    )?;
    let models: Vec<_> = outlooks.iter().filter(|outlook| outlook.costs.draft(1) > 0.0).collect();
    print_costs(meter, &models, out)?;
    for outlook in outlooks {
        print_predictions(outlook, out)?;
    }
    writeln!(out, "c(m) = time of a forward of m rows / of 1 row; rows/s is m / c(m), so 1 at m = 1")?;
    if !models.is_empty() {
        writeln!(
            out,
            "with a model that drafts: c(m) where m - 1 of its steps come before each forward, as in a round, and the\ncost of each of these steps (the expert's weights have to come back into the processor's caches)"
        )?;
    }
    if !outlooks.is_empty() {
        writeln!(
            out,
            "predicted speedup = (1 - a^(k+1)) / (1 - a) / (k * draft cost + c(k+1)) over plain decoding, for acceptance\nrate a and draft length k (Leviathan et al. 2023, Theorem 3.8); * marks the best k; below 1 drafting is slower"
        )?;
    }
    Ok(())
}

fn print_costs(meter: &CostMeter, models: &[&Outlook], out: &mut impl Write) -> Result<(), Failure> {
    let Some(free) = meter.free() else { return Ok(()) };
    let mut header = ["m", "ms", "c(m)", "rows/s"].map(String::from).to_vec();
    for outlook in models {
        header.extend([format!("c(m) with {}", outlook.drafter), format!("draft cost {}", outlook.drafter)]);
    }
    let rows = meter.forwards().into_iter().map(|(m, time)| {
        let cost = free.verify(m);
        let mut row = vec![
            m.to_string(),
            format!("{:.3}", time.as_secs_f64() * 1e3),
            format!("{cost:.2}"),
            format!("{:.2}", m as f64 / cost),
        ];
        for outlook in models {
            let draft = if m > 1 { format!("{:.3}", outlook.draft_cost[m - 2]) } else { "-".into() };
            row.extend([format!("{:.2}", outlook.verify_cost[m - 1]), draft]);
        }
        row
    });
    writeln!(out, "{}\n", numbers(table(header, rows), 0))?;
    Ok(())
}

fn print_predictions(outlook: &Outlook, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "predicted speedup with drafter {}\n", outlook.drafter)?;
    let lengths = outlook.predictions.first().map_or(0, |prediction| prediction.speedup.len());
    let header = ["acceptance".to_owned()].into_iter().chain((1..=lengths).map(|k| format!("k = {k}")));
    let rows = outlook.predictions.iter().map(|prediction| {
        let speedups = (1..).zip(&prediction.speedup).map(|(k, speedup)| {
            let mark = if k == prediction.best_k { "*" } else { " " };
            format!("{speedup:.2}{mark}")
        });
        [share(prediction.acceptance)].into_iter().chain(speedups).collect::<Vec<_>>()
    });
    writeln!(out, "{}\n", numbers(table(header, rows), 0))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse::cost::RowCost;

    #[test]
    fn the_best_length_is_found() {
        let points = (1..=9).map(|rows| RowCost { rows, verify: 1.0 + 0.1 * (rows - 1) as f64, draft: 0.0 });
        let costs = RoundCosts::new(points).unwrap().with_draft_cost(0.1);
        let outlook = outlook("x".into(), costs, &[0.0, 0.5, 1.0]);
        let [never, half, always] = &outlook.predictions[..] else { panic!("three rates") };
        assert_eq!((never.best_k, half.best_k, always.best_k), (1, 2, 8));
        // (1 + 0.5 + 0.25) / (2 * 0.1 + 1.2)
        assert!((half.speedup[1] - 1.25).abs() < 1e-12);
        assert!((always.speedup[7] - 9.0 / 2.6).abs() < 1e-12);
        assert!((outlook.draft_cost[5] - 0.1).abs() < 1e-12 && outlook.verify_cost.len() == 9);
    }
}
