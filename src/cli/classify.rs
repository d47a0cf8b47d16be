//! `drafthorse classify`

use super::{
    Outcome,
    args::LoneArgs,
    failure::Failure,
    json,
    output::{self, decimal, numbers, table},
    parts,
    prompt::TextArgs,
};
use clap::{Args, ValueEnum};
use drafthorse::{
    Transformer,
    classify::{Classification, Normalize, Question, classify},
    model::CachedModel,
};
use serde_json::json;
use std::{io::Write, process::ExitCode, sync::Arc};

#[derive(Args)]
pub(crate) struct ClassifyArgs {
    #[command(flatten)]
    input: TextArgs,
    #[command(flatten)]
    model: LoneArgs,
    /// The labels, in a list
    #[arg(
        short = 'l',
        long,
        value_name = "LIST",
        value_delimiter = ',',
        required = true,
        help_heading = "Labels"
    )]
    labels: Vec<String>,
    /// Stands between prompt and label; without it a space, or nothing after white space
    #[arg(long, value_name = "TEXT", help_heading = "Labels")]
    separator: Option<String>,
    /// The label must be all: the model's end-of-text token belongs to it. Without it, a label that begins another
    /// is at least as probable
    #[arg(long, help_heading = "Labels")]
    end: bool,
    /// What is compared: the sum of a label's log-probabilities, their mean over its tokens, the sum over its bytes,
    /// or the sum less that after the premise
    #[arg(long, value_enum, default_value = "sum", help_heading = "Labels")]
    normalize: Normalization,
    /// With --normalize pmi: a text that asks nothing, in the place of the prompt. Without it, the beginning of a text
    #[arg(long, value_name = "TEXT", help_heading = "Labels")]
    premise: Option<String>,
    /// One JSON object instead of a table
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Normalization {
    Sum,
    Tokens,
    Bytes,
    Pmi,
}

impl From<Normalization> for Normalize {
    fn from(normalization: Normalization) -> Self {
        match normalization {
            Normalization::Sum => Self::Sum,
            Normalization::Tokens => Self::Tokens,
            Normalization::Bytes => Self::Bytes,
            Normalization::Pmi => Self::Pmi,
        }
    }
}

pub(crate) fn run(args: &ClassifyArgs) -> Outcome {
    if args.premise.is_some() && args.normalize != Normalization::Pmi {
        return Err(Failure::new("--premise is for --normalize pmi; leave it out, or add that"));
    }
    let prompt = args.input.read()?;
    let model = args.model.open()?;
    let tokenizer = model.tokenizer().ok_or_else(|| {
        Failure::new(format!("{} has no tokenizer.json, and labels are text", args.model.name))
    })?;
    let usual = Question::new(&prompt, &args.labels);
    let question = Question {
        separator: args.separator.as_deref().unwrap_or(usual.separator),
        end: end(args, &model)?,
        normalize: args.normalize.into(),
        premise: args.premise.as_deref().unwrap_or(""),
        ..usual
    };
    let mut cached = CachedModel::new(model.clone());
    let answer = classify(&mut cached, &|text| tokenizer.encode(text), &question)?;
    if let Some((short, long)) = answer.prefix() {
        output::note(&format!(
            "label `{}` begins label `{}`: its probability holds that of the longer one; with --end each is the whole answer",
            short.label, long.label
        ));
    }
    if args.json { print_json(args, &model, &answer) } else { print(&answer) }
}

fn end(args: &ClassifyArgs, model: &Arc<Transformer>) -> Result<Option<u32>, Failure> {
    if !args.end {
        return Ok(None);
    }
    let end = parts::stop_tokens(model, false).first().copied();
    let missing = || Failure::new(format!("--end: {} names no token that ends a text", args.model.name));
    end.map(Some).ok_or_else(missing)
}

fn print(answer: &Classification) -> Outcome {
    let mut labels: Vec<_> = answer.labels.iter().collect();
    labels.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let row = |label: &&drafthorse::classify::Label| {
        [
            label.label.clone(),
            decimal(Some(label.probability), 4),
            decimal(Some(label.score), 4),
            decimal(Some(label.log_prob), 4),
            label.tokens.len().to_string(),
        ]
    };
    let header = ["label", "probability", "score", "log-probability (nats)", "tokens"];
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", numbers(table(header, labels.iter().map(row)), 1))?;
    if answer.merged_tokens > 0 {
        output::note(&format!(
            "a label shares a token with the end of the prompt: {} counted for every label",
            if answer.merged_tokens == 1 {
                "the prompt's last token is".into()
            } else {
                format!("the prompt's last {} tokens are", answer.merged_tokens)
            }
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(args: &ClassifyArgs, model: &Transformer, answer: &Classification) -> Outcome {
    let object = json!({
        "best": answer.best().map(|label| &label.label),
        "normalize": answer.normalize,
        "labels": answer.labels,
        "shared_tokens": answer.shared_tokens,
        "merged_tokens": answer.merged_tokens,
        "end": args.end,
        "model": args.model.name,
        "version": env!("CARGO_PKG_VERSION"),
        "device": model.device().to_string(),
        "weights": model.weight_type().name(),
    });
    json::print(&object)?;
    Ok(ExitCode::SUCCESS)
}
