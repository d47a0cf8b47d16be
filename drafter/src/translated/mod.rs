//! Drafters that are language models with another tokenizer than the expert's.

mod bridge;
mod text;
mod tokens;

pub use bridge::{Bridge, Choice};
pub use text::TextDrafter;
pub use tokens::TokenDrafter;

use crate::{DraftRequest, Drafter, ModelDrafter};
use drafthorse_logits::{Draws, Proposal, TokenId, Verdict};
use drafthorse_model::{LanguageModel, ModelError, Translation, Vocabulary};
use std::sync::Arc;

/// A language model that drafts for an expert with another tokenizer, by the [`Bridge`] that was chosen.
///
/// It keeps nothing of a text but what its model has read, so that one drafter serves many texts in turn, and any
/// number of them share a translation.
///
/// ```
/// use drafthorse_drafter::{Bridge, Drafter, TranslatedDrafter};
/// use drafthorse_model::{Spelling, TableModel, Translation, Vocabulary};
/// use std::sync::Arc;
///
/// let of = |texts: &[&str]| Spelling::plain(Vocabulary::new(texts.iter().map(|text| Some((*text).to_owned()))));
/// let translation = Arc::new(Translation::new(of(&["a", "b", "ab"]), of(&["b", "a", "c"])));
/// let choice = Bridge::choose(&translation.overlap(Some("ababba")), translation.is_same(), false)?;
/// let model = Arc::new(TableModel::random(3, 1.0, 1));
/// let drafter = TranslatedDrafter::new(model, translation, choice.bridge)?.named("letters");
/// assert_eq!(drafter.vocab_size(), Some(3), "the expert's");
/// # Ok::<(), drafthorse_model::ModelError>(())
/// ```
#[derive(Debug)]
pub struct TranslatedDrafter {
    name: String,
    by: By,
}

#[derive(Debug)]
enum By {
    Direct(Box<ModelDrafter>),
    Tokens(Box<TokenDrafter>),
    Text(Box<TextDrafter>),
}

impl TranslatedDrafter {
    /// `model`, whose tokens are the drafter's of the translation, drafts by a bridge.
    ///
    /// # Errors
    ///
    /// [`ModelError::Translation`]: the model lacks tokens of its tokenizer; the bridge is direct and the vocabularies
    /// differ, or by tokens and none is shared.
    pub fn new<M: LanguageModel>(
        model: Arc<M>,
        translation: Arc<Translation>,
        bridge: Bridge,
    ) -> Result<Self, ModelError> {
        let by = match bridge {
            Bridge::Direct if translation.is_same() => By::Direct(Box::new(ModelDrafter::new(model))),
            Bridge::Direct => {
                let message =
                    "the vocabularies differ, so that no draft is right as it is; draft by tokens or as text";
                return Err(ModelError::Translation { message: message.into() });
            }
            Bridge::Tokens => By::Tokens(Box::new(TokenDrafter::new(model, translation)?)),
            Bridge::Text => By::Text(Box::new(TextDrafter::new(model, translation)?)),
        };
        Ok(Self { name: bridge.name().into(), by })
    }

    /// The same drafter under another name in reports.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// How its drafts become the expert's tokens.
    pub fn bridge(&self) -> Bridge {
        match self.by {
            By::Direct(_) => Bridge::Direct,
            By::Tokens(_) => Bridge::Tokens,
            By::Text(_) => Bridge::Text,
        }
    }

    fn inner(&self) -> &dyn Drafter {
        match &self.by {
            By::Direct(drafter) => &**drafter,
            By::Tokens(drafter) => &**drafter,
            By::Text(drafter) => &**drafter,
        }
    }

    fn inner_mut(&mut self) -> &mut dyn Drafter {
        match &mut self.by {
            By::Direct(drafter) => &mut **drafter,
            By::Tokens(drafter) => &mut **drafter,
            By::Text(drafter) => &mut **drafter,
        }
    }
}

impl Drafter for TranslatedDrafter {
    fn name(&self) -> &str {
        &self.name
    }

    fn vocab_size(&self) -> Option<usize> {
        self.inner().vocab_size()
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.inner().vocabulary()
    }

    fn context_len(&self) -> Option<usize> {
        self.inner().context_len()
    }

    fn is_calibrated(&self) -> bool {
        self.inner().is_calibrated()
    }

    fn is_stepwise(&self) -> bool {
        self.inner().is_stepwise()
    }

    fn is_pure(&self) -> bool {
        self.inner().is_pure()
    }

    fn prepare(&mut self, sequence: &[TokenId]) -> Result<(), ModelError> {
        self.inner_mut().prepare(sequence)
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        self.inner_mut().propose(sequence, request, draws)
    }

    fn observe(&mut self, verdict: &Verdict) {
        self.inner_mut().observe(verdict);
    }

    fn rest(&mut self) {
        self.inner_mut().rest();
    }

    fn confidences(&self) -> &[f64] {
        self.inner().confidences()
    }
}
