//! Drafters by name.

mod shelf;

use super::{
    args::ModelArgs,
    config::lasting_name,
    failure::Failure,
    laws::ExpertLaw,
    parts::{DEMO_DRAFTER, Expert, named_model},
    prompts,
};
use clap::{Args, ValueEnum};
use drafthorse::{
    DeviceChoice, Drafter, Engine, ModelDrafter, ModelError, NgramDrafter, NoDrafter, Transformer,
    drafter::{Bridge, ChainDrafter, HybridDrafter, TranslatedDrafter},
    engine::{Ahead, AheadOptions, AheadReport, AheadWhen, EngineBuilder},
    model::{Shortcut, Spelling, Translation, threads},
    open_device, self_speculation,
};
use shelf::{MEMORY_NAME, SUFFIX_NAME, Shelf, StoreArgs};
use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

/// A drafter that can be made as often as it is needed, each time as if it had seen nothing.
#[derive(Clone)]
pub(crate) struct DrafterPart {
    /// As in reports.
    name: String,
    /// As it can be said again, wherever one stands.
    spec: String,
    kind: Kind,
    shelf: Option<Arc<Shelf>>,
    /// Whether it drafts on a thread of its own, and what is known of that: of the drafter that was made first.
    ahead: Option<(AheadOptions, Arc<OnceLock<AheadReport>>)>,
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
    /// Several drafters, or a model by a bridge.
    Other,
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
        Self {
            name: name.to_owned(),
            spec: name.to_owned(),
            kind,
            shelf: None,
            ahead: None,
            make: Arc::new(move || Box::new(make())),
        }
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

    /// What to say to get it again, wherever one stands.
    pub(crate) fn spec(&self) -> &str {
        &self.spec
    }

