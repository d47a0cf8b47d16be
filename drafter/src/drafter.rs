use drafthorse_logits::{
    DraftTree, Draws, Memory, Proposal, Sampler, TokenId, TreePlan, TreeVerdict, Verdict,
};
use drafthorse_model::{ModelError, Vocabulary};

/// What is asked of a drafter in a round.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct DraftRequest<'a> {
    /// The most tokens to propose.
    pub max: usize,
    /// Whether the distribution after the last proposed token is wanted too.
    pub score_after: bool,
    /// Whether the raw distributions of the scores ([`Scores::raw`](drafthorse_logits::Scores::raw)) are
    /// looked at. Where not, a point mass need not know its row.
    pub raw: bool,
    /// Number of tokens of the expert: the length every row of scores must have.
    pub vocab: usize,
    /// How many tokens of the sequence are the prompt.
    pub prompt: usize,
    /// What is remembered of the sequence; a drafter that samples advances its own copy along its draft
    /// ([`Sampler::remember`]). Off where the law depends on what the drafter says: it must not depend on where
    /// the draft began.
    pub memory: Memory,
    /// Turns logits into scores, the same way for drafter and expert.
    pub sampler: &'a Sampler,
    /// What ends the draft before [`max`](Self::max) tokens. Drafters that draft token by token ask it after each
    /// ([`ends`](Self::ends)); where all tokens are there at once it is not asked.
    pub stop: Option<&'a dyn StopRule>,
}

impl DraftRequest<'_> {
    /// Whether a draft ends with the tokens it has.
    pub fn ends(&self, draft: &Proposal) -> bool {
        let stops = || self.stop.is_some_and(|stop| !draft.tokens.is_empty() && stop.ends(draft));
        draft.tokens.len() >= self.max || stops()
    }
}

/// Says along a draft where it ends.
///
/// It is asked after each drawn token and decides over those that are not drawn yet. So it may look at all it is given:
/// whether a token is proposed never depends on that token, and every rule keeps its law.
///
/// Source: the legality of stop rules is that of Huang et al., "`SpecDec++`", 2024, where the decision of a position sees
/// the tokens before it alone.
pub trait StopRule: std::fmt::Debug + Send + Sync {
    /// Whether the draft ends here. It has at least one token, and a row of scores for each.
    fn ends(&self, draft: &Proposal) -> bool;
}

/// What was counted of a drafter that is part of another.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PartCounts {
    /// Its name.
    pub name: String,
    /// How often it was asked.
    pub asked: u64,
    /// How often its proposal was used.
    pub used: u64,
    /// Tokens proposed in those.
    pub drafted: u64,
    /// Tokens that were looked at.
    pub examined: u64,
    /// Tokens that were accepted.
    pub accepted: u64,
    /// Tokens a second in the rounds that used it, the latest counting most; `None` where it is not measured, or was used
    /// too seldom.
    pub tokens_per_second: Option<f64>,
}

/// Proposes tokens.
///
/// A text begins with [`prepare`](Self::prepare), once, with the prompt but its last token (not for a prompt
/// of one token); then every round asks for a proposal and, if something was proposed, tells what became
/// of it. Rounds without drafts (k = 0, the last token of a text) ask nothing, and tell it to
/// [rest](Self::rest). A drafter that keeps notes
/// of the sequence must not rely on being told of a new text: compare with the `sequence` it is given.
///
/// Whatever a drafter proposes, the text stays lawful as long as it keeps its contract: every token is
/// drawn, by the [`Draws`] it is given, from the scores it hands over with it (a point mass for a token
/// that was not drawn at all), and whether a token is proposed does not depend on the token itself.
pub trait Drafter: Send {
    /// Its name in reports.
    fn name(&self) -> &str;

    /// Number of its tokens; `None` for a drafter that only repeats tokens it has seen.
    fn vocab_size(&self) -> Option<usize> {
        None
    }

    /// The text of its tokens, where it is known.
    fn vocabulary(&self) -> Option<&Vocabulary> {
        None
    }

    /// The longest sequence it can read; `None` where there is no limit. Beyond it, it proposes nothing.
    fn context_len(&self) -> Option<usize> {
        None
    }

    /// Whether its scores are a belief. A drafter that hands over point masses has none, and rules that
    /// weigh its confidence cannot be used with it.
    fn is_calibrated(&self) -> bool {
        false
    }

    /// Whether it drafts token by token, so that asking it for one token at a time costs no more. Where a constraint
    /// forces tokens, such a drafter is asked for those between them alone, and hears of no verdict.
    fn is_stepwise(&self) -> bool {
        false
    }

    /// Whether what it proposes follows from the sequence, the request and the draws alone: not from what it proposed,
    /// read or heard before, nor from how long that took. Together with [`is_stepwise`](Self::is_stepwise) it says that a
    /// draft may be made before it is known whether it will be wanted, and token by token: the same comes out.
    fn is_pure(&self) -> bool {
        false
    }

