//! Models and drafters by name.

use super::{
    args::{ModelArgs, PartArgs},
    drafters::{self, DrafterPart},
    failure::Failure,
    interrupt::Interrupt,
    laws::ExpertLaw,
};
use drafthorse::{
    DraftLength, Engine, SessionOptions, Stats, TokenId, Transformer, demo,
    engine::EngineBuilder,
    logits::RankAcceptance,
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

/// Opens the expert.
pub(crate) fn expert(name: &str, args: &ModelArgs) -> Result<Arc<Transformer>, Failure> {
    if let Some(threads) = args.threads {
        set_threads(threads.into())?;
    }
    let device = open_device(args.device)?;
    named_model(name, &device, args.load_options(false))
}

/// The drafter that goes with an expert when none is named.
pub(crate) fn default_drafter(args: &PartArgs) -> &'static str {
    if args.expert == "demo" { "demo" } else { "ngram" }
}

/// What the demo's drafter is called.
pub(crate) const DEMO_DRAFTER: &str = "demo-drafter";

/// A model inside the program, or the one in a folder.
pub(crate) fn named_model(
    name: &str,
    device: &LoadedDevice,
    options: LoadOptions,
) -> Result<Arc<Transformer>, Failure> {
    if name == "demo" {
        return Ok(demo::expert(device, options)?);
    }
    if name == DEMO_DRAFTER {
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

impl Parts {
    pub(crate) fn open(args: &PartArgs, drafter_name: Option<&str>) -> Result<Self, Failure> {
        Self::with(expert(&args.expert, &args.models)?, args, drafter_name)
    }

    /// The same with an expert that is open.
    pub(crate) fn with(
        expert: Arc<Transformer>,
        args: &PartArgs,
        drafter_name: Option<&str>,
    ) -> Result<Self, Failure> {
        let name = drafter_name.unwrap_or_else(|| default_drafter(args));
        let drafter =
            drafters::open(name, &args.models, &expert, acceptance_rule(args)?.needs_calibrated_draft())?;
        drafters::check_options(&drafter, &args.models)?;
        Ok(Self { expert, drafter })
    }
}

/// A text that was generated for its numbers.
pub(crate) struct Measured {
    pub(crate) stats: Stats,
    pub(crate) tokens: Vec<TokenId>,
    /// `rounds_by_drafted[i]`: rounds in which `i` tokens were drafted.
    pub(crate) rounds_by_drafted: Vec<u64>,
    /// Which children of trees stood.
    pub(crate) ranks: RankAcceptance,
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
    let (mut rounds_by_drafted, mut ranks) = (Vec::new(), RankAcceptance::default());
    for step in &mut session {
        let step = step?;
        let drafted = step.drafted;
        ranks.observe(&step.ranks);
        rounds_by_drafted.resize(rounds_by_drafted.len().max(drafted + 1), 0);
        rounds_by_drafted[drafted] += 1;
        if interrupt.seen() {
            return Ok(None);
        }
    }
    let (stats, tokens) = (session.stats().clone(), session.generated().to_vec());
    Ok(Some(Measured { stats, tokens, rounds_by_drafted, ranks }))
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
    let named = args.rule.as_deref().unwrap_or("lossless");
    let spec = match args.lenience {
        None => named.to_owned(),
        Some(lenience) => {
            let separator = if named.contains(':') { ',' } else { ':' };
            format!("{named}{separator}lenience={lenience}")
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

/// An engine of what was begun with an expert and a drafter.
pub(crate) fn engine(
    begun: EngineBuilder,
    expert: &Transformer,
    rule: Arc<dyn AcceptanceRule>,
    draft_length: DraftLength,
) -> Result<Engine, Failure> {
    let mut builder = begun.rule(rule).draft_length(draft_length);
    if let Some(tokenizer) = expert.tokenizer() {
        builder = builder.detokenizer(tokenizer.clone());
    }
    Ok(builder.build()?)
}
