//! Guidance: away from what the expert says after another prompt.

use super::failure::Failure;
use clap::Args;
use drafthorse::{TokenId, Transformer, logits::Guidance, verifier::Guide};

/// Away from another prompt.
#[derive(Args, Clone)]
#[command(next_help_heading = "The expert's law")]
pub(crate) struct GuidanceArgs {
    /// Push the expert away from what it says after another prompt (classifier-free guidance): 1 changes nothing,
    /// 1.5 is usual
    #[arg(long, visible_alias = "cfg-scale", value_name = "X", allow_negative_numbers = true)]
    pub(crate) guidance_scale: Option<f64>,
    /// The other prompt; without it the last token of the prompt alone
    #[arg(long, value_name = "TEXT", requires = "guidance_scale")]
    pub(crate) negative_prompt: Option<String>,
}

impl GuidanceArgs {
    /// The law in words, with what was said here.
    pub(crate) fn describe(&self, law: Option<String>) -> Option<String> {
        let Some(scale) = self.guidance_scale else { return law };
        let before = law.map_or_else(|| "expert's law: ".to_owned(), |law| law + ", ");
        Some(format!("{before}guidance {scale}"))
    }

    /// The other prompt of guidance.
    pub(crate) fn guide(&self, prompt: &[TokenId], expert: &Transformer) -> Result<Option<Guide>, Failure> {
        let Some(scale) = self.guidance_scale else { return Ok(None) };
        let guidance = Guidance::new(scale).map_err(Failure::new)?;
        let negative = match (&self.negative_prompt, expert.tokenizer()) {
            (None, _) => prompt.last().copied().into_iter().collect(),
            (Some(text), Some(tokenizer)) => tokenizer.encode(text)?,
            (Some(_), None) => {
                return Err(Failure::new(
                    "--negative-prompt is text, and the expert has no tokenizer.json; leave it out: the last token of the prompt then stands alone",
                ));
            }
        };
        Ok(Some(Guide { negative, guidance }))
    }
}
