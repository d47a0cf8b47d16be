use super::{
    automaton::Automaton,
    paths::{Branch, Path, Search},
    store::{Cursor, StoreMemory, SuffixStore},
};
use crate::{DraftRequest, Drafter, DrafterError, running::Running};
use drafthorse_logits::{Draws, Proposal, Scores, TokenId, Verdict};
use drafthorse_model::ModelError;
use std::sync::Arc;

/// How a [`SuffixDrafter`] drafts and what it remembers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct SuffixOptions {
    /// Tokens drafted for each token of the match.
    pub factor: f64,
    /// Tokens drafted on top of that.
    pub offset: f64,
    /// A draft ends where it is less probable than this, by the shares of what followed.
    pub min_probability: f64,
    /// Whether generated texts are given to the store.
    pub learn: bool,
    /// Whether prompts are given to the store too.
    pub keep_prompts: bool,
}

impl Default for SuffixOptions {
    /// As many tokens as match, down to a probability of 0.1; generated texts are remembered, prompts are not.
    fn default() -> Self {
        Self { factor: 1.0, offset: 0.0, min_probability: 0.1, learn: true, keep_prompts: false }
    }
}

impl SuffixOptions {
    /// Whether the options can be used.
    ///
    /// # Errors
    ///
    /// [`DrafterError::OutOfRange`], naming the first that cannot.
    pub fn check(&self) -> Result<(), DrafterError> {
        let out = |option, value, range| Err(DrafterError::OutOfRange { option, value, range });
        if !(0.0..=1e6).contains(&self.factor) {
            return out("factor", self.factor, "0 to 1000000");
        }
        if !(-1e6..=1e6).contains(&self.offset) {
            return out("offset", self.offset, "-1000000 to 1000000");
        }
        if !(0.0..=1.0).contains(&self.min_probability) {
            return out("min probability", self.min_probability, "0 to 1");
        }
        Ok(())
    }
}

/// Drafts what followed the last tokens most often wherever they stood before: in the text so far, and in the texts of
/// earlier requests.
///
/// Of all suffixes that were found, from the longest down to a token, the one with the best draft decides: the one of
/// which most tokens are expected to be right. It pays where texts are made of pieces that come again: tool calls,
/// structured data, edits, code. A round costs a few microseconds, whatever is remembered.
///
/// It recognises a new text by its beginning. The generated part of the old one then goes to the store, which other
/// drafters may share. What it drafts depends on that store, so the same seed gives the same text as long as the store
/// is the same; the law of the text is never touched.
///
/// Source: Oliaro et al., "`SuffixDecoding`: Extreme Speculative Decoding for Emerging AI Applications", 2025.
#[derive(Debug)]
pub struct SuffixDrafter {
    options: SuffixOptions,
    store: Arc<SuffixStore>,
    local: Automaton,
    running: Running,
    /// Where the text stands in the store.
    cursors: Vec<Cursor>,
    confidences: Vec<f64>,
}

