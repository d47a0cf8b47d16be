//! What a text is worth.

use clap::ValueEnum;
use drafthorse::quality::{chrf, exact_match, last_number_match, rouge_l, rouge_n};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A measure of quality. More is better for every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Metric {
    /// Share of texts that are the reference but for case, punctuation and articles
    ExactMatch,
    /// Share of texts that end with the reference's number
    LastNumber,
    /// chrF2 against the reference, 0 to 100
    Chrf,
    /// ROUGE-1 F1 against the reference
    #[value(name = "rouge-1")]
    #[serde(rename = "rouge-1")]
    Rouge1,
    /// ROUGE-2 F1 against the reference
    #[value(name = "rouge-2")]
    #[serde(rename = "rouge-2")]
    Rouge2,
    /// ROUGE-L F1 against the reference
    RougeL,
    /// Mean log-probability of a token under the expert at temperature 1, in nats
    LogProbability,
}

/// The worth of one text by every measure that applies.
pub(super) type Qualities = BTreeMap<Metric, f64>;

impl Metric {
    /// Its name on command lines and in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ExactMatch => "exact-match",
            Self::LastNumber => "last-number",
            Self::Chrf => "chrf",
            Self::Rouge1 => "rouge-1",
            Self::Rouge2 => "rouge-2",
            Self::RougeL => "rouge-l",
            Self::LogProbability => "log-probability",
        }
    }

    /// What stands beside an axis.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::ExactMatch => "exact match (share of texts)",
            Self::LastNumber => "last-number accuracy (share of texts)",
            Self::Chrf => "chrF2 against the reference (0 to 100)",
            Self::Rouge1 => "ROUGE-1 F1 against the reference",
            Self::Rouge2 => "ROUGE-2 F1 against the reference",
            Self::RougeL => "ROUGE-L F1 against the reference",
            Self::LogProbability => "log-probability under the expert (nats per token)",
        }
    }
}

/// A text by all measures; those that need a reference only where there is one, and those of numbers only
/// where it ends with one.
pub(super) fn judge(text: &str, reference: Option<&str>, log_probability: f64) -> Qualities {
    let mut qualities = Qualities::from([(Metric::LogProbability, log_probability)]);
    let Some(reference) = reference else { return qualities };
    let share = |yes: bool| f64::from(u8::from(yes));
    qualities.insert(Metric::ExactMatch, share(exact_match(text, reference)));
    qualities.insert(Metric::Chrf, chrf(text, reference));
    qualities.insert(Metric::Rouge1, rouge_n(text, reference, 1));
    qualities.insert(Metric::Rouge2, rouge_n(text, reference, 2));
    qualities.insert(Metric::RougeL, rouge_l(text, reference));
    if ends_with_number(reference) {
        qualities.insert(Metric::LastNumber, share(last_number_match(text, reference)));
    }
    qualities
}

pub(super) fn ends_with_number(reference: &str) -> bool {
    reference.trim_end_matches(|c: char| !c.is_alphanumeric()).ends_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_everywhere() {
        for metric in Metric::value_variants() {
            let value = metric.to_possible_value().unwrap();
            assert_eq!(value.get_name(), metric.name());
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.name());
        }
    }

    #[test]
    fn measures_apply_where_they_mean_something() {
        let of = |reference| judge("it is 3", reference, -1.0);
        assert_eq!(of(None), Qualities::from([(Metric::LogProbability, -1.0)]));
        assert_eq!(of(Some("2 + 1 = 3\n#### 3"))[&Metric::LastNumber], 1.0);
        assert!(!of(Some("3 of them")).contains_key(&Metric::LastNumber));
        assert_eq!(of(Some("It is: 3!"))[&Metric::ExactMatch], 1.0);
    }
}
