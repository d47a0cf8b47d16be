use drafthorse_logits::TokenId;
use std::sync::Arc;

/// The text of every token of a model, as its tokenizer writes it.
///
/// Two models can work together when their vocabularies agree, whatever their sizes: a row of logits is
/// often longer than the list of tokens, padded to a round number with ids that mean nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    texts: Arc<[Option<String>]>,
}

/// The first token on which two vocabularies differ.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Difference {
    /// The token.
    pub token: TokenId,
    /// Its text in the one vocabulary, if it has one there.
    pub left: Option<String>,
    /// Its text in the other.
    pub right: Option<String>,
}

impl Vocabulary {
    /// `texts[id]` is the text of token `id`; `None` for an id without meaning.
    pub fn new(texts: impl IntoIterator<Item = Option<String>>) -> Self {
        let mut texts: Vec<_> = texts.into_iter().collect();
        while texts.last().is_some_and(Option::is_none) {
            texts.pop();
        }
        Self { texts: texts.into() }
    }

    /// One more than the highest token with a text.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether no token has a text.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The text of `token`.
    pub fn text(&self, token: TokenId) -> Option<&str> {
        self.texts.get(token as usize)?.as_deref()
    }

    /// The first token whose texts differ; `None` where the vocabularies agree.
    ///
    /// ```
    /// use drafthorse_model::Vocabulary;
    /// let of = |texts: &[&str]| Vocabulary::new(texts.iter().map(|t| Some(t.to_string())));
    /// assert_eq!(of(&["a", "b"]).first_difference(&of(&["a", "b"])), None);
    /// assert_eq!(of(&["a", "b"]).first_difference(&of(&["a", "c"])).unwrap().token, 1);
    /// ```
    pub fn first_difference(&self, other: &Self) -> Option<Difference> {
        (0..self.len().max(other.len()) as TokenId).find_map(|token| {
            let (left, right) = (self.text(token), other.text(token));
            (left != right).then(|| Difference {
                token,
                left: left.map(str::to_owned),
                right: right.map(str::to_owned),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_makes_no_difference_but_a_further_token_does() {
        let of = |texts: &[Option<&str>]| Vocabulary::new(texts.iter().map(|t| t.map(str::to_owned)));
        let plain = of(&[Some("a"), Some("b")]);
        assert_eq!(plain.first_difference(&of(&[Some("a"), Some("b"), None, None])), None);
        let more = of(&[Some("a"), Some("b"), None, Some("c")]);
        let difference = plain.first_difference(&more).unwrap();
        assert_eq!((difference.token, difference.left, difference.right), (3, None, Some("c".into())));
    }
}
