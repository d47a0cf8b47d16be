//! What can be said to `drafthorse bench`.

use super::setting::{Lengths, Synthetic};
use crate::cli::args::{PartArgs, SamplingArgs};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Prompts: a JSONL file with `turns`, `prompt`, `question` or `text` in each line; without it, prompts
    /// inside the program
    #[arg(short = 'p', long, value_name = "FILE", help_heading = "Measuring")]
    pub(crate) prompts: Option<PathBuf>,
    /// Use this many prompts, spread evenly over the file
    #[arg(long, value_name = "N", help_heading = "Measuring")]
    pub(crate) limit: Option<usize>,
    /// Measure what a forward of 1 to 16 rows costs, and predict speedups by acceptance rate and draft length
    #[arg(
        long,
        help_heading = "Measuring",
        conflicts_with_all = ["prompts", "limit", "synthetic", "draft_lengths", "max_tokens", "repetitions", "rule", "lenience", "SamplingArgs"]
    )]
    pub(crate) verify_cost: bool,
    /// Acceptance rates to predict speedups for, in a list; without it .5, .6, .7, .8 and .9
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = parse_rate,
        requires = "verify_cost",
        help_heading = "Measuring"
    )]
    pub(crate) acceptance: Vec<f64>,
    #[command(flatten)]
    pub(crate) parts: PartArgs,
    /// What drafts, in a list: folders, demo, ngram. Without it: demo and ngram for the demo expert, ngram for
    /// any other. Plain decoding (none, k = 0) is always measured
    #[arg(
        short = 'd',
        long,
        visible_alias = "draft-model",
        value_name = "LIST",
        value_delimiter = ',',
        help_heading = "Models"
    )]
    pub(crate) drafter: Vec<String>,
    /// Also a drafter that is right with probability ACCEPTANCE and takes COST (0.05) of an expert's step for
    /// each token, in a list: measures the engine, not a drafter. Alone, it replaces the usual drafters
    #[arg(long, value_name = "ACCEPTANCE[:COST]", value_delimiter = ',', help_heading = "Models")]
    pub(crate) synthetic: Vec<Synthetic>,
    /// Draft lengths, in a list: numbers, auto, confidence:P, entropy:H
    #[arg(short = 'k', long = "k", visible_aliases = ["draft-max", "draft-length"], value_name = "LIST", default_value = "auto,1,2,3,4,8", help_heading = "Models")]
    pub(crate) draft_lengths: Vec<Lengths>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// Tokens to generate for each prompt; end-of-text tokens are ignored, so that all runs are equally long
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128, help_heading = "Measuring")]
    pub(crate) max_tokens: usize,
    /// How often everything is measured
    #[arg(short = 'r', long, value_name = "N", default_value_t = 3, help_heading = "Measuring")]
    pub(crate) repetitions: usize,
    /// Also a table for every family of prompts (`category` in the file)
    #[arg(long, help_heading = "Measuring")]
    pub(crate) by_category: bool,
    /// One JSON object with every single value instead of a table
    #[arg(long, help_heading = "Measuring")]
    pub(crate) json: bool,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.0..=1.0).contains(rate));
    rate.ok_or_else(|| "an acceptance rate is a number from 0 to 1, for example 0.8".into())
}