impl Default for SuffixDrafter {
    /// With a store of its own.
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl SuffixDrafter {
    /// Drafts from this store and adds to it.
    pub fn new(store: Arc<SuffixStore>) -> Self {
        let (options, local, running) = (SuffixOptions::default(), Automaton::default(), Running::default());
        Self { options, store, local, running, cursors: Vec::new(), confidences: Vec::new() }
    }

    /// The same drafter with other options.
    ///
    /// # Errors
    ///
    /// As [`SuffixOptions::check`].
    pub fn with_options(mut self, options: SuffixOptions) -> Result<Self, DrafterError> {
        options.check()?;
        self.options = options;
        Ok(self)
    }

    /// The texts of earlier requests.
    pub fn store(&self) -> &Arc<SuffixStore> {
        &self.store
    }

    /// The bytes held for the text so far and by the store. The bound is the store's: the text so far is bounded by the
    /// model's context.
    pub fn memory(&self) -> StoreMemory {
        let memory = self.store.memory();
        StoreMemory { held: memory.held + self.local.bytes() + self.running.bytes(), ..memory }
    }

    /// Gives the text so far to the store, as it is given when another one begins or the drafter is dropped.
    pub fn end_text(&mut self) {
        self.remember();
        self.running.clear();
        self.local.clear();
        self.cursors.clear();
    }

    /// The most probable tokens after `sequence` as a tree of at most `max` tokens, each behind the one it follows.
    pub fn branches(&mut self, sequence: &[TokenId], prompt: usize, max: usize) -> Vec<Branch> {
        let kept = self.follow(sequence, prompt);
        let search = Search { options: &self.options, max };
        let mut best = (0.0, 0, Vec::new());
        search.tree(&self.local, self.local.end(), &mut best);
        self.store.tree(sequence, kept, &mut self.cursors, search, &mut best);
        best.2
    }

    fn path(&mut self, sequence: &[TokenId], prompt: usize, max: usize) -> Path {
        let kept = self.follow(sequence, prompt);
        let search = Search { options: &self.options, max };
        let mut best = Path::default();
        search.path(&self.local, self.local.end(), &mut best);
        self.store.path(sequence, kept, &mut self.cursors, search, &mut best);
        best
    }

    /// Reads what is new of the sequence; how many of the tokens read before still stand.
    fn follow(&mut self, sequence: &[TokenId], prompt: usize) -> usize {
        let step = self.running.compare(sequence, prompt);
        if step.is_new || step.is_next_turn {
            self.remember();
        }
        if step.is_new {
            self.local.clear();
        } else if step.common < self.running.tokens().len() {
            self.local.resume(&sequence[..step.common]);
        }
        let from = if step.is_new { 0 } else { step.common };
        sequence[from..].iter().for_each(|&token| self.local.push(token));
        self.running.replace(sequence, prompt, &step);
        from
    }

    fn remember(&mut self) {
        let text = self.running.take_unlearnt(self.options.keep_prompts);
        if self.options.learn {
            self.store.add(&text);
        }
    }
}

impl Drop for SuffixDrafter {
    fn drop(&mut self) {
        self.remember();
    }
}

impl Drafter for SuffixDrafter {
    fn name(&self) -> &'static str {
        "suffix"
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
        let wanted = request.max.saturating_add(usize::from(request.score_after));
        let Path { mut tokens, shares, .. } = self.path(sequence, request.prompt, wanted);
        // A store may have been filled with the tokens of another model.
        let known = tokens.iter().take_while(|token| (**token as usize) < request.vocab).count();
        tokens.truncate(known);
        let scores = tokens.iter().map(|&token| Scores::point(token, request.vocab)).collect();
        tokens.truncate(request.max);
        self.confidences = shares;
        self.confidences.truncate(tokens.len());
        self.running.propose(&tokens);
        Ok(Proposal { tokens, scores })
    }

    fn observe(&mut self, verdict: &Verdict) {
        self.running.observe(verdict);
    }

