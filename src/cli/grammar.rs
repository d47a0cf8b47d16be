//! What a text must be: a grammar from the command line.

use super::failure::Failure;
use clap::Args;
use drafthorse::{Grammar, TokenTable, Transformer, constraint::Whitespace, logits::Constraint};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the text must be.
#[derive(Args, Clone)]
#[command(next_help_heading = "What the text must be")]
pub(crate) struct GrammarArgs {
    /// A JSON value that satisfies this schema: a file, or the schema itself
    #[arg(short = 'j', long, value_name = "FILE|SCHEMA", conflicts_with_all = ["regex", "grammar", "json_mode"])]
    pub(crate) json_schema: Option<String>,
    /// Any JSON object
    #[arg(long, visible_alias = "json-object", conflicts_with_all = ["regex", "grammar"])]
    pub(crate) json_mode: bool,
    /// What this regular expression matches as a whole
    #[arg(long, visible_alias = "guided-regex", value_name = "REGEX", conflicts_with = "grammar")]
    pub(crate) regex: Option<String>,
    /// A text of the grammar in this file, in the syntax of Lark
    #[arg(long, visible_alias = "grammar-file", value_name = "FILE")]
    pub(crate) grammar: Option<PathBuf>,
    /// No whitespace between the parts of JSON, which forces more of it
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
        let whitespace = if self.compact { Whitespace::None } else { Whitespace::Any };
        let grammar = match (&self.json_schema, &self.regex, &self.grammar) {
            (Some(schema), ..) => Grammar::json_schema(table, &schema_text(schema)?, whitespace),
            (_, Some(regex), _) => Grammar::regex(table, regex),
            (.., Some(file)) => Grammar::lark(table, &read(file)?),
            _ => Grammar::json(table, whitespace),
        };
        grammar.map_err(Failure::new)
    }

    /// What was said, in JSON; nothing where the text is free.
    pub(crate) fn json(&self) -> Value {
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
        })
    }
}

/// The text of a schema: what was said, if it can be one, or the file of this name.
fn schema_text(said: &str) -> Result<String, Failure> {
    let is_schema = said.trim_start().starts_with('{') || matches!(said.trim(), "true" | "false");
    if is_schema { Ok(said.to_owned()) } else { read(Path::new(said)) }
}

fn read(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file);
    text.map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))
}
