use crate::{
    DraftLength, Engine, Error, ErrorKind,
    compatible::{Expert, check_drafter},
    length::Learnt,
};
use drafthorse_drafter::{Drafter, NoDrafter};
use drafthorse_model::{Detokenizer, LanguageModel};
use drafthorse_verifier::{AcceptanceRule, Lossless, Verifier};
use std::sync::Arc;

/// Puts the parts of an [`Engine`] together.
///
/// Without a drafter it decodes plainly; without a rule it is lossless.
pub struct EngineBuilder {
    expert: Option<Verifier>,
    drafter: Box<dyn Drafter>,
    rule: Arc<dyn AcceptanceRule>,
    draft_length: DraftLength,
    detokenizer: Option<Arc<dyn Detokenizer>>,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        Self {
            expert: None,
            drafter: Box::new(NoDrafter),
            rule: Arc::new(Lossless),
            draft_length: DraftLength::default(),
            detokenizer: None,
        }
    }
}

impl EngineBuilder {
    /// The model whose text is wanted.
    #[must_use]
    pub fn expert<M: LanguageModel>(mut self, expert: Arc<M>) -> Self {
        self.expert = Some(Verifier::new(expert));
        self
    }

    /// What proposes tokens.
    #[must_use]
    pub fn drafter(mut self, drafter: impl Drafter + 'static) -> Self {
        self.drafter = Box::new(drafter);
        self
    }

    /// By which law proposed tokens are kept or replaced.
    #[must_use]
    pub fn rule(mut self, rule: impl AcceptanceRule + 'static) -> Self {
        self.rule = Arc::new(rule);
        self
    }

    /// How many tokens are proposed a round; 0 is plain decoding. Without it, as many as pay.
    #[must_use]
    pub fn draft_length(mut self, length: impl Into<DraftLength>) -> Self {
        self.draft_length = length.into();
        self
    }

    /// What turns tokens into text; without it steps have tokens only.
    #[must_use]
    pub fn detokenizer(mut self, detokenizer: impl Detokenizer + 'static) -> Self {
        self.detokenizer = Some(Arc::new(detokenizer));
        self
    }

    /// Checks the parts against each other.
    ///
    /// # Errors
    ///
    /// No expert, vocabularies that differ, a context too small for the draft length, a rule or a draft length whose
    /// settings are out of range, a rule that does not go with the drafter.
    pub fn build(self) -> Result<Engine, Error> {
        let Some(verifier) = self.expert else {
            let message = "an engine needs an expert; call `expert` before `build`";
            return Err(Error::new(ErrorKind::MissingPart, message));
        };
        check_drafter(&*self.drafter, &Expert::of(&verifier), &*self.rule, &self.draft_length)?;
        Ok(Engine {
            verifier,
            drafter: self.drafter,
            rule: self.rule,
            draft_length: self.draft_length,
            learnt: Learnt::default(),
            detokenizer: self.detokenizer,
        })
    }
}