    fn confidences(&self) -> &[f64] {
        &self.confidences
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_logits::{Memory, Origin, Sampler, SamplingOptions, SeededDraws};
    use proptest::prelude::*;

    fn propose_with(
        drafter: &mut SuffixDrafter,
        sequence: &[TokenId],
        prompt: usize,
        max: usize,
        after: bool,
    ) -> Proposal {
        let sampler = Sampler::new(&SamplingOptions::default()).unwrap();
        let (memory, sampler) = (Memory::off(), &sampler);
        let request = DraftRequest {
            max,
            score_after: after,
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

    fn propose(drafter: &mut SuffixDrafter, sequence: &[TokenId], max: usize) -> Vec<TokenId> {
        propose_with(drafter, sequence, 1, max, false).tokens
    }

    #[test]
    fn the_budget_grows_with_the_match() {
        let mut drafter = SuffixDrafter::default();
        assert_eq!(propose(&mut drafter, &[1, 2, 3, 4, 5, 6, 9, 1], 8), [2]);
        assert_eq!(propose(&mut drafter, &[1, 2, 3, 4, 5, 6, 9, 1, 2], 8), [3, 4]);
        assert_eq!(propose(&mut drafter, &[1, 2, 3, 4, 5, 6, 9, 1, 2, 3], 8), [4, 5, 6]);
        assert_eq!(propose(&mut drafter, &[1, 2, 3, 4, 5, 6, 9, 1, 2, 3], 2), [4, 5]);
        assert!(propose(&mut drafter, &[1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 7], 8).is_empty());
        let options = SuffixOptions { factor: 2.0, offset: 1.0, ..SuffixOptions::default() };
        let mut drafter = SuffixDrafter::default().with_options(options).unwrap();
        assert_eq!(propose(&mut drafter, &[1, 2, 3, 4, 5, 6, 9, 1], 8), [2, 3, 4]);
    }

    /// After 1 came 2 twice and 3 once; a path less probable than the least is cut.
    #[test]
    fn the_most_frequent_wins_and_shares_are_its_confidence() {
        let sequence = [1, 2, 5, 1, 3, 6, 1, 2, 7, 1];
        let mut drafter = SuffixDrafter::default();
        assert_eq!(propose(&mut drafter, &sequence, 4), [2]);
        assert!((drafter.confidences()[0] - 2.0 / 3.0).abs() < 1e-12);
        let options = SuffixOptions { min_probability: 0.7, ..SuffixOptions::default() };
        let mut drafter = SuffixDrafter::default().with_options(options).unwrap();
        assert!(propose(&mut drafter, &sequence, 4).is_empty());
    }

    #[test]
    fn a_repetition_is_continued_beyond_its_end() {
        let mut drafter = SuffixDrafter::default();
        let sequence = [7, 8, 9].repeat(5);
        assert_eq!(propose(&mut drafter, &sequence, 10), [7, 8, 9, 7, 8, 9, 7, 8, 9, 7]);
    }

    #[test]
    fn the_position_after_the_proposal_is_scored_where_that_is_asked() {
        let mut drafter = SuffixDrafter::default();
        let sequence = [7, 8, 9].repeat(5);
        let proposal = propose_with(&mut drafter, &sequence, 1, 2, true);
        let rows: Vec<_> = proposal.scores.iter().map(|row| row.probs().as_point()).collect();
        assert_eq!((proposal.tokens, rows), (vec![7, 8], vec![Some(7), Some(8), Some(9)]));
        let proposal = propose_with(&mut drafter, &sequence, 1, 0, true);
        assert_eq!((proposal.tokens.len(), proposal.scores[0].probs().as_point()), (0, Some(7)));
    }

    #[test]
    fn earlier_texts_are_drafted_from_by_all_who_share_the_store() {
        let store: Arc<SuffixStore> = Arc::default();
        let mut first = SuffixDrafter::new(store.clone());
        let mut second = SuffixDrafter::new(store.clone());
        propose_with(&mut first, &[50, 51], 2, 4, false);
        propose_with(&mut first, &[50, 51, 1, 2, 3, 4, 5, 6], 2, 4, false);
        assert!(propose(&mut second, &[60, 1, 2], 4).is_empty(), "the text has not ended");
        // Another text begins.
        propose_with(&mut first, &[52, 53], 2, 4, false);
        assert_eq!(store.texts(), [vec![1, 2, 3, 4, 5, 6]], "the prompt is not kept");
        assert_eq!(propose(&mut second, &[60, 1, 2], 4), [3, 4], "also within a text");
        // The other one is dropped before its text ends.
        propose_with(&mut second, &[60, 1, 2, 3, 9], 1, 4, false);
        drop(second);
        assert_eq!(store.texts().len(), 2);
        // What is refused by the expert's vocabulary is not proposed.
        store.add(&[70, 71, 72, 200, 70, 71]);
        assert_eq!(propose(&mut first, &[52, 53, 70, 71, 72], 4), Vec::<TokenId>::new());
    }

    #[test]
    fn what_is_not_to_be_learnt_is_not() {
        let options = SuffixOptions { learn: false, ..SuffixOptions::default() };
        let store: Arc<SuffixStore> = Arc::default();
        let mut drafter = SuffixDrafter::new(store.clone()).with_options(options).unwrap();
        propose(&mut drafter, &[1, 2, 3], 4);
        drafter.observe(&Verdict { accepted: 0, next: 4, origin: Origin::Bonus });
        drafter.end_text();
        assert_eq!(store.memory().tokens, 0);
        let options = SuffixOptions { keep_prompts: true, ..SuffixOptions::default() };
        let mut drafter = SuffixDrafter::new(store.clone()).with_options(options).unwrap();
        propose_with(&mut drafter, &[1, 2, 3], 3, 4, false);
        drafter.observe(&Verdict { accepted: 0, next: 4, origin: Origin::Bonus });
        drafter.end_text();
        assert_eq!(store.texts(), [vec![1, 2, 3, 4]]);
        assert!(drafter.memory().held <= drafter.memory().bound);
    }

    #[test]
    fn impossible_options_are_refused() {
        let with = |options| SuffixDrafter::default().with_options(options).unwrap_err().to_string();
        let default = SuffixOptions::default();
        assert_eq!(
            with(SuffixOptions { min_probability: 2.0, ..default }),
            "min probability 2 is out of range: 0 to 1"
        );
        assert!(with(SuffixOptions { factor: f64::NAN, ..default }).contains("factor NaN"));
        assert!(with(SuffixOptions { offset: f64::INFINITY, ..default }).contains("offset inf"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Going on with a text gives what a drafter says that reads it at once, whatever the store.
        #[test]
        fn reading_step_by_step_makes_no_difference(
            past in prop::collection::vec(prop::collection::vec(0u32..3, 0..30), 0..4),
            text in prop::collection::vec(0u32..3, 1..80), more in prop::collection::vec(0u32..3, 0..30)
        ) {
            let store: Arc<SuffixStore> = Arc::default();
            past.iter().for_each(|text| store.add(text));
            let mut stepwise = SuffixDrafter::new(store.clone());
            for end in 1..=text.len() {
                if end == text.len() / 2 {
                    store.add(&more);
                }
                let mut fresh = SuffixDrafter::new(store.clone());
                fresh.options.learn = false;
                prop_assert_eq!(propose(&mut stepwise, &text[..end], 5), propose(&mut fresh, &text[..end], 5));
                prop_assert_eq!(stepwise.confidences(), fresh.confidences());
            }
        }

        /// A tree has its parents first, distinct children, and is worth no less than the path.
        #[test]
        fn trees_are_well_formed(text in prop::collection::vec(0u32..4, 1..60), max in 0usize..12) {
            let mut drafter = SuffixDrafter::default();
            let tree = drafter.branches(&text, 1, max);
            prop_assert!(tree.len() <= max);
            for (at, branch) in tree.iter().enumerate() {
                let above = branch.parent.map_or(1.0, |parent| tree[parent].probability);
                prop_assert!(branch.parent.is_none_or(|parent| parent < at) && branch.probability <= above);
                let twins = tree[..at].iter().filter(|b| b.parent == branch.parent && b.token == branch.token);
                prop_assert_eq!(twins.count(), 0);
                prop_assert!(at == 0 || branch.probability <= tree[at - 1].probability);
            }
            let path = drafter.path(&text, 1, max);
            let worth: f64 = tree.iter().map(|branch| branch.probability).sum();
            prop_assert!(worth >= path.score - 1e-12, "{} and {}", worth, path.score);
        }
    }
}
