use crate::{Confidence, RuleError, catalogue::Dial, judge, judge_tree, ratio};
use drafthorse_logits::{DraftTree, Draws, Probs, Proposal, Scores, TokenId, TreeVerdict, Verdict};
use std::{borrow::Cow, sync::Arc};

/// What a rule looks at to decide a round. The less it is, the less has to be read of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Needs {
    /// Everything drafter and expert say, [`Scores::raw`] too.
    #[default]
    Raw,
    /// What is sampled, [`Scores::probs`], and never [`Scores::raw`].
    Sampled,
    /// As `Sampled`, and moreover the law is the expert's distribution, rounds being decided by the
    /// provided [`judge`](AcceptanceRule::judge).
    Coupling,
    /// As `Sampled`, and moreover all that is asked at a position is a token drawn there from the expert's
    /// distribution for [`Purpose::Target`](drafthorse_logits::Purpose::Target): a drafted token stands if
    /// it is the same, otherwise the drawn one comes.
    Draw,
}

/// What a rule promises of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The text follows the expert's distribution exactly, whatever the drafter.
    Lossless,
    /// A speculative cascade: a stated mixture of drafter and expert.
    Cascade,
    /// Another law, made of both, in which drafted tokens stand more often.
    Lossy,
    /// A law made for quality, of the expert's distribution and perhaps the drafter's.
    ExpertLaw,
}

impl Kind {
    /// In the words of reports, which call everything lossy that is not the expert's own law.
    pub fn label(self) -> &'static str {
        match self {
            Self::Lossless => "lossless",
            Self::Cascade => "lossy: speculative cascade",
            Self::Lossy => "lossy",
            Self::ExpertLaw => "lossy: another law of the expert",
        }
    }
}

/// By which law drafted tokens are kept or replaced.
///
/// One method is enough: whatever a rule wants, stating its target law and coupling the draft maximally
/// with it accepts at least as much as any other way of drawing from that law.
///
/// To add a rule: a file with an implementation, a `mod` line, and a line in
/// [`RULES`](crate::RULES).
pub trait AcceptanceRule: Send + Sync {
    /// Its name on command lines and in reports.
    fn name(&self) -> &'static str;

    /// The distribution the next token shall have, given what drafter and expert say of it.
    fn target<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs>;

