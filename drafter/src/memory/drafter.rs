use super::store::{NgramMemory, ORDER, next};
use crate::{DraftRequest, Drafter, DrafterError, running::Running};
use drafthorse_logits::{Draws, Proposal, Scores, TokenId};
use drafthorse_model::ModelError;
use std::sync::Arc;

/// When a [`NgramMemoryDrafter`] believes its memory, and what it learns.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct NgramMemoryOptions {
    /// The least share of the most frequent token after contexts of 1, 2, 3 and 4 tokens.
    pub min_share: [f64; ORDER],
    /// How often it must have followed at least.
    pub min_count: [u16; ORDER],
    /// Whether texts are learnt.
    pub learn: bool,
    /// Whether prompts are learnt too.
    pub learn_prompts: bool,
}

impl Default for NgramMemoryOptions {
    /// More than half, and more often the shorter the context; everything is learnt.
    fn default() -> Self {
        let (min_share, min_count) = ([0.7, 0.6, 0.5, 0.5], [8, 4, 2, 1]);
        Self { min_share, min_count, learn: true, learn_prompts: true }
    }
}

impl NgramMemoryOptions {
    /// Whether the options can be used.
    ///
    /// # Errors
    ///
    /// [`DrafterError::OutOfRange`], naming the first that cannot.
    pub fn check(&self) -> Result<(), DrafterError> {
        match self.min_share.iter().find(|share| !(0.0..=1.0).contains(*share)) {
            Some(&value) => Err(DrafterError::OutOfRange { option: "min share", value, range: "0 to 1" }),
            None => Ok(()),
        }
    }
}

/// Drafts the token that followed the last few most often in all texts so far, and goes on from there while one clearly
/// does.
///
/// It knows less than [`SuffixDrafter`](crate::SuffixDrafter), forgets less, and takes a fixed amount of memory.
///
/// Source: the cache of n-grams of Ou et al., "Lossless Acceleration of Large Language Model via Adaptive N-gram Parallel
/// Decoding", 2024.
#[derive(Debug)]
pub struct NgramMemoryDrafter {
    options: NgramMemoryOptions,
    memory: Arc<NgramMemory>,
    running: Running,
    confidences: Vec<f64>,
}

impl Default for NgramMemoryDrafter {
    /// With a memory of its own.
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl NgramMemoryDrafter {
    /// Drafts from this memory and adds to it.
    pub fn new(memory: Arc<NgramMemory>) -> Self {
        let (options, running) = (NgramMemoryOptions::default(), Running::default());
        Self { options, memory, running, confidences: Vec::new() }
    }

    /// The same drafter with other options.
    ///
    /// # Errors
    ///
    /// As [`NgramMemoryOptions::check`].
    pub fn with_options(mut self, options: NgramMemoryOptions) -> Result<Self, DrafterError> {
        options.check()?;
        self.options = options;
        Ok(self)
    }

    /// What it remembers.
    pub fn memory(&self) -> &Arc<NgramMemory> {
        &self.memory
    }

    /// Learns what is new of the sequence.
    fn follow(&mut self, sequence: &[TokenId], prompt: usize) {
        let step = self.running.compare(sequence, prompt);
        let from = if step.is_new { 0 } else { step.common };
        let from = if self.options.learn_prompts { from } else { from.max(prompt) };
        if self.options.learn {
            self.memory.learn(sequence, from);
        }
        self.running.replace(sequence, prompt, &step);
    }

    /// The tokens that follow, with their shares.
    fn draft(&self, sequence: &[TokenId], wanted: usize, vocab: usize) -> (Vec<TokenId>, Vec<f64>) {
        let NgramMemoryOptions { min_share, min_count, .. } = self.options;
        let table = self.memory.read();
        let start = sequence.len().saturating_sub(ORDER);
        let (mut text, mut shares) = (sequence[start..].to_vec(), Vec::new());
        let drafted = text.len();
        while shares.len() < wanted {
            let best = next(&table, &text, |n, best| {
                best.share >= min_share[n - 1] && best.count >= min_count[n - 1]
            });
            let Some(best) = best.filter(|best| (best.token as usize) < vocab) else { break };
            text.push(best.token);
            shares.push(best.share);
        }
        (text.split_off(drafted), shares)
    }
}

impl Drafter for NgramMemoryDrafter {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn prepare(&mut self, sequence: &[TokenId]) -> Result<(), ModelError> {
        self.follow(sequence, sequence.len() + 1);
        Ok(())
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        self.follow(sequence, request.prompt);
        let wanted = request.max.saturating_add(usize::from(request.score_after));
        let (mut tokens, shares) = self.draft(sequence, wanted, request.vocab);
        let scores = tokens.iter().map(|&token| Scores::point(token, request.vocab)).collect();
        tokens.truncate(request.max);
        self.confidences = shares;
        self.confidences.truncate(tokens.len());
        Ok(Proposal { tokens, scores })
    }

