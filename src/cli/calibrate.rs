//! `drafthorse calibrate`

use super::{
    Outcome,
    failure::Failure,
    output::{self, decimal, table},
    prompt::{file_text, standard_input},
};
use clap::Args;
use drafthorse::logits::calibration::{
    CalibrationError, Calibrator, Isotonic, Judged, Platt, Reliability, TemperatureScaling, brier, nll,
};
use serde::{Deserialize, Serialize};
use std::{io::Write, path::PathBuf, process::ExitCode};

#[derive(Args)]
pub(crate) struct CalibrateArgs {
    /// JSON lines with `confidence` (0 to 1) and `correct` (true or false), as `generate --record` writes them; `-` is
    /// the standard input
    file: PathBuf,
    /// Bins of the reliability diagrams
    #[arg(long, value_name = "N", default_value_t = 10)]
    bins: usize,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Line {
    confidence: f64,
    correct: bool,
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

/// A calibrator, fitted to all pairs, and what one fitted to every second pair makes of the others.
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

pub(crate) fn run(args: &CalibrateArgs) -> Outcome {
    let pairs = read(args)?;
    let half = |odd: usize| pairs.iter().skip(odd).step_by(2).copied().collect::<Vec<_>>();
    let (fitted, held_out) = (half(0), half(1));
    if held_out.is_empty() {
        let message = format!("{} holds one pair; at least two are needed", args.file.display());
        return Err(Failure::new(message));
    }
    let plain = Numbers::of(&held_out, args.bins).map_err(Failure::new)?;
    let mut rows = vec![Row { method: "none", calibrator: None, held_out: plain }];
    for (method, fit) in METHODS {
        let of = |error| Failure::new(format!("{method}: {error}"));
        let (half, whole) = (fit(&fitted).map_err(of)?, fit(&pairs).map_err(of)?);
        let applied: Vec<_> = held_out.iter().map(|(c, correct)| (half.apply(*c), *correct)).collect();
        let held_out = Numbers::of(&applied, args.bins).map_err(of)?;
        rows.push(Row { method, calibrator: Some(whole.to_string()), held_out });
    }
    print(args, &pairs, &rows)
}

fn print(args: &CalibrateArgs, pairs: &[Judged], rows: &[Row]) -> Outcome {
    let mut out = std::io::stdout().lock();
    if args.json {
        let object = serde_json::json!({ "pairs": pairs.len(), "bins": args.bins, "methods": rows });
        serde_json::to_writer_pretty(&mut out, &object)?;
        writeln!(out)?;
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
        "{}, {} right; numbers of every second pair, by calibrators fitted to the others; {} bins\n",
        output::count(pairs.len(), "pair"),
        pairs.iter().filter(|(_, correct)| *correct).count(),
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
    let line = |(number, line): (usize, &str)| {
        let fail = |what: String| Failure::new(format!("{} line {number}: {what}", args.file.display()));
        let Line { confidence, correct } =
            serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
        if (0.0..=1.0).contains(&confidence) {
            return Ok((confidence, correct));
        }
        Err(fail(format!("confidence {confidence} is out of range: 0 to 1")))
    };
    let pairs: Vec<_> = (1..)
        .zip(text.lines())
        .filter(|(_, text)| !text.trim().is_empty())
        .map(line)
        .collect::<Result<_, _>>()?;
    if pairs.is_empty() {
        return Err(Failure::new(format!("{} holds no pairs", args.file.display())));
    }
    Ok(pairs)
}
