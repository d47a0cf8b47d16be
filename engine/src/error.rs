use crate::DraftLengthError;
use drafthorse_logits::{ConstraintError, LogitsError, ProposalError, TreeError};
use drafthorse_model::ModelError;
use drafthorse_verifier::RuleError;
use std::{error::Error as StdError, fmt};

/// What went wrong, as a class a program can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A part is missing from the builder.
    MissingPart,
    /// Drafter and expert do not speak of the same tokens.
    Vocabulary,
    /// A context is too small for what is asked.
    Context,
    /// The rule's settings, or the rule together with the drafter.
    Rule,
    /// A sampling or session option is out of range.
    Option,
    /// The prompt is empty, too long, or holds a token outside the vocabulary.
    Prompt,
    /// A model or a device failed.
    Model,
    /// A row of logits from which no token can be drawn.
    Logits,
    /// The constraint cannot go on: a dead end of its grammar, or a limit of its parser.
    Constraint,
    /// The drafter broke its contract or failed.
    Drafter,
    /// Tokens could not be turned into text.
    Text,
    /// A part could not be loaded.
    Load,
}

/// An error of the engine: a kind, a message that says what to do, and the cause if there is one.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn because(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(Box::new(source)) }
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn expert(error: ModelError) -> Self {
        match error {
            ModelError::Logits(source) => {
                Self::because(ErrorKind::Logits, "the expert's logits cannot be sampled", source)
            }
            source => Self::because(ErrorKind::Model, "the expert failed", source),
        }
    }

    pub(crate) fn drafter(name: &str, error: ModelError) -> Self {
        match error {
            ModelError::Logits(source) => {
                let message = format!("the logits of drafter `{name}` cannot be sampled");
                Self::because(ErrorKind::Logits, message, source)
            }
            source => Self::because(ErrorKind::Drafter, format!("drafter `{name}` failed"), source),
        }
    }

    pub(crate) fn proposal(name: &str, source: ProposalError) -> Self {
        Self::because(ErrorKind::Drafter, format!("drafter `{name}` broke its contract"), source)
    }

    pub(crate) fn tree(name: &str, source: TreeError) -> Self {
        Self::because(ErrorKind::Drafter, format!("drafter `{name}` broke its contract"), source)
    }

    pub(crate) fn text(source: ModelError) -> Self {
        Self::because(ErrorKind::Text, "a token could not be turned into text", source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<LogitsError> for Error {
    fn from(error: LogitsError) -> Self {
        Self::new(ErrorKind::Option, error.to_string())
    }
}

impl From<DraftLengthError> for Error {
    fn from(error: DraftLengthError) -> Self {
        Self::new(ErrorKind::Option, error.to_string())
    }
}

impl From<ConstraintError> for Error {
    fn from(source: ConstraintError) -> Self {
        Self::because(ErrorKind::Constraint, "the constraint cannot go on with the text", source)
    }
}

impl From<RuleError> for Error {
    fn from(error: RuleError) -> Self {
        Self::new(ErrorKind::Rule, error.to_string())
    }
}
