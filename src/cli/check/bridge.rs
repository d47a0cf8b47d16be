//! What `drafthorse check` says of models with different tokenizers.

use super::Facts;
use crate::cli::prompts;
use drafthorse::{
    ModelError,
    drafter::{Bridge, Choice},
    model::{Overlap, Spelling, TextOverlap, Translation},
};
use serde_json::json;
use std::io::Write;

/// How the drafter's tokens can become the expert's.
pub(super) struct Crossing {
    overlap: Overlap,
    /// Where the rule does not read the drafter's probabilities.
    choice: Choice,
    /// Where it does; or why that cannot be.
    calibrated: Result<Choice, String>,
    /// The drafter's parameters over the expert's.
    size: f64,
}

impl Crossing {
    /// `None` where not both have a tokenizer, or they have the same.
    pub(super) fn between(expert: &Facts, drafter: &Facts) -> Result<Option<Self>, ModelError> {
        let (Some(ours), Some(theirs)) = (&expert.tokenizer, &drafter.tokenizer) else { return Ok(None) };
        let translation = Translation::new(Spelling::of(ours)?, Spelling::of(theirs)?);
        if translation.is_same() {
            return Ok(None);
        }
        translation.check(drafter.config.vocab_size)?;
        let overlap = translation.overlap(Some(&prompts::sample()));
        let choice = Bridge::choose(&overlap, false, false)?;
        let calibrated = Bridge::choose(&overlap, false, true).map_err(|error| error.to_string());
        let size = drafter.config.parameters() as f64 / expert.config.parameters() as f64;
        Ok(Some(Self { overlap, choice, calibrated, size }))
    }

    /// Steps of the drafter for a token of the expert's, at least.
    fn steps(&self) -> f64 {
        let text = self.overlap.text.as_ref();
        match self.choice.bridge {
            Bridge::Text => text.map_or(1.0, TextOverlap::drafter_per_expert),
            _ => 1.0,
        }
    }

    pub(super) fn report(&self) -> serde_json::Value {
        let text = self.overlap.text.as_ref().map(|text| {
            json!({
                "expert_tokens": text.expert_tokens,
                "shared_tokens": text.shared,
                "share": text.share(),
                "drafter_tokens": text.drafter_tokens,
                "drafter_tokens_per_expert_token": text.drafter_per_expert(),
            })
        });
        json!({
            "name": self.choice.bridge.name(),
            "reason": self.choice.reason,
            "for_rules_that_read_probabilities": self.calibrated.as_ref().ok().map(|choice| choice.bridge.name()),
            "shared_tokens": self.overlap.shared,
            "share_of_expert": self.overlap.share_of_expert,
            "share_of_drafter": self.overlap.share_of_drafter,
            "sample_text": text,
            "drafter_steps_per_token": self.steps(),
            "draft_cost_by_parameters": self.steps() * self.size,
        })
    }

    pub(super) fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let percent = |share: f64| share * 100.0;
        let Overlap { shared, share_of_expert, share_of_drafter, text } = &self.overlap;
        let (bridge, reason) = (self.choice.bridge, &self.choice.reason);
        writeln!(
            out,
            "Their tokens differ, and a bridge works: {bridge}, {}, since {reason}.",
            about(bridge)
        )?;
        writeln!(
            out,
            "- {shared} tokens are shared: {:.1} % of the expert's, {:.1} % of the drafter's",
            percent(*share_of_expert),
            percent(*share_of_drafter)
        )?;
        match text {
            Some(text) => writeln!(
                out,
                "- of a sample text {:.1} % of the expert's tokens are shared; it has {:.2} of the drafter's tokens for one of the expert's",
                percent(text.share()),
                text.drafter_per_expert()
            )?,
            None => writeln!(out, "- a sample text cannot be written in the tokens of both")?,
        }
        writeln!(
            out,
            "- to draft a token takes about {:.2} steps of the drafter, by parameters {:.2} of the expert's",
            self.steps(),
            self.steps() * self.size
        )?;
        match &self.calibrated {
            Ok(choice) if choice.bridge == bridge => Ok(()),
            Ok(choice) => writeln!(
                out,
                "- with a rule that reads the drafter's probabilities: {}, {}",
                choice.bridge,
                about(choice.bridge)
            ),
            Err(error) => writeln!(out, "- {error}"),
        }
    }
}

fn about(bridge: Bridge) -> &'static str {
    match bridge {
        Bridge::Tokens => "which drafts the tokens that both share, with probabilities",
        Bridge::Text => "which drafts text that is read in the expert's tokens, without probabilities",
        _ => "which drafts as it is",
    }
}
