use drafthorse_drafter::Drafter;
use drafthorse_model::Vocabulary;

/// What is said of the drafter, which may be busy when it is asked.
#[allow(clippy::struct_excessive_bools, reason = "each is an answer of the drafter")]
pub(super) struct About {
    pub(super) name: String,
    pub(super) vocab_size: Option<usize>,
    pub(super) vocabulary: Option<Vocabulary>,
    pub(super) context_len: Option<usize>,
    pub(super) is_calibrated: bool,
    pub(super) is_stepwise: bool,
    pub(super) is_pure: bool,
    pub(super) drafts_trees: bool,
    pub(super) mixes_beliefs: bool,
}

impl About {
    pub(super) fn of(drafter: &dyn Drafter) -> Self {
        Self {
            name: drafter.name().into(),
            vocab_size: drafter.vocab_size(),
            vocabulary: drafter.vocabulary().cloned(),
            context_len: drafter.context_len(),
            is_calibrated: drafter.is_calibrated(),
            is_stepwise: drafter.is_stepwise(),
            is_pure: drafter.is_pure(),
            drafts_trees: drafter.drafts_trees(),
            mixes_beliefs: drafter.mixes_beliefs(),
        }
    }

    /// Whether drafts can be made ahead at all: piece by piece, with the same outcome at any time.
    pub(super) fn is_foreseeable(&self) -> bool {
        self.is_stepwise && self.is_pure
    }
}
