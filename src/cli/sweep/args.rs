//! What can be said of a sweep.

use super::metric::Metric;
use crate::cli::args::{ModelArgs, PartArgs, SamplingArgs};
use clap::{Args, builder::NonEmptyStringValueParser};
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct SweepArgs {
    /// Folder of the results: runs.jsonl (every text), sweep.json, sweep.csv, a picture a task. A sweep that
    /// was stopped goes on where it was
    #[arg(short = 'o', long, value_name = "DIR", help_heading = "Measuring")]
    pub(crate) out: PathBuf,
    /// Forget what is in the folder and begin anew
    #[arg(long, help_heading = "Measuring")]
    pub(crate) restart: bool,
    /// A JSONL file, which is a task of its name; may be repeated. A line has a prompt (`prompt`, `question`,
    /// `text` or `turns`) and, if there is one, a reference (`answer`, `reference`, `target` or `completion`).
    /// Without any, prompts inside the program
    #[arg(short = 'p', long, value_name = "FILE", help_heading = "Measuring")]
    pub(crate) prompts: Vec<PathBuf>,
    /// A JSONL file under another name; may be repeated
    #[arg(long, value_name = "NAME=FILE", value_parser = parse_task, help_heading = "Measuring")]
    pub(crate) task: Vec<(String, PathBuf)>,
    /// How a line becomes a prompt: {field} stands for a field of it, \n for a new line. For example
    /// "Question: {question}\nAnswer:"
    #[arg(long, value_name = "TEXT", help_heading = "Measuring")]
    pub(crate) template: Option<String>,
    /// For lines without a reference: the first N tokens are the prompt, and the text after them is the
    /// reference
    #[arg(long = "continue", value_name = "N", help_heading = "Measuring")]
    pub(crate) continue_after: Option<usize>,
    /// Use this many prompts of each task, spread evenly over the file
    #[arg(long, value_name = "N", help_heading = "Measuring")]
    pub(crate) limit: Option<usize>,
    /// Rules to measure, in a list: NAME takes all values of its dial worth measuring, NAME:DIAL=VALUE one.
    /// Besides the rules there are drafter, token-cascade and sequence-cascade. Without it, all; the
    /// expert alone is always measured
    #[arg(long, value_name = "LIST", value_parser = NonEmptyStringValueParser::new(), help_heading = "Measuring")]
    pub(crate) rules: Option<String>,
    /// What is quality, in a list; the first decides on the Pareto front, and each has its picture.
    /// Without it: last-number where all references end with a number, chrf where there are references,
    /// otherwise log-probability
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Measuring")]
    pub(crate) metric: Vec<Metric>,
    /// The model whose text is wanted: a Hugging Face folder, or `demo`
    #[arg(
        short = 'm',
        long,
        visible_alias = "model",
        value_name = "DIR",
        default_value = "demo",
        help_heading = "Models"
    )]
    pub(crate) expert: String,
    #[command(flatten)]
    pub(crate) models: ModelArgs,
    /// What drafts: a Hugging Face folder, demo or ngram. Without it: the demo drafter for the demo expert,
    /// ngram for any other
    #[arg(short = 'd', long, visible_alias = "draft-model", value_name = "DRAFTER", help_heading = "Models")]
    pub(crate) drafter: Option<String>,
    /// Tokens drafted a round at most
    #[arg(
        short = 'k',
        long = "k",
        visible_alias = "draft-max",
        value_name = "N",
        default_value_t = 5,
        help_heading = "Models"
    )]
    pub(crate) draft_length: usize,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// The most tokens to generate for each prompt
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128, help_heading = "Ending")]
    pub(crate) max_tokens: usize,
    /// End a text before this string; may be repeated
    #[arg(long, value_name = "TEXT", help_heading = "Ending")]
    pub(crate) stop: Vec<String>,
    /// Do not end at the model's end-of-text token
    #[arg(long, help_heading = "Ending")]
    pub(crate) ignore_eos: bool,
}

impl SweepArgs {
    /// The models, with a rule that nobody asks for: points have their own.
    pub(crate) fn parts(&self) -> PartArgs {
        let (expert, models) = (self.expert.clone(), self.models.clone());
        PartArgs { expert, models, rule: None, lenience: None }
    }
}

fn parse_task(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("write NAME=FILE, for example sums=sums.jsonl")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(fits) {
        return Err(format!("`{name}` names files too: use letters, digits, `-` and `_`"));
    }
    Ok((name.to_owned(), file.into()))
}
