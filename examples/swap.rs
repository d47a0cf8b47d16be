//! Exchanging the drafter of a running program: it loads on another thread while text is generated.
//!
//! `cargo run --release --example swap`

use drafthorse::{
    DeviceChoice, Engine, ModelDrafter, NgramDrafter, Pending, SessionOptions, TableModel, WeightType, demo,
    open_device,
};
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = open_device(DeviceChoice::Auto)?;
    let expert = demo::expert(&device, WeightType::F32)?;
    let tokenizer = expert.tokenizer().ok_or("the demo expert has a tokenizer")?.clone();
    let prompt = tokenizer.encode("It was late in the evening when")?;
    let options = SessionOptions { max_tokens: 48, ..Default::default() };
    let mut engine =
        Engine::builder().expert(expert).drafter(NgramDrafter::default()).detokenizer(tokenizer).build()?;

    // The new drafter loads while the old one works.
    let loading = Pending::spawn("drafter", move || demo::drafter(&device, WeightType::F32));
    let before = text(&mut engine, &prompt, &options)?;
    engine.replace_drafter(ModelDrafter::new(loading.wait()?))?;
    let after = text(&mut engine, &prompt, &options)?;
    println!("{after}");
    // Greedy text is the expert's, whoever drafts.
    assert_eq!(before, after);

    // A drafter that does not fit is refused, and the one before stays.
    let stranger = ModelDrafter::new(Arc::new(TableModel::random(10, 1.0, 0)));
    let refused = engine.replace_drafter(stranger).err().ok_or("a stranger must not fit")?;
    println!("\nrefused: {refused}");
    assert_eq!(text(&mut engine, &prompt, &options)?, after);
    Ok(())
}

fn text(engine: &mut Engine, prompt: &[u32], options: &SessionOptions) -> Result<String, drafthorse::Error> {
    let drafter = engine.drafter().name().to_owned();
    let mut session = engine.session(prompt, options)?;
    let text = session.by_ref().map(|step| step.map(|step| step.text)).collect::<Result<String, _>>()?;
    println!("drafter {drafter}: acceptance rate {:.2}", session.stats().acceptance_rate().unwrap_or(0.0));
    Ok(text)
}
