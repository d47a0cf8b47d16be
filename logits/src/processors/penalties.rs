use super::{Context, LogitsProcessor};
use std::collections::{HashMap, HashSet};

/// Makes every token of prompt and text less likely: a positive logit is divided by the penalty, a
/// negative one multiplied.
///
/// Source: Keskar et al., "CTRL", 2019, section 4.1, in the form of Hugging Face transformers.
#[derive(Clone, Copy, Debug)]
pub struct Repetition(pub f32);

impl LogitsProcessor for Repetition {
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        for &token in context.tokens().iter().collect::<HashSet<_>>() {
            if let Some(logit) = row.get_mut(token as usize) {
                *logit = if *logit > 0.0 { *logit / self.0 } else { *logit * self.0 };
            }
        }
    }
}

/// Lowers the logit of each *generated* token by `presence`, and by `frequency` for every time it was
/// generated. The prompt does not count, as in the `OpenAI` interface.
#[derive(Clone, Copy, Debug)]
pub struct PresenceFrequency {
    /// Subtracted once.
    pub presence: f32,
    /// Subtracted for each occurrence.
    pub frequency: f32,
}

impl LogitsProcessor for PresenceFrequency {
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        let mut counts = HashMap::new();
        for &token in context.generated() {
            *counts.entry(token).or_insert(0.0f32) += 1.0;
        }
        for (token, count) in counts {
            if let Some(logit) = row.get_mut(token as usize) {
                *logit -= self.presence + self.frequency * count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_counts_prompt_and_text_once() {
        let mut row = [2.0, -2.0, 4.0];
        Repetition(2.0).process(&Context::new(&[0, 1, 1], 1), &mut row);
        assert_eq!(row, [1.0, -4.0, 4.0]);
    }

    #[test]
    fn presence_and_frequency_count_generated_tokens_only() {
        let mut row = [1.0; 3];
        let penalty = PresenceFrequency { presence: 0.5, frequency: 0.25 };
        penalty.process(&Context::new(&[0, 1, 2, 2], 1), &mut row);
        assert_eq!(row, [1.0, 0.25, 0.0]);
    }
}
