//! What a text must be: a grammar from the command line.

use super::{failure::Failure, output::count};
use clap::Args;
use drafthorse::{
    Finish, Grammar, SessionOptions, StepToken, TokenTable, Transformer, constraint::Whitespace,
    logits::Constraint,
};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};

/// What the text must be.
#[derive(Args, Clone)]
#[command(next_help_heading = "What the text must be")]
pub(crate) struct GrammarArgs {
    /// A JSON value that satisfies this schema: a file, or the schema itself
    #[arg(short = 'j', long, visible_alias = "guided-json", value_name = "FILE|SCHEMA", conflicts_with_all = ["regex", "grammar", "json_mode"])]
    pub(crate) json_schema: Option<String>,
    /// Any JSON object
    #[arg(long, visible_alias = "json-object", conflicts_with_all = ["regex", "grammar"])]
    pub(crate) json_mode: bool,
    /// What this regular expression matches as a whole
    #[arg(long, visible_alias = "guided-regex", value_name = "REGEX", conflicts_with = "grammar")]
    pub(crate) regex: Option<String>,
    /// A text of this grammar in the syntax of Lark: a file, or the grammar itself (`start: ...`)
    #[arg(long, visible_aliases = ["grammar-file", "guided-grammar"], value_name = "FILE|GRAMMAR")]
    pub(crate) grammar: Option<String>,
    /// No white space between the parts of JSON, which forces more of it; without it, at most a line end and 16 blanks
    #[arg(long, conflicts_with_all = ["regex", "grammar"])]
    pub(crate) compact: bool,
}

impl GrammarArgs {
    /// Whether the text must be anything.
    pub(crate) fn is_given(&self) -> bool {
        self.json_schema.is_some() || self.json_mode || self.regex.is_some() || self.grammar.is_some()
    }

    /// The grammar over the expert's tokens, if there is one.
    pub(crate) fn open(
        &self,
        expert: &Transformer,
        name: &str,
    ) -> Result<Option<Arc<dyn Constraint>>, Failure> {
        if !self.is_given() {
            let message = "--compact is for JSON; it needs --json-schema or --json-mode";
            return if self.compact { Err(Failure::new(message)) } else { Ok(None) };
        }
        let Some(tokenizer) = expert.tokenizer() else {
            return Err(Failure::new(format!(
                "{name} has no tokenizer.json, and a grammar needs the texts of the tokens"
            )));
        };
        let table = TokenTable::new(&tokenizer.token_bytes()?).map_err(Failure::new)?;
        let encoder = tokenizer.clone();
        let table = table.with_encoder(move |text| encoder.encode_plain(text).ok());
        Ok(Some(Arc::new(self.compile(&table)?)))
    }

    fn compile(&self, table: &TokenTable) -> Result<Grammar, Failure> {
        let whitespace = if self.compact { Whitespace::None } else { Whitespace::Some };
        let grammar = match (&self.json_schema, &self.regex, &self.grammar) {
            (Some(schema), ..) => Grammar::json_schema(table, &schema_text(schema)?, whitespace),
            (_, Some(regex), _) => Grammar::regex(table, regex),
            (.., Some(said)) => Grammar::lark(table, &grammar_text(said)?),
            _ => Grammar::json(table, whitespace),
        };
        grammar.map_err(Failure::new)
    }

    /// What was said, in JSON, and whether the text is complete by it; nothing where the text is free.
    pub(crate) fn json(&self, complete: Option<bool>) -> Value {
        let Self { json_schema, json_mode, regex, grammar, compact } = self;
        if !self.is_given() {
            return Value::Null;
        }
        json!({
            "json_schema": json_schema,
            "json_mode": json_mode,
            "regex": regex,
            "grammar": grammar,
            "compact": compact,
            "complete": complete,
        })
    }
}

/// Whether a text is complete by its grammar.
///
/// # Errors
///
/// The grammar's parser, or the tokenizer's decoder, fails.
pub(crate) fn is_complete(
    options: &SessionOptions,
    tokens: &[StepToken],
    text: &str,
    finish: Option<&Finish>,
    expert: &Transformer,
) -> Result<Option<bool>, Failure> {
    let Some(constraint) = &options.constraint else { return Ok(None) };
    let mut ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
    match (finish, expert.tokenizer()) {
        (Some(Finish::Grammar | Finish::StopToken(_)), _) => return Ok(Some(true)),
        // The text was cut before the string: the tokens that are in it.
        (Some(Finish::StopString(_)), Some(tokenizer)) => {
            while tokenizer.decode(&ids)?.trim_start().len() > text.trim_start().len() {
                ids.pop();
            }
            if tokenizer.decode(&ids)?.trim_start() != text.trim_start() {
                return Ok(Some(false));
            }
        }
        _ => {}
    }
    let mut matcher = constraint.start(&options.stop_tokens).map_err(Failure::new)?;
    Ok(Some(matcher.is_complete(&ids).map_err(Failure::new)?))
}

/// What is said of a text that was not complete when it ended.
pub(crate) fn broken_off(finish: Option<&Finish>, tokens: usize) -> Option<String> {
    let (why, way_out) = match finish? {
        Finish::MaxTokens => (format!("stopped at {}", count(tokens, "token")), " (more -n)"),
        Finish::ContextEnd => ("stopped where the context is full".into(), " (a shorter prompt)"),
        Finish::StopString(text) => (format!("stopped at `{}`", text.escape_debug()), ""),
        _ => return None,
    };
    Some(format!("{why}: the text is not complete by its grammar{way_out}"))
}

/// The text of a schema: what was said, if it can be one, or the file of this name.
fn schema_text(said: &str) -> Result<String, Failure> {
    let said = plain(said);
    let is_schema = said.trim_start().starts_with(['{', '[']) || matches!(said.trim(), "true" | "false");
    if is_schema { Ok(said.to_owned()) } else { read(Path::new(said)) }
}

/// The text of a grammar: what was said, if it has a rule and is no file, or the file of this name.
fn grammar_text(said: &str) -> Result<String, Failure> {
    let is_grammar = (said.contains(':') || said.contains('\n')) && !Path::new(said).exists();
    if is_grammar { Ok(plain(said).to_owned()) } else { read(Path::new(said)) }
}

/// A text without the mark that some editors write in front.
fn plain(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn read(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file).map(|text| plain(&text).to_owned());
    text.map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))
}
