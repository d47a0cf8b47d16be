use crate::{
    DraftCosts, DraftLength, EngineBuilder, Error, Session, SessionOptions,
    compatible::{Expert, check_drafter},
    length::Learnt,
};
use drafthorse_drafter::Drafter;
use drafthorse_logits::{Draws, SeededDraws, TokenId};
use drafthorse_model::{Detokenizer, LanguageModel};
use drafthorse_verifier::{AcceptanceRule, Verifier};
use std::sync::Arc;

/// An expert, a drafter and a rule that fit together.
///
/// It generates one text at a time and remembers what it read, so that the next turn of a conversation
/// reads only what is new. Weights are shared: several engines over the same models cost several caches
/// and nothing more.
pub struct Engine {
    pub(crate) verifier: Verifier,
    pub(crate) drafter: Box<dyn Drafter>,
    pub(crate) rule: Arc<dyn AcceptanceRule>,
    pub(crate) draft_length: DraftLength,
    pub(crate) learnt: Learnt,
    pub(crate) detokenizer: Option<Arc<dyn Detokenizer>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (drafter, rule) = (self.drafter.name(), self.rule.name());
        write!(f, "Engine {{ {:?}, drafter {drafter}, rule {rule} }}", self.verifier)
    }
}

impl Engine {
    /// Begins with no parts.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Generates a text after `prompt`.
    ///
    /// # Errors
    ///
    /// An empty prompt, one that leaves no room in the context or holds a token outside the vocabulary;
    /// an option out of range; a rule that does not go with the drafter.
    pub fn session(&mut self, prompt: &[TokenId], options: &SessionOptions) -> Result<Session<'_>, Error> {
        self.session_with(prompt, options, SeededDraws::new(options.seed, 0))
    }

    /// As [`Engine::session`], with random decisions from elsewhere than the seed: over
    /// [`exact::outcomes`](drafthorse_logits::exact::outcomes) this gives the law of the whole engine.
    ///
    /// # Errors
    ///
    /// As [`Engine::session`].
    pub fn session_with<'a>(
        &'a mut self,
        prompt: &[TokenId],
        options: &SessionOptions,
        draws: impl Draws + 'a,
    ) -> Result<Session<'a>, Error> {
        Session::new(self, prompt, options, Box::new(draws))
    }

    /// The drafter.
    pub fn drafter(&self) -> &dyn Drafter {
        &*self.drafter
    }

    /// The rule used where a session names no other.
    pub fn rule(&self) -> &dyn AcceptanceRule {
        &*self.rule
    }

    /// What a draft length that adapts learnt of costs and acceptances, where the last text went by one; `None` before
    /// it knows anything. It is forgotten with a part that is exchanged.
    pub fn draft_costs(&self) -> Option<DraftCosts> {
        self.learnt.draft_costs()
    }

    /// Forgets what draft lengths that adapt have learnt.
    pub fn forget_draft_costs(&mut self) {
        self.learnt.forget();
    }

    /// Exchanges the drafter; returns the old one.
    ///
    /// # Errors
    ///
    /// The new one does not fit, and the old one stays.
    pub fn replace_drafter(&mut self, drafter: impl Drafter + 'static) -> Result<Box<dyn Drafter>, Error> {
        check_drafter(&drafter, &Expert::of(&self.verifier), &*self.rule, &self.draft_length)?;
        self.learnt.forget();
        Ok(std::mem::replace(&mut self.drafter, Box::new(drafter)))
    }

    /// Exchanges the expert, and what turns its tokens into text if one is given; without one the old
    /// detokenizer stays, which is right for an expert with the same tokenizer.
    ///
    /// # Errors
    ///
    /// The new one does not fit the drafter, and the old one stays.
    pub fn replace_expert<M: LanguageModel>(
        &mut self,
        expert: Arc<M>,
        detokenizer: Option<Arc<dyn Detokenizer>>,
    ) -> Result<(), Error> {
        let verifier = Verifier::new(expert);
        check_drafter(&*self.drafter, &Expert::of(&verifier), &*self.rule, &self.draft_length)?;
        self.verifier = verifier;
        self.learnt.forget();
        if detokenizer.is_some() {
            self.detokenizer = detokenizer;
        }
        Ok(())
    }
}
