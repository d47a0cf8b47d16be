//! Models and drafters by name.

use super::{
    args::{ModelArgs, PartArgs},
    failure::Failure,
    interrupt::Interrupt,
    laws::ExpertLaw,
};
use drafthorse::{
    Drafter, Engine, ModelDrafter, NgramDrafter, NoDrafter, SessionOptions, Stats, TokenId, Transformer,
    demo,
    model::{LoadOptions, LoadedDevice, set_threads},
    open_device, synthetic,
    verifier::{AcceptanceRule, rule},
};
use std::{path::Path, sync::Arc};

/// What was opened for a command.
pub(crate) struct Parts {
    pub(crate) expert: Arc<Transformer>,
    pub(crate) drafter: DrafterPart,
}

/// A drafter that can be made as often as it is needed.
#[derive(Clone)]
pub(crate) enum DrafterPart {
    None,
    Ngram(NgramDrafter),
    Model { name: String, model: Arc<Transformer> },
}

impl DrafterPart {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::None => "none",
            Self::Ngram(_) => "ngram",
            Self::Model { name, .. } => name,
        }
    }

    /// Tokens to draft a round where nothing is said: a model's drafts cost time, looked up ones do not.
    pub(crate) fn default_length(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Ngram(_) => 4,
            Self::Model { .. } => 2,
        }
    }

    pub(crate) fn make(&self) -> Box<dyn Drafter> {
        match self {
            Self::None => Box::new(NoDrafter),
            Self::Ngram(drafter) => Box::new(*drafter),
            Self::Model { name, model } => Box::new(ModelDrafter::new(model.clone()).named(name.as_str())),
        }
    }
}

/// Opens the expert.
pub(crate) fn expert(name: &str, args: &ModelArgs) -> Result<Arc<Transformer>, Failure> {
    if let Some(threads) = args.threads {
        set_threads(threads.into())?;
    }
    let device = open_device(args.device)?;
    model(name, &device, args.load_options(false), demo::expert)
}

/// Opens a drafter: a folder, `demo`, `ngram` or `none`.
pub(crate) fn drafter(name: &str, args: &ModelArgs) -> Result<DrafterPart, Failure> {
    match name {
        "none" => Ok(DrafterPart::None),
        "ngram" => {
            let (min, max) = (args.ngram_min, args.ngram_max);
            NgramDrafter::new(min, max).map(DrafterPart::Ngram).ok_or_else(|| {
                Failure::new(format!("--ngram-min {min} and --ngram-max {max}: 1 <= min <= max is needed"))
            })
        }
        _ => {
            let device = open_device(args.draft_device.unwrap_or(args.device))?;
            let options = args.load_options(true);
            let model = model(name, &device, options, demo::drafter).map_err(|failure| match failure {
                Failure::Message(text) if text.contains("is not a folder") => {
                    Failure::Message(text + "; a drafter can also be `ngram` or `none`")
                }
                failure => failure,
            })?;
            Ok(DrafterPart::Model { name: name.to_owned(), model })
        }
    }
}

/// The drafter that goes with an expert when none is named.
pub(crate) fn default_drafter(args: &PartArgs) -> &'static str {
    if args.expert == "demo" { "demo" } else { "ngram" }
}

type OpenDemo = fn(&LoadedDevice, LoadOptions) -> Result<Arc<Transformer>, drafthorse::ModelError>;

fn model(
    name: &str,
    device: &LoadedDevice,
    options: LoadOptions,
    demo: OpenDemo,
) -> Result<Arc<Transformer>, Failure> {
    if name == "demo" {
        return Ok(demo(device, options)?);
    }
    if name == "demo-drafter" {
        return Ok(demo::drafter(device, options)?);
    }
    if name == synthetic::BENCH_134M {
        return Ok(synthetic::bench_134m(device, options)?);
    }
    Ok(Arc::new(Transformer::open(folder(name)?, device, options)?))
}

/// The folder of this name.
pub(crate) fn folder(name: &str) -> Result<&Path, Failure> {
    let folder = Path::new(name);
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(Failure::new(format!(
        "`{name}` is not a folder; name a Hugging Face folder with config.json and model.safetensors, `demo`, `demo-drafter`, or `{}`{}",
        synthetic::BENCH_134M,
        if name == "ngram" || name == "none" { "; `ngram` and `none` are for --drafter alone" } else { "" }
    )))
}

