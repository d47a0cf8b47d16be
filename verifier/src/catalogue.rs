//! Every rule by its name, with its dials.

use crate::{AcceptanceRule, Kind, rules};
use std::{fmt, sync::Arc};

/// A number by which a rule is set.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Dial {
    /// Its name on command lines and in reports.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// Where it stands if nothing is said.
    pub default: f64,
    /// The least value allowed.
    pub low: f64,
    /// The greatest value allowed.
    pub high: f64,
    /// The values allowed, in words.
    pub range: &'static str,
    /// Whether only whole numbers make sense.
    pub whole: bool,
    /// Values worth measuring, strict ones first; empty for a rule's side dials.
    pub sweep: &'static [f64],
}

impl Dial {
    /// A dial for finite numbers without values to measure, from which others are made.
    pub(crate) const fn new(name: &'static str, about: &'static str, default: f64) -> Self {
        let (low, high) = (f64::MIN, f64::MAX);
        Self { name, about, default, low, high, range: "a finite number", whole: false, sweep: &[] }
    }

    pub(crate) const fn within(self, low: f64, high: f64, range: &'static str) -> Self {
        Self { low, high, range, ..self }
    }

    pub(crate) const fn sweeping(self, sweep: &'static [f64]) -> Self {
        Self { sweep, ..self }
    }

    /// Whether a rule's dial can stand at `value`.
    ///
    /// # Errors
    ///
    /// [`RuleError::OutOfRange`].
    pub fn check(&self, rule: &'static str, value: f64) -> Result<(), RuleError> {
        if (self.low..=self.high).contains(&value) && (!self.whole || value.fract() == 0.0) {
            return Ok(());
        }
        Err(RuleError::OutOfRange { rule, dial: self.name, value, range: self.range })
    }
}

/// A rule that can be asked for by name.
#[derive(Clone, Copy)]
#[allow(clippy::exhaustive_structs)]
pub struct RuleInfo {
    /// Its name on command lines and in reports.
    pub name: &'static str,
    /// What it promises of the text.
    pub kind: Kind,
    /// Its law, in a few words.
    pub about: &'static str,
    /// Its dials, the main one first.
    pub dials: &'static [Dial],
    /// Makes the rule with these values of its dials, in their order; where there is none, the default.
    pub make: fn(&[Option<f64>]) -> Arc<dyn AcceptanceRule>,
}

impl fmt::Debug for RuleInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} ({})", self.name, self.kind.label())
    }
}

/// Every rule that can be asked for by name.
pub const RULES: &[RuleInfo] = &[
    rules::lossless::INFO,
    rules::block::INFO,
    rules::coupled_noise::INFO,
    rules::exact_match::INFO,
    rules::chow::INFO,
    rules::diff::INFO,
    rules::opt::INFO,
    rules::chow_log::INFO,
    rules::diff_log::INFO,
    rules::opt_log::INFO,
    rules::token_v1::INFO,
    rules::token_v2::INFO,
    rules::token_v3::INFO,
    rules::lenience::INFO,
    rules::lenience_balanced::INFO,
    rules::interpolation::INFO,
    rules::mentored::INFO,
    rules::typical::INFO,
    rules::top_k::INFO,
    rules::bild::INFO,
    rules::contrastive::INFO,
    rules::truncate_min_p::INFO,
    rules::truncate_top_p::INFO,
];

/// Why there is no such rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// A dial stands outside its range.
    #[error("rule {rule}: {dial} {value} is out of range: {range}")]
    OutOfRange {
        /// The rule's name.
        rule: &'static str,
        /// The dial's name.
        dial: &'static str,
        /// The value given.
        value: f64,
        /// The values allowed, in words.
        range: &'static str,
    },
    /// No rule has this name.
    #[error("there is no rule `{name}`; the rules are {}", names())]
    Unknown {
        /// The name given.
        name: String,
    },
    /// The rule has no such dial.
    #[error("rule {rule} has no dial `{dial}`; {}", dials(rule))]
    NoDial {
        /// The rule's name.
        rule: &'static str,
        /// The name given.
        dial: String,
    },
    /// A dial was set more than once.
    #[error("rule {rule}: `{dial}` is set more than once")]
    Twice {
        /// The rule's name.
        rule: &'static str,
        /// The dial's name.
        dial: &'static str,
    },
    /// Something else than a number was given.
    #[error("rule {rule}: `{value}` is no value for a dial; write {rule}:DIAL=NUMBER,...")]
    NoNumber {
        /// The rule's name.
        rule: &'static str,
        /// What was given.
        value: String,
    },
    /// A tree of drafts for a rule that decides over a chain.
    #[error(
        "rule {rule} decides over the tokens of a chain together and cannot judge a tree of drafts; draft without a tree, or use lossless"
    )]
    Trees {
        /// The rule's name.
        rule: &'static str,
    },
    /// A calibrator for a rule whose criterion reads no confidence.
    #[error(
        "rule {rule} has no criterion that reads a confidence, so there is nothing to calibrate; cascade-chow, cascade-diff, cascade-opt and bild have one"
    )]
    NoConfidence {
        /// The rule's name.
        rule: &'static str,
    },
    /// A calibrator for the expert's confidence, which the rule does not look at.
    #[error(
        "rule {rule} reads the drafter's confidence only; a calibrator for the expert's would change nothing"
    )]
    ExpertUnread {
        /// The rule's name.
        rule: &'static str,
    },
}

fn names() -> String {
    RULES.iter().map(|info| info.name).collect::<Vec<_>>().join(", ")
}

