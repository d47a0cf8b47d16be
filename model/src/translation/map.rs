use super::Spelling;
use crate::TokenBytes;
use drafthorse_logits::TokenId;
use std::collections::HashMap;

/// Which tokens of two vocabularies are the same: the same bytes, the same mark, or the same role.
///
/// Of several tokens with the same bytes one has a partner to be said by, the one that a tokenizer writes; to be read,
/// all have.
///
/// ```
/// use drafthorse_model::{Spelling, TokenMap, Vocabulary};
///
/// let of = |texts: [&str; 3]| Spelling::plain(Vocabulary::new(texts.map(|text| Some(text.to_owned()))));
/// let map = TokenMap::new(&of(["a", "b", "ab"]), &of(["b", "c", "a"]));
/// assert_eq!((map.to_drafter(0), map.to_drafter(2)), (Some(2), None));
/// assert_eq!((map.to_expert(0), map.to_expert(1)), (Some(1), None));
/// assert_eq!(map.pairs(), [(0, 2), (1, 0)]);
/// ```
#[derive(Clone, Debug)]
pub struct TokenMap {
    to_drafter: Vec<Option<TokenId>>,
    to_expert: Vec<Option<TokenId>>,
    pairs: Vec<(TokenId, TokenId)>,
    known: (usize, usize),
}

impl TokenMap {
    /// Compares two spellings.
    pub fn new(expert: &Spelling, drafter: &Spelling) -> Self {
        let marks = marks(drafter);
        let partner = |bytes: &TokenBytes| match bytes {
            TokenBytes::Text(bytes) => drafter.find(bytes),
            TokenBytes::Special(name) => marks.get(name.as_str()).copied(),
            TokenBytes::Unknown => None,
        };
        let to_drafter = expert.tokens().iter().map(partner).collect();
        let to_expert = vec![None; drafter.tokens().len()];
        let known = [expert, drafter].map(known);
        let mut map = Self { to_drafter, to_expert, pairs: Vec::new(), known: (known[0], known[1]) };
        map.pair(expert);
        map.join_roles(expert, drafter);
        map
    }

    /// One token for each of the drafter's.
    fn pair(&mut self, expert: &Spelling) {
        for token in 0..self.to_drafter.len() as TokenId {
            let Some(partner) = self.to_drafter(token) else { continue };
            let written = expert.token(token).text().is_none_or(|bytes| expert.find(bytes) == Some(token));
            if written {
                self.join(token, partner);
            }
        }
    }

    /// Lets the drafter say `token` by its `partner`, where neither is taken.
    fn join(&mut self, token: TokenId, partner: TokenId) {
        let taken = self.pairs.binary_search_by_key(&token, |pair| pair.0).is_ok();
        if let (false, Some(place @ None)) = (taken, self.to_expert.get_mut(partner as usize)) {
            *place = Some(token);
            let at = self.pairs.partition_point(|pair| pair.0 < token);
            self.pairs.insert(at, (token, partner));
        }
    }

    /// Marks of the same role under other names: what begins a text is read alone, what ends it is said too.
    fn join_roles(&mut self, expert: &Spelling, drafter: &Spelling) {
        let read = [(expert.begin(), drafter.begin()), (expert.ends(), drafter.ends())];
        for (ours, theirs) in read {
            let Some(&partner) = theirs.first() else { continue };
            for &token in ours {
                if let Some(place) = self.to_drafter.get_mut(token as usize) {
                    place.get_or_insert(partner);
                }
            }
        }
        if let (Some(&end), Some(&partner)) = (expert.ends().first(), drafter.ends().first()) {
            self.join(end, partner);
        }
    }

    /// The drafter's token for one of the expert's.
    pub fn to_drafter(&self, token: TokenId) -> Option<TokenId> {
        self.to_drafter.get(token as usize).copied().flatten()
    }

    /// The expert's token for one of the drafter's.
    pub fn to_expert(&self, token: TokenId) -> Option<TokenId> {
        self.to_expert.get(token as usize).copied().flatten()
    }

