//! The text a drafter keeps notes of, compared with the one it is given.

use drafthorse_logits::{TokenId, Verdict};

/// The most tokens a text may take back and still be the same one.
pub(crate) const TAKEN_BACK: usize = 64;

/// The running text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    tokens: Vec<TokenId>,
    prompt: usize,
    /// How many of its tokens need not be remembered again.
    learnt: usize,
    /// What was proposed last.
    proposed: Vec<TokenId>,
    /// What follows the tokens, as far as a verdict said.
    tail: Vec<TokenId>,
}

/// How a text is related to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// How many tokens stand.
    pub(crate) common: usize,
    /// Whether it is another text.
    pub(crate) is_new: bool,
    /// Whether it goes on with another prompt, such as the next turn of a conversation.
    pub(crate) is_next_turn: bool,
}

impl Running {
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    pub(crate) fn compare(&self, sequence: &[TokenId], prompt: usize) -> Step {
        let held = self.tokens.len();
        let common = if sequence.starts_with(&self.tokens) {
            held
        } else {
            sequence.iter().zip(&self.tokens).take_while(|(a, b)| a == b).count()
        };
        // Where generating begins, or in the prompt, nothing is taken back.
        let begins = common < self.prompt || sequence.len() <= prompt;
        let is_new = common == 0 || (common < held && (begins || common + TAKEN_BACK < held));
        Step { common, is_new, is_next_turn: !is_new && prompt > self.prompt }
    }

    pub(crate) fn replace(&mut self, sequence: &[TokenId], prompt: usize, step: &Step) {
        let common = if step.is_new { 0 } else { step.common };
        self.learnt = self.learnt.min(common);
        self.tokens.truncate(common);
        self.tokens.extend_from_slice(&sequence[common..]);
        self.prompt = prompt;
        self.proposed.clear();
        self.tail.clear();
    }

    /// What was generated since it was last taken, with the prompt if that is wanted.
    pub(crate) fn take_unlearnt(&mut self, with_prompt: bool) -> Vec<TokenId> {
        let tail = std::mem::take(&mut self.tail);
        let from = if with_prompt { self.learnt } else { self.learnt.max(self.prompt) };
        let mut text = self.tokens.get(from..).unwrap_or_default().to_vec();
        // A prompt alone was only read ahead; what followed it is known by a verdict.
        if self.tokens.len() >= self.prompt {
            text.extend(tail);
        }
        self.learnt = self.tokens.len();
        text
    }

    pub(crate) fn propose(&mut self, tokens: &[TokenId]) {
        self.proposed.clear();
        self.proposed.extend_from_slice(tokens);
        self.tail.clear();
    }

    pub(crate) fn observe(&mut self, verdict: &Verdict) {
        self.tail.clear();
        self.tail.extend(self.proposed.iter().take(verdict.accepted));
        self.tail.push(verdict.next);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.tokens.capacity() + self.proposed.capacity() + self.tail.capacity()) * size_of::<TokenId>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_logits::Origin;

    /// What is remembered of texts, each given as its prompt and what it grows to.
    fn remembered(texts: &[(&[TokenId], &[&[TokenId]])], with_prompt: bool) -> Vec<Vec<TokenId>> {
        let (mut running, mut all) = (Running::default(), Vec::new());
        let mut follow = |running: &mut Running, sequence: &[TokenId], prompt| {
            let step = running.compare(sequence, prompt);
            if step.is_new || step.is_next_turn {
                all.push(running.take_unlearnt(with_prompt));
            }
            running.replace(sequence, prompt, &step);
            assert_eq!(running.tokens(), sequence);
        };
        for (prompt, grown) in texts {
            if prompt.len() > 1 {
                follow(&mut running, &prompt[..prompt.len() - 1], prompt.len());
            }
            for text in [&[][..]].iter().chain(*grown) {
                follow(&mut running, &[*prompt, *text].concat(), prompt.len());
            }
        }
        all.push(running.take_unlearnt(with_prompt));
        all.retain(|text| !text.is_empty());
        all
    }

    #[test]
    fn what_was_generated_is_remembered_once() {
        let texts: [(&[TokenId], &[&[TokenId]]); 4] = [
            (&[0, 1, 2], &[&[3], &[3, 4, 5]]),
            // The same prompt again, and one that begins alike.
            (&[0, 1, 2], &[&[4]]),
            (&[0], &[&[7], &[7, 8]]),
            (&[0], &[&[9]]),
        ];
        assert_eq!(remembered(&texts, false), [vec![3, 4, 5], vec![4], vec![7, 8], vec![9]]);
        assert_eq!(
            remembered(&texts, true),
            [vec![0, 1, 2, 3, 4, 5], vec![0, 1, 2, 4], vec![0, 7, 8], vec![0, 9]]
        );
    }

    #[test]
    fn the_next_turn_of_a_conversation_goes_on_with_the_text() {
        let texts: [(&[TokenId], &[&[TokenId]]); 2] =
            [(&[0, 1], &[&[2], &[2, 3]]), (&[0, 1, 2, 3, 8, 8], &[&[4]])];
        assert_eq!(remembered(&texts, false), [vec![2, 3], vec![4]]);
        assert_eq!(remembered(&texts, true), [vec![0, 1, 2, 3], vec![8, 8, 4]]);
    }

    #[test]
    fn tokens_can_be_taken_back() {
        let texts: [(&[TokenId], &[&[TokenId]]); 1] = [(&[0, 1], &[&[2, 3, 4], &[2, 3, 5], &[2, 6]])];
        assert_eq!(remembered(&texts, false), [vec![2, 6]]);
    }

    #[test]
    fn the_last_round_is_known_by_its_verdict() {
        let mut running = Running::default();
        let step = running.compare(&[0, 1], 2);
        running.replace(&[0, 1], 2, &step);
        running.propose(&[5, 6, 7]);
        running.observe(&Verdict { accepted: 2, next: 9, origin: Origin::Replacement });
        assert_eq!(running.take_unlearnt(false), [5, 6, 9]);
        assert!(running.take_unlearnt(false).is_empty());
    }
}
