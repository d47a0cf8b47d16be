use super::{Translation, map::share};
use drafthorse_logits::TokenId;

/// What two vocabularies have in common.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Overlap {
    /// Tokens that both can say.
    pub shared: usize,
    /// They are so much of the expert's vocabulary, in `[0, 1]`.
    pub share_of_expert: f64,
    /// They are so much of the drafter's vocabulary, in `[0, 1]`.
    pub share_of_drafter: f64,
    /// What they are of a text; `None` where there was none, or one of the two cannot write it.
    pub text: Option<TextOverlap>,
}

/// What two vocabularies have in common in a text, where tokens count as often as they occur.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct TextOverlap {
    /// Tokens of the expert's in the text.
    pub expert_tokens: usize,
    /// Those of them that the drafter can say too.
    pub shared: usize,
    /// Tokens of the drafter's in the text, written by its own tokenizer.
    pub drafter_tokens: usize,
}

impl TextOverlap {
    /// How much of the expert's text the drafter can say token by token, in `[0, 1]`.
    pub fn share(&self) -> f64 {
        share(self.shared, self.expert_tokens)
    }

    /// How many of the drafter's tokens stand for one of the expert's.
    pub fn drafter_per_expert(&self) -> f64 {
        share(self.drafter_tokens, self.expert_tokens)
    }
}

impl Translation {
    /// What the two vocabularies share, and of `sample`, a text like those to be generated, if there is one.
    ///
    /// ```
    /// use drafthorse_model::{Spelling, Translation, Vocabulary};
    ///
    /// let of = |texts: &[&str]| Spelling::plain(Vocabulary::new(texts.iter().map(|text| Some((*text).to_owned()))));
    /// let overlap = Translation::new(of(&["a", "b", "ab"]), of(&["a", "b"])).overlap(Some("aaab"));
    /// assert_eq!((overlap.shared, overlap.share_of_drafter), (2, 1.0));
    /// let text = overlap.text.unwrap();
    /// assert_eq!((text.expert_tokens, text.shared, text.drafter_tokens), (3, 2, 4));
    /// ```
    pub fn overlap(&self, sample: Option<&str>) -> Overlap {
        Overlap {
            shared: self.map.pairs().len(),
            share_of_expert: self.map.share_of_expert(),
            share_of_drafter: self.map.share_of_drafter(),
            text: sample.filter(|text| !text.is_empty()).and_then(|text| self.overlap_of(text)),
        }
    }

    fn overlap_of(&self, text: &str) -> Option<TextOverlap> {
        let expert = self.expert.write(text.as_bytes())?;
        let can_say = |token: &&TokenId| self.map.pairs().binary_search_by_key(*token, |pair| pair.0).is_ok();
        Some(TextOverlap {
            expert_tokens: expert.len(),
            shared: expert.iter().filter(can_say).count(),
            drafter_tokens: self.drafter.write(text.as_bytes())?.len(),
        })
    }
}
