//! `drafthorse tune`

pub(crate) mod args;
mod candidates;
mod report;
mod trial;

use super::{
    Outcome,
    config::{Choice, Config, Subject},
    drafters::DrafterPart,
    failure::Failure,
    interrupt::{INTERRUPTED, Interrupt},
    parts::{self, Measured},
    prompts::{self, Prompt, Wanted},
};
use args::TuneArgs;
use candidates::Found;
use clap::ValueEnum;
use drafthorse::{
    AcceptanceRule, DraftLength, Engine, SessionOptions, TokenId, Transformer,
    cost::{CostMeter, Observed, RoundCosts},
    logits::{Branching, RankAcceptance},
    model::{CachedModel, LanguageModel},
    rule,
    verifier::Kind,
};
use indicatif::ProgressBar;
use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use trial::{Drafts, Run, Trial};

/// Prompts that every trial writes to.
const PROMPTS: usize = 6;
/// The most tokens of a text; fewer for experts that are slow.
const TOKENS: usize = 96;
/// The share of a trial's time in which it is observed; the rest is for measuring.
const OBSERVING: f64 = 0.3;
/// What is predicted to be slower than this share of plain decoding is not measured.
const HOPELESS: f64 = 0.8;
/// Time for the costs of forwards.
const COSTS: Duration = Duration::from_secs(2);
/// What is not faster than this is not chosen: plain decoding is simpler.
const WORTH: f64 = 1.05;

