//! What can be said to `drafthorse inspect`.

use crate::cli::{
    args::{DraftingArgs, PartArgs, SamplingArgs, parse_limit},
    laws::LawArgs,
    prompt::PromptArgs,
};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) input: PromptArgs,
    #[command(flatten)]
    pub(crate) parts: PartArgs,
    #[command(flatten)]
    pub(crate) drafting: DraftingArgs,
    #[command(flatten)]
    pub(crate) law: LawArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// Generate up to N tokens after the prompt, and look at them too; -1 goes on until the context is full
    #[arg(short = 'n', long, visible_alias = "n-predict", value_name = "N", value_parser = parse_limit, allow_negative_numbers = true, help_heading = "Looking")]
    pub(crate) generate: Option<usize>,
    /// Do not end at the model's end-of-text token
    #[arg(long, requires = "generate", help_heading = "Looking")]
    pub(crate) ignore_eos: bool,
    /// Show the last N tokens
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Looking")]
    pub(crate) last: u32,
    /// Do not look at the expert's layers, which takes a head's work for each of them
    #[arg(long, help_heading = "Looking")]
    pub(crate) no_layers: bool,
    /// For the reliability diagram: a JSONL file with `confidence` (0 to 1) and `correct` (true or false) in each
    /// line. Without it, the expert's most probable tokens against those of the prompt
    #[arg(long, value_name = "FILE", help_heading = "Looking")]
    pub(crate) calibration: Option<PathBuf>,
    /// Write a page to look at: one file, which loads nothing from anywhere
    #[arg(short = 'o', long, value_name = "FILE", help_heading = "Output")]
    pub(crate) html: Option<PathBuf>,
    /// One JSON object with all numbers
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}
