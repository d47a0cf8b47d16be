//! An inspection in words.

use super::args::InspectArgs;
use crate::cli::{
    args::is_plain,
    failure::Failure,
    json,
    output::{count, decimal, numbers, table},
    parts::Parts,
};
use drafthorse::{
    AcceptanceRule, SamplingOptions, Transformer,
    inspect::{Belief, Facts, Inspection, Origin, Position},
    verifier::describe,
};
use serde_json::Value;
use std::io::Write;

/// Who says what is seen.
pub(super) fn facts(args: &InspectArgs, parts: &Parts, rule: &dyn AcceptanceRule) -> Result<Facts, Failure> {
    let drafter = match parts.drafter.model() {
        Some(model) => named(parts.drafter.name(), model),
        None => parts.drafter.name().to_owned(),
    };
    let length = args.drafting.length(&parts.drafter, &args.sampling, rule);
    let drafted =
        if args.generate.is_some() && !is_plain(&length) { format!(", k = {length}") } else { String::new() };
    let options = args.parts.models.load_options(false);
    Ok(Facts {
        expert: [Some(named(&args.parts.expert, &parts.expert)), args.law.describe()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("; "),
        drafter: drafter + &drafted,
        rule: describe(rule),
        promise: rule.kind().label().to_owned(),
        sampling: sampling(args, parts)?,
        machine: format!(
            "drafthorse {}, {}, weights {}",
            env!("CARGO_PKG_VERSION"),
            parts.expert.device(),
            options.weights.name()
        ),
    })
}

fn named(name: &str, model: &Transformer) -> String {
    let config = model.config();
    let millions = config.parameters() as f64 / 1e6;
    format!("{name} ({millions:.1} M parameters, {})", count(config.layers, "layer"))
}

/// The temperature, and the options that are not off.
fn sampling(args: &InspectArgs, parts: &Parts) -> Result<String, Failure> {
    let (given, usual) =
        (json::sampling(&super::sampling(args, parts)?), json::sampling(&SamplingOptions::default()));
    let temperature = format!("temperature {}", args.sampling.temperature);
    let mut parts =
        vec![if args.sampling.temperature == 0.0 { "greedy (temperature 0)".into() } else { temperature }];
    for (name, value) in given.as_object().into_iter().flatten().filter(|(name, _)| *name != "temperature") {
        if let Some(words) = difference(value, &usual[name]) {
            parts.push(format!("{} {words}", name.replace('_', "-")));
        }
    }
    if args.generate.is_some() {
        parts.push(format!("seed {}", args.sampling.seed()));
    }
    Ok(parts.join(", "))
}

/// What of an option is not as usual, in words.
fn difference(given: &Value, usual: &Value) -> Option<String> {
    if given == usual {
        return None;
    }
    Some(match given {
        Value::Object(fields) => {
            let words = |(name, value): (&String, &Value)| {
                let words = difference(value, usual.get(name).unwrap_or(&Value::Null))?;
                Some(format!("{} {words}", name.replace('_', "-")))
            };
            fields.iter().filter_map(words).collect::<Vec<_>>().join(" ")
        }
        Value::Array(all) => format!("({})", all.len()),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    })
}

/// What is worth knowing before one trusts the numbers.
pub(super) fn notes(
    args: &InspectArgs,
    parts: &Parts,
    rule: &dyn AcceptanceRule,
    tokens: usize,
    positions: &[Position],
) -> Vec<String> {
    let mut notes = Vec::new();
    let without = positions.iter().filter(|p| p.expert.is_some() && p.drafter.is_none()).count();
    match parts.drafter.model() {
        Some(model) if without > 0 => notes.push(format!(
            "at {} the drafter says nothing: its context has {} tokens and its vocabulary {}",
            count(without, "position"),
            model.config().context_len,
            model.config().vocab_size
        )),
        Some(_) => {}
        None if parts.drafter.is_none() => {
            notes.push("drafter: none; what needs its probabilities is left out".into());
        }
        None => notes.push(format!(
            "drafter {} is no model and has no probabilities: what needs them is left out",
            parts.drafter.name()
        )),
    }
    if positions.len() < tokens {
        notes.push(format!("of {tokens} tokens the last {} are shown; --last shows more", positions.len()));
    }
    if args.sampling.temperature == 0.0 {
        notes.push("greedy decoding: as sampled, every law is one token; what the models think is shown at temperature 1".into());
    }
    let caveat = match rule.name() {
        "block" => "decides over whole drafts: more of them stand than the acceptance of single tokens says",
        "coupled-noise" => "draws by shared noise: fewer drafts stand than the acceptance min(1, p/q) says",
        _ => return notes,
    };
    notes.push(format!("rule {} {caveat}", rule.name()));
    notes
}

/// Where the column of what is sampled stands: beside the expert's own.
const AS_SAMPLED: usize = 4;

/// A table of the tokens, and means; `warm` where what is sampled is more than the most probable token.
pub(super) fn print(inspection: &Inspection, warm: bool, out: &mut impl Write) -> Result<(), Failure> {
    let mut header = vec![
        "#",
        "token",
        "origin",
        "p expert",
        "p drafter",
        "entropy",
        "acceptance",
        "TV",
        "expert would say",
    ];
    let mut rows: Vec<_> = inspection.positions.iter().map(row).collect();
    if warm {
        header.insert(AS_SAMPLED, "as sampled");
        for (row, position) in rows.iter_mut().zip(&inspection.positions) {
            let sampled = position.expert.as_ref().map(|belief| belief.sampled_probability);
            row.insert(AS_SAMPLED, decimal(sampled, 4));
        }
    }
    writeln!(out, "{}", numbers(table(header, rows), 3))?;
    let summary = &inspection.summary;
    let excluded = |belief: fn(&Position) -> Option<&Belief>| {
        inspection.positions.iter().filter_map(belief).filter(|belief| belief.log_prob.is_none()).count()
    };
    let means = [
        ("expert", &summary.expert, excluded(|position| position.expert.as_ref())),
        ("drafter", &summary.drafter, excluded(|position| position.drafter.as_ref())),
    ];
    for (name, mean, excluded) in means {
        if let Some(mean) = mean {
            let perplexity = match mean.perplexity {
                None if excluded == 1 => "infinite (1 token has probability 0 under this law)".into(),
                None => format!("infinite ({excluded} tokens have probability 0 under this law)"),
                perplexity => decimal(perplexity, 2),
            };
            writeln!(
                out,
                "{name}: perplexity {perplexity}, entropy {:.2} nats, the most probable token came {:.0} % of the time",
                mean.entropy,
                mean.top * 100.0
            )?;
        }
    }
    if let Some(laws) = &summary.raw {
        let (acceptance, distance) = (laws.expected_acceptance, laws.total_variation);
        writeln!(
            out,
            "at temperature 1: acceptance of drafted tokens {acceptance:.2}, total variation {distance:.2}"
        )?;
    }
    if let Some(generation) = &inspection.generation {
        writeln!(
            out,
            "generated: {} of {} examined accepted ({} drafted), {} tokens per expert pass",
            generation.accepted,
            generation.examined,
            generation.drafted,
            decimal(generation.tokens_per_expert_pass, 2)
        )?;
    }
    for note in &inspection.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

/// The token, and the text that became complete with it where it is the last part of a character.
fn token(position: &Position) -> String {
    let part = position.name.ends_with('>') && position.name.contains('<') && !position.name.contains('|');
    let whole = Some(&position.text).filter(|text| part && !text.is_empty() && **text != position.name);
    format!("{:?}", position.name) + &whole.map(|text| format!(" {text}")).unwrap_or_default()
}

/// Entropy and laws are those at temperature 1.
fn row(position: &Position) -> Vec<String> {
    let (expert, drafter) = (position.expert.as_ref(), position.drafter.as_ref());
    let laws = position.pair.as_ref().map(|pair| &pair.raw);
    let best = expert.and_then(|belief| belief.candidates.first());
    vec![
        position.index.to_string(),
        token(position),
        if position.origin == Origin::Prompt { String::new() } else { position.origin.name().into() },
        decimal(expert.map(|belief| belief.probability), 4),
        decimal(drafter.map(|belief| belief.probability), 4),
        decimal(expert.map(|belief| belief.entropy), 3),
        decimal(laws.and_then(|laws| laws.acceptance), 3),
        decimal(laws.map(|laws| laws.total_variation), 3),
        best.map_or("-".into(), |best| format!("{:?} {:.3}", best.name, best.probability)),
    ]
}
