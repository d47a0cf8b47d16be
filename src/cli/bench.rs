//! `drafthorse bench`

pub(crate) mod args;
mod report;
pub(crate) mod setting;
mod summary;
mod verify_cost;

use super::{
    Outcome,
    args::BenchArgs,
    drafters::DrafterPart,
    failure::Failure,
    interrupt::{INTERRUPTED, Interrupt},
    output,
    parts::{self, Measured},
    prompts::{self, Prompt, Wanted},
};
use drafthorse::{SessionOptions, TokenId, Transformer, cost::CostMeter};
use indicatif::{ProgressBar, ProgressStyle};
use report::Run;
use setting::{Plain, Setting};
use std::{process::ExitCode, sync::Arc, time::Duration};

/// Costs are measured apart from the engine at least this often, but not longer than this for each setting.
const SWEEPS: usize = 12;
const METER_TIME: Duration = Duration::from_secs(1);

/// Every number of rows up to this is measured; beyond it, only those that the draft lengths need.
const ALL_ROWS: usize = 16;

pub(crate) fn run(args: &BenchArgs) -> Outcome {
    let interrupt = Interrupt::listen();
    if args.repetitions == 0 || args.max_tokens == 0 {
        return Err(Failure::new("--repetitions and --max-tokens must be at least 1"));
    }
    let expert = parts::expert(&args.parts.expert, &args.parts.models)?;
    let drafters = setting::drafters(args, &expert)?;
    if args.verify_cost {
        verify_cost::run(args, &expert, &drafters, &interrupt)?;
    } else {
        let settings = setting::settings(args, &drafters)?;
        let prompts = prompts::encoded(&wanted(args), &expert)?;
        let rows = || settings.iter().map(|setting| setting.length.max() + 1);
        let rows = (1..=rows().max().unwrap_or(1).min(ALL_ROWS)).chain(rows());
        let meter = setting::meter(&expert, &drafters, usual_length(args, &prompts), rows);
        let (expert, drafters, settings, interrupt) = (&expert, &drafters[..], &settings[..], &interrupt);
        let mut bench = Bench { args, expert, drafters, settings, interrupt, meter };
        let runs = bench.measure(&prompts)?;
        report::write(&bench, &runs, prompts.len())?;
    }
    if interrupt.seen() {
        output::note("interrupted: the numbers cover what was measured until then");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}

fn wanted(args: &BenchArgs) -> Wanted<'_> {
    let file = args.prompts.as_deref();
    Wanted { file, limit: args.limit, expert: &args.parts.expert, room: args.max_tokens }
}

/// The mean number of tokens in the expert's cache while the texts are written.
fn usual_length(args: &BenchArgs, prompts: &[(Prompt, Vec<TokenId>)]) -> usize {
    let tokens: usize = prompts.iter().map(|(_, tokens)| tokens.len()).sum();
    tokens / prompts.len().max(1) + args.max_tokens / 2
}

/// What is measured, and with what.
struct Bench<'a> {
    args: &'a BenchArgs,
    expert: &'a Arc<Transformer>,
    drafters: &'a [DrafterPart],
    settings: &'a [Setting],
    interrupt: &'a Interrupt,
    meter: CostMeter,
}

impl Bench<'_> {
    fn measure(&mut self, prompts: &[(Prompt, Vec<TokenId>)]) -> Result<Vec<Run>, Failure> {
        let texts = self.args.repetitions * prompts.len();
        let bar = ProgressBar::new(((texts + 1) * self.settings.len()) as u64);
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} texts, {eta} left: {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let runs = self.every_prompt(prompts, texts, &bar);
        bar.finish_and_clear();
        runs
    }

    fn every_prompt(
        &mut self,
        prompts: &[(Prompt, Vec<TokenId>)],
        texts: usize,
        bar: &ProgressBar,
    ) -> Result<Vec<Run>, Failure> {
        // Warm-up: everything once, not counted.
        let mut runs = Vec::new();
        if self.every_setting(&prompts[0].1, 0, bar)?.is_none() {
            return Ok(runs);
        }
        for repetition in 0..self.args.repetitions {
            for (number, (prompt, tokens)) in prompts.iter().enumerate() {
                self.sweep((repetition * prompts.len() + number + 1) as f64 / texts as f64)?;
                let Some(texts) = self.every_setting(tokens, number, bar)? else {
                    return Ok(runs);
                };
                let plain = texts[0].tokens.clone();
                runs.extend(self.settings.iter().zip(texts).enumerate().map(|(index, (setting, text))| {
                    Run {
                        setting: index,
                        repetition,
                        prompt: number,
                        category: prompt.category.clone(),
                        drafter: setting.name.clone(),
                        k: setting.length.clone(),
                        prompt_tokens: tokens.len(),
                        same_text_as_plain: text.tokens == plain,
                        rounds_by_drafted: text.rounds_by_drafted,
                        stats: text.stats,
                    }
                }));
            }
        }
        Ok(runs)
    }

    /// Measures costs apart from the engine, in turn with the texts, as far as there is time: `progress` is
    /// the share of the texts that will be done with the next.
    fn sweep(&mut self, progress: f64) -> Result<(), Failure> {
        let time = METER_TIME.mul_f64(self.settings.len() as f64 * progress);
        let wanted = (SWEEPS as f64 * progress).ceil() as usize;
        let mut first = true;
        while (first || self.meter.sweeps() < wanted)
            && (self.meter.sweeps() == 0 || self.meter.spent() <= time)
        {
            self.meter.sweep()?;
            first = false;
        }
        Ok(())
    }

    /// A prompt with every setting, plain decoding first; `None` after Ctrl-C: a prompt that was not run
    /// with all of them would weigh on some and not on others.
    fn every_setting(
        &self,
        prompt: &[TokenId],
        number: usize,
        bar: &ProgressBar,
    ) -> Result<Option<Vec<Measured>>, Failure> {
        let mut plain = None;
        let mut texts = Vec::with_capacity(self.settings.len());
        for setting in self.settings {
            bar.set_message(format!("{} k={}", setting.name, setting.length));
            let Some(text) = self.generate(setting, prompt, plain.as_ref())? else { return Ok(None) };
            if setting.is_plain() {
                // Prompts of equal length shall not go wrong at the same positions.
                let seed = self.args.sampling.seed().wrapping_add((number as u64) << 32);
                plain = Some(Plain::new(prompt, &text, seed));
            }
            texts.push(text);
            bar.inc(1);
        }
        Ok(Some(texts))
    }

    /// One text of one setting; `None` after Ctrl-C.
    fn generate(
        &self,
        setting: &Setting,
        prompt: &[TokenId],
        plain: Option<&Plain>,
    ) -> Result<Option<Measured>, Failure> {
        let args = self.args;
        let rule = parts::acceptance_rule(&setting.parts(&args.parts)?)?;
        let length = parts::knowing(&setting.length, setting.learnt.borrow().clone());
        let engine = parts::engine(setting.begin(self.expert, plain)?, self.expert, rule, length)?;
        let options = SessionOptions {
            sampling: args.sampling.options(self.expert.tokenizer(), args.max_tokens)?,
            seed: args.sampling.seed(),
            max_tokens: args.max_tokens,
            ..Default::default()
        };
        let text = parts::measure(engine, prompt, &options, self.interrupt)?;
        if let Some(learnt) = text.as_ref().and_then(|text| text.learnt.clone()) {
            setting.learnt.replace(Some(learnt));
        }
        Ok(text)
    }
}
