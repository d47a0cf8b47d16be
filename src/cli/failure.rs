//! Errors on their way to the user.

use super::output;
use drafthorse::{Error, ModelError, classify::ClassifyError, proof::ProofError, score::ScoreError};
use std::{error::Error as StdError, fmt, io, process::ExitCode};

/// Why a command ended.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What to tell the user.
    Message(String),
    /// Nobody reads the output any more: nothing to tell.
    OutputClosed,
}

impl Failure {
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self::Message(message.to_string())
    }

    /// The error and its causes in one line.
    pub(crate) fn chain(error: &dyn StdError) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::Message(message)
    }

    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Message(message) => {
                output::note(&format!("error: {message}"));
                ExitCode::FAILURE
            }
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<ProofError> for Failure {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Engine(error) => Self::chain(&error),
            ProofError::Model(error) => Self::chain(&error),
            error => Self::new(error),
        }
    }
}

impl From<ScoreError> for Failure {
    fn from(error: ScoreError) -> Self {
        match error {
            ScoreError::Model(error) => Self::chain(&error),
            error => Self::new(error),
        }
    }
}

impl From<ClassifyError> for Failure {
    fn from(error: ClassifyError) -> Self {
        match error {
            ClassifyError::Model(error) => Self::chain(&error),
            error => Self::new(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::chain(&error)
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self::chain(&error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        if error.io_error_kind() == Some(io::ErrorKind::BrokenPipe) {
            return Self::OutputClosed;
        }
        Self::chain(&error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::chain(&error)
    }
}
