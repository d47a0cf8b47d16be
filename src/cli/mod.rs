//! The command line: one file a command, and what they share.

mod args;
mod bench;
mod check;
mod completions;
mod devices;
mod failure;
mod generate;
mod interrupt;
mod json;
mod output;
mod parts;
mod prompts;

use args::{Cli, Command};
use clap::Parser;
use failure::Failure;
use std::{ffi::OsString, process::ExitCode};

/// Parses the arguments and runs the command.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse_from(std::env::args_os().map(known_spelling));
    let result = match &cli.command {
        Command::Generate(args) => generate::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Check(args) => check::run(args),
        Command::Devices => devices::run(),
        Command::Completions(args) => completions::run(args),
    };
    result.unwrap_or_else(Failure::report)
}

/// `-md`, as users of llama.cpp write it, is a short option of two letters, which the parser would read
/// as `-m d`.
fn known_spelling(argument: OsString) -> OsString {
    if argument == "-md" { "--drafter".into() } else { argument }
}

/// What a command ends with.
type Outcome = Result<ExitCode, Failure>;
