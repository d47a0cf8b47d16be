use crate::{Scores, TokenId};

/// The tokens a drafter proposes, and what it thought of each.
///
/// # Shapes
///
/// `scores[i]` is the distribution `tokens[i]` was drawn from. Where the request asked for it
/// (`score_after`), one more row follows: the drafter's distribution after the last token.
#[derive(Clone, Debug, Default)]
pub struct Proposal {
    /// The drafted tokens, in order.
    pub tokens: Vec<TokenId>,
    /// One row a token, and perhaps one after the last.
    pub scores: Vec<Scores>,
}

/// How a proposal can break its contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposalError {
    /// More tokens than were asked for.
    #[error("drafter proposed {tokens} tokens, at most {max} were asked for (`DraftRequest::max`)")]
    TooLong {
        /// Tokens proposed.
        tokens: usize,
        /// Tokens asked for.
        max: usize,
    },
    /// The number of score rows fits neither the tokens nor the tokens and one after.
    #[error(
        "drafter gave {rows} rows of scores for {tokens} tokens; one a token is needed, and at most one after the last"
    )]
    Rows {
        /// Rows given.
        rows: usize,
        /// Tokens proposed.
        tokens: usize,
    },
    /// A row of scores has another vocabulary than the expert.
    #[error(
        "drafter scored {found} tokens at position {index} of its proposal, the expert's vocabulary has {expected} (`DraftRequest::vocab`)"
    )]
    Vocabulary {
        /// Index in the proposal.
        index: usize,
        /// Length of the drafter's row.
        found: usize,
        /// Size of the expert's vocabulary.
        expected: usize,
    },
    /// A token to which the drafter's own distribution gives no probability: it was not drawn from it.
    #[error(
        "drafter proposed token {token} at position {index} of its proposal, to which its own scores give probability 0; draw it from them, or hand over `Scores::point`"
    )]
    Impossible {
        /// Index in the proposal.
        index: usize,
        /// The token.
        token: TokenId,
    },
}

impl Proposal {
    /// A proposal of no tokens: the round becomes plain decoding.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Checks the contract of a drafter.
    ///
    /// # Errors
    ///
    /// The first clause that is broken.
    pub fn check(&self, vocab: usize, max: usize) -> Result<(), ProposalError> {
        let (tokens, rows) = (self.tokens.len(), self.scores.len());
        if tokens > max {
            return Err(ProposalError::TooLong { tokens, max });
        }
        if rows != tokens && rows != tokens + 1 {
            return Err(ProposalError::Rows { rows, tokens });
        }
        for (index, row) in self.scores.iter().enumerate() {
            let found = row.probs().vocab_size();
            if found != vocab {
                return Err(ProposalError::Vocabulary { index, found, expected: vocab });
            }
        }
        for (index, (&token, row)) in self.tokens.iter().zip(&self.scores).enumerate() {
            if row.probs().get(token) <= 0.0 {
                return Err(ProposalError::Impossible { index, token });
            }
        }
        Ok(())
    }
}

/// Where the last token of a round comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A drafted token was refused; this one was drawn from the residual distribution.
    Replacement,
    /// Every drafted token was accepted (or none was drafted); this one comes on top.
    Bonus,
}

/// The outcome of one round: the first `accepted` drafted tokens, then `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How many drafted tokens stand.
    pub accepted: usize,
    /// The token after them.
    pub next: TokenId,
    /// Where it comes from.
    pub origin: Origin,
}

impl Verdict {
    /// Positions at which a drafted token was looked at: the accepted ones, and the refused one.
    pub fn examined(&self) -> usize {
        self.accepted + usize::from(self.origin == Origin::Replacement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_contract_is_named() {
        let row = |t| Scores::point(t, 3);
        let ok = Proposal { tokens: vec![1, 2], scores: vec![row(1), row(2)] };
        assert_eq!(ok.check(3, 2), Ok(()));
        assert_eq!(ok.check(3, 1), Err(ProposalError::TooLong { tokens: 2, max: 1 }));
        let short = Proposal { scores: vec![row(1)], ..ok.clone() };
        assert_eq!(short.check(3, 2), Err(ProposalError::Rows { rows: 1, tokens: 2 }));
        let wide = ok.check(4, 2);
        assert_eq!(wide, Err(ProposalError::Vocabulary { index: 0, found: 3, expected: 4 }));
        let lie = Proposal { tokens: vec![1, 0], ..ok };
        assert_eq!(lie.check(3, 2), Err(ProposalError::Impossible { index: 1, token: 0 }));
    }
}
