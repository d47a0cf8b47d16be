//! A draft length that adapts against plain decoding, with drafters that help, do not help, lure, and are slow.
//!
//! `cargo bench --bench never_loses` lets the demo expert write the same texts with and without drafts in turn, and prints
//! the time after the first 64 tokens of each text over that of plain decoding: the median over all pairs of texts, and
//! the ratio of the best times. With `-- --json FILE` every single time is written too.
//!
//! Times depend on the machine and on what else it does: compare figures of one run only.

use drafthorse::{
    DeviceChoice, DraftLength, DraftRequest, Drafter, Draws, Engine, ModelDrafter, ModelError, NgramDrafter,
    NoDrafter, Proposal, Scores, SessionOptions, Stats, SyntheticDrafter, TokenId, Transformer, WeightType,
    demo, open_device,
};
use serde_json::{Value, json};
use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

const PROMPTS: [&str; 3] = [
    "Question: Tom has 3 apples",
    "It was a dark evening, and the old man",
    "fn main() {\n    let mut total = 0;\n",
];
/// Tokens of a text, and of them those whose time does not count.
const TOKENS: usize = 320;
const FIRST: usize = 64;
/// Times every text is written with each drafter.
const TURNS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    // Without `--bench` (as a test) everything runs, but briefly.
    let earnest = std::env::args().any(|argument| argument == "--bench");
    let (turns, tokens) = if earnest { (TURNS, TOKENS) } else { (1, FIRST + 16) };
    let device = open_device(DeviceChoice::Cpu)?;
    let expert = demo::expert(&device, WeightType::F32)?;
    let drafter = demo::drafter(&device, WeightType::F32)?;
    let tokenizer = expert.tokenizer().ok_or("the demo expert has a tokenizer")?;
    let prompts = PROMPTS.iter().map(|prompt| tokenizer.encode(prompt)).collect::<Result<Vec<_>, _>>()?;
    println!("{device}; demo expert, greedy, {} texts of {tokens} tokens, {turns} turns\n", prompts.len());
    println!(
        "{:<26} {:>7} {:>7} {:>7} {:>8} {:>8} {:>7}  what the engine says",
        "drafter", "median", "best", "whole", "yield", "length", "idle"
    );
    let mut results = Vec::new();
    for kind in Kind::ALL {
        let bench = Bench { expert: &expert, drafter: &drafter, prompts: &prompts, tokens };
        results.push(bench.compare(kind, turns)?);
    }
    let mut arguments = std::env::args().skip_while(|argument| argument != "--json").skip(1);
    if let Some(path) = arguments.next() {
        std::fs::write(path, serde_json::to_string_pretty(&json!({ "first": FIRST, "drafters": results }))?)?;
    }
    Ok(())
}

/// Which drafter is measured.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// None on the other side either: what the comparison itself is worth.
    Plain,
    Useless,
    /// As useless, and a step takes 0.3 of the expert's.
    UselessModel,
    /// Right for so many tokens, then wrong for as many.
    Lure(usize),
    /// As often right as the demo drafter, and a token takes three steps of the expert.
    Slow,
    Ngram,
    Demo,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Plain,
        Self::Useless,
        Self::UselessModel,
        Self::Lure(8),
        Self::Lure(24),
        Self::Lure(64),
        Self::Slow,
        Self::Ngram,
        Self::Demo,
    ];

    fn name(self) -> String {
        match self {
            Self::Plain => "none".into(),
            Self::Useless => "useless".into(),
            Self::UselessModel => "useless, 0.3 steps a token".into(),
            Self::Lure(period) => format!("right and wrong for {period}"),
            Self::Slow => "slow, 3 steps a token".into(),
            Self::Ngram => "ngram".into(),
            Self::Demo => "demo".into(),
        }
    }
}

/// Knows the text, and says something else in every second stretch of it.
struct Lure {
    honest: SyntheticDrafter,
    period: usize,
}

impl Drafter for Lure {
    fn name(&self) -> &'static str {
        "lure"
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let mut proposal = self.honest.propose(sequence, request, draws)?;
        for (at, token) in (sequence.len()..).zip(&mut proposal.tokens) {
            if !(at / self.period).is_multiple_of(2) {
                *token = (*token + 1) % request.vocab as TokenId;
            }
        }
        proposal.scores = proposal.tokens.iter().map(|&token| Scores::point(token, request.vocab)).collect();
        Ok(proposal)
    }
}

struct Bench<'a> {
    expert: &'a Arc<Transformer>,
    drafter: &'a Arc<Transformer>,
    prompts: &'a [Vec<TokenId>],
    tokens: usize,
}

/// A text, and the time it took after its first tokens and in all.
struct Written {
    sequence: Vec<TokenId>,
    after: Duration,
    whole: Duration,
    stats: Stats,
}

