//! The demo expert drafts for itself: with every exit, and without each of its layers.
//!
//! `cargo run --release --example self_speculation [turns [threads]]`
//!
//! All engines take turns with every prompt. Of each prompt the best time counts, and times are compared with those
//! without drafts. The demo expert was not trained for this.

use drafthorse::{
    DeviceChoice, Engine, ModelDrafter, SessionOptions, TokenId, Transformer, WeightType, demo,
    model::{Shortcut, set_threads},
    open_device,
    self_speculation::{self, SearchOptions},
    synthetic,
};
use std::{sync::Arc, time::Duration};

const PROMPTS: [&str; 4] = [
    "Question: Anna has 12 apples and gives 5 of them to Tom. How many apples are left?\nAnswer:",
    "It was a dark and stormy night, and the old house at the end of the lane",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "\"Yes,\" he said.\n\"No,\" she said.\n\"Yes,\" he said.\n\"",
];

/// An engine with a draft length, and what was measured of it.
struct Entry {
    name: String,
    engine: Engine,
    k: usize,
    /// The best time of a token, in seconds, for each prompt.
    best: Vec<f64>,
    examined: u64,
    accepted: u64,
    emitted: u64,
    rounds: u64,
}

impl Entry {
    fn new(name: String, engine: Engine, k: usize) -> Self {
        Self { name, engine, k, best: Vec::new(), examined: 0, accepted: 0, emitted: 0, rounds: 0 }
    }

    /// Writes after a prompt.
    fn turn(&mut self, number: usize, prompt: &[TokenId]) -> Result<(), drafthorse::Error> {
        let options =
            SessionOptions { max_tokens: 96, draft_length: Some(self.k.into()), ..Default::default() };
        let mut session = self.engine.session(prompt, &options)?;
        let mut time = Duration::ZERO;
        for step in &mut session {
            let step = step?;
            time += step.draft_time + step.verify_time + step.other_time;
            self.examined += step.examined as u64;
            self.accepted += step.accepted as u64;
            self.emitted += step.tokens.len() as u64;
            self.rounds += 1;
        }
        self.best.resize(self.best.len().max(number + 1), f64::INFINITY);
        let token = time.as_secs_f64() / session.generated().len() as f64;
        self.best[number] = self.best[number].min(token);
        Ok(())
    }

    fn time(&self) -> f64 {
        self.best.iter().sum()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |index| std::env::args().nth(index).map(|text| text.parse()).transpose();
    let turns = number(1)?.unwrap_or(3);
    if let Some(threads) = number(2)? {
        set_threads(threads)?;
    }
    let device = open_device(DeviceChoice::Cpu)?;
    let expert = demo::expert(&device, WeightType::F32)?;
    let tokenizer = expert.tokenizer().ok_or("the demo expert has a tokenizer")?;
    let prompts = PROMPTS.iter().map(|prompt| tokenizer.encode(prompt)).collect::<Result<Vec<_>, _>>()?;
    measure(&expert, &prompts, turns)?;
    read_prompt(&expert, turns)?;
    println!("\nWhat a search expects of the demo expert:");
    search(&expert, &prompts, 32)?;
    println!(
        "\nWhat it expects of a generated model of 134 M parameters, of which the costs alone mean something:"
    );
    let large = synthetic::bench_134m(&device, WeightType::F32)?;
    search(&large, &[synthetic::random_tokens(1, 64, 32_000)], 8)
}

fn measure(
    expert: &Arc<Transformer>,
    prompts: &[Vec<TokenId>],
    turns: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let plain = Engine::builder().expert(expert.clone()).build()?;
    let mut entries = vec![Entry::new("no drafts".into(), plain, 0)];
    let layers = expert.config().layers;
    let skips = (2..layers).map(|layer| Shortcut::Skip(vec![layer]));
    for shortcut in Shortcut::exits(layers).chain(skips) {
        for k in 1..=3 {
            let engine = self_speculation::builder(expert, &shortcut)?.build()?;
            entries.push(Entry::new(shortcut.to_string(), engine, k));
            if matches!(shortcut, Shortcut::Exit(_)) {
                // The same drafts by a model that shares the weights and nothing else.
                let apart = ModelDrafter::new(Arc::new(expert.shortened(&shortcut)?));
                let engine = Engine::builder().expert(expert.clone()).drafter(apart).build()?;
                entries.push(Entry::new(format!("{shortcut} apart"), engine, k));
            }
        }
    }
    for _ in 0..turns {
        for (number, prompt) in prompts.iter().enumerate() {
            for entry in &mut entries {
                entry.turn(number, prompt)?;
            }
        }
    }
    let alone = entries[0].time();
    println!("{:<12} k  acceptance  tokens a pass  speedup", "drafter");
    for entry in &entries {
        let Entry { name, k, examined, accepted, emitted, rounds, .. } = entry;
        let rate = *accepted as f64 / (*examined).max(1) as f64;
        let per_pass = *emitted as f64 / *rounds as f64;
        println!("{name:<12} {k}  {rate:>10.3}  {per_pass:>13.2}  {:>7.2}", alone / entry.time());
    }
    Ok(())
}

/// How long a prompt of 1024 tokens takes, which a drafter with a cache of its own has to read too.
fn read_prompt(expert: &Arc<Transformer>, turns: usize) -> Result<(), Box<dyn std::error::Error>> {
    let prompt = synthetic::random_tokens(1, 1024, 4000);
    let options = SessionOptions { max_tokens: 1, ..Default::default() };
    let shortcut = Shortcut::Exit(3);
    let mut best = [f64::INFINITY; 3];
    for _ in 0..turns.max(1) {
        let apart = ModelDrafter::new(Arc::new(expert.shortened(&shortcut)?));
        let builders = [
            Engine::builder().expert(expert.clone()).draft_length(0),
            self_speculation::builder(expert, &shortcut)?,
            Engine::builder().expert(expert.clone()).drafter(apart),
        ];
        for (best, builder) in best.iter_mut().zip(builders) {
            let mut engine = builder.build()?;
            let mut session = engine.session(&prompt, &options)?;
            session.try_for_each(|step| step.map(drop))?;
            *best = best.min(session.stats().prompt_time.as_secs_f64());
        }
    }
    let [alone, shared, apart] = best;
    let times = (shared / alone, apart / alone);
    println!("\nReading a prompt, in times without drafts: {shortcut} {:.2}, apart {:.2}", times.0, times.1);
    Ok(())
}

fn search(
    model: &Arc<Transformer>,
    prompts: &[Vec<TokenId>],
    tokens: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let options =
        SearchOptions { tokens, max_draft: 3, budget: Duration::from_secs(30), ..Default::default() };
    let found = self_speculation::search(model, prompts, &options)?;
    for candidate in &found.candidates {
        println!("{candidate}");
    }
    println!("{} positions; {}", found.positions, if found.complete { "complete" } else { "out of time" });
    Ok(())
}
