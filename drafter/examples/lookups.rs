//! How many tokens a round gives, and how long drafting takes, for the drafters that look up: on fillings of one JSON
//! schema, each a text of its own, as an agent writes them. The expert is taken to write exactly these texts.
//!
//! `cargo run --release -p drafthorse-drafter --example lookups`

use drafthorse_drafter::{
    DraftRequest, Drafter, NgramDrafter, NgramMemoryDrafter, SuffixDrafter, SuffixOptions, SuffixStore,
};
use drafthorse_logits::{Memory, Origin, Sampler, SamplingOptions, SeededDraws, TokenId, Verdict};
use std::{
    collections::HashMap,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

const VOCAB: usize = 50_000;

/// Words, numbers and signs as tokens.
#[derive(Default)]
struct Words(HashMap<String, TokenId>);

impl Words {
    fn tokens(&mut self, text: &str) -> Vec<TokenId> {
        let mut pieces: Vec<String> = Vec::new();
        for sign in text.chars() {
            match pieces.last_mut() {
                Some(piece) if sign.is_alphanumeric() && piece.chars().all(char::is_alphanumeric) => {
                    piece.push(sign);
                }
                _ => pieces.push(sign.into()),
            }
        }
        let known = &mut self.0;
        let mut id = |piece| {
            let next = known.len() as TokenId;
            *known.entry(piece).or_insert(next)
        };
        pieces.into_iter().map(&mut id).collect()
    }
}

/// The nth filling of the schema.
fn filling(n: usize) -> String {
    let pick = |list: &[&'static str], step: usize| list[(n * step + n / list.len()) % list.len()];
    let name = pick(&["Ada", "Grace", "Alan", "Barbara", "Edsger", "Katherine", "Donald"], 3);
    let city = pick(&["London", "Paris", "Oslo", "Rome", "Lima"], 2);
    let plan = pick(&["free", "team", "business"], 1);
    let items: Vec<_> = (0..=n % 3)
        .map(|i| {
            let (number, quantity) = ((n * 37 + i * 11) % 97, 1 + (n + i) % 5);
            format!("    {{ \"sku\": \"A{number}\", \"quantity\": {quantity}, \"gift\": false }}")
        })
        .collect();
    format!(
        "{{\n  \"type\": \"order\",\n  \"version\": 2,\n  \"customer\": {{\n    \"id\": {},\n    \"name\": \"{name}\",\n    \"city\": \"{city}\",\n    \"plan\": \"{plan}\",\n    \"active\": {}\n  }},\n  \"items\": [\n{}\n  ],\n  \"created\": \"2026-{:02}-{:02}\",\n  \"status\": \"confirmed\"\n}}\n",
        1000 + n * 7919 % 9000,
        !n.is_multiple_of(4),
        items.join(",\n"),
        1 + n % 12,
        1 + n % 28
    )
}

#[derive(Default)]
struct Counts {
    rounds: usize,
    tokens: usize,
    drafted: usize,
    accepted: usize,
    time: Duration,
    slowest: Duration,
}

/// Writes a text after its prompt with this drafter.
fn write(
    drafter: &mut dyn Drafter,
    prompt: &[TokenId],
    text: &[TokenId],
    max: usize,
) -> Result<Counts, Box<dyn Error>> {
    let sampler = Sampler::new(&SamplingOptions::default())?;
    let whole = [prompt, text].concat();
    drafter.prepare(&whole[..prompt.len() - 1])?;
    let (mut counts, mut at) = (Counts::default(), prompt.len());
    while at < whole.len() {
        let request = DraftRequest {
            max,
            score_after: false,
            raw: false,
            vocab: VOCAB,
            prompt: prompt.len(),
            memory: Memory::off(),
            sampler: &sampler,
            stop: None,
        };
        let start = Instant::now();
        let proposal = drafter.propose(&whole[..at], &request, &mut SeededDraws::new(0, 1))?;
        let time = start.elapsed();
        counts.time += time;
        counts.slowest = counts.slowest.max(time);
        let right = proposal.tokens.iter().zip(&whole[at..]).take_while(|(a, b)| a == b).count();
        let accepted = right.min(whole.len() - at - 1);
        let origin = if right < proposal.tokens.len() { Origin::Replacement } else { Origin::Bonus };
        drafter.observe(&Verdict { accepted, next: whole[at + accepted], origin });
        counts.rounds += 1;
        counts.tokens += accepted + 1;
        counts.drafted += proposal.tokens.len();
        counts.accepted += accepted;
        at += accepted + 1;
    }
    Ok(counts)
}

fn measure(
    name: &str,
    drafter: &mut dyn Drafter,
    texts: &[Vec<TokenId>],
    max: usize,
) -> Result<(), Box<dyn Error>> {
    let mut all = Counts::default();
    for text in texts {
        let counts = write(drafter, &text[..8], &text[8..], max)?;
        all.rounds += counts.rounds;
        all.tokens += counts.tokens;
        all.drafted += counts.drafted;
        all.accepted += counts.accepted;
        all.time += counts.time;
        all.slowest = all.slowest.max(counts.slowest);
    }
    println!(
        "{name:<34} {:>6.2} tokens a round, {:>5.1}% of drafted accepted, {:>6.2} us a round, slowest {:>7.1} us",
        all.tokens as f64 / all.rounds as f64,
        100.0 * all.accepted as f64 / all.drafted.max(1) as f64,
        all.time.as_secs_f64() * 1e6 / all.rounds as f64,
        all.slowest.as_secs_f64() * 1e6,
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = Words::default();
    let texts: Vec<_> = (0..50).map(|n| words.tokens(&filling(n))).collect();
    println!("50 texts of one schema, {} tokens, {} different", texts.concat().len(), words.0.len());
    for max in [4, 8, 16] {
        println!("up to {max} tokens drafted");
        measure("n-gram, the text so far", &mut NgramDrafter::default(), &texts, max)?;
        measure("n-gram memory", &mut NgramMemoryDrafter::default(), &texts, max)?;
        let options = SuffixOptions { learn: false, ..SuffixOptions::default() };
        let mut local = SuffixDrafter::default().with_options(options)?;
        measure("suffix, the text so far", &mut local, &texts, max)?;
        measure("suffix", &mut SuffixDrafter::default(), &texts, max)?;
    }
    // The same with much in the store: fillings, and noise in which short runs stand often.
    let store: Arc<SuffixStore> = Arc::default();
    let mut noise = 1_u32;
    let start = Instant::now();
    while store.memory().tokens < 100_000 {
        let text = (0..1000).map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Squared, so that some tokens are frequent.
            let unit = f64::from(noise >> 8) / f64::from(1 << 24);
            (unit * unit * 3000.0) as TokenId
        });
        store.add(&text.collect::<Vec<_>>());
    }
    let memory = store.memory();
    let (bytes, nanos) = (memory.held as f64, start.elapsed().as_secs_f64() * 1e9);
    let tokens = memory.tokens as f64;
    println!("with {tokens} tokens stored, {:.0} bytes and {:.0} ns a token", bytes / tokens, nanos / tokens);
    measure("suffix", &mut SuffixDrafter::new(store), &texts, 16)?;
    Ok(())
}
