//! The command line: one file a command, and what they share.

mod args;
mod beam;
mod bench;
mod calibrate;
mod check;
mod classify;
mod completions;
mod confidence;
mod config;
mod devices;
mod drafters;
mod failure;
mod generate;
mod grammar;
mod guidance;
mod inspect;
mod interrupt;
mod json;
mod laws;
mod output;
mod pairs;
mod parts;
mod prompt;
mod prompts;
mod prove;
mod rules;
mod sampling;
mod score;
mod sweep;
mod tune;

use args::{Cli, Command};
use clap::Parser;
use failure::Failure;
use std::{ffi::OsString, process::ExitCode};

/// Parses the arguments and runs the command.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse_from(known_spelling(std::env::args_os()));
    let result = match cli.command {
        Command::Generate(args) => generate::run(*args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Score(args) => score::run(&args),
        Command::Classify(args) => classify::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Prove(args) => prove::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Sweep(args) => sweep::run(&args),
        Command::Beam(args) => beam::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Rules(args) => rules::run(&args),
        Command::Devices => devices::run(),
        Command::Completions(args) => completions::run(&args),
    };
    result.unwrap_or_else(Failure::report)
}

/// `-md`, as users of llama.cpp write it, is a short option of two letters, which the parser would read
/// as `-m d`. What stands behind `--` is no option.
fn known_spelling(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut options = true;
    let spelling = |argument: OsString| {
        options &= argument != *"--";
        match argument.to_str() {
            Some("-md") if options => "--drafter".into(),
            Some(text) if options && text.starts_with("-md=") => text.replacen("-md", "--drafter", 1).into(),
            _ => argument,
        }
    };
    arguments.map(spelling).collect()
}

/// What a command ends with.
type Outcome = Result<ExitCode, Failure>;
