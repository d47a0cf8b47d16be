//! `drafthorse prove`

pub(crate) mod args;
mod report;

use super::{
    Outcome, drafters,
    failure::Failure,
    interrupt::{INTERRUPTED, Interrupt},
    output, parts,
    prompts::{self, Wanted},
};
use args::ProveArgs;
use drafthorse::{
    AcceptanceRule, DeviceChoice, TokenId, Transformer,
    proof::{Pair, ProofError, ProofOptions, Watch, prove},
    verifier::{Kind, RULES, rule},
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{process::ExitCode, sync::Arc};

pub(crate) fn run(args: &ProveArgs) -> Outcome {
    let interrupt = Interrupt::listen();
    let options = options(args)?;
    let expert = parts::expert(&args.expert, &args.models)?;
    let drafter = drafters::open(&args.drafter, &args.models, &expert, false)?;
    if drafter.is_none() {
        return Err(Failure::new(
            "without a drafter there is nothing to prove; name a folder, demo, or ngram",
        ));
    }
    drafters::check_options(&drafter, &args.models)?;
    let options = ProofOptions { exact: expert.device().choice == DeviceChoice::Cpu, ..options };
    let prompts = prompts(args, &expert)?;
    let pair = if let Some(model) = drafter.model() {
        Pair::of_models(expert.clone(), model.clone())
    } else if let Some(shortcut) = drafter.shortcut() {
        Pair::of_shortcut(&expert, shortcut)?
    } else {
        let drafter = drafter.clone();
        Pair::new(expert.clone(), move || drafter.make())
    };
    let progress = Progress::new(interrupt);
    let report = prove(&pair, &prompts, &options, &progress);
    progress.bar.finish_and_clear();
    let report = match report {
        Err(ProofError::Interrupted) => {
            output::note("interrupted before the proof was complete: nothing is proved");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        report => report?,
    };
    report::write(args, &expert, &options, prompts.len(), &report)?;
    Ok(if report.proved { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn options(args: &ProveArgs) -> Result<ProofOptions, Failure> {
    Ok(ProofOptions {
        rules: rules(args)?,
        draft_lengths: args.draft_lengths.clone(),
        max_tokens: args.max_tokens,
        seeds: args.seeds,
        seed: args.seed,
        sampling: args.sampling(),
        prefixes: args.prefixes,
        level: args.level,
        ..ProofOptions::default()
    })
}

/// The rules that were asked for; without any, all lossless ones.
fn rules(args: &ProveArgs) -> Result<Vec<Arc<dyn AcceptanceRule>>, Failure> {
    if args.rule.is_empty() {
        let lossless = RULES.iter().filter(|info| info.kind == Kind::Lossless);
        return Ok(lossless.map(|info| (info.make)(&[])).collect());
    }
    args.rule.iter().map(|name| rule(name).map_err(Failure::new)).collect()
}

fn prompts(args: &ProveArgs, expert: &Transformer) -> Result<Vec<Vec<TokenId>>, Failure> {
    let wanted = Wanted {
        file: args.prompts.as_deref(),
        limit: args.limit,
        expert: &args.expert,
        // A part of the text may precede what is drawn.
        room: args.max_tokens + args.draft_lengths.iter().max().map_or(0, |k| k + 1),
    };
    Ok(prompts::encoded(&wanted, expert)?.into_iter().map(|(_, tokens)| tokens).collect())
}

/// How far it is, on the standard error.
struct Progress {
    bar: ProgressBar,
    interrupt: Interrupt,
}

impl Progress {
    fn new(interrupt: Interrupt) -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} left: {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, interrupt }
    }
}

impl Watch for Progress {
    fn begin(&self, part: &str, steps: u64) {
        self.bar.reset();
        self.bar.set_length(steps);
        self.bar.set_message(part.to_owned());
    }

    fn step(&self) -> Result<(), ProofError> {
        self.bar.inc(1);
        if self.interrupt.seen() { Err(ProofError::Interrupted) } else { Ok(()) }
    }
}