    /// The law where the drafter says nothing: where nothing is drafted, or no scores came after its last token.
    /// The expert's distribution, unless the rule changes that whatever the drafter says.
    fn undrafted<'a>(&self, expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(expert.probs())
    }

    /// What it promises of the text.
    fn kind(&self) -> Kind {
        Kind::Lossy
    }

    /// Its dials and where they stand.
    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        Vec::new()
    }

    /// The probability `min(1, target / draft)` with which a drafted `token` stands. Rules that know it without
    /// the whole of both distributions say so here.
    fn acceptance(&self, token: TokenId, draft: &Scores, expert: &Scores) -> f64 {
        ratio(self.target(draft, expert).get(token), draft.prob(token))
    }

    /// Whether the expert is asked at a position at which `token` was drafted, before any coin. `None` for rules
    /// by which the drafter never decides alone, or not by tokens.
    fn deferral(&self, _token: TokenId, _draft: &Scores, _expert: &Scores) -> Option<bool> {
        None
    }

    /// Whether the rule reads the drafter's confidence, so that a drafter which only guesses
    /// (a point mass) would always be believed.
    fn needs_calibrated_draft(&self) -> bool {
        false
    }

    /// Whether the law after the last drafted token needs the drafter's scores there too.
    fn needs_draft_after(&self) -> bool {
        false
    }

    /// Whether drafter and expert draw their tokens by the same noise, [`Draws::race`].
    fn shares_noise(&self) -> bool {
        false
    }

    /// What the rule looks at. A rule that says nothing gets everything.
    fn needs(&self) -> Needs {
        Needs::Raw
    }

    /// The same rule with a criterion that reads confidences so.
    ///
    /// # Errors
    ///
    /// [`RuleError::NoConfidence`]: its criterion reads none; [`RuleError::ExpertUnread`]: not the expert's.
    fn calibrated(&self, _confidence: Confidence) -> Result<Arc<dyn AcceptanceRule>, RuleError> {
        Err(RuleError::NoConfidence { rule: self.name() })
    }

    /// How the criterion reads confidences, where that was said.
    fn confidence(&self) -> Option<&Confidence> {
        None
    }

    /// Whether the rule's own settings make sense.
    ///
    /// # Errors
    ///
    /// A setting outside its dial's range.
    fn check(&self) -> Result<(), RuleError> {
        self.settings().into_iter().try_for_each(|(dial, value)| dial.check(self.name(), value))
    }

    /// Decides a round whose first drafted token stands at `position` of the sequence.
    ///
    /// `expert` has one row more than there are drafted tokens. Rules that decide over several positions
    /// at once replace this; all others leave it as it is.
    fn judge(
        &self,
        proposal: &Proposal,
        expert: &[Scores],
        position: usize,
        draws: &mut dyn Draws,
    ) -> Verdict {
        judge(self, proposal, expert, position, draws)
    }

    /// Whether rounds whose drafts branch can be decided.
    ///
    /// # Errors
    ///
    /// [`RuleError::Trees`]: the rule decides over the tokens of a chain together.
    fn check_trees(&self) -> Result<(), RuleError> {
        Ok(())
    }

    /// Decides a round whose drafts branch, its first drafted tokens at `position` of the sequence. `expert` has a row
    /// for each point of the tree. Rules that replace [`judge`](Self::judge) replace this too, or say that they cannot
    /// ([`check_trees`](Self::check_trees)).
    fn judge_tree(
        &self,
        tree: &DraftTree,
        expert: &[Scores],
        position: usize,
        draws: &mut dyn Draws,
    ) -> TreeVerdict {
        judge_tree(self, tree, expert, position, draws)
    }
}

impl<R: AcceptanceRule + ?Sized> AcceptanceRule for Arc<R> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn target<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        (**self).target(draft, expert)
    }

    fn undrafted<'a>(&self, expert: &'a Scores) -> Cow<'a, Probs> {
        (**self).undrafted(expert)
    }

    fn kind(&self) -> Kind {
        (**self).kind()
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        (**self).settings()
    }

    fn acceptance(&self, token: TokenId, draft: &Scores, expert: &Scores) -> f64 {
        (**self).acceptance(token, draft, expert)
    }

    fn deferral(&self, token: TokenId, draft: &Scores, expert: &Scores) -> Option<bool> {
        (**self).deferral(token, draft, expert)
    }

    fn needs_calibrated_draft(&self) -> bool {
        (**self).needs_calibrated_draft()
    }

    fn needs_draft_after(&self) -> bool {
        (**self).needs_draft_after()
    }

    fn shares_noise(&self) -> bool {
        (**self).shares_noise()
    }

    fn needs(&self) -> Needs {
        (**self).needs()
    }

    fn calibrated(&self, confidence: Confidence) -> Result<Arc<dyn AcceptanceRule>, RuleError> {
        (**self).calibrated(confidence)
    }

    fn confidence(&self) -> Option<&Confidence> {
        (**self).confidence()
    }

    fn check(&self) -> Result<(), RuleError> {
        (**self).check()
    }

    fn judge(
        &self,
        proposal: &Proposal,
        expert: &[Scores],
        position: usize,
        draws: &mut dyn Draws,
    ) -> Verdict {
        (**self).judge(proposal, expert, position, draws)
    }

    fn check_trees(&self) -> Result<(), RuleError> {
        (**self).check_trees()
    }

    fn judge_tree(
        &self,
        tree: &DraftTree,
        expert: &[Scores],
        position: usize,
        draws: &mut dyn Draws,
    ) -> TreeVerdict {
        (**self).judge_tree(tree, expert, position, draws)
    }
}

impl std::fmt::Debug for dyn AcceptanceRule + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rule {}", crate::describe(self))
    }
}