    /// Whether it proposes nothing.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self.kind, Kind::Nothing)
    }

    /// Whether its drafts cost next to nothing.
    pub(crate) fn is_lookup(&self) -> bool {
        matches!(self.kind, Kind::Lookup)
    }

    /// Whether the expert it begins with can read trees if it can alone: one that shares what it has read cannot.
    pub(crate) fn leaves_trees(&self) -> bool {
        !matches!(self.kind, Kind::Shortcut(Shortcut::Exit(_)))
    }

    /// Tokens to draft a round where times shall not decide: a model's drafts cost time, looked up ones do not.
    pub(crate) fn steady_length(&self) -> usize {
        if self.is_lookup() { 4 } else { 2 }
    }

    /// The model that drafts, where it does so by itself and in the expert's tokens.
    pub(crate) fn model(&self) -> Option<&Arc<Transformer>> {
        match &self.kind {
            Kind::Model(model) => Some(model),
            _ => None,
        }
    }

    /// Which of the expert's own layers draft, if it does so for itself.
    pub(crate) fn shortcut(&self) -> Option<&Shortcut> {
        match &self.kind {
            Kind::Shortcut(shortcut) => Some(shortcut),
            _ => None,
        }
    }

    pub(crate) fn make(&self) -> Box<dyn Drafter> {
        let drafter = (self.make)();
        let Some((options, report)) = &self.ahead else { return drafter };
        let ahead = Ahead::new(drafter, *options);
        let _ = report.set(ahead.report());
        Box::new(ahead)
    }

    /// What is known of drafting ahead, where that was tried.
    pub(crate) fn ahead(&self) -> Option<&AheadReport> {
        self.ahead.as_ref()?.1.get()
    }

    /// The same drafter on a thread of its own, if it was asked for, or if something is to spare for it.
    fn run_ahead(self, args: &ModelArgs, expert: &Transformer) -> Result<Self, Failure> {
        let Some(model) = self.model() else {
            return match args.ways.ahead {
                Thread::On => Err(Failure::new(format!(
                    "--ahead on: drafter `{}` is no model that drafts by itself, and nothing is gained; leave it out",
                    self.name
                ))),
                Thread::Auto | Thread::Off => Ok(self),
            };
        };
        let (ours, theirs) = (expert.device(), model.device());
        let apart = ours.choice != theirs.choice;
        let cpu = ours.choice == DeviceChoice::Cpu;
        let spare = apart || (cpu && threads() < std::thread::available_parallelism().map_or(1, usize::from));
        let usual = AheadOptions::default();
        let options = match args.ways.ahead {
            Thread::Off => return Ok(self),
            Thread::Auto if !spare => return Ok(self),
            Thread::Auto => AheadOptions { when: AheadWhen::Measured { spare }, ..usual },
            Thread::On if !cpu && !apart => {
                return Err(Failure::new(format!(
                    "--ahead on: drafter and expert both compute on {theirs}, which takes one thread; give the drafter another --draft-device, or leave it out"
                )));
            }
            Thread::On => AheadOptions { when: AheadWhen::Always, ..usual },
        };
        Ok(Self { ahead: Some((options, Arc::default())), ..self })
    }

    /// Keeps what was learnt for later runs, if there is a place for it. The drafter must be gone by then.
    pub(crate) fn save(&self, quiet: bool) -> Result<(), Failure> {
        self.shelf.as_ref().map_or(Ok(()), |shelf| shelf.save(quiet))
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

/// What drafts for a drafter, and what becomes of tokens that differ.
#[derive(Args, Clone, Default)]
pub(crate) struct WayArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// What drafts for the drafter, where that is a model: a smaller model, ngram, suffix or memory. Its proposals stay
    /// what they are, and take fewer of its passes
    #[arg(long, value_name = "DRAFTER", help_heading = "Drafting")]
    pub(crate) draft_chain: Option<String>,
    /// How the tokens of a drafter with another tokenizer become the expert's: tli (those that both have, with
    /// probabilities) or slem (as text). Without it, what fits better; `drafthorse check` says which
    #[arg(long, value_enum, value_name = "WAY", help_heading = "Drafting")]
    pub(crate) draft_bridge: Option<Way>,
    /// Go on drafting on a thread of its own while the expert verifies: auto measures whether it pays, and is off where
    /// the drafter has neither a device nor processors of its own (--threads)
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", help_heading = "Drafting")]
    pub(crate) ahead: Thread,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Thread {
    #[default]
    Auto,
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    Tli,
    Slem,
}

/// Opens a drafter for an expert: a folder, one of the names, or several with `+` between them. `calibrated`: the rule
/// reads the drafter's probabilities.
pub(crate) fn open(
    name: &str,
    args: &ModelArgs,
    expert: &Arc<Transformer>,
    calibrated: bool,
) -> Result<DrafterPart, Failure> {
    let opening =
        Opening { args, expert, calibrated, shelf: Arc::new(Shelf::new(&args.ways.store, expert)?) };
    let several = name.contains('+') && !Path::new(name).is_dir();
    let part = if several { opening.hybrid(name)? } else { opening.chained(name)? };
    opening.shelf.open();
    let names = if several { name.split('+').collect() } else { vec![name] };
    let spec = names.into_iter().map(|name| lasting_name(name.trim())).collect::<Vec<_>>().join("+");
    DrafterPart { shelf: Some(opening.shelf), spec, ..part }.run_ahead(args, expert)
}

/// Drafters of one name share what they remember.
struct Opening<'a> {
    args: &'a ModelArgs,
    expert: &'a Arc<Transformer>,
    calibrated: bool,
    shelf: Arc<Shelf>,
}

