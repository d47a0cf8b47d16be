//! `drafthorse calibrate`

use super::{
    Outcome,
    failure::Failure,
    json,
    output::{self, decimal, table},
    pairs,
    prompt::{file_text, standard_input},
};
use clap::Args;
use drafthorse::logits::calibration::{
    CalibrationError, Calibrator, Isotonic, Judged, Platt, Reliability, TemperatureScaling, brier, nll,
};
use serde::Serialize;
use std::{io::Write, path::PathBuf, process::ExitCode};

#[derive(Args)]
pub(crate) struct CalibrateArgs {
    /// JSON lines with `confidence` (0 to 1) and `correct` (true or false); `-` is the standard input. `generate
    /// --record` writes those for --draft-calibrator, `score --record` those for --expert-calibrator and
    /// --abstain-calibrator
    file: PathBuf,
    /// Bins of the reliability diagrams, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    bins: u16,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// How good confidences are.
#[derive(Serialize)]
struct Numbers {
    ece: f64,
    ece_equal_mass: f64,
    mce: f64,
    brier: f64,
    nll: f64,
}

impl Numbers {
    fn of(pairs: &[Judged], bins: usize) -> Result<Self, CalibrationError> {
        let width = Reliability::equal_width(pairs, bins)?;
        Ok(Self {
            ece: width.ece(),
            ece_equal_mass: Reliability::equal_mass(pairs, bins)?.ece(),
            mce: width.mce(),
            brier: brier(pairs)?,
            nll: nll(pairs)?,
        })
    }
}

/// A calibrator, fitted to all pairs, and what one fitted to every second block of pairs makes of the others.
#[derive(Serialize)]
struct Row {
    method: &'static str,
    calibrator: Option<String>,
    held_out: Numbers,
}

type Fit = fn(&[Judged]) -> Result<Calibrator, CalibrationError>;

const METHODS: [(&str, Fit); 3] = [
    ("temperature", |pairs| TemperatureScaling::fit(pairs).map(Calibrator::Temperature)),
    ("platt", |pairs| Platt::fit(pairs).map(Calibrator::Platt)),
    ("isotonic", |pairs| Isotonic::fit(pairs).map(Calibrator::Isotonic)),
];

/// Pairs in a row that are fitted to or held out together. Neighbours are of one text and alike: taken in turn, what is
/// held out would be nearly what was fitted.
const BLOCK: usize = 64;

/// Every second block of pairs, the others, and how long a block is: few pairs are two halves.
fn split(pairs: &[Judged]) -> (Vec<Judged>, Vec<Judged>, usize) {
    let block = pairs.len().div_ceil(2).clamp(1, BLOCK);
    let of = |odd: usize| pairs.chunks(block).skip(odd).step_by(2).flatten().copied().collect();
    (of(0), of(1), block)
}

pub(crate) fn run(args: &CalibrateArgs) -> Outcome {
    let pairs = read(args)?;
    let (fitted, held_out, block) = split(&pairs);
    let bins = usize::from(args.bins);
    if held_out.is_empty() {
        let message = format!("{} holds one pair; at least two are needed", args.file.display());
        return Err(Failure::new(message));
    }
    let plain = Numbers::of(&held_out, bins).map_err(Failure::new)?;
    let mut rows = vec![Row { method: "none", calibrator: None, held_out: plain }];
    for (method, fit) in METHODS {
        let of = |error| Failure::new(format!("{method}: {error}"));
        let (half, whole) = (fit(&fitted).map_err(of)?, fit(&pairs).map_err(of)?);
        let applied: Vec<_> = held_out.iter().map(|(c, correct)| (half.apply(*c), *correct)).collect();
        let held_out = Numbers::of(&applied, bins).map_err(of)?;
        rows.push(Row { method, calibrator: Some(whole.to_string()), held_out });
    }
    print(args, &pairs, block, &rows)
}

fn print(args: &CalibrateArgs, pairs: &[Judged], block: usize, rows: &[Row]) -> Outcome {
    let mut out = std::io::stdout().lock();
    if args.json {
        let object =
            serde_json::json!({ "pairs": pairs.len(), "block": block, "bins": args.bins, "methods": rows });
        json::print(&object)?;
        return Ok(ExitCode::SUCCESS);
    }
    let numbers = |row: &Row| {
        let n = &row.held_out;
        let values = [n.ece, n.ece_equal_mass, n.mce, n.brier, n.nll].map(|x| decimal(Some(x), 4));
        [&[row.method.to_owned()][..], &values].concat()
    };
    let header = ["calibrator", "ECE", "ECE, equal mass", "MCE", "Brier", "NLL"];
    writeln!(out, "{}\n", output::numbers(table(header, rows.iter().map(numbers)), 1))?;
    writeln!(
        out,
        "{}, {} right; numbers of every second block of {}, by calibrators fitted to the others; {} bins\n",
        output::count(pairs.len(), "pair"),
        pairs.iter().filter(|(_, correct)| *correct).count(),
        output::count(block, "pair"),
        args.bins
    )?;
    let best = rows.iter().min_by(|a, b| a.held_out.nll.total_cmp(&b.held_out.nll));
    match best.and_then(|row| Some((row.method, row.calibrator.as_ref()?))) {
        Some((method, calibrator)) => {
            writeln!(out, "lowest NLL: {method}, fitted to all pairs:\n{calibrator}")?;
        }
        None => writeln!(out, "no calibrator has a lower NLL than the confidences as they are")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(args: &CalibrateArgs) -> Result<Vec<Judged>, Failure> {
    let text = if args.file.as_os_str() == "-" {
        standard_input("no pairs: name a file, or send them to the standard input")?
    } else {
        file_text(&args.file)?
    };
    let pairs = pairs::parse(&args.file, &text)?;
    if pairs.is_empty() {
        return Err(Failure::new(format!("{} holds no pairs", args.file.display())));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_stay_together() {
        for (pairs, block, first, second) in
            [(1, 1, 1, 0), (2, 1, 1, 1), (7, 4, 4, 3), (127, 64, 64, 63), (200, 64, 128, 72)]
        {
            let all: Vec<Judged> = (0..pairs).map(|at| (f64::from(at), true)).collect();
            let (fitted, held_out, length) = split(&all);
            assert_eq!((length, fitted.len(), held_out.len()), (block, first, second), "{pairs} pairs");
            let block_of = |pair: &Judged| pair.0 as usize / block;
            assert!(fitted.iter().all(|pair| block_of(pair) % 2 == 0));
            assert!(held_out.iter().all(|pair| block_of(pair) % 2 == 1));
        }
    }
}
