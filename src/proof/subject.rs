//! What is to be proved.

use super::Remembering;
use crate::self_speculation;
use drafthorse_drafter::{Drafter, ModelDrafter};
use drafthorse_engine::{Engine, EngineBuilder, Error};
use drafthorse_model::{CachedModel, LanguageModel, ModelError, SequenceModel, Shortcut, Transformer};
use std::sync::Arc;

/// Bytes of rows that each of the two models of the quick engines remembers.
const MEMORY: usize = 256 << 20;

/// The engines that are to be proved, and the models they are made of.
///
/// Engines are asked for on several threads.
pub trait Subject: Sync {
    /// A new engine, as users have it.
    ///
    /// # Errors
    ///
    /// The parts do not fit.
    fn engine(&self, draft_length: usize) -> Result<Engine, Error>;

    /// A new engine over models that may remember their forwards: thousands of texts after one prefix are
    /// drawn from it.
    ///
    /// # Errors
    ///
    /// The parts do not fit.
    fn quick_engine(&self, draft_length: usize) -> Result<Engine, Error> {
        self.engine(draft_length)
    }

    /// The expert alone.
    fn expert(&self) -> Box<dyn SequenceModel>;

    /// A new drafter.
    fn drafter(&self) -> Box<dyn Drafter>;
}

type Make = Box<dyn Fn() -> Box<dyn Drafter> + Send + Sync>;

/// An expert and a drafter in the engine of this library.
pub struct Pair<M> {
    expert: Arc<M>,
    remembering: Arc<Remembering<M>>,
    drafter: Make,
    quick_drafter: Option<Make>,
    /// Begins an engine, where expert and drafter belong together.
    begin: Option<Begin>,
}

type Begin = Box<dyn Fn() -> EngineBuilder + Send + Sync>;

impl<M> std::fmt::Debug for Pair<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pair {{ drafter {} }}", (self.drafter)().name())
    }
}

impl<M: LanguageModel> Pair<M> {
    /// An expert with any drafter.
    pub fn new(expert: Arc<M>, drafter: impl Fn() -> Box<dyn Drafter> + Send + Sync + 'static) -> Self {
        let remembering = Arc::new(Remembering::new(expert.clone(), MEMORY));
        Self { expert, remembering, drafter: Box::new(drafter), quick_drafter: None, begin: None }
    }

    /// An expert with a model that drafts.
    pub fn of_models<D: LanguageModel>(expert: Arc<M>, drafter: Arc<D>) -> Self {
        let remembering = Arc::new(Remembering::new(drafter.clone(), MEMORY));
        let quick: Make = Box::new(move || Box::new(ModelDrafter::new(remembering.clone())));
        let pair = Self::new(expert, move || Box::new(ModelDrafter::new(drafter.clone())));
        Self { quick_drafter: Some(quick), ..pair }
    }
}

impl Pair<Transformer> {
    /// A model that drafts for itself, in engines as [`self_speculation::builder`] begins them: with an early exit,
    /// expert and drafter share what they have read. Texts that are compared token by token come from those; laws
    /// are drawn, as of other pairs, from models that remember their forwards, and so from the shortened model apart.
    ///
    /// # Errors
    ///
    /// The shortcut is impossible in this model.
    ///
    /// # Panics
    ///
    /// Never: what was begun once can be begun again.
    pub fn of_shortcut(expert: &Arc<Transformer>, shortcut: &Shortcut) -> Result<Self, ModelError> {
        self_speculation::builder(expert, shortcut)?;
        let short = Arc::new(expert.shortened(shortcut)?);
        let (model, shortcut) = (expert.clone(), shortcut.clone());
        let begin = move || self_speculation::builder(&model, &shortcut).expect("it was begun before");
        Ok(Self { begin: Some(Box::new(begin)), ..Self::of_models(expert.clone(), short) })
    }
}

impl<M: LanguageModel> Subject for Pair<M> {
    fn engine(&self, draft_length: usize) -> Result<Engine, Error> {
        let apart = || Engine::builder().expert(self.expert.clone()).drafter(self.drafter());
        let builder = self.begin.as_ref().map_or_else(apart, |begin| begin());
        builder.draft_length(draft_length).build()
    }

    fn quick_engine(&self, draft_length: usize) -> Result<Engine, Error> {
        let drafter = self.quick_drafter.as_ref().unwrap_or(&self.drafter)();
        let builder = Engine::builder().expert(self.remembering.clone()).drafter(drafter);
        builder.draft_length(draft_length).build()
    }

    fn expert(&self) -> Box<dyn SequenceModel> {
        Box::new(CachedModel::new(self.expert.clone()))
    }

    fn drafter(&self) -> Box<dyn Drafter> {
        (self.drafter)()
    }
}