fn dials(rule: &str) -> String {
    let dials = RULES.iter().find(|info| info.name == rule).map_or(&[][..], |info| info.dials);
    let names: Vec<_> = dials.iter().map(|dial| format!("`{}` ({})", dial.name, dial.range)).collect();
    if names.is_empty() { "it has none".into() } else { format!("it has {}", names.join(" and ")) }
}

/// The rule that `spec` names, with its dials where `spec` puts them: `lossless`,
/// `cascade-token-v3:lenience=0.9`, `typical:threshold=0.09,alpha=0.3`.
///
/// # Errors
///
/// No such rule or dial, or a value that is no number or out of range.
///
/// ```
/// use drafthorse_verifier::{describe, rule};
///
/// assert_eq!(describe(&*rule("cascade-chow:lenience=0.2")?), "cascade-chow, lenience 0.2");
/// assert!(rule("block:lenience=1").unwrap_err().to_string().contains("it has none"));
/// # Ok::<(), drafthorse_verifier::RuleError>(())
/// ```
pub fn rule(spec: &str) -> Result<Arc<dyn AcceptanceRule>, RuleError> {
    let (name, settings) =
        spec.split_once(':').map_or((spec, None), |(name, settings)| (name, Some(settings)));
    let find = |info: &&RuleInfo| info.name == name;
    let info = RULES.iter().find(find).ok_or_else(|| RuleError::Unknown { name: name.to_owned() })?;
    let mut values = vec![None; info.dials.len()];
    for setting in settings.into_iter().flat_map(|settings| settings.split(',')) {
        let no_number = || RuleError::NoNumber { rule: info.name, value: setting.to_owned() };
        let (dial, value) = setting.split_once('=').ok_or_else(no_number)?;
        let known = info.dials.iter().position(|known| known.name == dial.trim());
        let at = known.ok_or_else(|| RuleError::NoDial { rule: info.name, dial: dial.trim().to_owned() })?;
        if values[at].is_some() {
            return Err(RuleError::Twice { rule: info.name, dial: info.dials[at].name });
        }
        values[at] = Some(value.trim().parse().map_err(|_| no_number())?);
    }
    info.with(&values)
}

impl RuleInfo {
    /// The rule with its dials at these values, in their order.
    ///
    /// # Errors
    ///
    /// [`RuleError::OutOfRange`].
    pub fn with(&self, values: &[Option<f64>]) -> Result<Arc<dyn AcceptanceRule>, RuleError> {
        for (dial, value) in self.dials.iter().zip(values) {
            value.map_or(Ok(()), |value| dial.check(self.name, value))?;
        }
        Ok((self.make)(values))
    }
}

/// A rule's name, where its dials stand and how it reads confidences: `cascade-token-v3, lenience 0.9`,
/// `cascade-chow, lenience 0.4, drafter by temperature:1.3`.
pub fn describe(rule: &dyn AcceptanceRule) -> String {
    let settings = rule.settings().into_iter().map(|(dial, value)| format!(", {} {value}", dial.name));
    let confidence = rule.confidence().map(ToString::to_string).filter(|text| !text.is_empty());
    let parts = settings.chain(confidence.map(|text| format!(", {text}")));
    parts.fold(rule.name().to_owned(), |text, part| text + &part)
}

/// The value of the dial with this number.
pub(crate) fn at(values: &[Option<f64>], number: usize, dial: &Dial) -> f64 {
    values.get(number).copied().flatten().unwrap_or(dial.default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_kinds_and_dials_agree_with_the_rules() {
        for info in RULES {
            let rule = rule(info.name).unwrap();
            assert_eq!((rule.name(), rule.kind()), (info.name, info.kind));
            let dials: Vec<_> = rule.settings().into_iter().map(|(dial, _)| *dial).collect();
            assert_eq!(dials, info.dials, "{}", info.name);
            assert_eq!(rule.check(), Ok(()), "{}: the defaults are in range", info.name);
            assert!(info.dials.iter().skip(1).all(|dial| dial.sweep.is_empty()));
            if let Some(dial) = info.dials.first() {
                assert!(dial.sweep.len() >= 9, "{}", info.name);
                for &value in dial.sweep {
                    let rule = info.with(&[Some(value)]).unwrap();
                    assert_eq!(rule.settings()[0].1, value);
                }
            }
        }
    }

    #[test]
    fn specs_that_name_nothing_are_explained() {
        let error = |spec: &str| rule(spec).map(|rule| describe(&*rule)).unwrap_err().to_string();
        assert!(error("wishful").starts_with("there is no rule `wishful`; the rules are lossless, block, "));
        assert_eq!(error("lossless:lenience=0"), "rule lossless has no dial `lenience`; it has none");
        assert_eq!(error("top-k:n=3"), "rule top-k has no dial `n`; it has `k` (a whole number from 1)");
        assert_eq!(error("top-k:k=1.5"), "rule top-k: k 1.5 is out of range: a whole number from 1");
        assert!(error("lossless:").contains("`` is no value for a dial"));
        assert_eq!(error("top-k:k=1,k=2"), "rule top-k: `k` is set more than once");
        assert!(error("cascade-chow:0.5").contains("`0.5` is no value for a dial"));
        assert!(error("cascade-chow:lenience=x").contains("`lenience=x` is no value"));
        assert_eq!(
            error("cascade-chow:lenience=1.5"),
            "rule cascade-chow: lenience 1.5 is out of range: 0 to 1"
        );
        assert!(error("cascade-chow:lenience=NaN").contains("out of range"));
        assert!(error("cascade-opt:lenience=inf").contains("a finite number"));
    }
}
