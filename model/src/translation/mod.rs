//! Between two models with different tokenizers.

mod map;
mod model;
mod overlap;
mod spelling;
mod text;

pub use map::TokenMap;
pub use model::TranslatedModel;
pub use overlap::{Overlap, TextOverlap};
pub use spelling::{Spelling, TextCoder};
pub use text::Transcriber;

use crate::TokenBytes;
use drafthorse_logits::TokenId;
use std::sync::{Arc, OnceLock};

/// What lies between an expert and a drafter with another tokenizer: the tokens they share, and how to say in the one's
/// tokens what was said in the other's.
///
/// All of it is a function of what is translated, whatever was translated before, so that one translation serves any
/// number of drafters and sequences.
///
/// ```
/// use drafthorse_model::{Spelling, Translation, Vocabulary};
///
/// let of = |texts: &[&str]| Spelling::plain(Vocabulary::new(texts.iter().map(|text| Some((*text).to_owned()))));
/// let translation = Translation::new(of(&["a", "b", "ab"]), of(&["b", "a", "c"]));
/// assert_eq!(translation.tokens(&[0, 2]), [1, 1, 0], "a, ab");
/// assert_eq!(translation.map().pairs().len(), 2);
/// ```
#[derive(Debug)]
pub struct Translation {
    expert: Spelling,
    drafter: Spelling,
    map: TokenMap,
    /// What each of the expert's tokens is for the drafter, as far as it was asked.
    spelt: Vec<OnceLock<Arc<[TokenId]>>>,
}

impl Translation {
    /// Compares two spellings.
    pub fn new(expert: Spelling, drafter: Spelling) -> Self {
        let map = TokenMap::new(&expert, &drafter);
        let spelt = expert.tokens().iter().map(|_| OnceLock::new()).collect();
        Self { expert, drafter, map, spelt }
    }

    /// How the expert spells.
    pub fn expert(&self) -> &Spelling {
        &self.expert
    }

    /// How the drafter spells.
    pub fn drafter(&self) -> &Spelling {
        &self.drafter
    }

    /// The tokens they share.
    pub fn map(&self) -> &TokenMap {
        &self.map
    }

    /// Whether both have one vocabulary, so that there is nothing to translate.
    pub fn is_same(&self) -> bool {
        self.expert.vocabulary().first_difference(self.drafter.vocabulary()).is_none()
    }

    /// The expert's `sequence` in the drafter's tokens, token by token: the same token where there is one, others
    /// spelt. Marks that the drafter lacks are left out.
    pub fn tokens(&self, sequence: &[TokenId]) -> Vec<TokenId> {
        let mut out = self.opening(sequence);
        out.extend(sequence.iter().flat_map(|&token| self.token(token)));
        out
    }

    /// What one of the expert's tokens is for the drafter.
    pub fn token(&self, token: TokenId) -> &[TokenId] {
        let Some(spelt) = self.spelt.get(token as usize) else { return &[] };
        spelt.get_or_init(|| {
            let same = self.map.to_drafter(token).map(|same| vec![same]);
            let bytes = || self.expert.token(token).text();
            same.or_else(|| self.drafter.write(bytes()?)).unwrap_or_default().into()
        })
    }

    /// What the drafter expects in front of a text and the expert's `sequence` does not bring.
    fn opening(&self, sequence: &[TokenId]) -> Vec<TokenId> {
        let begin = self.drafter.begin();
        let first = sequence.first().map_or(&[][..], |&token| self.token(token));
        let opened = !first.is_empty() && begin.starts_with(first);
        let missing = if opened { &begin[..begin.len() - first.len()] } else { begin };
        missing.to_vec()
    }

    /// Whether this token of the expert's is a text.
    fn text_of(&self, token: TokenId) -> Option<&[u8]> {
        match self.expert.token(token) {
            TokenBytes::Text(bytes) => Some(bytes),
            TokenBytes::Special(_) | TokenBytes::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vocabulary;

    fn marked(texts: &[&str]) -> Spelling {
        let bytes = |text: &&str| match text.strip_prefix('<') {
            Some(name) => TokenBytes::Special(name.into()),
            None => TokenBytes::Text(text.as_bytes().into()),
        };
        let vocabulary = Vocabulary::new(texts.iter().map(|text| Some((*text).to_owned())));
        Spelling::new(vocabulary, texts.iter().map(bytes).collect())
    }

    #[test]
    fn a_sequence_is_translated_token_by_token() {
        let expert = marked(&["a", "b", "ab", "<s", "<other", "z"]).beginning_with(vec![3]);
        let drafter = marked(&["<s", "b", "a", "abab"]).beginning_with(vec![0]);
        let translation = Translation::new(expert, drafter);
        assert_eq!(translation.tokens(&[3, 2, 2, 4, 5, 0]), [0, 2, 1, 2, 1, 2], "not `abab`; no mark, no z");
        assert_eq!(translation.tokens(&[2]), [0, 2, 1], "what the drafter expects in front");
        assert_eq!(translation.tokens(&[]), [0]);
        assert_eq!(translation.token(77), [0; 0]);
        assert!(!translation.is_same());
    }
}
