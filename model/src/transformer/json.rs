//! Reading JSON files, with the file in every error.

use crate::ModelError;
use std::path::Path;

pub(super) fn read_text(path: &Path) -> Result<String, ModelError> {
    std::fs::read_to_string(path).map_err(|source| ModelError::Io { path: path.to_owned(), source })
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    parse_json(path, &read_text(path)?)
}

pub(super) fn parse_json<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T, ModelError> {
    serde_json::from_str(text)
        .map_err(|error| ModelError::Config { path: path.to_owned(), message: error.to_string() })
}
