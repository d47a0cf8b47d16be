//! Text that follows a JSON schema, drafted, with the log-probability of every token.
//!
//! `cargo run --release --example structured`

use drafthorse::{
    DeviceChoice, Engine, Grammar, ModelDrafter, SamplingOptions, SessionOptions, TokenTable, WeightType,
    constraint::Whitespace, demo, logits::LogProbsOptions, open_device,
};
use std::sync::Arc;

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "name": { "type": "string", "maxLength": 12 },
        "apples": { "type": "integer", "minimum": 0, "maximum": 99 },
        "ripe": { "type": "boolean" }
    },
    "required": ["name", "apples", "ripe"],
    "additionalProperties": false
}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = open_device(DeviceChoice::Auto)?;
    let expert = demo::expert(&device, WeightType::F32)?;
    let drafter = demo::drafter(&device, WeightType::F32)?;
    let tokenizer = expert.tokenizer().ok_or("the demo expert has a tokenizer")?.clone();

    // A grammar is compiled once for a vocabulary, and shared by all texts.
    let table = TokenTable::new(&tokenizer.token_bytes()?)?;
    let encoder = tokenizer.clone();
    let table = table.with_encoder(move |text| encoder.encode_plain(text).ok());
    let grammar = Grammar::json_schema(&table, SCHEMA, Whitespace::None)?;

    let builder =
        Engine::builder().expert(expert.clone()).drafter(ModelDrafter::new(drafter)).draft_length(3);
    let mut engine = builder.detokenizer(tokenizer.clone()).build()?;
    let options = SessionOptions {
        sampling: SamplingOptions { temperature: 0.8, ..Default::default() },
        constraint: Some(Arc::new(grammar)),
        log_probs: Some(LogProbsOptions::default()),
        stop_tokens: expert.generation_config().eos.clone(),
        seed: 3,
        ..Default::default()
    };
    let mut session = engine.session(&tokenizer.encode("Tom has 3 apples. As JSON: ")?, &options)?;
    let (mut text, mut log_probability) = (String::new(), 0.0);
    for step in &mut session {
        let step = step?;
        text += &step.text;
        log_probability += step.tokens.iter().filter_map(|t| Some(t.log_probs.as_ref()?.chosen)).sum::<f64>();
    }
    let stats = session.stats();
    println!("{text}");
    println!(
        "{:.1} nats to the model itself, {:.2} tokens per expert pass, {} tokens forced by the grammar",
        -log_probability,
        stats.tokens_per_expert_pass().unwrap_or(0.0),
        stats.forced_accepted
    );
    Ok(())
}
