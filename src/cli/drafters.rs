//! Drafters by name.

use super::{
    args::ModelArgs,
    failure::Failure,
    parts::{DEMO_DRAFTER, named_model},
};
use drafthorse::{Drafter, ModelDrafter, NgramDrafter, NoDrafter, Transformer, open_device};
use std::sync::Arc;

/// A drafter that can be made as often as it is needed, each time as if it had seen nothing.
#[derive(Clone)]
pub(crate) struct DrafterPart {
    name: String,
    /// The model whose rows are its scores, as they are.
    model: Option<Arc<Transformer>>,
    make: Arc<dyn Fn() -> Box<dyn Drafter> + Send + Sync>,
}

impl DrafterPart {
    /// Proposes nothing.
    pub(crate) fn none() -> Self {
        Self::of("none", || NoDrafter)
    }

    fn of<D: Drafter + 'static>(name: &str, make: impl Fn() -> D + Send + Sync + 'static) -> Self {
        Self { name: name.to_owned(), model: None, make: Arc::new(move || Box::new(make())) }
    }

    fn of_model(name: &str, model: Arc<Transformer>) -> Self {
        let (own, label) = (model.clone(), name.to_owned());
        let part = Self::of(name, move || ModelDrafter::new(own.clone()).named(label.as_str()));
        Self { model: Some(model), ..part }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it proposes nothing.
    pub(crate) fn is_none(&self) -> bool {
        self.name == "none"
    }

    /// The model that drafts, where it does so by itself and in the expert's tokens.
    pub(crate) fn model(&self) -> Option<&Arc<Transformer>> {
        self.model.as_ref()
    }

    pub(crate) fn make(&self) -> Box<dyn Drafter> {
        (self.make)()
    }
}

/// Opens a drafter for an expert: a folder, or one of the names.
pub(crate) fn open(name: &str, args: &ModelArgs, _expert: &Arc<Transformer>) -> Result<DrafterPart, Failure> {
    match name {
        "none" => Ok(DrafterPart::none()),
        "ngram" => {
            let (min, max) = (args.ngram_min, args.ngram_max);
            let drafter = NgramDrafter::new(min, max).ok_or_else(|| {
                Failure::new(format!("--ngram-min {min} and --ngram-max {max}: 1 <= min <= max is needed"))
            })?;
            Ok(DrafterPart::of(name, move || drafter))
        }
        _ => Ok(DrafterPart::of_model(name, open_model(name, args)?)),
    }
}

fn open_model(name: &str, args: &ModelArgs) -> Result<Arc<Transformer>, Failure> {
    let device = open_device(args.draft_device.unwrap_or(args.device))?;
    // As a drafter, the demo is its drafter.
    let name = if name == "demo" { DEMO_DRAFTER } else { name };
    named_model(name, &device, args.load_options(true)).map_err(|failure| match failure {
        Failure::Message(text) if text.contains("is not a folder") => {
            Failure::Message(text + "; a drafter can also be `ngram` or `none`")
        }
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
