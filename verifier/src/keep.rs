//! Rules by which the drafter alone decides over some tokens.

use crate::{AcceptanceRule, Confidence, Kind, Needs, RuleError, catalogue::Dial, ratio};
use drafthorse_logits::{Probs, Scores, TokenId};
use std::{borrow::Cow, sync::Arc};

/// The tokens over which the drafter decides alone at a position: a drafted one of them stands without a coin.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Kept<'a> {
    /// All: the expert is not asked.
    All,
    /// None: the expert is asked whatever was drafted.
    Nothing,
    /// Those at least this probable in the raw distribution of these scores.
    Raw(&'a Scores, f64),
    /// Those at least this probable in the sampled distribution of these scores.
    Sampled(&'a Scores, f64),
}

impl<'a> Kept<'a> {
    /// Whether `token` is among them.
    pub fn holds(&self, token: TokenId) -> bool {
        match *self {
            Self::All => true,
            Self::Nothing => false,
            Self::Raw(scores, least) => scores.raw_prob(token) >= least,
            Self::Sampled(scores, least) => scores.prob(token) >= least,
        }
    }

    /// The distribution that decides, and how much of it a token must have.
    fn edge(&self) -> Option<(&'a Probs, f64)> {
        match *self {
            Self::All | Self::Nothing => None,
            Self::Raw(scores, least) => Some((scores.raw(), least)),
            Self::Sampled(scores, least) => Some((scores.probs(), least)),
        }
    }

    /// `eta`: how likely the drafter proposes a token that is not among them.
    fn outside(&self, draft: &Probs) -> f64 {
        match (self, self.edge(), draft.as_point()) {
            (_, _, Some(token)) => f64::from(u8::from(!self.holds(token))),
            (_, Some((edge, least)), None) => {
                edge.sum_with(draft, |edge, q| if edge >= least { 0.0 } else { q })
            }
            (Self::All, None, None) => 0.0,
            (_, None, None) => 1.0,
        }
    }
}

/// A rule that keeps some tokens and defers to the expert for all others.
///
/// * Law: `pi(v) = q(v) [v kept] + eta r(v)`, where `eta = sum(q(v), v not kept)` and `r` is the
///   [law where it defers](Self::otherwise), by default the expert's.
/// * A kept token stands without a coin; another with `min(1, eta r / q)`.
///
/// Every such rule is an [`AcceptanceRule`], and so exact with respect to its law.
///
/// Source: Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, equation 11; with all or
/// nothing kept, equation 6.
pub trait KeepRule: Send + Sync {
    /// As [`AcceptanceRule::name`].
    fn name(&self) -> &'static str;

    /// The tokens over which the drafter decides alone.
    fn kept<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Kept<'a>;

    /// As [`AcceptanceRule::settings`].
    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        Vec::new()
    }

    /// As [`AcceptanceRule::kind`].
    fn kind(&self) -> Kind {
        Kind::Cascade
    }

    /// The law where the rule defers.
    fn otherwise<'a>(&self, expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(expert.probs())
    }

    /// The probability of a token that is not kept in the law where the rule defers.
    fn otherwise_prob(&self, token: TokenId, expert: &Scores) -> f64 {
        expert.prob(token)
    }

    /// As [`AcceptanceRule::needs_calibrated_draft`].
    fn needs_calibrated_draft(&self) -> bool {
        false
    }

    /// As [`AcceptanceRule::needs`].
    fn needs(&self) -> Needs {
        Needs::Raw
    }

    /// As [`AcceptanceRule::calibrated`].
    ///
    /// # Errors
    ///
    /// As there.
    fn calibrated(&self, _confidence: Confidence) -> Result<Arc<dyn AcceptanceRule>, RuleError> {
        Err(RuleError::NoConfidence { rule: self.name() })
    }

    /// As [`AcceptanceRule::confidence`].
    fn confidence(&self) -> Option<&Confidence> {
        None
    }
}

impl<K: KeepRule> AcceptanceRule for K {
    fn name(&self) -> &'static str {
        KeepRule::name(self)
    }

    fn target<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        let kept = self.kept(draft, expert);
        let eta = kept.outside(draft.probs());
        if eta == 0.0 {
            return Cow::Borrowed(draft.probs());
        }
        let otherwise = self.otherwise(expert);
        let Some((edge, least)) = kept.edge().filter(|_| draft.probs().as_point().is_none()) else {
            return otherwise;
        };
        let (edge, q, r) = (edge.row(), draft.probs().row(), otherwise.row());
        let law = edge.iter().zip(q.iter()).zip(r.iter());
        let law = law.map(|((&edge, &q), &r)| if edge >= least { q + eta * r } else { eta * r });
        Probs::collect(q.len(), law).map_or_else(|| otherwise.clone(), Cow::Owned)
    }

    fn kind(&self) -> Kind {
        KeepRule::kind(self)
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        KeepRule::settings(self)
    }

    fn acceptance(&self, token: TokenId, draft: &Scores, expert: &Scores) -> f64 {
        let kept = self.kept(draft, expert);
        if kept.holds(token) {
            return 1.0;
        }
        ratio(kept.outside(draft.probs()) * self.otherwise_prob(token, expert), draft.prob(token))
    }

    fn deferral(&self, token: TokenId, draft: &Scores, expert: &Scores) -> Option<bool> {
        Some(!self.kept(draft, expert).holds(token))
    }

    fn needs_calibrated_draft(&self) -> bool {
        KeepRule::needs_calibrated_draft(self)
    }

    fn needs_draft_after(&self) -> bool {
        true
    }

    fn needs(&self) -> Needs {
        KeepRule::needs(self)
    }

    fn calibrated(&self, confidence: Confidence) -> Result<Arc<dyn AcceptanceRule>, RuleError> {
        KeepRule::calibrated(self, confidence)
    }

    fn confidence(&self) -> Option<&Confidence> {
        KeepRule::confidence(self)
    }
}
