//! Drafters by name.

use super::{
    args::ModelArgs,
    failure::Failure,
    laws::ExpertLaw,
    parts::{DEMO_DRAFTER, Expert, named_model},
};
use drafthorse::{
    Drafter, Engine, ModelDrafter, NgramDrafter, NoDrafter, Transformer, drafter::SuffixDrafter,
    engine::EngineBuilder, model::Shortcut, open_device, self_speculation,
};
use std::sync::Arc;

/// A drafter that can be made as often as it is needed, each time as if it had seen nothing.
#[derive(Clone)]
pub(crate) struct DrafterPart {
    name: String,
    kind: Kind,
    make: Arc<dyn Fn() -> Box<dyn Drafter> + Send + Sync>,
}

/// What matters of a drafter beside its proposals.
#[derive(Clone)]
enum Kind {
    /// It proposes nothing.
    Nothing,
    /// It looks tokens up, which costs next to nothing.
    Lookup,
    /// The model whose rows are its scores, as they are.
    Model(Arc<Transformer>),
    /// The expert's own layers.
    Shortcut(Shortcut),
}

impl DrafterPart {
    /// Proposes nothing.
    pub(crate) fn none() -> Self {
        Self::of("none", Kind::Nothing, || NoDrafter)
    }

    fn of<D: Drafter + 'static>(
        name: &str,
        kind: Kind,
        make: impl Fn() -> D + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.to_owned(), kind, make: Arc::new(move || Box::new(make())) }
    }

    fn of_model(name: &str, model: Arc<Transformer>) -> Self {
        let (own, label) = (model.clone(), name.to_owned());
        Self::of(name, Kind::Model(model), move || ModelDrafter::new(own.clone()).named(label.as_str()))
    }

    fn of_shortcut(name: &str, expert: &Transformer) -> Result<Self, Failure> {
        let shortcut: Shortcut = name.parse()?;
        let (short, label) = (Arc::new(expert.shortened(&shortcut)?), shortcut.to_string());
        let make = move || ModelDrafter::new(short.clone()).named(label.as_str());
        Ok(Self::of(name, Kind::Shortcut(shortcut), make))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it proposes nothing.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self.kind, Kind::Nothing)
    }

    /// Whether its drafts cost next to nothing.
    pub(crate) fn is_lookup(&self) -> bool {
        matches!(self.kind, Kind::Lookup)
    }

    /// The model that drafts, where it does so by itself and in the expert's tokens.
    pub(crate) fn model(&self) -> Option<&Arc<Transformer>> {
        match &self.kind {
            Kind::Model(model) => Some(model),
            _ => None,
        }
    }

    pub(crate) fn make(&self) -> Box<dyn Drafter> {
        (self.make)()
    }

    /// An engine's beginning: this drafter with this expert. An expert that speaks for itself and leaves early to draft
    /// shares what it has read.
    pub(crate) fn begin(&self, expert: Expert<'_>) -> Result<EngineBuilder, Failure> {
        match (&self.kind, expert.law) {
            (Kind::Shortcut(shortcut), ExpertLaw::Own) => {
                Ok(self_speculation::builder(expert.model, shortcut)?)
            }
            _ => expert.law.give(Engine::builder().drafter(self.make()), expert.model),
        }
    }
}

/// Opens a drafter for an expert: a folder, or one of the names.
pub(crate) fn open(name: &str, args: &ModelArgs, expert: &Arc<Transformer>) -> Result<DrafterPart, Failure> {
    match name {
        "none" => Ok(DrafterPart::none()),
        "ngram" => {
            let (min, max) = (args.ngram_min, args.ngram_max);
            let drafter = NgramDrafter::new(min, max).ok_or_else(|| {
                Failure::new(format!("--ngram-min {min} and --ngram-max {max}: 1 <= min <= max is needed"))
            })?;
            Ok(DrafterPart::of(name, Kind::Lookup, move || drafter))
        }
        "suffix" => Ok(DrafterPart::of(name, Kind::Lookup, SuffixDrafter::default)),
        _ if name.starts_with("exit:") || name.starts_with("skip:") => DrafterPart::of_shortcut(name, expert),
        _ => Ok(DrafterPart::of_model(name, open_model(name, args)?)),
    }
}

fn open_model(name: &str, args: &ModelArgs) -> Result<Arc<Transformer>, Failure> {
    let device = open_device(args.draft_device.unwrap_or(args.device))?;
    // As a drafter, the demo is its drafter.
    let name = if name == "demo" { DEMO_DRAFTER } else { name };
    named_model(name, &device, args.load_options(true)).map_err(|failure| match failure {
        Failure::Message(text) if text.contains("is not a folder") => Failure::Message(
            text + "; a drafter can also be `ngram`, `suffix`, `exit:E`, `skip:I,J` or `none`",
        ),
        failure => failure,
    })
}

/// Options for a drafter's model, where it is none.
pub(crate) fn check_options(drafter: &DrafterPart, args: &ModelArgs) -> Result<(), Failure> {
    let given =
        [("--draft-weights", args.draft_weights.is_some()), ("--draft-device", args.draft_device.is_some())];
    let name = drafter.name();
    match given.into_iter().find(|(_, given)| *given) {
        Some((option, _)) if drafter.model().is_none() => Err(Failure::new(format!(
            "{option} is for a drafter that is a model, and drafter `{name}` is none; leave it out, or name a model as drafter"
        ))),
        _ => Ok(()),
    }
}