pub(crate) fn run(args: &TuneArgs) -> Outcome {
    let interrupt = Interrupt::listen();
    let expert = parts::expert(&args.expert, &args.models)?;
    let file = args.prompts.as_deref();
    let wanted = Wanted { file, limit: Some(PROMPTS), expert: &args.expert, room: TOKENS };
    let prompts = prompts::encoded(&wanted, &expert)?;
    let found = candidates::find(args, &expert, &prompts)?;
    if let (true, Some(first)) = (found.drafters.is_empty(), found.excluded.first()) {
        return Err(Failure::new(format!("no drafter can be used: {}: {}", first.drafter, first.reason)));
    }
    let mut tuning = Tuning::new(args, &expert, found, prompts, &interrupt)?;
    tuning.observe()?;
    tuning.measure()?;
    let choice = if interrupt.seen() { None } else { tuning.choice() };
    let written = match &choice {
        Some(choice) if !args.dry_run => Some(write(args, choice)?),
        _ => None,
    };
    report::write(&tuning, choice.as_ref(), written.as_deref())?;
    Ok(if interrupt.seen() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Keeps a choice for `generate`; says where.
fn write(args: &TuneArgs, choice: &Choice) -> Result<std::path::PathBuf, Failure> {
    let Some(path) = args.config.path() else {
        return Err(Failure::new("this machine has no folder for configurations; name a file by --config"));
    };
    // A file that is not there yet is what --config may name here.
    let mut config = if path.exists() { args.config.read()? } else { Config::default() };
    config.put(choice.clone());
    config.write(&path)?;
    Ok(path)
}

/// All trials of an expert.
struct Tuning<'a> {
    args: &'a TuneArgs,
    expert: &'a Arc<Transformer>,
    found: Found,
    interrupt: &'a Interrupt,
    prompts: Vec<(Prompt, Vec<TokenId>)>,
    options: SessionOptions,
    /// What rounds cost with drafts that cost nothing.
    costs: RoundCosts,
    /// Seconds of a step of plain decoding.
    step: f64,
    trials: Vec<Trial>,
    bar: ProgressBar,
}

impl<'a> Tuning<'a> {
    fn new(
        args: &'a TuneArgs,
        expert: &'a Arc<Transformer>,
        found: Found,
        prompts: Vec<(Prompt, Vec<TokenId>)>,
        interrupt: &'a Interrupt,
    ) -> Result<Self, Failure> {
        let options = SessionOptions {
            sampling: args.sampling.options(expert.tokenizer(), TOKENS)?,
            seed: args.sampling.seed(),
            measure_price: false,
            ..Default::default()
        };
        let costs = costs(expert, &prompts, usize::from(args.longest))?;
        let trials = trials(args, &found, expert.reads_trees())?;
        let mut tuning = Self {
            args,
            expert,
            found,
            interrupt,
            prompts,
            options,
            costs,
            step: 0.0,
            trials,
            bar: ProgressBar::new_spinner(),
        };
        tuning.find_step()?;
        Ok(tuning)
    }

    /// How long a step of plain decoding takes, and with it how many tokens there is time for.
    fn find_step(&mut self) -> Result<(), Failure> {
        self.options.max_tokens = 8;
        for _ in 0..3 {
            let Some(text) = self.text(&DrafterPart::none(), "lossless", &0.into(), 0)? else {
                return Ok(());
            };
            self.step = text.stats.decode_time().as_secs_f64() / text.stats.rounds.max(1) as f64;
        }
        // Three lengths and plain decoding share the time of a trial, and each wants two texts at least.
        let affordable = self.args.seconds * (1.0 - OBSERVING) / 8.0 / self.step;
        self.options.max_tokens = (affordable as usize).clamp(8, TOKENS);
        Ok(())
    }

    /// One text; `None` after Ctrl-C.
    fn text(
        &self,
        part: &DrafterPart,
        rule: &str,
        drafts: &Drafts,
        prompt: usize,
    ) -> Result<Option<Measured>, Failure> {
        let (length, options) = drafts.options(&self.options);
        let engine = self.engine(part, rule, length)?;
        parts::measure(engine, &self.prompts[prompt].1, &options, self.interrupt)
    }

    fn engine(&self, part: &DrafterPart, name: &str, length: DraftLength) -> Result<Engine, Failure> {
        let rule = rule(name).map_err(Failure::new)?;
        parts::engine(part.begin(parts::Expert::alone(self.expert))?, self.expert, rule, length)
    }

    /// Writes texts with the longest drafts, and predicts from them what shorter ones would bring.
    fn observe(&mut self) -> Result<(), Failure> {
        let time = Duration::from_secs_f64(self.args.seconds * OBSERVING);
        let longest = usize::from(self.args.longest);
        for index in 0..self.trials.len() {
            let (start, mut texts) = (Instant::now(), 0);
            while texts < self.prompts.len() && (texts == 0 || start.elapsed() < time) {
                let trial = &self.trials[index];
                self.bar.set_message(format!("observing {} with {}", trial.drafter, trial.rule));
                let part = &self.found.drafters[trial.part];
                let Some(text) = self.text(part, &trial.rule, &longest.into(), texts)? else { return Ok(()) };
                self.trials[index].observed.add(&text.stats, &text.rounds_by_drafted);
                texts += 1;
            }
            self.trials[index].predict(self.step, &self.costs);
            self.observe_tree(index)?;
        }
        Ok(())
    }

    /// Writes texts with a wide tree, and finds from them which tree would be the fastest.
    fn observe_tree(&mut self, index: usize) -> Result<(), Failure> {
        let Some(plan) = self.trials[index].wide() else { return Ok(()) };
        let (levels, drafts) = (plan.shape.depth() as f64, Drafts::Tree(plan));
        let (mut ranks, mut seconds, mut rounds) = (RankAcceptance::default(), 0.0, 0.0);
        let (start, time) = (Instant::now(), self.args.seconds * OBSERVING);
        for prompt in 0..self.prompts.len() {
            let trial = &self.trials[index];
            let part = &self.found.drafters[trial.part];
            let Some(text) = self.text(part, &trial.rule, &drafts, prompt)? else { return Ok(()) };
            ranks.merge(&text.ranks);
            seconds += text.stats.draft_time.as_secs_f64();
            rounds += text.stats.rounds_with_draft as f64;
            if start.elapsed().as_secs_f64() > time {
                break;
            }
        }
        if rounds > 0.0 && self.step > 0.0 {
            let level = seconds / (rounds * levels * self.step);
            self.trials[index].predict_tree(&ranks, level, &self.costs);
        }
        Ok(())
    }

    /// Measures what is predicted to be fast, and the adaptive length, in turn with plain decoding.
    fn measure(&mut self) -> Result<(), Failure> {
        let time = Duration::from_secs_f64(self.args.seconds * (1.0 - OBSERVING));
        for index in 0..self.trials.len() {
            let Some(predicted) = self.trials[index].predicted.filter(|p| p.speedup >= HOPELESS) else {
                continue;
            };
            let mut runs = vec![Run::new(Drafts::Chain(DraftLength::default()))];
            if predicted.k > 0 {
                runs.push(Run::new(predicted.k.into()));
            }
            runs.extend(self.trials[index].tree.clone().map(|plan| Run::new(Drafts::Tree(plan))));
            let start = Instant::now();
            let mut turn = 0;
            while turn < self.prompts.len() || start.elapsed() < time {
                if (turn > 0 && start.elapsed() >= time) || !self.turn(index, &mut runs, turn)? {
                    break;
                }
                turn += 1;
            }
            self.trials[index].runs = runs;
        }
        self.bar.finish_and_clear();
        Ok(())
    }

    /// One prompt, plainly and with every length; whether all were written.
    fn turn(&self, index: usize, runs: &mut [Run], turn: usize) -> Result<bool, Failure> {
        let (trial, prompt) = (&self.trials[index], turn % self.prompts.len());
        self.bar.set_message(format!("measuring {} with {}", trial.drafter, trial.rule));
        let Some(plain) = self.text(&DrafterPart::none(), "lossless", &0.into(), prompt)? else {
            return Ok(false);
        };
        let mut texts = Vec::with_capacity(runs.len());
        for run in &*runs {
            let part = &self.found.drafters[trial.part];
            let Some(text) = self.text(part, &trial.rule, &run.drafts, prompt)? else {
                return Ok(false);
            };
            texts.push(text);
        }
        for (run, text) in runs.iter_mut().zip(texts) {
            run.plain.add(prompt, &plain.stats);
            run.own.add(prompt, &text.stats);
        }
        Ok(true)
    }

    /// The fastest, or plain decoding where nothing is faster; `None` where nothing was measured.
    fn choice(&self) -> Option<Choice> {
        // What is measured to be fast and predicted to be slow was lucky.
        let promising = self.trials.iter().filter(|trial| trial.predicted.is_some_and(|p| p.speedup > 1.0));
        let measured = promising.filter_map(|trial| Some((trial, trial.best()?)));
        let best = measured.max_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let observed = self.trials.iter().any(|trial| trial.predicted.is_some());
        let tree = best.filter(|best| best.1.1 >= WORTH).and_then(|(_, (run, _))| run.drafts.tree());
        let (shape, branching) =
            (tree.map(|plan| plan.shape.to_string()), tree.map(|plan| plan.branching.name().to_owned()));
        let (drafter, draft_length, rule, speedup) = match best {
            Some((trial, (run, speedup))) if speedup >= WORTH => (
                self.found.drafters[trial.part].spec().to_owned(),
                run.drafts.length(),
                trial.rule.clone(),
                speedup,
            ),
            _ if observed => ("none".into(), "0".into(), "lossless".into(), 1.0),
            _ => return None,
        };
        let args = self.args;
        let subject = Subject::of(&args.expert, self.expert, &args.models, args.sampling.temperature);
        let version = env!("CARGO_PKG_VERSION").into();
        let models = &args.models;
        let name = |value: &dyn Fn() -> Option<String>| if drafter == "none" { None } else { value() };
        Some(Choice {
            chain: name(&|| models.ways.draft_chain.clone()),
            bridge: name(&|| written(models.ways.draft_bridge)),
            draft_weights: name(&|| written(models.draft_weights)),
            draft_device: name(&|| models.draft_device.map(|device| device.to_string())),
            subject,
            drafter,
            draft_length,
            tree: shape,
            branching,
            rule,
            speedup,
            version,
        })
    }
}

/// The value of an option, as it is written.
fn written<T: ValueEnum>(value: Option<T>) -> Option<String> {
    Some(value?.to_possible_value()?.get_name().to_owned())
}

/// What forwards of the expert cost by their rows.
fn costs(
    expert: &Arc<Transformer>,
    prompts: &[(Prompt, Vec<TokenId>)],
    longest: usize,
) -> Result<RoundCosts, Failure> {
    let tokens: usize = prompts.iter().map(|(_, tokens)| tokens.len()).sum();
    let length = tokens / prompts.len().max(1) + TOKENS / 2;
    let mut meter =
        CostMeter::new(Box::new(CachedModel::new(expert.clone())), Vec::new(), length, 2..=longest + 1);
    while meter.sweeps() == 0 || meter.spent() < COSTS {
        meter.sweep()?;
    }
    meter.free().ok_or_else(|| Failure::new("the costs of forwards could not be measured"))
}

/// Every drafter with every rule that goes with it.
fn trials(args: &TuneArgs, found: &Found, reads_trees: bool) -> Result<Vec<Trial>, Failure> {
    let mut names = args.rules.as_ref().map_or_else(Vec::new, |rules| rules.0.clone());
    if names.is_empty() {
        names.push("lossless".into());
        // At temperature 0 all lossless rules do the same.
        names.extend((args.sampling.temperature != 0.0).then(|| "block".into()));
    }
    let mut trials = Vec::new();
    for (part, drafter) in found.drafters.iter().enumerate() {
        for name in &names {
            let rule: Arc<dyn AcceptanceRule> = rule(name).map_err(Failure::new)?;
            // On certain drafts block verification is the ordinary one.
            let made = drafter.make();
            let calibrated = made.is_calibrated();
            let trees =
                reads_trees && drafter.leaves_trees() && made.drafts_trees() && rule.kind() == Kind::Lossless;
            let drawn = calibrated && args.sampling.temperature != 0.0;
            let way = if drawn { Branching::WithoutReplacement } else { Branching::TopChildren };
            let branching = (trees && rule.check_trees().is_ok()).then_some(way);
            if calibrated || !(rule.needs_calibrated_draft() || name == "block") {
                let (drafter, rule) = (drafter.name().to_owned(), name.clone());
                trials.push(Trial {
                    part,
                    drafter,
                    rule,
                    observed: Observed::default(),
                    predicted: None,
                    branching,
                    tree: None,
                    runs: Vec::new(),
                });
            }
        }
    }
    Ok(trials)
}
