//! Rules whose criterion reads a confidence, and how it is read.

use crate::{AcceptanceRule, KeepRule, Kept, Kind, Needs, RuleError, catalogue::Dial};
use drafthorse_logits::{Probs, Scores, TokenId, calibration::Calibrator};
use std::{borrow::Cow, fmt, sync::Arc};

/// How a rule's criterion reads the confidence of both sides, which is their highest raw probability: as it is, or
/// through a calibrator.
///
/// Only the criterion changes. What is drawn stays the rule's law, and exact with respect to it.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Confidence {
    /// For the drafter's.
    pub draft: Option<Calibrator>,
    /// For the expert's.
    pub expert: Option<Calibrator>,
}

impl Confidence {
    /// The drafter's confidence.
    pub fn draft(&self, draft: &Scores) -> f64 {
        read(self.draft.as_ref(), draft)
    }

    /// The expert's confidence.
    pub fn expert(&self, expert: &Scores) -> f64 {
        read(self.expert.as_ref(), expert)
    }
}

fn read(calibrator: Option<&Calibrator>, scores: &Scores) -> f64 {
    let confidence = scores.raw_max();
    calibrator.map_or(confidence, |calibrator| calibrator.apply(confidence))
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sides = [("drafter", &self.draft), ("expert", &self.expert)];
        let named = sides.iter().filter_map(|(side, calibrator)| Some((side, calibrator.as_ref()?)));
        for (at, (side, calibrator)) in named.enumerate() {
            write!(f, "{}{side} by {calibrator}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// A rule whose criterion reads confidences.
pub trait ConfidenceRule: KeepRule {
    /// The tokens over which the drafter decides alone, where confidences are read like this.
    fn kept_by<'a>(&self, confidence: &Confidence, draft: &'a Scores, expert: &'a Scores) -> Kept<'a>;

    /// Whether the criterion reads the expert's confidence too.
    fn reads_expert(&self) -> bool;
}

/// A rule whose criterion reads confidences through calibrators. Its law is the rule's own, with other decisions.
///
/// Source: the criteria are plug-ins of Narasimhan et al., "Faster Cascades via Speculative Decoding", 2025, which are
/// the better the nearer confidences are to the probability of being right.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibrated<R> {
    rule: R,
    confidence: Confidence,
}

impl<R: ConfidenceRule + Clone + 'static> Calibrated<R> {
    /// `rule` with this confidence.
    ///
    /// # Errors
    ///
    /// [`RuleError::ExpertUnread`]: a calibrator for the expert's confidence, which the rule does not look at.
    pub fn new(rule: R, confidence: Confidence) -> Result<Self, RuleError> {
        if confidence.expert.is_some() && !rule.reads_expert() {
            return Err(RuleError::ExpertUnread { rule: KeepRule::name(&rule) });
        }
        Ok(Self { rule, confidence })
    }

    pub(crate) fn arc(rule: R, confidence: Confidence) -> Result<Arc<dyn AcceptanceRule>, RuleError> {
        Ok(Arc::new(Self::new(rule, confidence)?))
    }
}

impl<R: ConfidenceRule + Clone + 'static> KeepRule for Calibrated<R> {
    fn name(&self) -> &'static str {
        KeepRule::name(&self.rule)
    }

    fn kept<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Kept<'a> {
        self.rule.kept_by(&self.confidence, draft, expert)
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        KeepRule::settings(&self.rule)
    }

    fn kind(&self) -> Kind {
        KeepRule::kind(&self.rule)
    }

    fn otherwise<'a>(&self, expert: &'a Scores) -> Cow<'a, Probs> {
        self.rule.otherwise(expert)
    }

    fn otherwise_prob(&self, token: TokenId, expert: &Scores) -> f64 {
        self.rule.otherwise_prob(token, expert)
    }

    fn needs_calibrated_draft(&self) -> bool {
        KeepRule::needs_calibrated_draft(&self.rule)
    }

    fn needs(&self) -> Needs {
        KeepRule::needs(&self.rule)
    }

    fn calibrated(&self, confidence: Confidence) -> Result<Arc<dyn AcceptanceRule>, RuleError> {
        Self::arc(self.rule.clone(), confidence)
    }

    fn confidence(&self) -> Option<&Confidence> {
        Some(&self.confidence)
    }
}
