use crate::{Abstain, DraftLength};
use drafthorse_logits::{
    Constraint, LogProbsOptions, LogitsProcessor, SamplingOptions, TokenId, TreePlan, drift::Reference,
};
use drafthorse_verifier::{AcceptanceRule, Guide};
use std::sync::Arc;

/// How one text is generated. The default is greedy decoding of up to 256 tokens.
#[derive(Clone)]
#[allow(clippy::exhaustive_structs)]
pub struct SessionOptions {
    /// How tokens are sampled, by drafter and expert alike.
    pub sampling: SamplingOptions,
    /// Processors of the user's own, after the penalties and before the temperature, for drafter and
    /// expert alike.
    pub processors: Vec<Arc<dyn LogitsProcessor>>,
    /// The same seed gives the same text, but where draws depend on how much was drafted and that on measured times: under
    /// [`DraftLength::Adaptive`] with rules that draw by the ratio of two probabilities. The law of the text is the same there;
    /// a fixed length, [`Adaptive::with_costs`](crate::Adaptive::with_costs), temperature 0, or the rules `exact-match` and
    /// `coupled-noise` keep the text itself.
    pub seed: u64,
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Tokens that end the text; the one that did is the last token of the text.
    pub stop_tokens: Vec<TokenId>,
    /// Strings that end the text, wherever the borders of tokens and steps lie; they are not part of it.
    /// They need a detokenizer.
    pub stop_strings: Vec<String>,
    /// How many tokens are drafted a round, instead of the engine's; 0 is plain decoding. It changes speed alone.
    pub draft_length: Option<DraftLength>,
    /// What is drafted where several tokens shall compete for a position, in place of a draft length, which then must
    /// not be given. It needs a drafter that [proposes trees](drafthorse_drafter::Drafter::drafts_trees), an expert that
    /// [reads](drafthorse_model::LanguageModel::reads_trees) and a rule that
    /// [judges](drafthorse_verifier::AcceptanceRule::check_trees) them, and goes with no constraint. The law of the text
    /// is what it is without. [`TreeShape::Auto`](drafthorse_logits::TreeShape::Auto) goes by measured times, with what
    /// that means for [`seed`](Self::seed), and what it learns stays in the engine.
    pub tree: Option<TreePlan>,
    /// The acceptance rule, instead of the engine's.
    pub rule: Option<Arc<dyn AcceptanceRule>>,
    /// Whether what a rule that is not lossless does to the text is measured ([`Stats::price`](crate::Stats)). It
    /// needs both distributions at every position, where a cascade alone often needs a few numbers.
    pub measure_price: bool,
    /// Which log-probabilities each token of the text shall carry ([`StepToken::log_probs`](crate::StepToken)), those of
    /// the expert at the token's position; none costs nothing.
    pub log_probs: Option<LogProbsOptions>,
    /// Another prompt that the expert is pushed away from: classifier-free guidance. It costs a second pass of the
    /// expert a round, and a second cache.
    pub guide: Option<Guide>,
    /// What the text must follow, with drafts as without: a grammar, for example. The text ends where it is complete and
    /// nothing may follow ([`Finish::Grammar`](crate::Finish::Grammar)). Stop tokens are allowed exactly where it may
    /// end. Stop strings, `max_tokens` and the end of the context cut it wherever they come.
    pub constraint: Option<Arc<dyn Constraint>>,
    /// When the text is given up because the expert is not sure.
    pub abstain: Option<Abstain>,
    /// What the expert's certainty along the text is compared with, for [`Session::drift`](crate::Session::drift).
    pub drift: Option<Reference>,
    /// Whether tokens carry how sure the expert was at their positions ([`StepToken::certainty`](crate::StepToken)), of
    /// which references for drift are made. This, as the two above and the one below, makes the expert's rows be read
    /// even where a few numbers of them would do.
    pub certainties: bool,
    /// Whether steps carry how sure the drafter was of each token that was looked at, and whether it was right
    /// ([`Step::judged`](crate::Step) and [`Step::agreed`](crate::Step)): the pairs to which calibrators are fitted. It
    /// makes the drafter's rows be read too.
    pub record: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            sampling: SamplingOptions::default(),
            processors: Vec::new(),
            seed: 0,
            max_tokens: 256,
            stop_tokens: Vec::new(),
            stop_strings: Vec::new(),
            draft_length: None,
            tree: None,
            rule: None,
            measure_price: true,
            log_probs: None,
            guide: None,
            constraint: None,
            abstain: None,
            drift: None,
            certainties: false,
            record: false,
        }
    }
}

impl std::fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionOptions")
            .field("sampling", &self.sampling)
            .field("processors", &self.processors.len())
            .field("seed", &self.seed)
            .field("max_tokens", &self.max_tokens)
            .field("stop_tokens", &self.stop_tokens)
            .field("stop_strings", &self.stop_strings)
            .field("draft_length", &self.draft_length)
            .field("tree", &self.tree)
            .field("rule", &self.rule.as_deref().map(AcceptanceRule::name))
            .field("measure_price", &self.measure_price)
            .field("log_probs", &self.log_probs)
            .field("guide", &self.guide)
            .field("constraint", &self.constraint.is_some())
            .field("abstain", &self.abstain)
            .field("drift", &self.drift.is_some())
            .field("certainties", &self.certainties)
            .field("record", &self.record)
            .finish()
    }
}
