//! Which of several labels a model would say after a prompt.
//!
//! A label's score is the log-probability of its tokens after the prompt. Prompt and label are tokenized together, as a
//! text of both is, and at the border a token can hold the end of the one and the beginning of the other. So what is
//! scored begins with the first token that is not the prompt's own, for all labels at the same place: where one label
//! swallows the prompt's last token, that token counts for all the others too.
//!
//! # Example
//!
//! ```
//! use drafthorse::{TableModel, classify::{Normalize, Question, classify}, model::CachedModel};
//! use std::sync::Arc;
//!
//! // Tokens are bytes, and after `?` the model says `y` three times as often as `n`.
//! let row = |last: &[u32]| {
//!     let after = last.last() == Some(&u32::from(b'?'));
//!     (0..128u8).map(|byte| if after && byte == b'y' { 3f32.ln() } else { 0.0 }).collect()
//! };
//! let mut model = CachedModel::new(Arc::new(TableModel::from_fn(128, row)));
//! let encode = |text: &str| Ok(text.bytes().map(u32::from).collect());
//! let labels = ["y".into(), "n".into()];
//! let question = Question { separator: "", ..Question::new("is it?", &labels) };
//! let answer = classify(&mut model, &encode, &question)?;
//! assert!((answer.labels[0].probability - 0.75).abs() < 1e-6);
//! assert_eq!(question.normalize, Normalize::Sum);
//! # Ok::<(), drafthorse::classify::ClassifyError>(())
//! ```

use crate::rows::{each_row, log_prob};
use drafthorse_logits::TokenId;
use drafthorse_model::{ModelError, SequenceModel};
use serde::Serialize;

/// What of a label's log-probability is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::exhaustive_enums)]
pub enum Normalize {
    /// The sum over its tokens: the law of the next words itself, in which long labels are improbable.
    #[default]
    Sum,
    /// The mean over its tokens.
    Tokens,
    /// The sum over the bytes of its text, which does not depend on the tokenizer.
    ///
    /// Source: `acc_norm` of Gao et al., "A framework for few-shot language model evaluation".
    Bytes,
    /// The sum less that of the same label after a premise that asks nothing: what the prompt adds.
    ///
    /// Source: Holtzman et al., "Surface Form Competition", 2021.
    Pmi,
}

/// What is asked.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Question<'a> {
    /// The text before the label.
    pub prompt: &'a str,
    /// The labels.
    pub labels: &'a [String],
    /// Stands between prompt and label.
    pub separator: &'a str,
    /// A token that must follow the label. Without one, the probability is that the text goes on with the label,
    /// whatever follows: a label that begins another is then at least as probable.
    pub end: Option<TokenId>,
    /// What is compared.
    pub normalize: Normalize,
    /// What stands in the place of the prompt for [`Normalize::Pmi`].
    pub premise: &'a str,
}

impl<'a> Question<'a> {
    /// With a space between prompt and label, unless the prompt ends or a label begins with white space.
    pub fn new(prompt: &'a str, labels: &'a [String]) -> Self {
        let spaced = prompt.is_empty()
            || prompt.ends_with(char::is_whitespace)
            || labels.iter().any(|label| label.starts_with(char::is_whitespace));
        let separator = if spaced { "" } else { " " };
        Self { prompt, labels, separator, end: None, normalize: Normalize::Sum, premise: "" }
    }
}

/// A label and its scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Label {
    /// Its text.
    pub label: String,
    /// The tokens that were scored.
    pub tokens: Vec<TokenId>,
    /// The log-probability of each, in nats.
    pub log_probs: Vec<f64>,
    /// Their sum.
    pub log_prob: f64,
    /// The same after the premise, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub premise_log_prob: Option<f64>,
    /// What is compared, in nats.
    pub score: f64,
    /// `softmax(score)` over the labels.
    pub probability: f64,
}

/// The labels in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Classification {
    /// Tokens that are shared and not scored.
    pub shared_tokens: usize,
    /// Tokens of the prompt that belong to what is scored, as a label swallows them.
    pub merged_tokens: usize,
    /// What is compared.
    pub normalize: Normalize,
    /// The labels.
    pub labels: Vec<Label>,
}

impl Classification {
    /// The most probable label, the first among equals.
    pub fn best(&self) -> Option<&Label> {
        let better = |best: &'_ &Label, label: &'_ &Label| label.probability > best.probability;
        self.labels.iter().reduce(|best, label| if better(&best, &label) { label } else { best })
    }

    /// A label and another that begins with the same tokens and goes on.
    pub fn prefix(&self) -> Option<(&Label, &Label)> {
        let pairs = self.labels.iter().flat_map(|a| self.labels.iter().map(move |b| (a, b)));
        pairs.into_iter().find(|(a, b)| a.tokens.len() < b.tokens.len() && b.tokens.starts_with(&a.tokens))
    }
}

