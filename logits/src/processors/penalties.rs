use super::{Context, LogitsProcessor};
use crate::{TokenId, buffer::Buffer};

/// Makes every token of prompt and text less likely: a positive logit is divided by the penalty, a
/// negative one multiplied.
///
/// Source: Keskar et al., "CTRL", 2019, section 4.1, in the form of Hugging Face transformers.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Repetition {
    /// The penalty, above 0; 1 is off.
    pub penalty: f32,
    /// How many of the last tokens count; 0 is all of them.
    pub last_n: usize,
}

impl LogitsProcessor for Repetition {
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        for_each_seen(last(context.tokens(), self.last_n), |token, _| {
            if let Some(logit) = row.get_mut(token as usize) {
                let penalized = if *logit > 0.0 { *logit / self.penalty } else { *logit * self.penalty };
                *logit = bounded(*logit, penalized);
            }
        });
    }

    fn is_pure(&self) -> bool {
        true
    }
}

/// Lowers the logit of each *generated* token by `presence`, and by `frequency` for every time it was
/// generated. The prompt does not count, as in the `OpenAI` interface (in llama.cpp it does).
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct PresenceFrequency {
    /// Subtracted once.
    pub presence: f32,
    /// Subtracted for each occurrence.
    pub frequency: f32,
    /// How many of the last tokens count; 0 is all of them.
    pub last_n: usize,
}

impl LogitsProcessor for PresenceFrequency {
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        for_each_seen(last(context.generated(), self.last_n), |token, count| {
            if let Some(logit) = row.get_mut(token as usize) {
                *logit = bounded(*logit, *logit - (self.presence + self.frequency * count as f32));
            }
        });
    }

    fn is_pure(&self) -> bool {
        true
    }
}

/// Calls `found` once for each token, with how often it stands there.
fn for_each_seen(tokens: &[TokenId], mut found: impl FnMut(TokenId, usize)) {
    let mut sorted = Buffer::copy(tokens);
    sorted.as_mut_slice().sort_unstable();
    for same in sorted.chunk_by(TokenId::eq) {
        found(same[0], same.len());
    }
}

fn last(tokens: &[TokenId], n: usize) -> &[TokenId] {
    if n == 0 { tokens } else { &tokens[tokens.len().saturating_sub(n)..] }
}

/// A penalised logit, which stays a number: a penalty neither excludes a token nor makes it certain.
pub(super) fn bounded(logit: f32, penalized: f32) -> f32 {
    if logit > f32::NEG_INFINITY { penalized.clamp(f32::MIN, f32::MAX) } else { logit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_counts_prompt_and_text_once() {
        let process = |last_n| {
            let mut row = [2.0, -2.0, 4.0];
            Repetition { penalty: 2.0, last_n }.process(&Context::new(&[0, 1, 1], 1), &mut row);
            row
        };
        assert_eq!(process(0), [1.0, -4.0, 4.0]);
        assert_eq!(process(2), [2.0, -4.0, 4.0], "the first token is out of sight");
        assert_eq!(process(9), process(0));
    }

    #[test]
    fn presence_and_frequency_count_generated_tokens_only() {
        let process = |last_n| {
            let mut row = [1.0; 3];
            let penalty = PresenceFrequency { presence: 0.5, frequency: 0.25, last_n };
            penalty.process(&Context::new(&[0, 1, 2, 2], 1), &mut row);
            row
        };
        assert_eq!(process(0), [1.0, 0.25, 0.0]);
        assert_eq!(process(1), [1.0, 1.0, 0.25]);
    }

    #[test]
    fn penalties_exclude_nothing() {
        let mut row = [-1e38, 1024.0, f32::NEG_INFINITY];
        Repetition { penalty: 1024.0, last_n: 0 }.process(&Context::new(&[0, 1, 2], 0), &mut row);
        assert_eq!(row, [f32::MIN, 1.0, f32::NEG_INFINITY]);
    }
}