impl Opening<'_> {
    /// Several, the first of which that has something to say.
    fn hybrid(&self, name: &str) -> Result<DrafterPart, Failure> {
        let parts = name.split('+').map(|part| self.chained(part.trim())).collect::<Result<Vec<_>, _>>()?;
        if let Some(part) = parts.iter().find(|part| part.is_none()) {
            return Err(Failure::new(format!(
                "drafter `{name}`: `{}` has nothing to add; leave it out",
                part.name()
            )));
        }
        let make = move || HybridDrafter::new(parts.iter().map(DrafterPart::make).collect());
        // Two with different tokens are found now.
        make().map_err(Failure::new)?;
        Ok(DrafterPart::of(name, Kind::Other, move || make().expect("it was made before")))
    }

    /// One, and what drafts for it.
    fn chained(&self, name: &str) -> Result<DrafterPart, Failure> {
        let part = self.single(name)?;
        let (Some(guesser), Some(model)) = (&self.args.ways.draft_chain, part.model()) else {
            return Ok(part);
        };
        let guesser = self.single(guesser)?;
        if guesser.is_none() {
            return Err(Failure::new("--draft-chain none: it drafts nothing; leave the option out"));
        }
        let (model, label) = (model.clone(), name.to_owned());
        let make = move || ChainDrafter::new(model.clone(), guesser.make()).named(&label);
        Ok(DrafterPart::of(make().name(), Kind::Other, make.clone()))
    }

    fn single(&self, name: &str) -> Result<DrafterPart, Failure> {
        match name {
            "none" => Ok(DrafterPart::none()),
            "ngram" => {
                let (min, max) = (self.args.ngram_min, self.args.ngram_max);
                let drafter = NgramDrafter::new(min, max).ok_or_else(|| {
                    Failure::new(format!(
                        "--ngram-min {min} and --ngram-max {max}: 1 <= min <= max is needed"
                    ))
                })?;
                Ok(DrafterPart::of(name, Kind::Lookup, move || drafter))
            }
            SUFFIX_NAME | MEMORY_NAME => {
                self.shelf.check(name)?;
                let shelf = self.shelf.clone();
                Ok(if name == SUFFIX_NAME {
                    DrafterPart::of(name, Kind::Lookup, move || shelf.suffix())
                } else {
                    DrafterPart::of(name, Kind::Lookup, move || shelf.memory())
                })
            }
            _ if name.starts_with("exit:") || name.starts_with("skip:") => {
                DrafterPart::of_shortcut(name, self.expert)
            }
            _ => self.model(name),
        }
    }

    /// A model, by a bridge where its tokens are not the expert's.
    fn model(&self, name: &str) -> Result<DrafterPart, Failure> {
        let model = open_model(name, self.args)?;
        let (Some(ours), Some(theirs)) = (self.expert.tokenizer(), model.tokenizer()) else {
            return Ok(DrafterPart::of_model(name, model));
        };
        let translation = Arc::new(Translation::new(Spelling::of(ours)?, Spelling::of(theirs)?));
        let bridge = match self.args.ways.draft_bridge {
            _ if translation.is_same() => return Ok(DrafterPart::of_model(name, model)),
            None => {
                Bridge::choose(&translation.overlap(Some(&prompts::sample())), false, self.calibrated)?.bridge
            }
            Some(Way::Tli) => Bridge::Tokens,
            Some(Way::Slem) => Bridge::Text,
        };
        let label = format!("{name} ({})", bridge.name());
        let make = {
            let label = label.clone();
            move || {
                Ok::<_, ModelError>(
                    TranslatedDrafter::new(model.clone(), translation.clone(), bridge)?.named(label.as_str()),
                )
            }
        };
        make()?;
        Ok(DrafterPart::of(&label, Kind::Other, move || make().expect("it was made before")))
    }
}

fn open_model(name: &str, args: &ModelArgs) -> Result<Arc<Transformer>, Failure> {
    let device = open_device(args.draft_device.unwrap_or(args.device))?;
    // As a drafter, the demo is its drafter.
    let name = if name == "demo" { DEMO_DRAFTER } else { name };
    named_model(name, &device, args.load_options(true)).map_err(|failure| match failure {
        Failure::Message(text) if text.contains("is not a folder") => Failure::Message(
            text + "; a drafter can also be `ngram`, `suffix`, `memory`, `exit:E`, `skip:I,J`, several with `+` between them, or `none`",
        ),
        failure => failure,
    })
}

/// Options that would do nothing with this drafter.
pub(crate) fn check_options(drafter: &DrafterPart, args: &ModelArgs) -> Result<(), Failure> {
    let (name, ways) = (drafter.name(), &args.ways);
    let parts: Vec<_> = drafter.spec().split('+').collect();
    let remembers = |name: &str| [SUFFIX_NAME, MEMORY_NAME].contains(&name);
    let chained = ways.draft_chain.as_deref().is_some_and(remembers) && name.contains('>');
    let no_model = drafter.is_none() || drafter.is_lookup();
    let own_layers = matches!(drafter.kind, Kind::Shortcut(_));
    let idle = [
        (
            "--draft-weights",
            args.draft_weights.is_some() && (no_model || own_layers),
            "a drafter that is a model of its own",
        ),
        (
            "--draft-device",
            args.draft_device.is_some() && (no_model || own_layers),
            "a drafter that is a model of its own",
        ),
        (
            "--draft-chain",
            ways.draft_chain.is_some() && !name.contains('>'),
            "a drafter that is a model with the expert's tokens",
        ),
        (
            "--draft-bridge",
            ways.draft_bridge.is_some() && !name.contains(" ("),
            "a drafter that is a model with another tokenizer",
        ),
        (
            "--draft-store",
            ways.store.draft_store.is_some() && !parts.iter().any(|part| remembers(part)) && !chained,
            "the drafters `suffix` and `memory`",
        ),
    ];
    match idle.into_iter().find(|(_, idle, _)| *idle) {
        Some((option, _, whom)) => Err(Failure::new(format!(
            "{option} is for {whom}, and drafter `{name}` is none; leave it out, or name another drafter"
        ))),
        None => Ok(()),
    }
}
