//! `drafthorse rules`

use super::{Outcome, args::RulesArgs, output::table};
use comfy_table::ContentArrangement;
use drafthorse::verifier::{RULES, RuleInfo};
use serde_json::{Value, json};
use std::{io::Write, process::ExitCode};

/// Columns of the table.
const WIDTH: u16 = 120;

pub(crate) fn run(args: &RulesArgs) -> Outcome {
    let mut out = std::io::stdout().lock();
    if args.json {
        let rules: Vec<_> = RULES.iter().map(as_json).collect();
        serde_json::to_writer_pretty(&mut out, &json!({ "rules": rules }))?;
        writeln!(out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = RULES
        .iter()
        .map(|info| [info.name.to_owned(), info.kind.label().to_owned(), info.about.to_owned(), dials(info)]);
    let mut table = table(["rule", "promise", "law of the next token", "dials"], rows);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    writeln!(out, "{table}\n")?;
    writeln!(out, "set a dial with --rule NAME:DIAL=VALUE, or --lenience VALUE where it has that name")?;
    Ok(ExitCode::SUCCESS)
}

fn dials(info: &RuleInfo) -> String {
    let dials = info.dials.iter().map(|dial| format!("{} {} ({})", dial.name, dial.default, dial.range));
    dials.collect::<Vec<_>>().join(", ")
}

fn as_json(info: &RuleInfo) -> Value {
    let dials = info.dials.iter().map(|dial| {
        json!({ "name": dial.name, "about": dial.about, "default": dial.default, "range": dial.range, "sweep": dial.sweep })
    });
    json!({
        "name": info.name,
        "promise": info.kind.label(),
        "about": info.about,
        "dials": dials.collect::<Vec<_>>(),
    })
}
