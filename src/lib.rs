#![doc = include_str!("../README.md")]

pub mod classify;
pub mod cost;
pub mod demo;
pub mod inspect;
pub mod proof;
pub mod quality;
mod rows;
pub mod score;
pub mod self_speculation;
pub mod synthetic;

pub use drafthorse_constraint as constraint;
pub use drafthorse_drafter as drafter;
pub use drafthorse_engine as engine;
pub use drafthorse_logits as logits;
pub use drafthorse_model as model;
pub use drafthorse_verifier as verifier;

pub use constraint::{Grammar, GrammarError, TokenTable};
pub use drafter::{DraftRequest, Drafter, ModelDrafter, NgramDrafter, NoDrafter};
pub use engine::{
    Adaptive, Asked, DraftCosts, DraftLength, Engine, Error, ErrorKind, Finish, Pending, Provenance,
    SequentialCascade, SequentialRule, SequentialStats, SequentialText, Session, SessionOptions, Stats, Step,
    StepToken,
};
pub use logits::{
    Draws, LogitsProcessor, Probs, Proposal, Purpose, SamplingOptions, Scores, TokenId, Verdict,
};
pub use model::{
    Detokenizer, DeviceChoice, LanguageModel, ModelError, TableModel, Tokenizer, Transformer, WeightType,
    open_device,
};
pub use synthetic::SyntheticDrafter;
pub use verifier::{
    AcceptanceRule, CascadeTokenV3, ExactMatch, KeepRule, Kind, Lossless, Needs, RuleError, rule,
};