/// Options for a drafter's model, where it is none.
pub(crate) fn check_draft_options(drafter: &DrafterPart, args: &ModelArgs) -> Result<(), Failure> {
    let given =
        [("--draft-weights", args.draft_weights.is_some()), ("--draft-device", args.draft_device.is_some())];
    let name = drafter.name();
    match given.into_iter().find(|(_, given)| *given) {
        Some((option, _)) if !matches!(drafter, DrafterPart::Model { .. }) => Err(Failure::new(format!(
            "{option} is for a drafter that is a model, and drafter `{name}` is none; leave it out, or name a model as drafter"
        ))),
        _ => Ok(()),
    }
}

impl Parts {
    pub(crate) fn open(args: &PartArgs, drafter_name: Option<&str>) -> Result<Self, Failure> {
        let expert = expert(&args.expert, &args.models)?;
        let drafter = drafter(drafter_name.unwrap_or_else(|| default_drafter(args)), &args.models)?;
        check_draft_options(&drafter, &args.models)?;
        Ok(Self { expert, drafter })
    }
}

/// A text that was generated for its numbers.
pub(crate) struct Measured {
    pub(crate) stats: Stats,
    pub(crate) tokens: Vec<TokenId>,
    /// `rounds_by_drafted[i]`: rounds in which `i` tokens were drafted.
    pub(crate) rounds_by_drafted: Vec<u64>,
}

/// Generates a text with a fresh engine, so that what an earlier text left in a cache helps nobody; `None`
/// after Ctrl-C.
pub(crate) fn measure(
    mut engine: Engine,
    prompt: &[TokenId],
    options: &SessionOptions,
    interrupt: &Interrupt,
) -> Result<Option<Measured>, Failure> {
    let mut session = engine.session(prompt, options)?;
    let mut rounds_by_drafted = Vec::new();
    for step in &mut session {
        let drafted = step?.drafted;
        rounds_by_drafted.resize(rounds_by_drafted.len().max(drafted + 1), 0);
        rounds_by_drafted[drafted] += 1;
        if interrupt.seen() {
            return Ok(None);
        }
    }
    let (stats, tokens) = (session.stats().clone(), session.generated().to_vec());
    Ok(Some(Measured { stats, tokens, rounds_by_drafted }))
}

/// The tokens that end a text of this model.
pub(crate) fn stop_tokens(model: &Transformer, ignore: bool) -> Vec<TokenId> {
    let mut tokens = model.generation_config().eos.clone();
    // Some configurations name tokens that the model cannot say.
    tokens.retain(|&token| !ignore && (token as usize) < model.config().vocab_size);
    tokens
}

/// The rule that was asked for, with its dials.
pub(crate) fn acceptance_rule(args: &PartArgs) -> Result<Arc<dyn AcceptanceRule>, Failure> {
    let spec = match args.lenience {
        None => args.rule.clone(),
        Some(lenience) => {
            let separator = if args.rule.contains(':') { ',' } else { ':' };
            format!("{}{separator}lenience={lenience}", args.rule)
        }
    };
    rule(&spec).map_err(Failure::new)
}

/// The expert with the law it speaks.
#[derive(Clone, Copy)]
pub(crate) struct Expert<'a> {
    pub(crate) model: &'a Arc<Transformer>,
    pub(crate) law: &'a ExpertLaw,
}

impl<'a> Expert<'a> {
    /// A model that speaks for itself.
    pub(crate) fn alone(model: &'a Arc<Transformer>) -> Self {
        Self { model, law: &ExpertLaw::Own }
    }
}

/// An engine over these parts.
pub(crate) fn engine(
    expert: Expert<'_>,
    drafter: Box<dyn Drafter>,
    args: &PartArgs,
    draft_length: usize,
) -> Result<Engine, Failure> {
    let rule = acceptance_rule(args)?;
    let builder = Engine::builder().drafter(drafter).rule(rule).draft_length(draft_length);
    let mut builder = expert.law.give(builder, expert.model)?;
    let expert = expert.model;
    if let Some(tokenizer) = expert.tokenizer() {
        builder = builder.detokenizer(tokenizer.clone());
    }
    Ok(builder.build()?)
}
