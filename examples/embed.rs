//! The engine inside another program: the demo pair writes a text.
//!
//! `cargo run --release --example embed`

use drafthorse::{
    DeviceChoice, Engine, Lossless, ModelDrafter, SamplingOptions, SessionOptions, WeightType, demo,
    open_device,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = open_device(DeviceChoice::Auto)?;
    let expert = demo::expert(&device, WeightType::F32)?;
    let drafter = demo::drafter(&device, WeightType::F32)?;
    let tokenizer = expert.tokenizer().ok_or("the demo expert has a tokenizer")?.clone();

    let mut engine = Engine::builder()
        .expert(expert.clone())
        .drafter(ModelDrafter::new(drafter))
        .rule(Lossless)
        .draft_length(2)
        .detokenizer(tokenizer.clone())
        .build()?;

    let sampling = SamplingOptions { temperature: 0.7, top_p: 0.95, ..Default::default() };
    let options = SessionOptions { sampling, seed: 7, max_tokens: 96, ..Default::default() };
    let prompt = tokenizer.encode("Question: A box holds 12 eggs. How many eggs are in 7 boxes?\nAnswer:")?;
    let mut session = engine.session(&prompt, &options)?;
    for step in &mut session {
        print!("{}", step?.text);
    }
    println!("\n\n{:.2} tokens per expert pass", session.stats().tokens_per_expert_pass().unwrap_or(0.0));
    Ok(())
}
