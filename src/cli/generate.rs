//! `drafthorse generate`

mod compare;
mod tuned;

use super::{
    Outcome,
    args::{GenerateArgs, is_plain},
    confidence::{Record, note_drift},
    config::Choice,
    failure::Failure,
    grammar,
    interrupt::{INTERRUPTED, Interrupt},
    json::{self, StatsJson},
    output,
    parts::{self, Expert, Parts},
};
use anstyle::{AnsiColor, Style};
use compare::{Compared, compare};
use drafthorse::{
    AcceptanceRule, DraftLength, Drafter, Engine, Finish, SamplingOptions, SessionOptions, Stats, Step,
    TokenId,
    drafter::PartCounts,
    engine::{Provenance, StepToken},
    inspect::Names,
    logits::{Stage, drift::Drift},
};
use serde_json::{Value, json};
use std::{io::Write, process::ExitCode, sync::Arc};

const NOTHING_TO_COMPARE: &str = "nothing is drafted: there is nothing to compare";

pub(crate) fn run(mut args: GenerateArgs) -> Outcome {
    let expert = parts::expert(&args.parts.expert, &args.parts.models)?;
    let tuned = tuned::apply(&mut args, &expert)?;
    let args = &args;
    let parts = Parts::with(expert, &args.parts, args.drafting.drafter.as_deref());
    let parts = parts.map_err(|failure| match &tuned {
        Some(choice) => choice.unusable(failure),
        None => failure,
    })?;
    if args.branches.tree.is_some() && parts.drafter.is_none() {
        return Err(Failure::new(
            "--tree needs a drafter, and drafter `none` drafts nothing; name another one",
        ));
    }
    let (prompt, prompt_text) = args.input.read(&parts.expert, &args.parts.expert)?;
    // From here on: before there is text, Ctrl-C has nothing to save.
    let interrupt = Interrupt::listen();
    let rule = args.confidence.rule(parts::acceptance_rule(&args.parts)?)?;
    let options = options(args, &prompt, &parts, &rule)?;
    if !args.quiet {
        notes(&options).for_each(|note| output::note(&note));
    }
    let k = args.draft_length(&parts.drafter, &*rule);
    let law = args.law.open(&args.parts.models)?;
    let expert = Expert { model: &parts.expert, law: &law };
    let mut engine = parts::engine(parts.drafter.begin(expert)?, &parts.expert, rule.clone(), k.clone())?;
    if let Some(note) = too_long(&prompt, engine.drafter()).filter(|_| !args.quiet) {
        output::note(&note);
    }
    let mut result = Generation { tuned, ..Generation::default() };
    if args.echo {
        write!(anstream::stdout(), "{prompt_text}")?;
    }
    let failed = generate(args, &mut engine, &prompt, &options, &interrupt, &mut result).err();
    result.drafters = engine.drafter().parts();
    result.complete =
        grammar::is_complete(&options, &result.tokens, &result.text, result.finish.as_ref(), &parts.expert)
            .unwrap_or_default();
    // Statistics come also after Ctrl-C and after an error: what was generated is not lost.
    let comparing = args.compare && !is_plain(&k) && !interrupt.seen();
    let compared = match &failed {
        None if comparing => compare(args, &parts, expert, &prompt, &options, &interrupt)?,
        _ => None,
    };
    if failed.is_none() || result.stats.rounds > 0 {
        let told = Told { args, parts: &parts, rule: &*rule, k: &k, prompt: &prompt };
        told.report(&result, compared.as_ref())?;
    }
    // What a drafter learnt of this text is known when it is gone.
    drop(engine);
    let stored = parts.drafter.save(args.quiet);
    let saved = args.confidence.save(&result.record).and(stored);
    if let Some(drift) = &result.drift {
        note_drift(drift);
    }
    match failed {
        Some(failure) => Err(failure),
        None if interrupt.seen() => saved.map(|()| ExitCode::from(INTERRUPTED)),
        None => saved.map(|()| ExitCode::SUCCESS),
    }
}

/// What was generated.
#[derive(Default)]
struct Generation {
    tokens: Vec<StepToken>,
    text: String,
    finish: Option<Finish>,
    stats: Stats,
    record: Record,
    drift: Option<Drift>,
    /// Whether the text is complete by its grammar, where it has one.
    complete: Option<bool>,
    /// What each did, where the drafter is made of several.
    drafters: Vec<PartCounts>,
    /// What was used of what `tune` found.
    tuned: Option<Choice>,
}

