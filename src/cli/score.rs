//! `drafthorse score`

pub(crate) mod args;

use super::{
    Outcome,
    failure::Failure,
    json,
    output::{self, count, decimal, numbers, table},
    pairs::{self, Whose},
    prompt,
};
use args::ScoreArgs;
use drafthorse::{
    TokenId, Transformer,
    inspect::pieces,
    model::CachedModel,
    score::{Summary, TokenScore, Windows, score},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{io::Write, path::Path, process::ExitCode};

/// A text before it is scored.
struct Text {
    name: String,
    tokens: Vec<TokenId>,
    /// What becomes readable with each token; nothing without a tokenizer.
    pieces: Vec<String>,
    /// Bytes of the text; 0 without a tokenizer.
    bytes: usize,
}

/// A text with its scores.
struct Scored {
    text: Text,
    scores: Vec<TokenScore>,
    summary: Summary,
}

pub(crate) fn run(args: &ScoreArgs) -> Outcome {
    let model = args.model.open()?;
    let windows = windows(args, &model)?;
    let (mut cached, mut scored) = (CachedModel::new(model.clone()), Vec::new());
    for text in texts(args, &model)? {
        if text.tokens.len() < 2 {
            output::note(&format!(
                "left out: {} has {} and none to score",
                text.name,
                count(text.tokens.len(), "token")
            ));
            continue;
        }
        let scores = score(&mut cached, &text.tokens, windows)?;
        let first = text.pieces.first().map_or(0, String::len);
        let summary = Summary::new(&scores, text.bytes.saturating_sub(first));
        scored.push(Scored { text, scores, summary });
    }
    if scored.is_empty() {
        return Err(Failure::new("nothing is left to score: a text needs at least two tokens"));
    }
    if let Some(path) = &args.record {
        let scores = scored.iter().flat_map(|scored| &scored.scores);
        let pairs: Vec<_> = scores.map(|score| (score.max_probability, score.best == score.token)).collect();
        pairs::append(path, &pairs, Whose::Expert)?;
    }
    if args.json { print_json(args, &model, windows, &scored) } else { print(windows, &scored) }
}

fn windows(args: &ScoreArgs, model: &Transformer) -> Result<Windows, Failure> {
    let longest = model.config().context_len;
    let context = args.context.unwrap_or(longest);
    if context > longest {
        return Err(Failure::new(format!(
            "--context {context} is more than the model's context of {longest}; give at most {longest}"
        )));
    }
    Ok(Windows::new(context, args.stride.unwrap_or(context.div_ceil(2)))?)
}

fn texts(args: &ScoreArgs, model: &Transformer) -> Result<Vec<Text>, Failure> {
    if let Some(tokens) = &args.tokens {
        let tokens = tokens.0.clone();
        let pieces =
            model.tokenizer().map(|tokenizer| pieces(tokenizer, &tokens)).transpose()?.unwrap_or_default();
        let bytes = pieces.iter().map(String::len).sum();
        return Ok(vec![opened(args, model, Text { name: "--tokens".into(), tokens, pieces, bytes })?]);
    }
    let Some(tokenizer) = model.tokenizer() else {
        return Err(Failure::new(format!(
            "{} has no tokenizer.json; give token ids with --tokens 1,2,3",
            args.model.name
        )));
    };
    let text = |(name, text): (String, String)| {
        let tokens = tokenizer.encode(&text)?;
        let text = Text { name, pieces: pieces(tokenizer, &tokens)?, tokens, bytes: text.len() };
        opened(args, model, text)
    };
    sources(args)?.into_iter().map(text).collect()
}

/// The texts with their names.
fn sources(args: &ScoreArgs) -> Result<Vec<(String, String)>, Failure> {
    match (&args.prompt, &args.file) {
        (Some(text), _) => Ok(vec![("the text".into(), text.clone())]),
        (None, Some(file)) if file.as_os_str() != "-" => {
            let (name, text) =
                (file.display().to_string(), prompt::file_or_hint(file, "a text goes with -p TEXT")?);
            let lines = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
            if lines { json_lines(file, &text) } else { Ok(vec![(name, text)]) }
        }
        _ => {
            let missing = "no text: give a file, a text with -p TEXT, or one on the standard input";
            Ok(vec![("the standard input".into(), prompt::standard_input(missing)?)])
        }
    }
}

#[derive(Deserialize)]
struct Line {
    text: String,
}

fn json_lines(file: &Path, content: &str) -> Result<Vec<(String, String)>, Failure> {
    let lines = (1..).zip(content.lines()).filter(|(_, line)| !line.trim().is_empty());
    let text = |(number, line): (usize, &str)| {
        let name = format!("{} line {number}", file.display());
        match serde_json::from_str::<Line>(line) {
            Ok(line) => Ok((name, line.text)),
            Err(error) => {
                Err(Failure::new(format!("{name}: {error}; every line is an object with a text `text`")))
            }
        }
    };
    lines.map(text).collect()
}

/// The text after the model's opening token, where that is wanted.
fn opened(args: &ScoreArgs, model: &Transformer, mut text: Text) -> Result<Text, Failure> {
    if args.bos {
        let missing = || Failure::new(format!("--bos: {} names no token that opens a text", args.model.name));
        let token = model.generation_config().bos.ok_or_else(missing)?;
        if text.tokens.first() != Some(&token) {
            text.tokens.insert(0, token);
            text.pieces.insert(0, String::new());
        }
    }
    Ok(text)
}

/// All texts together.
fn total(scored: &[Scored]) -> Summary {
    let mut total = Summary::default();
    for scored in scored {
        total.merge(&scored.summary);
    }
    total
}

fn print(windows: Windows, scored: &[Scored]) -> Outcome {
    let row = |name: &str, summary: &Summary| {
        [
            name.to_owned(),
            summary.tokens.to_string(),
            decimal(summary.perplexity(), 4),
            decimal(summary.mean_log_prob(), 4),
            decimal(summary.bits_per_byte(), 4),
        ]
    };
    let mut rows: Vec<_> = scored.iter().map(|scored| row(&scored.text.name, &scored.summary)).collect();
    if scored.len() > 1 {
        rows.push(row("all", &total(scored)));
    }
    let header = ["text", "tokens scored", "perplexity", "mean log-probability (nats)", "bits per byte"];
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", numbers(table(header, rows), 1))?;
    // More than one window was needed.
    if scored.iter().any(|scored| scored.text.tokens.len() > windows.context() + 1) {
        output::note(&format!(
            "windows of {} tokens, each {} later: beyond the first, every token is scored after more than {} and at most {} tokens",
            windows.context(),
            windows.stride(),
            windows.context() - windows.stride(),
            windows.context()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(args: &ScoreArgs, model: &Transformer, windows: Windows, scored: &[Scored]) -> Outcome {
    let object = json!({
        "summary": summary(&total(scored)),
        "texts": scored.iter().map(text).collect::<Vec<_>>(),
        "context": windows.context(),
        "stride": windows.stride(),
        "model": args.model.name,
        "version": env!("CARGO_PKG_VERSION"),
        "device": model.device().to_string(),
        "weights": model.weight_type().name(),
    });
    json::print(&object)?;
    Ok(ExitCode::SUCCESS)
}

fn summary(summary: &Summary) -> Value {
    json!({
        "tokens": summary.tokens,
        "bytes": summary.bytes,
        "log_prob": summary.log_prob,
        "mean_log_prob": summary.mean_log_prob(),
        "perplexity": summary.perplexity(),
        "bits_per_byte": summary.bits_per_byte(),
    })
}

/// A text with its tokens, the first of which has no log-probability.
fn text(scored: &Scored) -> Value {
    let piece = |at: usize| scored.text.pieces.get(at);
    let first = scored
        .text
        .tokens
        .first()
        .map(|id| json!({ "id": id, "text": piece(0), "log_prob": null, "before": 0 }));
    let token = |(at, score): (usize, &TokenScore)| json!({ "id": score.token, "text": piece(at), "log_prob": score.log_prob, "before": score.before });
    let tokens: Vec<_> = first.into_iter().chain((1..).zip(&scored.scores).map(token)).collect();
    json!({ "name": scored.text.name, "summary": summary(&scored.summary), "tokens": tokens })
}
