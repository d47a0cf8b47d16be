use crate::TokenId;

/// What can be wrong with a row of logits or with a sampling option.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LogitsError {
    /// A logit is NaN or positive infinity; no distribution follows from it.
    #[error(
        "logit of token {token} is {value}; the model or a processor is broken, or an f16 value overflowed (try f32)"
    )]
    NotFinite {
        /// The first token whose logit is unusable.
        token: TokenId,
        /// The logit.
        value: f32,
    },
    /// Every token of the row is excluded.
    #[error("all {vocab} tokens of a row are excluded (logit -inf); a bias or processor bans everything")]
    NothingLeft {
        /// Length of the row.
        vocab: usize,
    },
    /// A sampling option is outside its range.
    #[error("{name} {value} is out of range: {range}")]
    OutOfRange {
        /// The option's name.
        name: &'static str,
        /// The value given.
        value: f64,
        /// The values allowed, in words.
        range: &'static str,
    },
    /// A logit bias, or another option, names a token that is not in the vocabulary.
    #[error("{option} for token {token}, but the vocabulary has {vocab} tokens (0 to {})", vocab.saturating_sub(1))]
    UnknownToken {
        /// What names it.
        option: &'static str,
        /// The token named.
        token: TokenId,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A law made of several models' laws is for another number of models.
    #[error(
        "{models} models, but their combination is for {wanted}; give each model one weight, a contrast two models"
    )]
    Models {
        /// How many models there are.
        models: usize,
        /// How many there have to be.
        wanted: usize,
    },
    /// The order of the stages does not do.
    #[error("order of sampling: {0}")]
    Order(String),
    /// Options that exclude or need each other.
    #[error("{0}")]
    Together(String),
}
