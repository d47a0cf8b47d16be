use drafthorse_logits::ConstraintError;

/// Why a grammar cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// It does not compile.
    #[error("the {what} cannot be used: {message}")]
    Compile {
        /// What it is: a JSON schema, a regular expression, a Lark grammar.
        what: &'static str,
        /// What the compiler says.
        message: String,
    },
    /// A grammar in the syntax of llama.cpp.
    #[error(
        "this is GBNF, as llama.cpp reads it, and Lark is wanted: write `name: ...` for `name ::= ...`, and `start` for `root`"
    )]
    Gbnf,
    /// A JSON schema with keywords that nothing would enforce.
    #[error(
        "the JSON schema has keywords that are not supported: {keywords}; leave them out, or write the rest as a Lark grammar"
    )]
    Keywords {
        /// The keywords, between commas.
        keywords: String,
    },
    /// No token of the vocabulary can begin a text of the grammar.
    #[error(
        "no text of the {what} can be begun in this vocabulary: there is none, or the vocabulary has no token for how they begin"
    )]
    Vocabulary {
        /// What it is.
        what: &'static str,
        /// What the parser met.
        source: ConstraintError,
    },
    /// A vocabulary from which no table can be made.
    #[error("no table of tokens: {0}")]
    Table(String),
}

impl GrammarError {
    pub(crate) fn compile(what: &'static str, message: &str) -> Self {
        let message = plain(message);
        if message.starts_with("Only absolute $ref") {
            let message = "a `$ref` to another document is not supported; put the definition under `$defs`";
            return Self::Compile { what, message: message.into() };
        }
        if message.starts_with("oneOf constraints are not supported") {
            let message = "`oneOf` with alternatives that may hold together is not supported; use `anyOf`";
            return Self::Compile { what, message: message.into() };
        }
        // The parser reads a regular expression as part of a grammar that nobody wrote.
        let wrapped = message.split_once("regex parse error: ").filter(|_| what == "regular expression");
        if let Some((_, inner)) = wrapped {
            return Self::Compile { what, message: inner.replacen(" error: ", ": ", 1) };
        }
        match message.strip_prefix("Unimplemented keys: [").and_then(|rest| rest.split_once(']')) {
            Some((keywords, _)) => Self::Keywords { keywords: keywords.replace('"', "`") },
            None => Self::Compile { what, message },
        }
    }
}

/// The longest message that is handed on, in characters.
const LONGEST: usize = 400;

/// A message of the parser without its traces, on one line of bearable length.
pub(crate) fn plain(message: &str) -> String {
    let end = ["\n<", "<non-verbose/>"].iter().filter_map(|mark| message.find(mark)).min();
    let message = &message[..end.unwrap_or(message.len())];
    // The line in question is quoted with its number, and a mark below it.
    let quoted = |line: &&str| line.contains(" | ") && line.starts_with(|c: char| c.is_ascii_digit());
    let lines =
        message.lines().map(str::trim).filter(|line| !quoted(line) && !line.trim_matches('^').is_empty());
    let lines: Vec<_> = lines.collect();
    let line = lines.join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} [...]", &line[..end]),
        None => line.trim_end_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_without_traces() {
        assert_eq!(plain("a\n  b.\n<state>\nTokens\n</state>"), "a b");
        assert_eq!(plain(&"é".repeat(500)).chars().count(), LONGEST + " [...]".len());
        assert_eq!(plain("limit\n<non-verbose/>"), "limit");
        assert_eq!(plain("at 2(8): unknown name\n  2 | start: b\n           ^"), "at 2(8): unknown name");
        let keywords = GrammarError::compile("JSON schema", "Unimplemented keys: [\"not\", \"if\"]");
        assert_eq!(keywords, GrammarError::Keywords { keywords: "`not`, `if`".into() });
    }
}
