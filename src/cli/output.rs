//! What users read: statistics and tables.

use comfy_table::{CellAlignment, Row, Table, presets};
use drafthorse::{AcceptanceRule, Finish, Kind, Stats, drafter::PartCounts, verifier::describe};
use std::{io::Write, time::Duration};

/// Says something beside the output. Where nobody listens, that is no reason to stop.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// `1 token`, `2 tokens`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The numbers of a generation in one line.
pub(crate) fn statistics(
    stats: &Stats,
    drafter: &str,
    rule: &dyn AcceptanceRule,
    finish: Option<&Finish>,
) -> String {
    let ending = match finish {
        None => " (interrupted)".to_owned(),
        Some(Finish::ContextEnd) => " (the context is full)".into(),
        Some(Finish::Grammar) => " (complete by its grammar)".into(),
        Some(Finish::Unsure { confidence }) => {
            format!(" (given up: the expert is unsure, confidence {confidence:.3})")
        }
        Some(_) => String::new(),
    };
    let mut parts = vec![count(stats.emitted as usize, "token") + &ending];
    if let Some(rate) = stats.acceptance_rate() {
        parts.push(format!(
            "drafter {drafter}: acceptance rate {rate:.2} ({} of {} examined, {} drafted)",
            stats.accepted, stats.examined, stats.drafted
        ));
    } else if stats.drafted > 0 {
        parts.push(format!("drafter {drafter}: none of {} drafted examined", stats.drafted));
    } else {
        parts.push(format!("drafter {drafter}: nothing drafted"));
    }
    parts.extend(stats.why_not());
    if stats.forced > 0 {
        parts.push(format!("{} forced by the grammar", count(stats.forced_accepted as usize, "token")));
    }
    parts.push(price(stats, rule));
    if let Some(tokens) = stats.tokens_per_expert_pass() {
        parts.push(format!("{tokens:.2} tokens per expert pass"));
    }
    if let Some(speed) = stats.tokens_per_second() {
        parts.push(format!("{speed:.0} tokens/s"));
    }
    let whole = stats.decode_time().as_secs_f64();
    if whole > 0.0 {
        let share = |time: Duration| 100.0 * time.as_secs_f64() / whole;
        parts.push(format!(
            "time {:.0} % drafting, {:.0} % verifying, {:.0} % rest",
            share(stats.draft_time),
            share(stats.verify_time),
            share(stats.other_time)
        ));
    }
    parts.push(format!("prompt read in {:.0} ms", stats.prompt_time.as_secs_f64() * 1e3));
    parts.join(" | ")
}

/// What one of several drafters did.
pub(crate) fn part(part: &PartCounts) -> String {
    let rate = if part.examined > 0 {
        format!("acceptance rate {:.2}", part.accepted as f64 / part.examined as f64)
    } else {
        "nothing examined".to_owned()
    };
    let speed =
        part.tokens_per_second.map_or(String::new(), |speed| format!(", {speed:.0} tokens/s in its rounds"));
    format!(
        "  {}: asked {}, used {}, {} of {} examined, {} drafted, {rate}{speed}",
        part.name,
        count(part.asked as usize, "time"),
        count(part.used as usize, "time"),
        part.accepted,
        part.examined,
        part.drafted
    )
}

/// The rule, and what it did to the text if it is not lossless.
fn price(stats: &Stats, rule: &dyn AcceptanceRule) -> String {
    if rule.kind() == Kind::Lossless {
        return format!("rule {}", rule.name());
    }
    let mut facts = Vec::new();
    if let (Some(rate), Some(alone)) = (stats.deferral_rate(), stats.draft_decided()) {
        facts
            .push(format!("deferral rate {rate:.2}, {} the drafter's alone", count(alone as usize, "token")));
    }
    if let Some(rate) = stats.rejection_rate() {
        facts.push(format!("rejection rate {rate:.2}"));
    }
    if let Some(distance) = stats.mean_total_variation() {
        facts.push(format!("mean TV to the expert {distance:.3}"));
    }
    match (stats.mean_finite_kl(), stats.price.unsupported) {
        (Some(divergence), 0) => facts.push(format!("mean KL {divergence:.3} nats")),
        (_, n) if n > 0 => {
            facts.push(format!("mean KL infinite (at {n} of {} positions)", stats.price.positions));
        }
        _ => {}
    }
    format!("rule {} [{}]: {}", describe(rule), rule.kind().label(), facts.join(", "))
}

/// A number with this many digits after the point; `-` where there is none.
pub(crate) fn decimal(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

/// A plain table; numbers in all columns but the first few look best right-aligned, text left.
pub(crate) fn table(header: impl Into<Row>, rows: impl IntoIterator<Item = impl Into<Row>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    table
}

/// The same with the columns from `first` on right-aligned.
pub(crate) fn numbers(mut table: Table, first: usize) -> Table {
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
