//! `drafthorse check`

mod bridge;

use super::{
    Outcome,
    args::CheckArgs,
    failure::Failure,
    output::{numbers, table},
    parts,
};
use bridge::Crossing;
use drafthorse::{
    Error, demo,
    engine::check_pair,
    model::{ModelConfig, Tokenizer, Vocabulary},
};
use serde_json::json;
use std::{io::Write, process::ExitCode, sync::Arc};

/// What is compared: nothing of it needs the weights.
struct Facts {
    config: ModelConfig,
    tokenizer: Option<Arc<Tokenizer>>,
}

impl Facts {
    fn read(
        name: &str,
        demo: fn() -> Result<(ModelConfig, Tokenizer), drafthorse::ModelError>,
    ) -> Result<Self, Failure> {
        if name == "demo" {
            let (config, tokenizer) = demo()?;
            return Ok(Self { config, tokenizer: Some(tokenizer.into()) });
        }
        if name == "demo-drafter" {
            let (config, tokenizer) = demo::drafter_facts()?;
            return Ok(Self { config, tokenizer: Some(tokenizer.into()) });
        }
        if name == "ngram" {
            return Err(Failure::new("ngram is no model: it fits every expert"));
        }
        let folder = parts::folder(name)?;
        Ok(Self { config: ModelConfig::read(folder)?, tokenizer: Tokenizer::find(folder)?.map(Arc::new) })
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.tokenizer.as_deref().map(Tokenizer::vocabulary)
    }

    fn sides(&self) -> (usize, Option<&Vocabulary>) {
        (self.config.vocab_size, self.vocabulary())
    }
}

pub(crate) fn run(args: &CheckArgs) -> Outcome {
    let expert = Facts::read(&args.expert, demo::expert_facts)?;
    let drafter = Facts::read(&args.drafter, demo::drafter_facts)?;
    let verdict = check_pair(drafter.sides(), expert.sides());
    let mut notes = notes(&expert, &drafter);
    let crossing = Crossing::between(&expert, &drafter).unwrap_or_else(|error| {
        notes.push(format!("there is no bridge between the tokenizers: {error}"));
        None
    });
    let works = verdict.is_ok() || crossing.is_some();
    let compared = expert.vocabulary().is_some() && drafter.vocabulary().is_some();
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(
            &mut out,
            &report(&expert, &drafter, &verdict, &notes, crossing.as_ref()),
        )?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}\n", facts_table(args, &expert, &drafter))?;
        for note in &notes {
            writeln!(out, "note: {note}")?;
        }
        match (&verdict, &crossing) {
            (_, Some(crossing)) => crossing.write(&mut out)?,
            (Ok(()), _) if compared => writeln!(out, "They fit: every token means the same to both.")?,
            (Ok(()), _) => writeln!(out, "The sizes fit; whether the tokens mean the same is not known.")?,
            (Err(error), _) => writeln!(out, "They do not fit: {error}.")?,
        }
    }
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(
    expert: &Facts,
    drafter: &Facts,
    verdict: &Result<(), Error>,
    notes: &[String],
    crossing: Option<&Crossing>,
) -> serde_json::Value {
    let side = |facts: &Facts| {
        json!({
            "model_type": facts.config.model_type,
            "parameters": facts.config.parameters(),
            "vocab_size": facts.config.vocab_size,
            "tokens_with_text": facts.vocabulary().map(Vocabulary::len),
            "context_len": facts.config.context_len,
        })
    };
    json!({
        "fits": verdict.is_ok(),
        "tokens_compared": expert.vocabulary().is_some() && drafter.vocabulary().is_some(),
        "reason": verdict.as_ref().err().map(ToString::to_string),
        "bridge": crossing.map(Crossing::report),
        "notes": notes,
        "expert": side(expert),
        "drafter": side(drafter),
    })
}

fn facts_table(args: &CheckArgs, expert: &Facts, drafter: &Facts) -> comfy_table::Table {
    let row = |part: &str, name: &str, facts: &Facts| {
        [
            part.to_owned(),
            name.to_owned(),
            facts.config.model_type.clone(),
            format!("{:.1} M", facts.config.parameters() as f64 / 1e6),
            facts.config.vocab_size.to_string(),
            facts.vocabulary().map_or("unknown".to_owned(), |v| v.len().to_string()),
            facts.config.context_len.to_string(),
        ]
    };
    let header = ["", "model", "type", "parameters", "vocabulary", "tokens with text", "context"];
    numbers(table(header, [row("expert", &args.expert, expert), row("drafter", &args.drafter, drafter)]), 3)
}

/// What does not forbid the pair and is worth knowing.
fn notes(expert: &Facts, drafter: &Facts) -> Vec<String> {
    let mut notes = Vec::new();
    let (e, d) = (&expert.config, &drafter.config);
    if expert.vocabulary().is_none() || drafter.vocabulary().is_none() {
        notes.push("without a tokenizer.json on both sides only the sizes can be compared".into());
    }
    if e.vocab_size != d.vocab_size {
        notes.push(format!(
            "the rows of logits differ in length (draft {}, expert {}); padding is cut or ignored",
            d.vocab_size, e.vocab_size
        ));
    }
    if d.context_len < e.context_len {
        notes.push(format!(
            "beyond {} tokens the drafter can read no further and drafts nothing",
            d.context_len
        ));
    }
    let share = d.parameters() as f64 / e.parameters() as f64;
    if share > 0.5 {
        notes.push(format!(
            "the drafter has {:.0} % of the expert's parameters; it can hardly pay",
            share * 100.0
        ));
    }
    notes
}
