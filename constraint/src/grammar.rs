use crate::{GrammarError, TokenTable, matcher::GrammarMatcher, parser::Parser};
use drafthorse_logits::{Constraint, ConstraintError, Matcher, TokenId};
use llguidance::{JsonCompileOptions, api::TopLevelGrammar};
use std::sync::{Arc, Mutex, PoisonError};

/// A grammar compiled for a vocabulary: what a text may be.
///
/// It is compiled once and can be shared by any number of texts, also at the same time: each gets a matcher of its
/// own from [`Constraint::start`]. Copies share it.
///
/// Limits of the parser keep time and memory of each position bounded. A grammar that reaches one is refused when it is
/// compiled, or ends the text with an error where it does so later.
#[derive(Clone)]
pub struct Grammar(Arc<Compiled>);

pub(crate) struct Compiled {
    what: &'static str,
    table: TokenTable,
    /// A parser at the beginning, of which every text gets a copy.
    start: Mutex<Parser>,
}

/// Whitespace between the parts of a JSON text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whitespace {
    /// Between two parts at most one line end, with up to 16 blanks or tabs: as texts are written.
    #[default]
    Some,
    /// Any, as JSON allows it. A model that likes to write white space may never write anything else.
    Any,
    /// None: the shortest text, and the most of it forced.
    None,
}

impl Whitespace {
    /// What the compiler is to know of it.
    fn options(self) -> Option<JsonCompileOptions> {
        let options = JsonCompileOptions::default();
        match self {
            Self::Any => None,
            Self::Some => Some(JsonCompileOptions { whitespace_pattern: Some(SOME.into()), ..options }),
            Self::None => Some(JsonCompileOptions { whitespace_flexible: false, ..options }),
        }
    }
}

/// White space as it stands between two parts: not nothing, which needs no token.
const SOME: &str = r"\r?\n[ \t]{0,16}|[ \t]{1,16}";

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grammar {{ {} over {} tokens }}", self.0.what, self.0.table.vocab_size())
    }
}

impl Grammar {
    /// The JSON values that satisfy `schema`, itself a JSON text.
    ///
    /// Properties come in the order of the schema. Keywords that would not be enforced are refused; those that only
    /// describe (`title`, `description`, `default`, ...) are not looked at.
    ///
    /// # Errors
    ///
    /// The text is no JSON or no schema, it has unsupported keywords, nothing satisfies it, it is too large, or the
    /// vocabulary cannot begin a text of it.
    pub fn json_schema(
        table: &TokenTable,
        schema: &str,
        whitespace: Whitespace,
    ) -> Result<Self, GrammarError> {
        let what = "JSON schema";
        // Any value: written so that there is a place for options.
        let schema = if schema.trim() == "true" { "{}" } else { schema };
        let grammar = TopLevelGrammar::from_tagged_str("json_schema", schema);
        let mut grammar = grammar.map_err(|error| GrammarError::compile(what, &error.to_string()))?;
        if let Some(options) = whitespace.options() {
            let schemas = grammar.grammars.iter_mut().filter_map(|grammar| grammar.json_schema.as_mut());
            schemas.filter(|schema| schema.is_object()).for_each(|schema| options.apply_to(schema));
        }
        Self::compile(what, table, grammar)
    }

    /// Any JSON object.
    ///
    /// # Errors
    ///
    /// The vocabulary cannot begin one.
    pub fn json(table: &TokenTable, whitespace: Whitespace) -> Result<Self, GrammarError> {
        Self::json_schema(table, r#"{"type": "object"}"#, whitespace)
    }

    /// The texts that a regular expression matches as a whole, in the syntax of the `regex` crate without anchors and
    /// look-around.
    ///
    /// # Errors
    ///
    /// It is no regular expression, nothing matches it, it is too large, or the vocabulary cannot begin a match.
    pub fn regex(table: &TokenTable, regex: &str) -> Result<Self, GrammarError> {
        Self::compile("regular expression", table, TopLevelGrammar::from_regex(regex))
    }

    /// The texts of a grammar in the syntax of Lark, as llguidance reads it, from the rule `start`.
    ///
    /// # Errors
    ///
    /// It is no grammar, it is too large, or the vocabulary cannot begin a text of it.
    pub fn lark(table: &TokenTable, grammar: &str) -> Result<Self, GrammarError> {
        let compiled = Self::compile("Lark grammar", table, TopLevelGrammar::from_lark(grammar.to_owned()));
        compiled.map_err(|error| if is_gbnf(grammar) { GrammarError::Gbnf } else { error })
    }

    fn compile(
        what: &'static str,
        table: &TokenTable,
        grammar: TopLevelGrammar,
    ) -> Result<Self, GrammarError> {
        let parser = table.factory().create_parser(grammar);
        let parser = parser.map_err(|error| GrammarError::compile(what, &format!("{error:#}")))?;
        let start = Mutex::new(Parser::new(parser));
        let grammar = Self(Arc::new(Compiled { what, table: table.clone(), start }));
        match GrammarMatcher::new(grammar.0.clone(), &[]).allowed(&[]) {
            Ok(_) => Ok(grammar),
            Err(ConstraintError::Limit { limit, .. }) => Err(GrammarError::compile(what, &limit)),
            Err(source) => Err(GrammarError::Vocabulary { what, source }),
        }
    }

    /// The tokens it speaks of.
    pub fn table(&self) -> &TokenTable {
        &self.0.table
    }
}

/// Whether a grammar that is no Lark looks like that of llama.cpp, whose rules are `name ::= ...`.
fn is_gbnf(grammar: &str) -> bool {
    let name = |text: &str| {
        let text = text.trim();
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    grammar.lines().filter_map(|line| line.split_once("::=")).any(|(before, _)| name(before))
}

impl Constraint for Grammar {
    fn vocab_size(&self) -> usize {
        self.0.table.vocab_size()
    }

    fn start(&self, ends: &[TokenId]) -> Result<Box<dyn Matcher>, ConstraintError> {
        let mut matcher = GrammarMatcher::new(self.0.clone(), ends);
        matcher.allowed(&[])?;
        Ok(Box::new(matcher))
    }
}

impl Compiled {
    pub(crate) fn table(&self) -> &TokenTable {
        &self.table
    }

    /// A parser at the beginning that shares nothing with others.
    pub(crate) fn parser(&self) -> Parser {
        self.start.lock().unwrap_or_else(PoisonError::into_inner).copy()
    }
}
