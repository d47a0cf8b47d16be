//! What can be said to `drafthorse tune`.

use crate::cli::{
    args::{ModelArgs, SamplingArgs, parse_rule},
    config::ConfigArgs,
};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct TuneArgs {
    /// The model whose text is wanted: a Hugging Face folder, demo, or bench-134m
    pub(crate) expert: String,
    /// Drafters to try, in a list: folders, and the names that generate takes. Without it: ngram, suffix and memory, the
    /// expert's own layers, and every model found that fits
    #[arg(short = 'd', long, value_name = "LIST", value_delimiter = ',', help_heading = "Trying")]
    pub(crate) drafter: Vec<String>,
    /// Look for models to draft in this folder and the folders in it; may be repeated. Without it, beside the expert
    #[arg(long = "search", value_name = "DIR", conflicts_with = "drafter", help_heading = "Trying")]
    pub(crate) folders: Vec<PathBuf>,
    /// Rules to try, in a list. Without it: lossless; when sampling also block. Rules that are not lossless buy speed
    /// with fidelity, and are tried only if they are named
    #[arg(long, value_name = "LIST", value_parser = parse_rules, help_heading = "Trying")]
    pub(crate) rules: Option<Rules>,
    /// Seconds for each drafter with each rule
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = parse_seconds, help_heading = "Trying")]
    pub(crate) seconds: f64,
    /// The longest draft to try
    #[arg(short = 'k', long = "k", visible_alias = "draft-max", value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Trying")]
    pub(crate) longest: u16,
    /// Prompts like those to come: a JSONL file with `turns`, `prompt`, `question` or `text` in each line; without
    /// it, prompts inside the program
    #[arg(short = 'p', long, value_name = "FILE", help_heading = "Trying")]
    pub(crate) prompts: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) models: ModelArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Only say what was found, and write nothing
    #[arg(long, help_heading = "Output")]
    pub(crate) dry_run: bool,
    /// One JSON object instead of a table
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Rules in a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules(pub(crate) Vec<String>);

/// Between commas or semicolons; what has a value and no name is a dial of the rule before it.
fn parse_rules(text: &str) -> Result<Rules, String> {
    let mut rules: Vec<String> = Vec::new();
    for item in text.split([',', ';']).map(str::trim) {
        match rules.last_mut() {
            Some(rule) if item.contains('=') && !item.contains(':') => {
                rule.push(',');
                rule.push_str(item);
            }
            _ => rules.push(item.to_owned()),
        }
    }
    rules.iter().try_for_each(|rule| parse_rule(rule).map(drop))?;
    Ok(Rules(rules))
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "seconds are a number from 0.1 to 3600, for example 10".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_rules_keep_their_dials() {
        let rules = |text: &str| parse_rules(text).map(|rules| rules.0);
        assert_eq!(rules("lossless, block").unwrap(), ["lossless", "block"]);
        assert_eq!(
            rules("typical:threshold=0.09,alpha=0.3,block").unwrap(),
            ["typical:threshold=0.09,alpha=0.3", "block"]
        );
        assert!(rules("lossless,wishful").is_err() && rules("").is_err());
    }
}