    fn end(&mut self, sequence: &[TokenId], prompt: usize) {
        self.follow(sequence, prompt);
    }

    fn confidences(&self) -> &[f64] {
        &self.confidences
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_logits::{Memory, Sampler, SamplingOptions, SeededDraws};

    fn propose(drafter: &mut NgramMemoryDrafter, sequence: &[TokenId], max: usize) -> Proposal {
        let sampler = Sampler::new(&SamplingOptions::default()).unwrap();
        let (prompt, memory, sampler) = (1, Memory::off(), &sampler);
        let request = DraftRequest {
            max,
            score_after: true,
            raw: true,
            vocab: 100,
            prompt,
            memory,
            sampler,
            stop: None,
        };
        let proposal = drafter.propose(sequence, &request, &mut SeededDraws::new(0, 1)).unwrap();
        assert_eq!(proposal.check(100, max), Ok(()));
        assert_eq!(drafter.confidences().len(), proposal.tokens.len());
        proposal
    }

    #[test]
    fn what_followed_is_drafted_also_in_another_text() {
        let memory: Arc<NgramMemory> = Arc::default();
        memory.learn(&[1, 2, 3, 4, 5, 6, 7, 8], 0);
        let mut drafter = NgramMemoryDrafter::new(memory);
        let proposal = propose(&mut drafter, &[9, 1, 2, 3, 4], 3);
        assert_eq!((proposal.tokens, proposal.scores.len()), (vec![5, 6, 7], 4));
        assert_eq!(drafter.confidences(), [1.0; 3]);
        assert!(propose(&mut drafter, &[9, 9, 9, 4], 3).tokens.is_empty(), "one token was seen too seldom");
    }

    #[test]
    fn what_is_not_clear_is_not_drafted() {
        let mut drafter = NgramMemoryDrafter::default();
        for next in [10, 11, 12] {
            drafter.memory.learn(&[1, 2, 3, 4, next], 0);
        }
        assert!(propose(&mut drafter, &[1, 2, 3, 4], 3).tokens.is_empty(), "a third is not enough");
        (0..4).for_each(|_| drafter.memory.learn(&[1, 2, 3, 4, 11], 4));
        assert_eq!(propose(&mut drafter, &[1, 2, 3, 4], 1).tokens, [11]);
        assert!(propose(&mut drafter, &[1, 2, 3, 4], 0).scores.len() == 1);
    }

    /// A token that is read is counted once, however often the text is shown.
    #[test]
    fn texts_are_learnt_as_they_grow() {
        let mut drafter = NgramMemoryDrafter::default();
        let text = [1, 2, 3, 4, 5, 6, 7];
        (1..=text.len()).for_each(|end| drop(propose(&mut drafter, &text[..end], 2)));
        propose(&mut drafter, &text, 2);
        let seen = next(&drafter.memory.read(), &text[..5], |_, _| true);
        assert_eq!(seen.map(|best| (best.token, best.count)), Some((6, 1)));
        let options = NgramMemoryOptions { learn: false, ..NgramMemoryOptions::default() };
        let mut deaf = NgramMemoryDrafter::default().with_options(options).unwrap();
        propose(&mut deaf, &text, 2);
        assert_eq!(deaf.memory.memory().tokens, 0);
        let options = NgramMemoryOptions { learn_prompts: false, ..NgramMemoryOptions::default() };
        let mut discreet = NgramMemoryDrafter::default().with_options(options).unwrap();
        discreet.prepare(&text).unwrap();
        assert_eq!(discreet.memory.memory().tokens, 0);
    }

    #[test]
    fn impossible_options_are_refused() {
        let options = NgramMemoryOptions { min_share: [0.5, 0.5, 1.5, 0.5], ..NgramMemoryOptions::default() };
        let error = NgramMemoryDrafter::default().with_options(options).unwrap_err();
        assert_eq!(error.to_string(), "min share 1.5 is out of range: 0 to 1");
        assert!(NgramMemory::new(10).is_none());
        let memory = NgramMemory::new(5000).unwrap().memory();
        assert!(memory.held <= memory.bound && memory.bound == 5000);
    }
}
