use crate::{Probs, TokenId};

impl Probs {
    /// The distribution of a token that is drawn when `drawn` are there already and may not come again: the same without
    /// them, or, where nothing is left of it, all other tokens alike. `None` where there are no others.
    ///
    /// Source: Chen et al., "Sequoia: Scalable, Robust, and Hardware-aware Speculative Decoding", 2024, Algorithm 2.
    pub fn without(&self, drawn: &[TokenId]) -> Option<Self> {
        if self.as_point().is_some_and(|token| !drawn.contains(&token)) {
            return Some(self.clone());
        }
        let leave = |mut row: Vec<f64>| {
            for token in drawn {
                if let Some(p) = row.get_mut(*token as usize) {
                    *p = 0.0;
                }
            }
            Self::normalize(row)
        };
        let left = if self.as_point().is_some() { None } else { leave(self.to_vec()) };
        left.or_else(|| leave(vec![1.0; self.vocab_size()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_drawn_is_gone() {
        let probs = Probs::normalize(vec![2.0, 1.0, 1.0, 0.0]).unwrap();
        let row = |drawn: &[TokenId]| probs.without(drawn).map(|rest| rest.to_vec());
        assert_eq!(row(&[]), Some(vec![0.5, 0.25, 0.25, 0.0]));
        assert_eq!(row(&[0]), Some(vec![0.0, 0.5, 0.5, 0.0]));
        assert_eq!(row(&[2, 0, 1]), Some(vec![0.0, 0.0, 0.0, 1.0]), "what is left, probable or not");
        assert_eq!(row(&[0, 1, 2, 3]), None);
        let point = Probs::point(1, 3);
        assert_eq!(point.without(&[0]), Some(point.clone()));
        assert_eq!(point.without(&[1]).unwrap().to_vec(), [0.5, 0.0, 0.5]);
    }
}