impl Bench<'_> {
    fn engine(&self, drafter: Box<dyn Drafter>, length: DraftLength) -> Result<Engine, Box<dyn Error>> {
        Ok(Engine::builder().expert(self.expert.clone()).drafter(drafter).draft_length(length).build()?)
    }

    fn write(&self, engine: &mut Engine, prompt: &[TokenId]) -> Result<Written, Box<dyn Error>> {
        let options = SessionOptions { max_tokens: self.tokens, ..Default::default() };
        let start = Instant::now();
        let mut session = engine.session(prompt, &options)?;
        let mut first = None;
        while let Some(step) = session.next() {
            step?;
            if session.generated().len() >= FIRST {
                first.get_or_insert_with(|| (Instant::now(), session.generated().len()));
            }
        }
        let whole = start.elapsed();
        let (since, beyond) = first.ok_or("a text of 64 tokens")?;
        // Rounds end beyond the 64th token by more or less: time is compared by token.
        let counted = (session.generated().len() - beyond) as f64;
        let after = since.elapsed().div_f64(counted).mul_f64((self.tokens - FIRST) as f64);
        Ok(Written { sequence: session.sequence().to_vec(), after, whole, stats: session.stats().clone() })
    }

    fn drafter(
        &self,
        kind: Kind,
        text: &[TokenId],
        step: Duration,
    ) -> Result<Box<dyn Drafter>, Box<dyn Error>> {
        let synthetic = |acceptance| SyntheticDrafter::new(text.to_vec(), acceptance).ok_or("a probability");
        Ok(match kind {
            Kind::Plain => Box::new(NoDrafter),
            Kind::Useless => Box::new(synthetic(0.02)?),
            Kind::UselessModel => Box::new(synthetic(0.02)?.with_step(step.mul_f64(0.3))),
            Kind::Lure(period) => Box::new(Lure { honest: synthetic(1.0)?, period }),
            Kind::Slow => Box::new(synthetic(0.65)?.with_step(3 * step)),
            Kind::Ngram => Box::new(NgramDrafter::default()),
            Kind::Demo => Box::new(ModelDrafter::new(self.drafter.clone())),
        })
    }

    /// Every text with and without drafts in turn. What is learnt from one text goes with the engine to the next turn.
    fn compare(&self, kind: Kind, turns: usize) -> Result<Value, Box<dyn Error>> {
        let mut plain = self.engine(Box::new(NoDrafter), 0.into())?;
        let mut pairs = Vec::new();
        let mut stats = Stats::default();
        for prompt in self.prompts {
            let text = self.write(&mut plain, prompt)?;
            let step = text.stats.decode_time() / self.tokens as u32;
            let drafter = self.drafter(kind, &text.sequence, step)?;
            let mut adaptive = self.engine(drafter, DraftLength::default())?;
            for turn in 0..turns {
                let mut without = (turn % 2 == 0).then(|| self.write(&mut plain, prompt)).transpose()?;
                let with = self.write(&mut adaptive, prompt)?;
                let without = match without.take() {
                    Some(without) => without,
                    None => self.write(&mut plain, prompt)?,
                };
                if with.sequence != without.sequence {
                    return Err(format!("drafter {} changed the text", kind.name()).into());
                }
                stats.merge(&with.stats);
                pairs.push((with, without));
            }
        }
        Ok(print(kind, &pairs, &stats, turns))
    }
}

fn print(kind: Kind, pairs: &[(Written, Written)], stats: &Stats, turns: usize) -> Value {
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    let mut ratios: Vec<f64> = pairs.iter().map(|(with, without)| ratio(with.after, without.after)).collect();
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    // Of every text the best time on each side.
    let best = |side: fn(&(Written, Written)) -> Duration| {
        pairs.chunks(turns).filter_map(|text| text.iter().map(side).min()).sum::<Duration>()
    };
    let best = ratio(best(|pair| pair.0.after), best(|pair| pair.1.after));
    let sum = |side: fn(&(Written, Written)) -> Duration| pairs.iter().map(side).sum::<Duration>();
    let whole = ratio(sum(|pair| pair.0.whole), sum(|pair| pair.1.whole));
    println!(
        "{:<26} {median:>7.3} {best:>7.3} {whole:>7.3} {:>8.2} {:>8.2} {:>6.0}%  {}",
        kind.name(),
        stats.draft_yield().unwrap_or(0.0),
        stats.mean_draft_length().unwrap_or(0.0),
        100.0 * stats.idle_share().unwrap_or(0.0),
        stats.why_not().unwrap_or_default()
    );
    let times = |side: fn(&(Written, Written)) -> Duration| -> Vec<f64> {
        pairs.iter().map(|pair| side(pair).as_secs_f64()).collect()
    };
    json!({
        "drafter": kind.name(),
        "median_ratio": median,
        "ratio_of_best_times": best,
        "ratio_of_whole_times": whole,
        "seconds_after_first_tokens": times(|pair| pair.0.after),
        "seconds_without_drafts": times(|pair| pair.1.after),
    })
}
