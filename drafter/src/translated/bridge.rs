use drafthorse_model::{ModelError, Overlap};

/// How much of the expert's text the drafter should be able to say token by token, so that this is the better way. Below
/// it, drafts break off at the first token that is not shared, while a text goes on.
const MOSTLY: f64 = 0.8;

/// Where probabilities are needed, so much will do.
const HARDLY: f64 = 0.05;

/// How the drafts of a model become the expert's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bridge {
    /// They are: both have one vocabulary.
    Direct,
    /// By the tokens that both share, with probabilities ([`TokenDrafter`](crate::TokenDrafter)).
    Tokens,
    /// As text that is read in the expert's tokens, without probabilities ([`TextDrafter`](crate::TextDrafter)).
    Text,
}

/// A bridge, and why it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Choice {
    /// The bridge.
    pub bridge: Bridge,
    /// Why this one: a part of a sentence for reports.
    pub reason: String,
}

impl Bridge {
    /// Its short name: `direct`, `tli` or `slem`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Tokens => "tli",
            Self::Text => "slem",
        }
    }

    /// Whether its drafts have probabilities.
    pub fn is_calibrated(self) -> bool {
        self != Self::Text
    }

    /// The bridge for two vocabularies with this overlap: by tokens where most of the expert's text can be drafted so,
    /// otherwise as text. Tokens count as often as they occur in the overlap's text, if it has one; else each counts
    /// once. `calibrated`: the rule reads the drafter's confidence.
    ///
    /// # Errors
    ///
    /// [`ModelError::Translation`]: the rule needs probabilities, and too little is shared to have any.
    pub fn choose(overlap: &Overlap, same: bool, calibrated: bool) -> Result<Choice, ModelError> {
        let choice = |bridge, reason: String| Ok(Choice { bridge, reason });
        if same {
            return choice(Self::Direct, "both have the same tokens".into());
        }
        let (share, of) = match &overlap.text {
            Some(text) => (text.share(), "text"),
            None => (overlap.share_of_expert, "vocabulary"),
        };
        let shared = format!("{:.0} % of the expert's {of} is of tokens that both have", share * 100.0);
        if share >= MOSTLY {
            return choice(Self::Tokens, shared);
        }
        if !calibrated {
            return choice(Self::Text, format!("only {shared}"));
        }
        if share >= HARDLY && overlap.shared > 0 {
            return choice(
                Self::Tokens,
                format!("the rule needs the drafter's probabilities, though only {shared}"),
            );
        }
        let message = format!(
            "the rule needs the drafter's probabilities, which only shared tokens have, and {shared}; use a rule that does not read them (`lossless`), or a drafter with the expert's tokenizer"
        );
        Err(ModelError::Translation { message })
    }
}

impl std::fmt::Display for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_model::TextOverlap;

    fn overlap(of_expert: f64, of_text: Option<usize>) -> Overlap {
        let text = of_text.map(|shared| TextOverlap { expert_tokens: 100, shared, drafter_tokens: 150 });
        Overlap {
            shared: (of_expert * 1000.0) as usize,
            share_of_expert: of_expert,
            share_of_drafter: 0.5,
            text,
        }
    }

    #[test]
    fn the_share_of_a_text_decides_where_there_is_one() {
        let bridge =
            |overlap: Overlap, calibrated| Bridge::choose(&overlap, false, calibrated).map(|c| c.bridge);
        assert_eq!(bridge(overlap(0.1, Some(90)), false).unwrap(), Bridge::Tokens);
        assert_eq!(bridge(overlap(0.9, Some(10)), false).unwrap(), Bridge::Text);
        assert_eq!(bridge(overlap(0.9, None), false).unwrap(), Bridge::Tokens);
        assert_eq!(bridge(overlap(0.2, None), false).unwrap(), Bridge::Text);
        assert_eq!(Bridge::choose(&overlap(0.0, None), true, true).unwrap().bridge, Bridge::Direct);
    }

    #[test]
    fn rules_that_read_probabilities_get_them_or_a_clear_no() {
        let choice = Bridge::choose(&overlap(0.2, Some(30)), false, true).unwrap();
        assert_eq!(choice.bridge, Bridge::Tokens);
        assert!(choice.reason.contains("30 %"), "{}", choice.reason);
        for nothing in [overlap(0.5, Some(0)), overlap(0.0, None)] {
            let error = Bridge::choose(&nothing, false, true).unwrap_err().to_string();
            assert!(
                error.contains("needs the drafter's probabilities") && error.contains("lossless"),
                "{error}"
            );
        }
    }
}
