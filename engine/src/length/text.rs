//! Draft lengths as text.

use super::{Adaptive, DraftLength};
use std::{fmt, str::FromStr};

/// The most tokens of a draft that ends where the drafter is not sure of a token.
const CONFIDENCE_MAX: usize = 16;
/// The most tokens of a draft that ends by entropy, as in its source.
const ENTROPY_MAX: usize = 40;

/// A draft length that is none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DraftLengthError {
    /// A text that is no draft length.
    #[error(
        "`{text}` is no draft length: {reason}; write a number, `auto`, `confidence:0.4` or `entropy:0.3`, the last three perhaps with `,max=N`"
    )]
    Text {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A threshold out of range.
    #[error(
        "threshold {threshold} of draft length `{name}` is out of range; a confidence is from 0 to 1, an entropy 0 or more"
    )]
    Threshold {
        /// Which draft length.
        name: &'static str,
        /// The threshold.
        threshold: f64,
    },
    /// Costs that are none.
    #[error(
        "{what} of {value} in the draft costs is out of range; times are finite and not negative, a pass takes some, and acceptances are from 0 to 1"
    )]
    Costs {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// The costs lack what all others are compared with.
    #[error("draft costs lack a pass of one row, which is plain decoding; give its seconds too")]
    NoPlainRound,
    /// No tokens.
    #[error(
        "draft length `{name}` of at most 0 tokens drafts nothing; give at least 1, or the number 0 for plain decoding"
    )]
    NoTokens {
        /// Which draft length.
        name: &'static str,
    },
}

impl fmt::Display for DraftLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(tokens) => write!(f, "{tokens}"),
            Self::Confidence { threshold, max } => write!(f, "confidence:{threshold},max={max}"),
            Self::Entropy { threshold, max } => write!(f, "entropy:{threshold},max={max}"),
            Self::Adaptive(adaptive) if adaptive.max == Adaptive::default().max => f.write_str("auto"),
            Self::Adaptive(adaptive) => write!(f, "auto,max={}", adaptive.max),
        }
    }
}

impl FromStr for DraftLength {
    type Err = DraftLengthError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason| DraftLengthError::Text { text: text.to_owned(), reason };
        if let Ok(tokens) = text.parse() {
            return Ok(Self::Fixed(tokens));
        }
        let (rule, max) = match text.split_once(',') {
            Some((rule, option)) => {
                let number = option.strip_prefix("max=").ok_or(fail("only `max=N` may follow a comma"))?;
                (rule, Some(number.parse().map_err(|_| fail("what follows `max=` is no number of tokens"))?))
            }
            None => (text, None),
        };
        let number = |threshold: &str| threshold.parse().map_err(|_| fail("its threshold is no number"));
        let length = match rule.split_once(':') {
            None if rule == "auto" => max.map_or_else(Adaptive::default, Adaptive::up_to).into(),
            Some(("confidence", threshold)) => {
                Self::Confidence { threshold: number(threshold)?, max: max.unwrap_or(CONFIDENCE_MAX) }
            }
            Some(("entropy", threshold)) => {
                Self::Entropy { threshold: number(threshold)?, max: max.unwrap_or(ENTROPY_MAX) }
            }
            None if rule == "confidence" || rule == "entropy" => return Err(fail("it lacks a threshold")),
            None if rule.starts_with('-') => return Err(fail("it is negative")),
            _ => return Err(fail("it names no rule")),
        };
        length.check()?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_back() {
        let lengths = [
            ("0", DraftLength::Fixed(0)),
            ("4", DraftLength::Fixed(4)),
            ("auto", DraftLength::default()),
            ("auto,max=8", Adaptive::up_to(8).into()),
            ("confidence:0.4,max=16", DraftLength::Confidence { threshold: 0.4, max: 16 }),
            ("entropy:0.3,max=40", DraftLength::Entropy { threshold: 0.3, max: 40 }),
        ];
        for (text, length) in lengths {
            assert_eq!(text.parse(), Ok(length.clone()));
            assert_eq!(length.to_string(), text);
            if let Some((short, "max=16" | "max=40")) = text.split_once(',') {
                assert_eq!(short.parse(), Ok(length), "the usual most need not be written");
            }
        }
    }

    #[test]
    fn what_is_no_draft_length_is_refused() {
        let cases = [
            ("-1", "negative"),
            ("many", "names no rule"),
            ("confidence", "lacks a threshold"),
            ("confidence:high", "no number"),
            ("confidence:1.5", "from 0 to 1"),
            ("confidence:NaN", "from 0 to 1"),
            ("entropy:-0.1", "0 or more"),
            ("entropy:0.3,40", "`max=N`"),
            ("auto,max=", "no number of tokens"),
            ("auto,max=0", "at least 1"),
            ("", "names no rule"),
        ];
        for (text, part) in cases {
            let error = text.parse::<DraftLength>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
