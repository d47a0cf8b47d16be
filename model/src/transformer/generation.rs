//! Which tokens open and end a text.

use super::json::{parse_json, read_json};
use crate::ModelError;
use drafthorse_logits::TokenId;
use serde::Deserialize;
use std::path::Path;

/// What `generation_config.json` says, where there is one; otherwise what `config.json` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GenerationConfig {
    /// Tokens that end a text.
    pub eos: Vec<TokenId>,
    /// The token that opens a text.
    pub bos: Option<TokenId>,
}

#[derive(Deserialize, Default)]
struct RawTokens {
    eos_token_id: Option<OneOrMany>,
    bos_token_id: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`eos_token_id` and `bos_token_id` must be a token id or a list of them")]
enum OneOrMany {
    One(TokenId),
    Many(Vec<TokenId>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<TokenId> {
        match self {
            Self::One(token) => vec![token],
            Self::Many(tokens) => tokens,
        }
    }
}

impl GenerationConfig {
    /// Reads the tokens that open and end a text.
    ///
    /// # Errors
    ///
    /// `config.json` cannot be read, or one of the two files is no JSON.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let model: RawTokens = read_json(&folder.join("config.json"))?;
        let path = folder.join("generation_config.json");
        let own: RawTokens = if path.exists() { read_json(&path)? } else { RawTokens::default() };
        Ok(Self::merge(own, model))
    }

    /// What the text of a `config.json` says.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ModelError> {
        Ok(Self::merge(RawTokens::default(), parse_json(path, text)?))
    }

    fn merge(own: RawTokens, model: RawTokens) -> Self {
        let tokens = |own: Option<OneOrMany>, model: Option<OneOrMany>| {
            own.or(model).map(OneOrMany::into_vec).unwrap_or_default()
        };
        let eos = tokens(own.eos_token_id, model.eos_token_id);
        let bos = tokens(own.bos_token_id, model.bos_token_id).first().copied();
        Self { eos, bos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_config_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), r#"{"eos_token_id": 2, "bos_token_id": 1}"#)
            .unwrap();
        let read = || GenerationConfig::read(folder.path()).unwrap();
        assert_eq!(read(), GenerationConfig { eos: vec![2], bos: Some(1) });
        std::fs::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": [5, 6]}"#).unwrap();
        assert_eq!(read(), GenerationConfig { eos: vec![5, 6], bos: Some(1) });
    }
}
