//! A prompt, from wherever it comes.

use super::failure::Failure;
use clap::Args;
use drafthorse::{TokenId, Transformer};
use std::{
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
};

/// A prompt that is text.
#[derive(Args, Clone)]
pub(crate) struct TextArgs {
    /// The prompt ("" is the empty one); without it, the file or the standard input
    #[arg(conflicts_with_all = ["file", "prompt_option"])]
    prompt: Option<String>,
    /// The prompt, for those who write it as an option
    #[arg(
        short = 'p',
        long = "prompt",
        value_name = "TEXT",
        conflicts_with = "file",
        allow_hyphen_values = true
    )]
    prompt_option: Option<String>,
    /// Read the prompt from a file
    #[arg(short = 'f', long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// A prompt in text or in tokens.
#[derive(Args, Clone)]
pub(crate) struct PromptArgs {
    #[command(flatten)]
    text: TextArgs,
    /// Token ids instead of text, separated by commas or spaces; works for folders without a tokenizer
    #[arg(long, value_name = "IDS", value_parser = parse_tokens, conflicts_with_all = ["prompt", "prompt_option", "file"])]
    pub(crate) tokens: Option<Tokens>,
}

/// Token ids in one argument.
#[derive(Clone)]
pub(crate) struct Tokens(pub(crate) Vec<TokenId>);

pub(crate) fn parse_tokens(text: &str) -> Result<Tokens, String> {
    let words = text.split([',', ' ']).filter(|word| !word.is_empty());
    let token = |word: &str| word.parse().map_err(|_| format!("`{word}` is not a token id; write 1,5,9"));
    words.map(token).collect::<Result<_, _>>().map(Tokens)
}

impl PromptArgs {
    /// The prompt's tokens, and how it reads.
    pub(crate) fn read(&self, expert: &Transformer, name: &str) -> Result<(Vec<TokenId>, String), Failure> {
        if let Some(tokens) = &self.tokens {
            let words: Vec<_> = tokens.0.iter().map(ToString::to_string).collect();
            return Ok((tokens.0.clone(), words.join(" ") + " "));
        }
        let text = self.text.read()?;
        let Some(tokenizer) = expert.tokenizer() else {
            return Err(Failure::new(format!(
                "{name} has no tokenizer.json; give token ids with --tokens 1,2,3"
            )));
        };
        Ok((tokenizer.encode(&text)?, text))
    }
}

impl TextArgs {
    /// The prompt.
    pub(crate) fn read(&self) -> Result<String, Failure> {
        match (self.prompt.as_ref().or(self.prompt_option.as_ref()), &self.file) {
            (Some(prompt), _) => Ok(prompt.clone()),
            (None, Some(file)) => file_text(file),
            (None, None) => standard_input(
                "no prompt: give one as an argument (\"\" is the empty one), with -f FILE, or on the standard input",
            ),
        }
    }
}

/// What a file holds, or what to do where `name` is rather a text.
pub(crate) fn file_or_hint(file: &Path, hint: &str) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        let hint = if file.exists() { String::new() } else { format!("; {hint}") };
        Failure::new(format!("cannot read {}: {error}{hint}", file.display()))
    })
}

/// What a file holds.
pub(crate) fn file_text(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))
}

/// What comes on the standard input; `missing` is said where nobody sends anything.
pub(crate) fn standard_input(missing: &str) -> Result<String, Failure> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        return Err(Failure::new(missing));
    }
    let mut text = String::new();
    match input.read_to_string(&mut text) {
        Ok(0) => Err(Failure::new(format!("{missing}, which is empty"))),
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::new(format!("cannot read the standard input: {error}"))),
    }
}
