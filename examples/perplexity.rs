//! What it costs to hold weights in fewer bits: perplexity of a model on texts, by type of weights.
//!
//! `cargo run --release --example perplexity -- [texts.jsonl] [folder]`
//!
//! Each line of the file is a JSON object, of which all strings are read, one after the other. Without a
//! file a few sentences stand in, without a folder the demo expert.

use drafthorse::{
    DeviceChoice, TokenId, Tokenizer, Transformer, WeightType, demo,
    logits::log_sum_exp,
    model::{CachedModel, ModelError},
    open_device,
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

/// The negative log-probability of every token after the first, added up, and how many they are.
fn score(model: &Arc<Transformer>, tokens: &[TokenId]) -> Result<(f64, usize), ModelError> {
    let logits = CachedModel::new(model.clone()).logits(tokens, tokens.len())?;
    let loss = |(row, &next): (&[f32], &TokenId)| log_sum_exp(row) - f64::from(row[next as usize]);
    Ok((logits.iter().zip(&tokens[1..]).map(loss).sum(), tokens.len() - 1))
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
        let (mut loss, mut count) = (0.0, 0);
        for text in &texts {
            let mut tokens = tokenizer.encode(text)?;
            tokens.truncate(model.config().context_len);
            if tokens.len() > 1 {
                let (more, tokens) = score(&model, &tokens)?;
                (loss, count) = (loss + more, count + tokens);
            }
        }
        let perplexity = (loss / f64::from(u32::try_from(count)?)).exp();
        let ratio = perplexity / *exact.get_or_insert(perplexity);
        println!(
            "{:4} perplexity {perplexity:.4} on {count} tokens, {ratio:.4} times that of f32",
            weights.name()
        );
    }
    Ok(())
}
