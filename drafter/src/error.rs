/// Why a drafter cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DrafterError {
    /// An option stands outside its range.
    #[error("{option} {value} is out of range: {range}")]
    OutOfRange {
        /// The option.
        option: &'static str,
        /// The value given.
        value: f64,
        /// The values allowed, in words.
        range: &'static str,
    },
    /// A drafter made of others was given too few.
    #[error("a hybrid of {given} drafters; at least 2 are needed, and one alone can be used as it is")]
    TooFew {
        /// How many were given.
        given: usize,
    },
    /// Two drafters of one hybrid have different tokens.
    #[error("drafters `{left}` and `{right}` have different tokens ({difference}); both need one tokenizer")]
    Tokens {
        /// The name of the one.
        left: String,
        /// The name of the other.
        right: String,
        /// What differs.
        difference: String,
    },
}
