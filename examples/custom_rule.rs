//! An acceptance rule of one's own: a fixed mixture of drafter and expert, drawn exactly.
//!
//! `cargo run --release --example custom_rule`

use drafthorse::{
    AcceptanceRule, DeviceChoice, Engine, ModelDrafter, Needs, SamplingOptions, SessionOptions, WeightType,
    demo,
    logits::{Probs, Scores},
    open_device,
    verifier::RuleError,
};
use std::{borrow::Cow, sync::Arc};

/// Next tokens from `weight * q + (1 - weight) * p`: faster, and no longer the expert alone.
struct Mixture {
    weight: f64,
}

impl AcceptanceRule for Mixture {
    fn name(&self) -> &'static str {
        "mixture"
    }

    fn target<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        let (q, p) = (draft.probs().to_vec(), expert.probs().to_vec());
        let mixed = q.iter().zip(&p).map(|(q, p)| self.weight * q + (1.0 - self.weight) * p).collect();
        // A mixture of two distributions is one; what rounding leaves is normalised away.
        Probs::normalize(mixed).map_or(Cow::Borrowed(expert.probs()), Cow::Owned)
    }

    fn needs_calibrated_draft(&self) -> bool {
        true
    }

    fn needs(&self) -> Needs {
        Needs::Sampled // never `raw`: at temperature 0 no row of logits leaves a GPU
    }

    fn needs_draft_after(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), RuleError> {
        if (0.0..=1.0).contains(&self.weight) {
            return Ok(());
        }
        Err(RuleError::OutOfRange { rule: "mixture", dial: "weight", value: self.weight, range: "0 to 1" })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = open_device(DeviceChoice::Auto)?;
    let expert = demo::expert(&device, WeightType::F32)?;
    let drafter = demo::drafter(&device, WeightType::F32)?;
    let tokenizer = expert.tokenizer().ok_or("the demo expert has a tokenizer")?.clone();
    let prompt = tokenizer.encode("\"I cannot tell you that,\" she said,")?;
    let mut engine = Engine::builder()
        .expert(expert)
        .drafter(ModelDrafter::new(drafter))
        .draft_length(3)
        .detokenizer(tokenizer)
        .build()?;
    for weight in [0.0, 0.5, 1.0] {
        let options = SessionOptions {
            sampling: SamplingOptions { temperature: 1.0, ..Default::default() },
            rule: Some(Arc::new(Mixture { weight })),
            max_tokens: 64,
            ..Default::default()
        };
        let mut session = engine.session(&prompt, &options)?;
        let text = session.by_ref().map(|step| step.map(|step| step.text)).collect::<Result<String, _>>()?;
        let rate = session.stats().acceptance_rate().unwrap_or(0.0);
        println!("drafter's weight {weight}: acceptance rate {rate:.2}\n{text}\n");
    }
    Ok(())
}
