//! `drafthorse inspect`

pub(crate) mod args;
mod calibration;
mod report;

use super::{
    Outcome,
    failure::Failure,
    interrupt::Interrupt,
    json,
    laws::ExpertLaw,
    output::{self, count},
    parts::{self, Parts},
};
use args::InspectArgs;
use drafthorse::{
    AcceptanceRule, SamplingOptions, SessionOptions, TokenId,
    inspect::{
        Inspection, LayerSource, Look, Names, Position, Sides, Summary, Text, Trace, WithLayers, look, page,
        pieces,
    },
    logits::Sampler,
    model::{CachedModel, Ensemble, LayeredLaw, ModelError, SequenceModel},
};
use std::{path::Path, process::ExitCode, sync::Arc};

pub(crate) fn run(args: &InspectArgs) -> Outcome {
    let calibration = args.calibration.as_deref().map(calibration::read).transpose()?;
    let parts = Parts::open(&args.parts, args.drafting.drafter.as_deref())?;
    let (prompt, _) = args.input.read(&parts.expert, &args.parts.expert)?;
    let rule = parts::acceptance_rule(&args.parts)?;
    let law = args.law.open(&args.parts.models)?;
    check_length(&prompt, &parts)?;
    let mut trace = Trace::default();
    // What was generated before an error is shown, and then the error.
    let failed = match generate(args, &parts, &law, &prompt, &mut trace) {
        Err(failure) if trace.tokens().is_empty() => return Err(failure),
        generated => generated.err(),
    };
    let tokens = [&prompt[..], trace.tokens()].concat();
    let positions =
        positions(args, &parts, expert_rows(args, &parts, &law)?, &*rule, &tokens, prompt.len(), &trace)?;
    let reliability = calibration.or_else(|| calibration::of_prompt(&positions));
    let inspection = Inspection {
        facts: report::facts(args, &parts, &*rule)?,
        tokens: tokens.len(),
        prompt_tokens: prompt.len(),
        layers: if args.no_layers || matches!(law, ExpertLaw::Ensemble(..)) {
            0
        } else {
            parts.expert.config().layers
        },
        summary: Summary::of(&positions),
        generation: args.generate.map(|_| trace.generation()),
        reliability,
        notes: report::notes(args, &parts, &*rule, tokens.len(), &positions),
        positions,
    };
    write(args, &inspection)?;
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn check_length(prompt: &[TokenId], parts: &Parts) -> Result<(), Failure> {
    let (length, context) = (prompt.len(), parts.expert.config().context_len);
    if length <= context {
        return Ok(());
    }
    Err(Failure::new(format!(
        "a prompt of {length} tokens is longer than the expert's context of {context}; shorten it"
    )))
}

fn sampling(args: &InspectArgs, parts: &Parts) -> Result<SamplingOptions, Failure> {
    let mut options = args.sampling.options(parts.expert.tokenizer(), args.generate.unwrap_or(usize::MAX))?;
    if options.min_tokens > 0 {
        options.end_tokens = parts::stop_tokens(&parts.expert, args.ignore_eos);
    }
    Ok(options)
}

/// The options as far as they concern tokens that were not generated.
fn prompt_sampling(options: &SamplingOptions) -> SamplingOptions {
    SamplingOptions { min_tokens: 0, forced_first: None, forced_last: None, ..options.clone() }
}

fn generate(
    args: &InspectArgs,
    parts: &Parts,
    law: &ExpertLaw,
    prompt: &[TokenId],
    trace: &mut Trace,
) -> Result<(), Failure> {
    let Some(max_tokens) = args.generate else { return Ok(()) };
    let options = SessionOptions {
        sampling: sampling(args, parts)?,
        seed: args.sampling.seed(),
        max_tokens,
        stop_tokens: parts::stop_tokens(&parts.expert, args.ignore_eos),
        ..SessionOptions::default()
    };
    let rule = parts::acceptance_rule(&args.parts)?;
    let k = args.drafting.length(&parts.drafter, &args.sampling, &*rule);
    let expert = parts::Expert { model: &parts.expert, law };
    let mut engine = parts::engine(parts.drafter.begin(expert)?, &parts.expert, rule, k)?;
    // After Ctrl-C what is there so far is looked at; a second one ends the program.
    let interrupt = Interrupt::listen();
    for step in engine.session(prompt, &options)? {
        trace.add(&step?);
        if interrupt.seen() {
            break;
        }
    }
    Ok(())
}

/// What reads the expert's rows, by the law it speaks. Several models together have no layers.
fn expert_rows(args: &InspectArgs, parts: &Parts, law: &ExpertLaw) -> Result<Box<dyn LayerSource>, Failure> {
    let expert = &parts.expert;
    Ok(match law {
        ExpertLaw::Own if args.no_layers => Box::new(CachedModel::new(expert.clone())),
        ExpertLaw::Own => Box::new(WithLayers::new(expert.clone())),
        ExpertLaw::Layers(spec) => {
            let expert = Arc::new(LayeredLaw::new(expert.clone(), spec)?);
            if args.no_layers {
                Box::new(CachedModel::new(expert))
            } else {
                Box::new(WithLayers::new(expert))
            }
        }
        ExpertLaw::Ensemble(members, combine) => {
            let all = std::iter::once(expert).chain(members).cloned().collect();
            Box::new(CachedModel::new(Arc::new(Ensemble::new(all, combine.clone())?)))
        }
    })
}

/// What both sides say of the last tokens.
fn positions(
    args: &InspectArgs,
    parts: &Parts,
    mut expert: Box<dyn LayerSource>,
    rule: &dyn AcceptanceRule,
    tokens: &[TokenId],
    prompt: usize,
    trace: &Trace,
) -> Result<Vec<Position>, Failure> {
    let options = sampling(args, parts)?;
    let sampler = |options| Ok::<_, ModelError>(Sampler::new(options)?.seeded(args.sampling.seed()));
    let (sampler, prompt_sampler) = (sampler(&options)?, sampler(&prompt_sampling(&options))?);
    let tokenizer = parts.expert.tokenizer();
    let pieces = tokenizer.map(|tokenizer| pieces(tokenizer, tokens)).transpose()?.unwrap_or_default();
    let names = Names::new(tokenizer.cloned());
    let text = Text { tokens, prompt, pieces: &pieces, origins: trace.origins() };
    let mut drafter = parts.drafter.model().map(|model| CachedModel::new(model.clone()));
    let drafter = drafter.as_mut().map(|drafter| drafter as &mut dyn SequenceModel);
    let sides =
        Sides { expert: &mut *expert, drafter, rule, sampler: &sampler, prompt_sampler: &prompt_sampler };
    let wanted = Look { last: args.last as usize, ..Look::default() };
    Ok(look(sides, &text, &wanted, &|id| names.name(id))?)
}

fn write(args: &InspectArgs, inspection: &Inspection) -> Result<(), Failure> {
    if let Some(path) = &args.html {
        let page = page(inspection)?;
        write_file(path, &page)?;
        output::note(&format!(
            "wrote {}: {}, {} kB; open it in a browser",
            path.display(),
            count(inspection.positions.len(), "token"),
            page.len().div_ceil(1000)
        ));
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        json::print(inspection)?;
    } else if args.html.is_none() {
        report::print(inspection, args.sampling.temperature > 0.0, &mut out)?;
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}
