use crate::{DraftRequest, Drafter};
use drafthorse_logits::{Draws, Proposal, Scores, TokenId};
use drafthorse_model::ModelError;

/// Prompt lookup: finds the last tokens earlier in the sequence and proposes what followed them there.
///
/// The longest suffix that occurs before decides, at its most recent occurrence. It costs next to
/// nothing and pays where text repeats itself: summaries, edits, code, extraction.
///
/// Source: Saxena, "Prompt Lookup Decoding", 2023.
#[derive(Clone, Copy, Debug)]
pub struct NgramDrafter {
    min: usize,
    max: usize,
}

impl Default for NgramDrafter {
    /// Suffixes of 4, 3 and 2 tokens.
    fn default() -> Self {
        Self { min: 2, max: 4 }
    }
}

impl NgramDrafter {
    /// Looks for suffixes of `max` tokens, then shorter ones down to `min`. `None` unless
    /// `1 <= min <= max`.
    pub fn new(min: usize, max: usize) -> Option<Self> {
        (min >= 1 && min <= max).then_some(Self { min, max })
    }

    /// Where what followed the longest known suffix begins.
    fn continuation(&self, sequence: &[TokenId]) -> Option<usize> {
        let longest = self.max.min(sequence.len().saturating_sub(1));
        (self.min..=longest).rev().find_map(|n| {
            let (before, suffix) = (&sequence[..sequence.len() - 1], &sequence[sequence.len() - n..]);
            before.windows(n).rposition(|window| window == suffix).map(|start| start + n)
        })
    }
}

impl Drafter for NgramDrafter {
    fn name(&self) -> &'static str {
        "ngram"
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let Some(from) = self.continuation(sequence) else { return Ok(Proposal::empty()) };
        // Where the copy reaches the end of the text it goes on with its own beginning: a text that
        // repeats itself is continued as long as is asked.
        let period = sequence.len() - from;
        let known = |token: &TokenId| (*token as usize) < request.vocab;
        let wanted = request.max + usize::from(request.score_after);
        let copied = (0..wanted).map(|i| sequence[from + i % period]);
        let mut tokens: Vec<_> = copied.take_while(known).collect();
        let scores = tokens.iter().map(|&token| Scores::point(token, request.vocab)).collect();
        tokens.truncate(request.max);
        Ok(Proposal { tokens, scores })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_logits::{Memory, Sampler, SamplingOptions, SeededDraws};

    fn propose(min: usize, max_n: usize, sequence: &[TokenId], max: usize) -> Vec<TokenId> {
        let sampler = Sampler::new(&SamplingOptions::default()).unwrap();
        let (prompt, memory, sampler) = (0, Memory::off(), &sampler);
        let request = DraftRequest {
            max,
            score_after: false,
            raw: true,
            vocab: 100,
            prompt,
            memory,
            sampler,
            stop: None,
        };
        let mut drafter = NgramDrafter::new(min, max_n).unwrap();
        let proposal = drafter.propose(sequence, &request, &mut SeededDraws::new(0, 1)).unwrap();
        assert_eq!(proposal.check(100, max), Ok(()));
        proposal.tokens
    }

    #[test]
    fn the_longest_suffix_wins_then_the_latest_occurrence() {
        // "2 3" is followed by 9 late, "1 2 3" by 4 early.
        let sequence = [1, 2, 3, 4, 5, 2, 3, 9, 8, 1, 2, 3];
        assert_eq!(propose(1, 3, &sequence, 2), [4, 5]);
        assert_eq!(propose(1, 2, &sequence, 2), [9, 8]);
    }

    #[test]
    fn a_repetition_is_continued_beyond_its_end() {
        assert_eq!(propose(1, 2, &[7, 8, 7, 8, 7], 5), [8, 7, 8, 7, 8]);
        assert_eq!(propose(1, 4, &[5, 5], 3), [5, 5, 5]);
    }

    #[test]
    fn nothing_known_means_nothing_proposed() {
        assert!(propose(1, 3, &[1, 2, 3], 4).is_empty());
        assert!(propose(2, 3, &[1, 2, 1], 4).is_empty(), "one token is shorter than the shortest suffix");
        assert!(propose(1, 3, &[1], 4).is_empty());
        assert!(propose(1, 3, &[1, 1], 0).is_empty());
    }

    /// What comes after the proposal is known as well as the proposal, and is part of the law of cascades.
    #[test]
    fn the_position_after_the_proposal_is_scored_where_that_is_asked() {
        let sampler = Sampler::new(&SamplingOptions::default()).unwrap();
        let (prompt, memory, sampler) = (0, Memory::off(), &sampler);
        let request = DraftRequest {
            max: 2,
            score_after: true,
            raw: true,
            vocab: 100,
            prompt,
            memory,
            sampler,
            stop: None,
        };
        let mut drafter = NgramDrafter::default();
        let mut propose =
            |request| drafter.propose(&[7, 8, 9, 1, 7, 8], &request, &mut SeededDraws::new(0, 1)).unwrap();
        let proposal = propose(request);
        assert_eq!(proposal.tokens, [9, 1]);
        assert_eq!(
            proposal.scores.iter().map(|s| s.probs().as_point()).collect::<Vec<_>>(),
            [Some(9), Some(1), Some(7)]
        );
        assert_eq!(propose(DraftRequest { max: 0, ..request }).scores[0].probs().as_point(), Some(9));
        assert_eq!(propose(DraftRequest { score_after: false, ..request }).scores.len(), 2);
    }

    #[test]
    fn impossible_suffix_lengths_are_refused() {
        assert!(NgramDrafter::new(0, 3).is_none() && NgramDrafter::new(3, 2).is_none());
    }
}