/// What a report is about beside the text.
struct Told<'a> {
    args: &'a GenerateArgs,
    parts: &'a Parts,
    rule: &'a dyn AcceptanceRule,
    k: &'a DraftLength,
    prompt: &'a [TokenId],
}

impl Told<'_> {
    fn report(&self, result: &Generation, compared: Option<&Compared>) -> Result<(), Failure> {
        let Self { args, parts, rule, k, prompt } = *self;
        let nothing = args.compare && is_plain(k);
        if args.json {
            if nothing {
                output::note(NOTHING_TO_COMPARE);
            }
            return print_json(args, prompt, result, compared, parts, rule);
        }
        if args.quiet {
            return Ok(());
        }
        let line = output::statistics(&result.stats, parts.drafter.name(), rule, result.finish.as_ref());
        let law = args.guidance.describe(args.law.describe()).into_iter();
        let seed = args.sampling.drawn_seed().map(|seed| format!("seed {seed}"));
        output::note(&law.chain(seed).fold(line, |line, more| line + " | " + &more));
        result.drafters.iter().map(output::part).for_each(|part| output::note(&part));
        if let Some(ahead) = parts.drafter.ahead() {
            output::note(&ahead.stats().to_string());
        }
        if let Some(compared) = compared {
            let drafts = match args.branches.plan() {
                Some(plan) => format!("a tree of {}", plan.shape),
                None => format!("k = {k}"),
            };
            output::note(&compared.sentence(&drafts, args.sampling.temperature == 0.0, rule));
        } else if nothing {
            output::note(NOTHING_TO_COMPARE);
        }
        if let Some(false) = result.complete
            && let Some(note) = grammar::broken_off(result.finish.as_ref(), result.tokens.len())
        {
            output::note(&note);
        }
        Ok(())
    }
}

fn generate(
    args: &GenerateArgs,
    engine: &mut Engine,
    prompt: &[TokenId],
    options: &SessionOptions,
    interrupt: &Interrupt,
    result: &mut Generation,
) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let mut session = engine.session(prompt, options)?;
    while !interrupt.seen() {
        let Some(step) = session.next() else { break };
        result.stats = session.stats().clone();
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                result.drift = session.watched().cloned();
                if !result.tokens.is_empty() {
                    end_line(args, &mut out)?;
                }
                return Err(error.into());
            }
        };
        if !args.json {
            print_step(args, &step, &mut out)?;
        }
        result.text += &step.text;
        result.record.add(&step);
        result.tokens.extend(step.tokens);
        result.finish = step.finish;
    }
    result.drift = session.watched().cloned();
    end_line(args, &mut out)
}

fn end_line(args: &GenerateArgs, out: &mut impl Write) -> Result<(), Failure> {
    if !args.json {
        writeln!(out)?;
    }
    Ok(out.flush()?)
}

fn print_step(args: &GenerateArgs, step: &Step, out: &mut impl Write) -> Result<(), Failure> {
    if args.input.tokens.is_some() {
        for token in &step.tokens {
            paint(args, token.provenance, &format!("{} ", token.id), out)?;
        }
    } else {
        let mut rest = step.text.as_str();
        for token in &step.tokens {
            paint(args, token.provenance, &token.text, out)?;
            rest = rest.strip_prefix(token.text.as_str()).unwrap_or(rest);
        }
        write!(out, "{rest}")?;
    }
    Ok(out.flush()?)
}

fn paint(
    args: &GenerateArgs,
    provenance: Provenance,
    text: &str,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let style = match provenance {
        Provenance::Drafted if args.color_tokens => AnsiColor::Green.on_default(),
        Provenance::Forced if args.color_tokens => AnsiColor::Cyan.on_default(),
        Provenance::Deferred if args.color_tokens => AnsiColor::Yellow.on_default(),
        Provenance::Replacement if args.color_tokens => AnsiColor::Red.on_default(),
        _ => Style::new(),
    };
    Ok(write!(out, "{style}{text}{style:#}")?)
}

/// What is worth knowing of the options before there is text.
fn notes(options: &SessionOptions) -> impl Iterator<Item = String> {
    let words = options.constraint.is_some() && !options.sampling.bad_words.is_empty();
    let words = words.then(|| {
        "note: --bad-word bans the tokens that a word is usually made of; what a grammar wants can still be written in other tokens (leave the word out of the grammar)"
            .to_owned()
    });
    idle(&options.sampling).into_iter().chain(words)
}

