//! What `tune` found, used by `generate`.

use crate::cli::{
    args::{GenerateArgs, parse_branching, parse_length, parse_rule, parse_shape},
    config::{Choice, Subject},
    failure::Failure,
    output,
};
use clap::ValueEnum;
use drafthorse::{Kind, Transformer, rule};

/// Uses what was found to be the fastest for this expert, where nothing is said of drafter, rule and drafts; returns
/// what is used.
pub(super) fn apply(args: &mut GenerateArgs, expert: &Transformer) -> Result<Option<Choice>, Failure> {
    let (parts, drafting, tree) = (&mut args.parts, &mut args.drafting, &mut args.branches);
    let of_parts = drafting.drafter.is_some() || parts.rule.is_some() || parts.lenience.is_some();
    let of_drafts = drafting.draft_length.is_some() || tree.tree.is_some();
    let models = &mut parts.models;
    let of_models = models.draft_weights.is_some() || models.draft_device.is_some();
    let of_ways = models.ways.draft_chain.is_some() || models.ways.draft_bridge.is_some();
    if args.no_tuned || of_parts || of_drafts || of_models || of_ways {
        return Ok(None);
    }
    let subject = Subject::of(&parts.expert, expert, models, args.sampling.temperature);
    let config = args.config.read()?;
    let Some(choice) = config.find(&subject).cloned() else { return Ok(None) };
    let unusable = |error: String| choice.unusable(Failure::Message(error));
    drafting.drafter = Some(choice.drafter.clone());
    parts.rule = Some(parse_rule(&choice.rule).map_err(unusable)?);
    if let Some(shape) = &choice.tree {
        tree.tree = Some(parse_shape(shape).map_err(unusable)?);
        tree.branching = choice.branching.as_deref().map(parse_branching).transpose().map_err(unusable)?;
    } else {
        drafting.draft_length = Some(parse_length(&choice.draft_length).map_err(unusable)?);
    }
    models.draft_weights = value(choice.draft_weights.as_deref()).map_err(unusable)?;
    models.ways.draft_bridge = value(choice.bridge.as_deref()).map_err(unusable)?;
    models.ways.draft_chain.clone_from(&choice.chain);
    let device = choice.draft_device.as_deref().map(str::parse).transpose();
    models.draft_device = device.map_err(|error| unusable(format!("{error}")))?;
    let lossy = rule(&choice.rule).is_ok_and(|rule| rule.kind() != Kind::Lossless);
    // A rule that changes the text is never used without a word.
    if !args.quiet || lossy {
        output::note(&choice.describe(lossy));
    }
    Ok(Some(choice))
}

/// A value of an option, as it was written.
fn value<T: ValueEnum>(text: Option<&str>) -> Result<Option<T>, String> {
    text.map(|text| T::from_str(text, false)).transpose()
}