    /// The tokens that both can say: the expert's, in order, with the drafter's.
    pub fn pairs(&self) -> &[(TokenId, TokenId)] {
        &self.pairs
    }

    /// How much of the expert's vocabulary both can say, in `[0, 1]`.
    pub fn share_of_expert(&self) -> f64 {
        share(self.pairs.len(), self.known.0)
    }

    /// How much of the drafter's vocabulary both can say, in `[0, 1]`.
    pub fn share_of_drafter(&self) -> f64 {
        share(self.pairs.len(), self.known.1)
    }
}

pub(super) fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// How many tokens mean something; rows are often longer.
fn known(spelling: &Spelling) -> usize {
    spelling.tokens().iter().filter(|bytes| **bytes != TokenBytes::Unknown).count()
}

/// The marks by their names.
fn marks(spelling: &Spelling) -> HashMap<&str, TokenId> {
    let mut marks = HashMap::new();
    for (token, bytes) in (0..).zip(spelling.tokens()) {
        if let TokenBytes::Special(name) = bytes {
            marks.entry(name.as_str()).or_insert(token);
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vocabulary;

    /// Texts; marks in angle brackets; ids without meaning as `?`.
    fn of(texts: &[&str]) -> Spelling {
        let bytes = |text: &&str| match *text {
            "?" => TokenBytes::Unknown,
            text if text.starts_with("<|") => TokenBytes::Special(text.into()),
            text => TokenBytes::Text(text.as_bytes().into()),
        };
        let vocabulary = Vocabulary::new(texts.iter().map(|text| (*text != "?").then(|| (*text).to_owned())));
        Spelling::new(vocabulary, texts.iter().map(bytes).collect())
    }

    #[test]
    fn tokens_without_meaning_are_nobodys_and_do_not_count() {
        let map = TokenMap::new(&of(&["a", "?", "b", "?"]), &of(&["?", "b", "c", "a", "d", "?"]));
        assert_eq!(map.pairs(), [(0, 3), (2, 1)]);
        assert_eq!((map.share_of_expert(), map.share_of_drafter()), (1.0, 0.5));
        assert_eq!((map.to_drafter(1), map.to_drafter(99), map.to_expert(99)), (None, None, None));
    }

    #[test]
    fn a_text_is_said_by_one_token_and_read_from_all() {
        let map = TokenMap::new(&of(&["a", "b", "a"]), &of(&["b", "a", "b", "a"]));
        assert_eq!(map.pairs(), [(0, 1), (1, 0)]);
        assert_eq!((map.to_drafter(2), map.to_expert(2), map.to_expert(3)), (Some(1), None, None));
    }

    #[test]
    fn marks_agree_by_name_then_by_role_and_never_with_texts() {
        let expert =
            of(&["<|s|>", "<|end|>", "<|other|>", "<|x|>", "e"]).beginning_with(vec![0]).ending_with(vec![1]);
        let drafter =
            of(&["<|x|>", "<|start|>", "<|stop|>", "<|e|>"]).beginning_with(vec![1]).ending_with(vec![2]);
        let map = TokenMap::new(&expert, &drafter);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|token| map.to_drafter(token)),
            [Some(1), Some(2), None, Some(0), None]
        );
        assert_eq!(map.pairs(), [(1, 2), (3, 0)]);
        // One mark can be both: it is read as what begins, and said as what ends.
        let both = of(&["<|both|>"]).beginning_with(vec![0]).ending_with(vec![0]);
        let map = TokenMap::new(&both, &drafter);
        assert_eq!((map.to_drafter(0), map.pairs()), (Some(1), &[(0, 2)][..]));
        let back = TokenMap::new(&drafter, &both);
        assert_eq!((back.to_drafter(1), back.to_drafter(2), back.pairs()), (Some(0), Some(0), &[(2, 0)][..]));
    }
}
