//! What it costs to hold weights in fewer bits: perplexity of a model on texts, by type of weights.
//!
//! `cargo run --release --example perplexity -- [texts.jsonl] [folder]`
//!
//! Each line of the file is a JSON object, of which all strings are read, one after the other. Without a
//! file a few sentences stand in, without a folder the demo expert.

use drafthorse::{
    DeviceChoice, Tokenizer, Transformer, WeightType, demo,
    model::CachedModel,
    open_device,
    score::{Summary, Windows, score},
};
use serde_json::Value;
use std::{error::Error, path::Path, sync::Arc};

const SENTENCES: [&str; 3] = [
    "Question: Tom has 3 apples and buys 4 more. How many apples does he have? Answer: 3 + 4 = 7.",
    "It was a bright cold morning, and she had walked a long way before anybody spoke to her.",
    "fn main() { let total: u32 = (1..=10).sum(); println!(\"{total}\"); }",
];

fn texts(file: Option<&String>) -> Result<Vec<String>, Box<dyn Error>> {
    let Some(file) = file else { return Ok(SENTENCES.map(String::from).to_vec()) };
    let lines = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let text = |line: &str| -> Result<String, Box<dyn Error>> {
        let object: serde_json::Map<String, Value> = serde_json::from_str(line)?;
        Ok(object.values().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"))
    };
    lines.lines().filter(|line| !line.trim().is_empty()).map(text).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts = texts(arguments.first())?;
    let device = open_device(DeviceChoice::Cpu)?;
    let mut exact = None;
    for weights in WeightType::ALL {
        let model = match arguments.get(1) {
            Some(folder) => Arc::new(Transformer::open(Path::new(folder), &device, weights)?),
            None => demo::expert(&device, weights)?,
        };
        let tokenizer: Arc<Tokenizer> = model.tokenizer().ok_or("the model has no tokenizer.json")?.clone();
        let context = model.config().context_len;
        let windows = Windows::new(context, context / 2)?;
        let mut total = Summary::default();
        for text in &texts {
            let tokens = tokenizer.encode(text)?;
            let scores = score(&mut CachedModel::new(model.clone()), &tokens, windows)?;
            total.merge(&Summary::new(&scores, text.len()));
        }
        let (perplexity, count) = (total.perplexity().ok_or("no tokens to score")?, total.tokens);
        let ratio = perplexity / *exact.get_or_insert(perplexity);
        println!(
            "{:4} perplexity {perplexity:.4} on {count} tokens, {ratio:.4} times that of f32",
            weights.name()
        );
    }
    Ok(())
}
