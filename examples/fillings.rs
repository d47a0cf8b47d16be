//! The same form filled fifty times: what a drafter that remembers earlier texts is worth where texts repeat.
//!
//! `cargo run --release --example fillings`
//!
//! Every request has another prompt. One engine answers them all, so that the suffix drafter remembers the earlier
//! answers. Forms: JSON by a schema (whatever the schema forces comes besides), and answers to arithmetic of one kind.

use drafthorse::{
    DeviceChoice, DraftLength, Drafter, Engine, Grammar, NgramDrafter, NoDrafter, SamplingOptions,
    SessionOptions, Stats, TokenTable, Transformer, WeightType, constraint::Whitespace, demo,
    drafter::SuffixDrafter, logits::Constraint, open_device,
};
use std::{error::Error, sync::Arc};

const TEXTS: usize = 50;

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "order": { "type": "integer", "minimum": 100, "maximum": 999 },
        "customer": {
            "type": "object",
            "properties": {
                "name": { "type": "string", "enum": ["Anna", "Bob", "Clara", "David", "Emma", "Frank"] },
                "city": { "type": "string", "enum": ["Rome", "Oslo", "Paris", "London", "Madrid"] },
                "age": { "type": "integer", "minimum": 18, "maximum": 99 }
            },
            "required": ["name", "city", "age"],
            "additionalProperties": false
        },
        "items": { "type": "array", "minItems": 2, "maxItems": 3, "items": {
            "type": "object",
            "properties": {
                "article": { "type": "string", "enum": ["apples", "books", "candles", "pencils", "shirts"] },
                "count": { "type": "integer", "minimum": 1, "maximum": 20 }
            },
            "required": ["article", "count"],
            "additionalProperties": false
        } },
        "paid": { "type": "boolean" }
    },
    "required": ["order", "customer", "items", "paid"],
    "additionalProperties": false
}"#;

const NAMES: [&str; 7] = ["Anna", "Bob", "Clara", "David", "Emma", "Frank", "Grace"];
const THINGS: [&str; 5] = ["apples", "books", "candles", "pencils", "shirts"];

fn order(i: usize) -> String {
    let (name, thing) = (NAMES[i * 3 % 7], THINGS[i * 2 % 5]);
    format!("Order {}: {name} wants {} {thing}. As JSON: ", 100 + 7 * i, 2 + i * 5 % 17)
}

fn question(i: usize) -> String {
    let (name, thing) = (NAMES[i * 3 % 7], THINGS[i * 2 % 5]);
    let (has, buys) = (3 + i * 7 % 40, 2 + i * 5 % 17);
    format!(
        "Question: {name} has {has} {thing} and buys {buys} more. How many {thing} does {name} have?\nAnswer:"
    )
}

/// One engine answers everything.
fn run(
    expert: &Arc<Transformer>,
    drafter: Box<dyn Drafter>,
    length: DraftLength,
    prompt: fn(usize) -> String,
    options: &SessionOptions,
) -> Result<Stats, Box<dyn Error>> {
    let tokenizer = expert.tokenizer().ok_or("the demo expert has a tokenizer")?.clone();
    let builder = Engine::builder().expert(expert.clone()).drafter(drafter).draft_length(length);
    let mut engine = builder.detokenizer(tokenizer.clone()).build()?;
    let mut stats = Stats::default();
    for i in 0..TEXTS {
        let options = SessionOptions { seed: i as u64, ..options.clone() };
        let mut session = engine.session(&tokenizer.encode(&prompt(i))?, &options)?;
        session.by_ref().try_for_each(|step| step.map(drop))?;
        stats.merge(session.stats());
    }
    Ok(stats)
}

/// What is filled, fifty times.
struct Form {
    name: &'static str,
    prompt: fn(usize) -> String,
    constraint: Option<Arc<dyn Constraint>>,
}

/// A drafter, anew for every run.
type Make = fn() -> Box<dyn Drafter>;

const DRAFTERS: [(&str, Make); 3] = [
    ("none", || Box::new(NoDrafter)),
    ("ngram", || Box::new(NgramDrafter::default())),
    ("suffix", || Box::<SuffixDrafter>::default()),
];

/// Every drafter with its draft lengths, beside plain decoding.
fn measure(expert: &Arc<Transformer>, form: &Form, temperature: f32) -> Result<(), Box<dyn Error>> {
    let options = SessionOptions {
        sampling: SamplingOptions { temperature, ..Default::default() },
        max_tokens: 96,
        stop_tokens: expert.generation_config().eos.clone(),
        constraint: form.constraint.clone(),
        ..Default::default()
    };
    let mut plain = None;
    for (name, make) in DRAFTERS {
        for length in ["0", "8", "auto"] {
            // Without a drafter, drafts are what the schema forces: worth a look where there is a schema.
            let idle = match name {
                "none" => length == "auto" || (length == "8" && form.constraint.is_none()),
                _ => length == "0",
            };
            if idle {
                continue;
            }
            let runs = (0..3).map(|_| run(expert, make(), length.parse()?, form.prompt, &options));
            let runs = runs.collect::<Result<Vec<_>, _>>()?;
            let speed = |stats: &Stats| stats.tokens_per_second().unwrap_or(0.0);
            let stats = runs.into_iter().max_by(|a, b| speed(a).total_cmp(&speed(b))).unwrap_or_default();
            let unforced = stats.emitted.saturating_sub(stats.forced_accepted) as f64;
            println!(
                "{:17} {temperature:.1}  {name:7}  {length:4}  {:11.2}  {:8.2}  {:>10}  {:7.2}",
                form.name,
                stats.tokens_per_expert_pass().unwrap_or(0.0),
                unforced / stats.rounds.max(1) as f64,
                stats.acceptance_rate().map_or("-".into(), |rate| format!("{rate:.2}")),
                speed(&stats) / *plain.get_or_insert(speed(&stats))
            );
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let expert = demo::expert(&open_device(DeviceChoice::Cpu)?, WeightType::F32)?;
    let tokenizer = expert.tokenizer().ok_or("the demo expert has a tokenizer")?.clone();
    let table = TokenTable::new(&tokenizer.token_bytes()?)?;
    let encoder = tokenizer.clone();
    let table = table.with_encoder(move |text| encoder.encode_plain(text).ok());
    let grammar = Grammar::json_schema(&table, SCHEMA, Whitespace::None)?;
    println!(
        "{TEXTS} texts each; lossless; tokens per expert pass, with the forced tokens and without them;"
    );
    println!("speedup over plain decoding, best of three runs\n");
    println!("form              T    drafter  k     tokens/pass  unforced  acceptance  speedup");
    let json = Form { name: "JSON by a schema", prompt: order, constraint: Some(Arc::new(grammar)) };
    let arithmetic = Form { name: "arithmetic", prompt: question, constraint: None };
    for form in [json, arithmetic] {
        for temperature in [0.0, 0.8] {
            measure(&expert, &form, temperature)?;
        }
    }
    Ok(())
}
