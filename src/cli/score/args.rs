//! What can be said to `drafthorse score`.

use crate::cli::{args::LoneArgs, prompt::Tokens, prompt::parse_tokens};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct ScoreArgs {
    /// The text: a file, or - for the standard input; of a file named *.jsonl each line is an object with a text
    /// `text`. Without it, the standard input
    #[arg(conflicts_with_all = ["prompt", "tokens"])]
    pub(crate) file: Option<PathBuf>,
    /// The text itself
    #[arg(
        short = 'p',
        long = "text",
        visible_alias = "prompt",
        value_name = "TEXT",
        conflicts_with = "tokens"
    )]
    pub(crate) prompt: Option<String>,
    /// Token ids instead of text, separated by commas or spaces; works for folders without a tokenizer
    #[arg(long, value_name = "IDS", value_parser = parse_tokens)]
    pub(crate) tokens: Option<Tokens>,
    #[command(flatten)]
    pub(crate) model: LoneArgs,
    /// The most tokens read before the one that is scored; without it, the model's context
    #[arg(short = 'c', long, visible_alias = "ctx-size", value_name = "N", help_heading = "Windows")]
    pub(crate) context: Option<usize>,
    /// How much later each window begins, and tokens scored in it; without it, half the window
    #[arg(long, value_name = "N", help_heading = "Windows")]
    pub(crate) stride: Option<usize>,
    /// Put the model's opening token before texts to which the tokenizer adds none, so that their first token is
    /// scored too
    #[arg(long, help_heading = "Windows")]
    pub(crate) bos: bool,
    /// Add to FILE, for each token scored, a line with the model's highest probability and whether its most probable token
    /// was the one that came: from it `drafthorse calibrate` fits what --expert-calibrator and --abstain-calibrator of
    /// `generate` want
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) record: Option<PathBuf>,
    /// One JSON object with the log-probability of every token instead of a table
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}
