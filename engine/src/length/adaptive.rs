/// A draft length that goes by what drafting costs and brings.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Adaptive {
    /// The most tokens of a round.
    pub max: usize,
}

impl Default for Adaptive {
    /// Up to 16 tokens a round.
    fn default() -> Self {
        Self { max: 16 }
    }
}

impl Adaptive {
    /// Up to so many tokens a round.
    pub fn up_to(tokens: usize) -> Self {
        Self { max: tokens, ..Self::default() }
    }
}
