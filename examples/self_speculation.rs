//! The demo expert drafts for itself: with every exit, and without each of its layers.
//!
//! `cargo run --release --example self_speculation [repetitions]`
//!
//! All engines take turns, and each time is compared with that without drafts in the same turn. The demo expert was not
//! trained for this, and it shows.

use drafthorse::{
    DeviceChoice, Engine, SessionOptions, TokenId, Transformer, WeightType, demo,
    model::Shortcut,
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
    /// Tokens per second in each turn.
    speeds: Vec<f64>,
    examined: u64,
    accepted: u64,
    emitted: u64,
    rounds: u64,
}

impl Entry {
    fn new(name: String, engine: Engine, k: usize) -> Self {
        Self { name, engine, k, speeds: Vec::new(), examined: 0, accepted: 0, emitted: 0, rounds: 0 }
    }

    /// Writes after all prompts.
    fn turn(&mut self, prompts: &[Vec<TokenId>]) -> Result<(), drafthorse::Error> {
        let (mut tokens, mut time) = (0, Duration::ZERO);
        for prompt in prompts {
            let options =
                SessionOptions { max_tokens: 96, draft_length: Some(self.k.into()), ..Default::default() };
            let mut session = self.engine.session(prompt, &options)?;
            for step in &mut session {
                let step = step?;
                tokens += step.tokens.len();
                time += step.draft_time + step.verify_time + step.other_time;
                self.examined += step.examined as u64;
                self.accepted += step.accepted as u64;
                self.rounds += 1;
            }
        }
        self.emitted += tokens as u64;
        self.speeds.push(tokens as f64 / time.as_secs_f64());
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let turns = std::env::args().nth(1).map_or(Ok(3), |turns| turns.parse())?;
    let device = open_device(DeviceChoice::Cpu)?;
    let expert = demo::expert(&device, WeightType::F32)?;
    let tokenizer = expert.tokenizer().ok_or("the demo expert has a tokenizer")?;
    let prompts = PROMPTS.iter().map(|prompt| tokenizer.encode(prompt)).collect::<Result<Vec<_>, _>>()?;
    measure(&expert, &prompts, turns)?;
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
        }
    }
    for _ in 0..turns {
        for entry in &mut entries {
            entry.turn(prompts)?;
        }
    }
    let baseline = entries[0].speeds.clone();
    println!("{:<10} k  acceptance  tokens a pass  speedup (each turn)", "drafter");
    for Entry { name, k, speeds, examined, accepted, emitted, rounds, .. } in &entries {
        let rate = *accepted as f64 / (*examined).max(1) as f64;
        let per_pass = *emitted as f64 / *rounds as f64;
        let ratios: Vec<_> = speeds.iter().zip(&baseline).map(|(a, b)| format!("{:.2}", a / b)).collect();
        println!("{name:<10} {k}  {rate:>10.3}  {per_pass:>13.2}  {}", ratios.join(" "));
    }
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