/// Why labels were not compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassifyError {
    /// One label is no choice.
    #[error("the number of labels is {found}; at least 2 are needed to choose from")]
    Labels {
        /// How many.
        found: usize,
    },
    /// A label without text.
    #[error("label {number} of {labels} is empty; every label needs a text")]
    Empty {
        /// Its number, from 1.
        number: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A label was given more than once.
    #[error("label `{label}` is given more than once; give each once")]
    Twice {
        /// The label.
        label: String,
    },
    /// Nothing stands before a label, of which the model could speak.
    #[error("no token comes before label `{label}`: a model needs at least one; {}", if *premise { "give a premise" } else { "give a longer prompt" })]
    NothingBefore {
        /// The label.
        label: String,
        /// Whether the premise is too short, and not the prompt.
        premise: bool,
    },
    /// No label is possible, or one is only after the prompt.
    #[error("the labels cannot be compared: the model gives them a probability of 0; give other labels")]
    Impossible,
    /// The model or the tokenizer failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Turns text into tokens, with those a tokenizer puts around a text.
pub type Encode<'a> = dyn Fn(&str) -> Result<Vec<TokenId>, ModelError> + 'a;

/// Scores every label after the prompt. The prompt is read once.
///
/// # Errors
///
/// Fewer than two labels, an empty one, or one given twice; nothing to begin with; a failure of the model or the
/// tokenizer.
pub fn classify(
    model: &mut dyn SequenceModel,
    encode: &Encode<'_>,
    question: &Question<'_>,
) -> Result<Classification, ClassifyError> {
    check(question.labels)?;
    let after = |premise: bool| -> Result<Texts, ClassifyError> {
        let prompt = if premise { question.premise } else { question.prompt };
        Texts::encode(encode, prompt, question, premise)
    };
    let (texts, mut labels) = (after(false)?, Vec::new());
    for (label, text) in question.labels.iter().zip(&texts.labels) {
        let log_probs = texts.score(model, text)?;
        let (log_prob, tokens) = (log_probs.iter().sum(), text[texts.border..].to_vec());
        let (label, premise_log_prob) = (label.clone(), None);
        labels.push(Label {
            label,
            tokens,
            log_probs,
            log_prob,
            premise_log_prob,
            score: 0.0,
            probability: 0.0,
        });
    }
    if question.normalize == Normalize::Pmi {
        let texts = after(true)?;
        for (label, text) in labels.iter_mut().zip(&texts.labels) {
            label.premise_log_prob = Some(texts.score(model, text)?.iter().sum());
        }
    }
    compare(&mut labels, question.normalize)?;
    Ok(Classification {
        shared_tokens: texts.border,
        merged_tokens: texts.prompt - texts.border,
        normalize: question.normalize,
        labels,
    })
}

fn check(labels: &[String]) -> Result<(), ClassifyError> {
    let count = labels.len();
    if count < 2 {
        return Err(ClassifyError::Labels { found: count });
    }
    if let Some(empty) = labels.iter().position(String::is_empty) {
        return Err(ClassifyError::Empty { number: empty + 1, labels: count });
    }
    match labels.iter().enumerate().find(|(at, label)| labels[..*at].contains(label)) {
        Some((_, label)) => Err(ClassifyError::Twice { label: label.clone() }),
        None => Ok(()),
    }
}

/// The labels' texts, each with what stands before it.
struct Texts {
    /// Tokens of what stands before, by itself.
    prompt: usize,
    /// Tokens that all texts share with it.
    border: usize,
    labels: Vec<Vec<TokenId>>,
}

impl Texts {
    fn encode(
        encode: &Encode<'_>,
        prompt: &str,
        question: &Question<'_>,
        premise: bool,
    ) -> Result<Self, ClassifyError> {
        let own = encode(prompt)?;
        let text = |label: &String| {
            let mut tokens = encode(&format!("{prompt}{}{label}", question.separator))?;
            tokens.extend(question.end);
            Ok(tokens)
        };
        let labels = question.labels.iter().map(text).collect::<Result<Vec<_>, ModelError>>()?;
        let shared = |text: &Vec<TokenId>| text.iter().zip(&own).take_while(|(a, b)| a == b).count();
        let border = labels.iter().map(shared).min().unwrap_or(0);
        // A label always adds a token, unless the tokenizer loses its text.
        let alone = labels.iter().position(|text| border == 0 || text.len() == border);
        match alone.map(|at| question.labels[at].clone()) {
            Some(label) => Err(ClassifyError::NothingBefore { label, premise }),
            None => Ok(Self { prompt: own.len(), border, labels }),
        }
    }

    /// The log-probability of every token from the border on.
    fn score(&self, model: &mut dyn SequenceModel, text: &[TokenId]) -> Result<Vec<f64>, ModelError> {
        let mut log_probs = Vec::with_capacity(text.len() - self.border);
        each_row(model, &text[..text.len() - 1], self.border - 1, |at, row| {
            log_probs.push(log_prob(row, text[at + 1])?);
            Ok::<_, ModelError>(())
        })?;
        Ok(log_probs)
    }
}

/// What is compared, and the softmax of it.
fn compare(labels: &mut [Label], normalize: Normalize) -> Result<(), ClassifyError> {
    for label in labels.iter_mut() {
        label.score = match normalize {
            Normalize::Sum => label.log_prob,
            Normalize::Tokens => label.log_prob / label.tokens.len() as f64,
            Normalize::Bytes => label.log_prob / label.label.len() as f64,
            Normalize::Pmi => label.log_prob - label.premise_log_prob.unwrap_or(0.0),
        };
        // Impossible after the prompt and after the premise.
        if label.score.is_nan() {
            label.score = f64::NEG_INFINITY;
        }
    }
    let most = labels.iter().map(|label| label.score).fold(f64::NEG_INFINITY, f64::max);
    if !most.is_finite() {
        return Err(ClassifyError::Impossible);
    }
    let sum: f64 = labels.iter().map(|label| (label.score - most).exp()).sum();
    for label in labels {
        label.probability = (label.score - most).exp() / sum;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
