//! What can be said of drafting.

use crate::cli::{args::SamplingArgs, drafters::DrafterPart};
use clap::Args;
use drafthorse::{
    AcceptanceRule, DraftLength, Needs,
    engine::DraftLengthError,
    logits::{Branching, ShapeError, TreePlan, TreeShape},
};

/// What drafts, and how much.
#[derive(Args, Clone)]
pub(crate) struct DraftingArgs {
    /// What drafts (also -md): a Hugging Face folder, demo or demo-drafter (the demo's drafter); ngram, suffix or memory,
    /// which look up what followed before; exit:E or skip:I,J-K, the expert's own layers; several with + between them,
    /// the best of which is asked first; or none. Without it: what `drafthorse tune` found (generate alone), else the
    /// demo drafter for the demo expert, ngram for any other
    #[arg(short = 'd', long, visible_alias = "draft-model", aliases = ["model-draft", "spec-draft-model"], value_name = "DRAFTER", help_heading = "Models")]
    pub(crate) drafter: Option<String>,
    /// Tokens drafted a round: a number, 0 being plain decoding; confidence:P or entropy:H, which end a draft where the
    /// drafter is not sure; or auto: as many as pay, by what they cost and bring here. All but the first with `,max=N`
    /// behind them if wanted. Without it: auto
    #[arg(short = 'k', long = "k", visible_aliases = ["draft-max", "draft-length"], aliases = ["draft", "draft-n", "spec-draft-n-max", "num-speculative-tokens"], value_name = "LENGTH", value_parser = parse_length, allow_negative_numbers = true, help_heading = "Models")]
    pub(crate) draft_length: Option<DraftLength>,
}

pub(crate) fn parse_length(text: &str) -> Result<DraftLength, String> {
    text.parse().map_err(|error: DraftLengthError| error.to_string())
}

/// Whether nothing is drafted.
pub(crate) fn is_plain(length: &DraftLength) -> bool {
    *length == DraftLength::Fixed(0)
}

pub(crate) fn parse_shape(text: &str) -> Result<TreeShape, String> {
    text.parse().map_err(|error: ShapeError| error.to_string())
}

pub(crate) fn parse_branching(text: &str) -> Result<Branching, String> {
    text.parse().map_err(|error: ShapeError| error.to_string())
}

/// Whether a tree is drafted.
#[derive(Args, Clone)]
pub(crate) struct TreeArgs {
    /// Draft a tree instead of a chain: children a level, as 3x2x1, best:NODES:DEPTH:CHILDREN (the most probable nodes), or
    /// auto (what pays, or a chain where no tree does)
    #[arg(long, value_name = "SHAPE", value_parser = parse_shape, conflicts_with = "draft_length", help_heading = "Drafting")]
    pub(crate) tree: Option<TreeShape>,
    /// How the children of a tree are proposed: top-children (the most probable), without-replacement, with-replacement
    /// (drawn from the drafter) or sequential (drawn, judged together)
    #[arg(long, value_name = "WAY", requires = "tree", value_parser = parse_branching, help_heading = "Drafting")]
    pub(crate) branching: Option<Branching>,
}

impl TreeArgs {
    /// The tree to draft, if one is.
    pub(crate) fn plan(&self) -> Option<TreePlan> {
        let shape = self.tree.clone()?;
        Some(TreePlan { branching: self.branching.unwrap_or(Branching::TopChildren), shape })
    }
}

impl DraftingArgs {
    /// Tokens to draft a round.
    pub(crate) fn length(
        &self,
        drafter: &DrafterPart,
        sampling: &SamplingArgs,
        rule: &dyn AcceptanceRule,
    ) -> DraftLength {
        let follows_positions = rule.needs() == Needs::Draw || rule.shares_noise();
        let timeless = sampling.is_repeatable() && sampling.temperature != 0.0 && !follows_positions;
        match &self.draft_length {
            _ if drafter.is_none() => 0.into(),
            Some(length) => length.clone(),
            // How long drafts are by their times decides what chance is asked.
            None if timeless => drafter.steady_length().into(),
            None => DraftLength::default(),
        }
    }
}
