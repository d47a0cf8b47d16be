//! `drafthorse generate`

use super::{
    Outcome,
    args::{GenerateArgs, is_plain, parse_branching, parse_length, parse_rule, parse_shape},
    confidence::{Record, note_drift},
    config::{self, Subject},
    failure::Failure,
    grammar,
    interrupt::{INTERRUPTED, Interrupt},
    json::{self, StatsJson},
    output,
    parts::{self, Expert, Parts},
};
use anstyle::{AnsiColor, Style};
use drafthorse::{
    AcceptanceRule, DraftLength, Engine, Finish, Kind, Lossless, SamplingOptions, SessionOptions, Stats,
    Step, TokenId, Transformer,
    engine::{Provenance, StepToken},
    inspect::Names,
    logits::{Stage, drift::Drift},
};
use serde_json::{Value, json};
use std::{io::Write, process::ExitCode, sync::Arc};

const NOTHING_TO_COMPARE: &str = "nothing is drafted: there is nothing to compare";

/// Runs of each side behind `--compare`.
const COMPARED: usize = 3;

pub(crate) fn run(mut args: GenerateArgs) -> Outcome {
    let expert = parts::expert(&args.parts.expert, &args.parts.models)?;
    use_tuned(&mut args, &expert)?;
    let args = &args;
    let parts = Parts::with(expert, &args.parts, args.drafting.drafter.as_deref())?;
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
    let mut result = Generation::default();
    if args.echo {
        write!(anstream::stdout(), "{prompt_text}")?;
    }
    let failed = generate(args, &mut engine, &prompt, &options, &interrupt, &mut result).err();
    result.complete =
        grammar::is_complete(&options, &result.tokens, &result.text, result.finish.as_ref(), &parts.expert)
            .unwrap_or_default();
    // Statistics come also after Ctrl-C and after an error: what was generated is not lost.
    let comparing = args.compare && !is_plain(&k) && !interrupt.seen();
    let compared = match &failed {
        None if comparing => compare(args, &parts, expert, &prompt, &options, &interrupt)?,
        _ => None,
    };
    if args.json && (failed.is_none() || result.stats.rounds > 0) {
        if args.compare && is_plain(&k) {
            output::note(NOTHING_TO_COMPARE);
        }
        print_json(args, &prompt, &result, compared.as_ref(), &parts, &*rule)?;
    } else if !args.quiet && (failed.is_none() || result.stats.rounds > 0) {
        let name = parts.drafter.name();
        let line = output::statistics(&result.stats, name, &*rule, result.finish.as_ref());
        let law = args.guidance.describe(args.law.describe()).into_iter();
        let seed = args.sampling.drawn_seed().map(|seed| format!("seed {seed}"));
        output::note(&law.chain(seed).fold(line, |line, more| line + " | " + &more));
        match compared {
            Some(compared) => {
                let drafts = match &options.tree {
                    Some(plan) => format!("a tree of {}", plan.shape),
                    None => format!("k = {k}"),
                };
                output::note(&compared.sentence(&drafts, args.sampling.temperature == 0.0, &*rule));
            }
            None if args.compare && is_plain(&k) => output::note(NOTHING_TO_COMPARE),
            None => {}
        }
    }
    if result.complete == Some(false)
        && !args.quiet
        && let Some(note) = grammar::broken_off(result.finish.as_ref(), result.tokens.len())
    {
        output::note(&note);
    }
    let drafters = engine.drafter().parts();
    if !args.quiet && !args.json {
        for part in &drafters {
            output::note(&output::part(part));
        }
    }
    if let Some(ahead) = parts.drafter.ahead().filter(|_| !args.quiet && !args.json) {
        output::note(&ahead.stats().to_string());
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

/// Uses what was found to be the fastest for this expert, where neither drafter nor rule are named.
fn use_tuned(args: &mut GenerateArgs, expert: &Transformer) -> Result<(), Failure> {
    let (parts, drafting) = (&mut args.parts, &mut args.drafting);
    let named = drafting.drafter.is_some() || parts.rule.is_some() || parts.lenience.is_some();
    if args.no_tuned || named {
        return Ok(());
    }
    let subject = Subject::of(&parts.expert, expert, &parts.models, args.sampling.temperature);
    let config = args.config.read()?;
    let Some(choice) = config.find(&subject) else { return Ok(()) };
    drafting.drafter = Some(choice.drafter.clone());
    parts.rule = Some(parse_rule(&choice.rule).map_err(|error| config::unusable(choice, &error))?);
    if let (None, None, Some(shape)) = (&drafting.tree, &drafting.draft_length, &choice.tree) {
        drafting.tree = Some(parse_shape(shape).map_err(|error| config::unusable(choice, &error))?);
        let branching = choice.branching.as_deref().map(parse_branching).transpose();
        drafting.branching = branching.map_err(|error| config::unusable(choice, &error))?;
    }
    if drafting.draft_length.is_none() && drafting.tree.is_none() {
        let length = parse_length(&choice.draft_length).map_err(|error| config::unusable(choice, &error))?;
        drafting.draft_length = Some(length);
    }
    if !args.quiet {
        config::note(choice);
    }
    Ok(())
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
        tree: args.drafting.plan(&parts.drafter),
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

/// Drafting and plain decoding side by side.
struct Compared {
    drafted: f64,
    plain: f64,
    same_text: bool,
    runs: usize,
}

impl Compared {
    fn speedup(&self) -> f64 {
        self.drafted / self.plain
    }

    fn sentence(&self, drafts: &str, greedy: bool, rule: &dyn AcceptanceRule) -> String {
        let (speedup, runs) = (self.speedup(), self.runs);
        let text = match (self.same_text, rule.kind(), greedy) {
            (true, ..) => "same text".to_owned(),
            (false, Kind::Lossless, false) => "another text, as sampling allows".into(),
            (false, Kind::Lossless, true) => {
                "another text: the device rounds differently for more rows".into()
            }
            (false, ..) => format!("another text, as rule {} allows", rule.name()),
        };
        let verdict =
            if speedup < 1.0 { "; drafting does not pay here, use --k 0 or another drafter" } else { "" };
        format!(
            "speedup {speedup:.2}: {:.0} tokens/s with {drafts}, {:.0} with k = 0 (best of {runs} each, in turn; {text}){verdict}",
            self.drafted, self.plain
        )
    }
}

fn compare(
    args: &GenerateArgs,
    parts: &Parts,
    expert: Expert<'_>,
    prompt: &[TokenId],
    options: &SessionOptions,
    interrupt: &Interrupt,
) -> Result<Option<Compared>, Failure> {
    let rule = options.rule.clone().unwrap_or_else(|| Arc::new(Lossless));
    let k = args.draft_length(&parts.drafter, &*rule);
    let timed = |k: DraftLength| {
        let tree = options.tree.clone().filter(|_| !is_plain(&k));
        let options = SessionOptions { tree, ..options.clone() };
        let engine = parts::engine(parts.drafter.begin(expert)?, &parts.expert, rule.clone(), k)?;
        let text = parts::measure(engine, prompt, &options, interrupt)?;
        Ok::<_, Failure>(text.map(|text| (text.stats.tokens_per_second().unwrap_or(0.0), text.tokens)))
    };
    let mut compared = Compared { drafted: 0.0, plain: 0.0, same_text: true, runs: 0 };
    while compared.runs < COMPARED {
        let (Some((speed, tokens)), Some((plain_speed, plain_tokens))) =
            (timed(k.clone())?, timed(0.into())?)
        else {
            break;
        };
        compared.drafted = compared.drafted.max(speed);
        compared.plain = compared.plain.max(plain_speed);
        compared.same_text &= tokens == plain_tokens;
        compared.runs += 1;
    }
    Ok((compared.runs > 0).then_some(compared))
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
        "tree": args.drafting.plan(&parts.drafter).map(|plan| json!({
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