    /// Reads `sequence` ahead, so that the first proposal takes no longer than the others.
    ///
    /// # Errors
    ///
    /// The drafter's model fails.
    fn prepare(&mut self, _sequence: &[TokenId]) -> Result<(), ModelError> {
        Ok(())
    }

    /// Proposes up to `request.max` tokens to follow `sequence`, which is never empty; fewer or none are
    /// fine. `request.max` can be 0 where only the scores after the sequence are wanted.
    ///
    /// A token for position `i` of the proposal is drawn by
    /// `draws.pick(sequence.len() + i, Purpose::Draft, scores.probs())`.
    ///
    /// # Shapes
    ///
    /// `scores` has one row a token, and one more if `request.score_after`; each row has `request.vocab`
    /// entries.
    ///
    /// # Errors
    ///
    /// The drafter's model fails.
    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError>;

    /// Hears what became of its proposal.
    fn observe(&mut self, _verdict: &Verdict) {}

    /// Hears that it is not asked: in a round without drafts, and when a text ends or is given up. What it does besides,
    /// as on another thread, would now only take time from the expert.
    fn rest(&mut self) {}

    /// Hears of a text that is complete, the first `prompt` tokens of which are its prompt: for drafters that remember
    /// texts, which need not have been asked in its last rounds. Of texts that were broken off they are not told.
    fn end(&mut self, _sequence: &[TokenId], _prompt: usize) {}

    /// Whether it proposes trees.
    fn drafts_trees(&self) -> bool {
        false
    }

    /// Proposes a tree to follow `sequence`, up to `request.max` tokens deep, as `plan` says; with fewer nodes where it
    /// has no more to say. `None` where it can say nothing, and is then asked for a [chain](Self::propose).
    ///
    /// Child `i` of a point whose next token has position `at` is drawn by `draws.pick_candidate(at, i, law)`, the law
    /// being that of the [branching](drafthorse_logits::Branching); chosen children are drawn by nobody. Whether a drawn
    /// child is proposed, or gets children, must not depend on it or on what comes after it; of the
    /// tokens before it anything may depend. `request.stop` is for chains, and is not asked.
    ///
    /// # Shapes
    ///
    /// Scores at every point with children, at every point if `request.score_after`; each row has `request.vocab`
    /// entries.
    ///
    /// # Errors
    ///
    /// The drafter's model fails.
    fn propose_tree(
        &mut self,
        _sequence: &[TokenId],
        _request: &DraftRequest<'_>,
        _plan: &TreePlan,
        _draws: &mut dyn Draws,
    ) -> Result<Option<DraftTree>, ModelError> {
        Ok(None)
    }

    /// Hears what became of its tree.
    fn observe_tree(&mut self, _tree: &DraftTree, _verdict: &TreeVerdict) {}

    /// How sure it is of each token of its last proposal, given those before it, in `[0, 1]`: for a drafter whose scores
    /// do not say. Empty where it does not know.
    fn confidences(&self) -> &[f64] {
        &[]
    }

    /// Whether its proposals come from several drafters, how sure of which does not compare. A draft length that learns
    /// then goes by positions alone.
    fn mixes_beliefs(&self) -> bool {
        false
    }

    /// What was counted of each of the drafters it is made of, for reports. Empty for one that is not made of others.
    fn parts(&self) -> Vec<PartCounts> {
        Vec::new()
    }
}

impl std::fmt::Debug for dyn Drafter + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "drafter {}", self.name())
    }
}

impl<D: Drafter + ?Sized> Drafter for Box<D> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn vocab_size(&self) -> Option<usize> {
        (**self).vocab_size()
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        (**self).vocabulary()
    }

    fn context_len(&self) -> Option<usize> {
        (**self).context_len()
    }

    fn is_calibrated(&self) -> bool {
        (**self).is_calibrated()
    }

    fn is_stepwise(&self) -> bool {
        (**self).is_stepwise()
    }

    fn is_pure(&self) -> bool {
        (**self).is_pure()
    }

    fn prepare(&mut self, sequence: &[TokenId]) -> Result<(), ModelError> {
        (**self).prepare(sequence)
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        (**self).propose(sequence, request, draws)
    }

    fn observe(&mut self, verdict: &Verdict) {
        (**self).observe(verdict);
    }

    fn rest(&mut self) {
        (**self).rest();
    }

    fn end(&mut self, sequence: &[TokenId], prompt: usize) {
        (**self).end(sequence, prompt);
    }

    fn drafts_trees(&self) -> bool {
        (**self).drafts_trees()
    }

    fn propose_tree(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        plan: &TreePlan,
        draws: &mut dyn Draws,
    ) -> Result<Option<DraftTree>, ModelError> {
        (**self).propose_tree(sequence, request, plan, draws)
    }

    fn observe_tree(&mut self, tree: &DraftTree, verdict: &TreeVerdict) {
        (**self).observe_tree(tree, verdict);
    }

    fn confidences(&self) -> &[f64] {
        (**self).confidences()
    }

    fn mixes_beliefs(&self) -> bool {
        (**self).mixes_beliefs()
    }

    fn parts(&self) -> Vec<PartCounts> {
        (**self).parts()
    }
}
