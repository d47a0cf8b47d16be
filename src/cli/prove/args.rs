//! What can be said to `drafthorse prove`.

use crate::cli::args::{ModelArgs, parse_rule};
use clap::Args;
use drafthorse::SamplingOptions;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct ProveArgs {
    /// The expert: a Hugging Face folder, or `demo`
    pub(crate) expert: String,
    /// The drafter: a Hugging Face folder, `demo`, or `ngram`
    pub(crate) drafter: String,
    #[command(flatten)]
    pub(crate) models: ModelArgs,
    /// A rule to prove: NAME, or NAME:DIAL=VALUE,... ; may be repeated. Without it: every lossless rule. Of others
    /// it is proved that texts follow the law they state
    #[arg(long, value_name = "RULE", value_parser = parse_rule, help_heading = "Proof")]
    pub(crate) rule: Vec<String>,
    /// Draft lengths, in a list
    #[arg(short = 'k', long = "k", visible_alias = "draft-max", value_name = "LIST", value_delimiter = ',', default_values_t = [1, 3, 5], help_heading = "Proof")]
    pub(crate) draft_lengths: Vec<usize>,
    /// Prompts: a JSONL file with `turns`, `prompt`, `question` or `text` in each line; without it, prompts
    /// inside the program
    #[arg(short = 'p', long, value_name = "FILE", help_heading = "Proof")]
    pub(crate) prompts: Option<PathBuf>,
    /// Use this many prompts, spread evenly over the file
    #[arg(long, value_name = "N", help_heading = "Proof")]
    pub(crate) limit: Option<usize>,
    /// Tokens of each text that is compared token by token
    #[arg(short = 'n', long, value_name = "N", default_value_t = 64, help_heading = "Proof")]
    pub(crate) max_tokens: usize,
    /// Texts drawn after a prefix for its laws; with k above 1 a share 1/2k of them. More of them find smaller
    /// mistakes
    #[arg(long, value_name = "N", default_value_t = 20_000, help_heading = "Proof")]
    pub(crate) seeds: u64,
    /// Prefixes after which laws are tested: the prompts and parts of texts where a wrong law shows best
    #[arg(long, value_name = "N", default_value_t = 2, help_heading = "Proof")]
    pub(crate) prefixes: usize,
    /// The probability with which a right engine may fail any of the tests
    #[arg(long, value_name = "P", default_value_t = 0.001, help_heading = "Proof")]
    pub(crate) level: f64,
    /// The first seed
    #[arg(short = 's', long, value_name = "N", default_value_t = 1, help_heading = "Proof")]
    pub(crate) seed: u64,
    /// Temperature of the sampled texts; greedy ones are tested anyway
    #[arg(
        short = 't',
        long,
        visible_alias = "temp",
        value_name = "T",
        default_value_t = 1.0,
        help_heading = "Proof"
    )]
    pub(crate) temperature: f32,
    /// Of the sampled texts: keep this many most probable tokens; 0 is off
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Proof")]
    pub(crate) top_k: usize,
    /// Of the sampled texts: keep the most probable tokens up to this mass; 1 is off
    #[arg(long, value_name = "P", default_value_t = 1.0, help_heading = "Proof")]
    pub(crate) top_p: f64,
    /// Of the sampled texts: keep tokens at least this share as probable as the most probable; 0 is off
    #[arg(long, value_name = "P", default_value_t = 0.0, help_heading = "Proof")]
    pub(crate) min_p: f64,
    /// One JSON object with every single test instead of a table
    #[arg(long, help_heading = "Proof")]
    pub(crate) json: bool,
}

impl ProveArgs {
    pub(crate) fn sampling(&self) -> SamplingOptions {
        let Self { temperature, top_k, top_p, min_p, .. } = *self;
        SamplingOptions { temperature, top_k, top_p, min_p, ..SamplingOptions::default() }
    }
}
