//! `drafthorse beam`

use super::{
    Outcome,
    args::{LoneArgs, parse_limit},
    json,
    laws::LawArgs,
    output::{self, decimal, table},
    parts,
    prompt::PromptArgs,
};
use clap::{Args, ValueEnum};
use drafthorse::{
    Engine,
    engine::{BeamSearch, BeamText, BeamTexts, EarlyStopping},
};
use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

#[derive(Args)]
pub(crate) struct BeamArgs {
    #[command(flatten)]
    input: PromptArgs,
    #[command(flatten)]
    model: LoneArgs,
    #[command(flatten)]
    law: LawArgs,
    /// Unfinished texts kept at each step; 1 is greedy decoding
    #[arg(short = 'b', long, visible_alias = "num-beams", value_name = "N", default_value_t = 4)]
    beams: usize,
    /// Texts to print, at most as many as there are beams
    #[arg(long, alias = "num-return-sequences", value_name = "N", default_value_t = 1)]
    best: usize,
    /// Score texts by sum / length^X: 1 is the mean log-probability of a token, 0 the sum
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    length_penalty: f64,
    /// When the search ends
    #[arg(long, value_enum, value_name = "WHEN", default_value = "likely")]
    early_stopping: When,
    /// The most tokens of a text; -1 goes on until the context is full
    #[arg(short = 'n', long, visible_alias = "n-predict", value_name = "N", default_value = "128", value_parser = parse_limit, allow_negative_numbers = true)]
    max_tokens: usize,
    /// Do not end at the model's end-of-text token
    #[arg(long)]
    ignore_eos: bool,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum When {
    /// As soon as as many texts are complete as there are beams
    First,
    /// When no beam scores above the worst of them as it is
    Likely,
    /// When no beam can come to score above the worst of them
    Certain,
}

impl From<When> for EarlyStopping {
    fn from(when: When) -> Self {
        match when {
            When::First => Self::First,
            When::Likely => Self::Likely,
            When::Certain => Self::Certain,
        }
    }
}

pub(crate) fn run(args: &BeamArgs) -> Outcome {
    let expert = args.model.open()?;
    let (prompt, _) = args.input.read(&expert, &args.model.name)?;
    let law = args.law.open(&args.model.models())?;
    let mut builder = law.give(Engine::builder(), &expert)?;
    if let Some(tokenizer) = expert.tokenizer() {
        builder = builder.detokenizer(tokenizer.clone());
    }
    let options = BeamSearch {
        beams: args.beams,
        length_penalty: args.length_penalty,
        early_stopping: args.early_stopping.into(),
        best: args.best,
        max_tokens: args.max_tokens,
        stop_tokens: parts::stop_tokens(&expert, args.ignore_eos),
        ..BeamSearch::default()
    };
    let found = builder.build()?.beam_search(&prompt, &options)?;
    print(args, &found, expert.tokenizer().is_some())
}

/// A text as it is printed: as ids where the model has no tokenizer.
fn words(text: &BeamText, has_text: bool) -> String {
    if has_text {
        return text.text.clone();
    }
    text.tokens.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Columns that a table's text may take on a terminal, where the terminal does not say.
const COLUMNS: usize = 100;

/// A text on one line, cut to the width of the terminal.
fn line(text: &str) -> String {
    let quoted = text.chars().flat_map(|c| match c {
        '"' | '\'' => vec![c],
        c => c.escape_debug().collect(),
    });
    if !std::io::stdout().is_terminal() {
        return quoted.collect();
    }
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(COLUMNS);
    let room = width.saturating_sub(NUMBERS).max(20);
    let letters: Vec<_> = quoted.collect();
    if letters.len() <= room {
        return letters.into_iter().collect();
    }
    letters[..room - 1].iter().chain(&['…']).collect()
}

/// Columns of the numbers before the text.
const NUMBERS: usize = 40;

fn print(args: &BeamArgs, found: &BeamTexts, has_text: bool) -> Outcome {
    let mut out = std::io::stdout().lock();
    if args.json {
        let text = |text: &BeamText| {
            serde_json::json!({
                "text": has_text.then_some(&text.text), "tokens": text.tokens, "log_probability": text.log_probability, "score": text.score,
                "finish": json::finish(Some(&text.finish)),
            })
        };
        let texts: Vec<_> = found.texts.iter().map(text).collect();
        let object = serde_json::json!({ "texts": texts, "passes": found.passes, "rows": found.rows });
        json::print(&object)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let [only] = &found.texts[..] {
        writeln!(out, "{}", words(only, has_text))?;
    } else {
        let row = |text: &BeamText| {
            let numbers = [text.score, text.log_probability].map(|x| decimal(Some(x), 4));
            [&numbers[..], &[text.tokens.len().to_string(), line(&words(text, has_text))]].concat()
        };
        let header = ["score", "log-probability", "tokens", "text"];
        writeln!(out, "{}", table(header, found.texts.iter().map(row)))?;
    }
    let best = &found.texts[0];
    output::note(&format!(
        "score {:.4}, log-probability {:.4} of {} | {}, no drafts | the expert read {} in {} steps",
        best.score,
        best.log_probability,
        output::count(best.tokens.len(), "token"),
        output::count(args.beams, "beam"),
        output::count(found.rows as usize, "token"),
        found.passes,
    ));
    Ok(ExitCode::SUCCESS)
}
