//! The command line of drafthorse.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
