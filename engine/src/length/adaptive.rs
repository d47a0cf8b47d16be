use super::{DraftCosts, DraftLengthError};

/// A draft length that goes by what drafting costs and brings: as many tokens a round as give the most tokens a second,
/// and none where none do.
///
/// It learns while it generates: what passes of the expert and drafts cost, how likely drafts are accepted by position
/// and by how sure the drafter is, and whether that sureness says anything. What it learnt stays in the
/// [`Engine`](crate::Engine) from text to text. It never looks at a token to decide whether that token is proposed.
///
/// What it may lose against plain decoding is bounded whatever the drafter does: it keeps an account of the time that
/// speculation gained and lost, drafts only what that account can pay for if all of it is refused, and lets 0.6 % of
/// the time accrue to try again, and up to 0.7 % for a drafter to read what it missed. The gains it may spend are
/// bounded too.
///
/// Not covered: three drafts of one token at the very beginning (two where they take longer than a round without
/// drafts), what the machine does once or is interrupted in, and that the drafter reads the prompt, which it does as
/// long as drafts pay and for at least every 16th text.
///
/// Measured times differ from run to run, and with them draft lengths. The law of a text never does, but under rules that
/// draw by the ratio of two probabilities the text of a seed does. [`with_costs`](Self::with_costs) goes by given times
/// instead, and the same seed gives the same text.
///
/// Source: the decision is that of Leviathan et al., 2023, Theorem 3.8, with measured costs in the place of a constant
/// one, and along a draft a marginal form of Liu et al., "Optimizing Speculative Decoding for Serving Large Language Models
/// Using Goodput" (2024).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Adaptive {
    /// The most tokens of a round.
    pub max: usize,
    pub(super) costs: Option<DraftCosts>,
    pub(super) frozen: bool,
}

impl Default for Adaptive {
    /// Up to 16 tokens a round.
    fn default() -> Self {
        Self { max: 16, costs: None, frozen: false }
    }
}

impl Adaptive {
    /// Up to so many tokens a round.
    pub fn up_to(tokens: usize) -> Self {
        Self { max: tokens, ..Self::default() }
    }

    /// Goes by these costs, measures none, and begins every text anew with the acceptance they expect: the same seed
    /// gives the same text.
    #[must_use]
    pub fn with_costs(self, costs: DraftCosts) -> Self {
        Self { costs: Some(costs), frozen: true, ..self }
    }

    /// Begins with these costs, of an earlier run or a file, and goes on learning.
    #[must_use]
    pub fn starting_from(self, costs: DraftCosts) -> Self {
        Self { costs: Some(costs), frozen: false, ..self }
    }

    pub(super) fn check(&self) -> Result<(), DraftLengthError> {
        self.costs.as_ref().map_or(Ok(()), DraftCosts::check)
    }
}
