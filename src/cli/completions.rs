//! `drafthorse completions`

use super::{
    Outcome,
    args::{Cli, CompletionArgs},
};
use clap::CommandFactory;
use std::{io::Write, process::ExitCode};

pub(crate) fn run(args: &CompletionArgs) -> Outcome {
    // Written at once: the generator itself panics where nobody reads.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "drafthorse", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
