use crate::{ExactMatch, Lossless, judge};
use drafthorse_logits::{Draws, Probs, Proposal, Scores, Verdict};
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

/// By which law drafted tokens are kept or replaced.
///
/// One method is enough: whatever a rule wants, stating its target law and coupling the draft maximally
/// with it accepts at least as much as any other way of drawing from that law.
///
/// To add a rule: a file with an implementation, a `mod` line, and a line in [`RULES`].
pub trait AcceptanceRule: Send + Sync {
    /// Its name on command lines and in reports.
    fn name(&self) -> &'static str;

    /// The distribution the next token shall have, given what drafter and expert say of it.
    fn target<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs>;

    /// Whether the text follows the expert's distribution exactly, whatever the drafter.
    fn is_lossless(&self) -> bool {
        false
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

    /// What the rule looks at. A rule that says nothing gets everything.
    fn needs(&self) -> Needs {
        Needs::Raw
    }

    /// Whether the rule's own settings make sense.
    ///
    /// # Errors
    ///
    /// A setting outside its range.
    fn check(&self) -> Result<(), RuleError> {
        Ok(())
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
        judge(proposal, expert, |draft, expert| self.target(draft, expert), position, draws)
    }
}

impl<R: AcceptanceRule + ?Sized> AcceptanceRule for Arc<R> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn target<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        (**self).target(draft, expert)
    }

    fn is_lossless(&self) -> bool {
        (**self).is_lossless()
    }

    fn needs_calibrated_draft(&self) -> bool {
        (**self).needs_calibrated_draft()
    }

    fn needs_draft_after(&self) -> bool {
        (**self).needs_draft_after()
    }

    fn needs(&self) -> Needs {
        (**self).needs()
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
}

/// A setting of a rule is outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("rule {rule}: {setting} {value} is out of range: {range}")]
#[allow(clippy::exhaustive_structs)]
pub struct RuleError {
    /// The rule's name.
    pub rule: &'static str,
    /// The setting's name.
    pub setting: &'static str,
    /// The value given.
    pub value: f64,
    /// The values allowed, in words.
    pub range: &'static str,
}

/// Makes a rule.
type Make = fn() -> Arc<dyn AcceptanceRule>;

/// Every rule that can be asked for by name.
pub const RULES: &[(&str, Make)] =
    &[("lossless", || Arc::new(Lossless)), ("exact-match", || Arc::new(ExactMatch))];

/// The rule of this name.
pub fn rule(name: &str) -> Option<Arc<dyn AcceptanceRule>> {
    RULES.iter().find(|(known, _)| *known == name).map(|(_, make)| make())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_the_list() {
        for (name, make) in RULES {
            assert_eq!(make().name(), *name);
            assert!(rule(name).is_some());
        }
        assert!(rule("wishful").is_none());
    }
}