/// What is said where a drafter cannot read the prompt.
fn too_long(prompt: &[TokenId], drafter: &dyn Drafter) -> Option<String> {
    let (tokens, context) = (prompt.len(), drafter.context_len().filter(|context| *context < prompt.len())?);
    Some(format!(
        "note: the prompt has {tokens} tokens and the context of drafter {} {context}: it drafts nothing",
        drafter.name()
    ))
}

/// What is said where options change nothing because the temperature is 0.
fn idle(options: &SamplingOptions) -> Option<String> {
    let warmer = SamplingOptions { temperature: 1.0, ..options.clone() };
    let idle = Stage::ALL.into_iter().filter(|stage| warmer.is_on(*stage) && !options.is_on(*stage));
    let names: Vec<_> = idle.map(Stage::name).collect();
    (options.temperature == 0.0 && !names.is_empty()).then(|| {
        format!(
            "note: temperature 0 takes the most probable token; {} change nothing (set -t)",
            names.join(", ")
        )
    })
}

fn sampling(args: &GenerateArgs, parts: &Parts) -> Result<SamplingOptions, Failure> {
    args.sampling.options(parts.expert.tokenizer(), args.max_tokens)
}

fn options(
    args: &GenerateArgs,
    prompt: &[TokenId],
    parts: &Parts,
    rule: &Arc<dyn AcceptanceRule>,
) -> Result<SessionOptions, Failure> {
    let mut options = SessionOptions {
        sampling: sampling(args, parts)?,
        seed: args.sampling.seed(),
        max_tokens: args.max_tokens,
        stop_tokens: parts::stop_tokens(&parts.expert, args.ignore_eos),
        stop_strings: args.stop.clone(),
        log_probs: args.log_probs(),
        guide: args.guidance.guide(prompt, &parts.expert)?,
        rule: Some(rule.clone()),
        tree: args.branches.plan(),
        constraint: args.grammar.open(&parts.expert, &args.parts.expert)?,
        ..Default::default()
    };
    args.confidence.apply(&mut options)?;
    Ok(options)
}

/// What the expert's law is made of.
fn law(args: &GenerateArgs) -> Value {
    let mut law = args.law.json();
    law["guidance_scale"] = json!(args.guidance.guidance_scale);
    law["negative_prompt"] = json!(args.guidance.negative_prompt);
    law
}

fn print_json(
    args: &GenerateArgs,
    prompt: &[TokenId],
    result: &Generation,
    compared: Option<&Compared>,
    parts: &Parts,
    rule: &dyn AcceptanceRule,
) -> Result<(), Failure> {
    let names = parts.expert.tokenizer().map(|tokenizer| Names::new(Some(tokenizer.clone())));
    let tokens: Vec<_> = result.tokens.iter().map(|token| json::token(token, names.as_ref())).collect();
    let mut object = json!({
        "text": parts.expert.tokenizer().map(|_| &result.text),
        "prompt_tokens": prompt,
        "tokens": tokens,
        "finish": json::finish(result.finish.as_ref()),
        "expert": args.parts.expert,
        "drafter": parts.drafter.name(),
        "drift": result.drift.as_ref().and_then(Drift::check).map(|warning| warning.to_string()),
        "law": law(args),
        "rule": json::rule(rule),
        "draft_length": json::length(&args.draft_length(&parts.drafter, rule)),
        "tuned": result.tuned,
        "drafters": result.drafters.iter().map(json::part).collect::<Vec<_>>(),
        "ahead": parts.drafter.ahead().map(|ahead| ahead.stats().to_string()),
        "tree": args.branches.plan().map(|plan| json!({
            "shape": plan.shape.to_string(),
            "branching": plan.branching.name(),
        })),
        "grammar": args.grammar.json(result.complete),
        "version": env!("CARGO_PKG_VERSION"),
        "device": parts.expert.device().to_string(),
        "weights": args.parts.models.load_options(false).weights.name(),
        "cache_type": args.parts.models.load_options(false).cache.name(),
        "threads": drafthorse::model::threads(),
        "seed": args.sampling.seed(),
        "sampling": json::sampling(&sampling(args, parts)?),
        "stats": StatsJson::from(&result.stats),
    });
    if let Some(compared) = compared {
        object["compare"] = json!({
            "speedup": compared.speedup(),
            "tokens_per_second": compared.drafted,
            "tokens_per_second_without_drafts": compared.plain,
            "same_text": compared.same_text,
            "runs": compared.runs,
        });
    }
    json::print(&object)
}
