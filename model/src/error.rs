use drafthorse_logits::{LogitsError, TokenId};
use std::path::PathBuf;

/// What can go wrong with a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `config.json` or `generation_config.json` says something unusable.
    #[error("{}: {message}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        message: String,
    },
    /// An architecture that is not implemented.
    #[error("{}: model_type `{found}` is not supported; supported are {}", path.display(), supported.join(", "))]
    UnknownArchitecture {
        /// The configuration file.
        path: PathBuf,
        /// Its `model_type`.
        found: String,
        /// The model types that are supported.
        supported: &'static [&'static str],
    },
    /// A safetensors file that is not one: empty, truncated, or with a header that lies.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A tensor the architecture needs is not in the checkpoint.
    #[error("{}: tensor `{name}` is missing; is the download complete, and `model_type` right?", path.display())]
    MissingTensor {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// The checkpoint holds tensors that the architecture has no place for.
    #[error("{}: {} tensors have no place in this architecture, the first is `{}`; is `model_type` right?", path.display(), names.len(), names.first().map_or("", String::as_str))]
    UnexpectedTensors {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The tensors, sorted.
        names: Vec<String>,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{}: tensor `{name}` has shape {found:?}, config.json asks for {expected:?}", path.display())]
    TensorShape {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that follows from the configuration.
        expected: Vec<usize>,
    },
    /// A tensor is stored in a type that is not supported.
    #[error("{}: tensor `{name}` has dtype {found}; supported are F32, F16 and BF16", path.display())]
    TensorDtype {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
    },
    /// A tree that is none.
    #[error("a tree cannot be read: {message}")]
    Tree {
        /// What is wrong and what would be right.
        message: String,
    },
    /// Models that cannot be combined.
    #[error("the ensemble {message}")]
    Ensemble {
        /// What is wrong and what would be right.
        message: String,
    },
    /// A layer was asked for that the model does not have.
    #[error("layer {layer} was asked for; below {layers} is possible")]
    Layer {
        /// The layer asked for.
        layer: usize,
        /// One more than the last that is possible.
        layers: usize,
    },
    /// Layers cannot be left out as they shall be.
    #[error("{message}")]
    Shortcut {
        /// What is wrong and what is possible.
        message: String,
    },
    /// A weight is too large for the type it shall be held in.
    #[error("{}: tensor `{name}` holds values beyond the range of f16; load with f32", path.display())]
    F16Range {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// The tokenizer cannot be read, or failed.
    #[error("tokenizer: {message}")]
    Tokenizer {
        /// What is wrong.
        message: String,
    },
    /// The tokenizer knows tokens for which the model has no logits.
    #[error("{}: the tokenizer has token {token} (`{text}`), but the model's vocabulary has {vocab} tokens; tokenizer and checkpoint are not of one model", path.display())]
    TokenizerVocabulary {
        /// The tokenizer's file.
        path: PathBuf,
        /// The first token beyond the vocabulary.
        token: TokenId,
        /// Its text.
        text: String,
        /// Size of the model's vocabulary.
        vocab: usize,
    },
    /// A drafter whose tokens cannot be made the expert's.
    #[error("drafter and expert cannot be translated: {message}")]
    Translation {
        /// What is wrong and what would be right.
        message: String,
    },
    /// A device that does not exist on this machine or in this build.
    #[error("device `{device}` {message}")]
    Device {
        /// The device asked for.
        device: String,
        /// What is wrong and what can be had.
        message: String,
    },
    /// The device failed while it computed.
    #[error("the device failed: {message}")]
    Backend {
        /// What it said.
        message: String,
    },
    /// A part that works on a thread of its own panicked.
    #[error("{what} panicked: {reason}; put another in its place")]
    Panicked {
        /// The part.
        what: String,
        /// What it said.
        reason: String,
    },
    /// There is nothing to read.
    #[error("the sequence is empty; a model needs at least one token")]
    EmptySequence,
    /// A token outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocab} tokens")]
    Token {
        /// The token.
        token: TokenId,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// More rows of logits are wanted than there are tokens.
    #[error("{rows} rows of logits were asked for after {tokens} tokens")]
    Rows {
        /// Rows asked for.
        rows: usize,
        /// Tokens there are.
        tokens: usize,
    },
    /// A model returned logits of another shape than was asked for.
    #[error(
        "the model returned {rows} rows of {vocab} logits where {expected_rows} rows of {expected_vocab} were asked for; its forward is wrong"
    )]
    LogitsShape {
        /// Rows returned.
        rows: usize,
        /// Their length.
        vocab: usize,
        /// Rows asked for.
        expected_rows: usize,
        /// The model's vocabulary.
        expected_vocab: usize,
    },
    /// The sequence is longer than the model's context.
    #[error("a sequence of {length} tokens exceeds the context of {context}")]
    ContextFull {
        /// Length of the sequence.
        length: usize,
        /// The model's context.
        context: usize,
    },
    /// A row of logits from which no token can be drawn.
    #[error(transparent)]
    Logits(#[from] LogitsError),
}
