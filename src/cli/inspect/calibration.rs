//! What confidence is compared with.

use crate::cli::{failure::Failure, prompt::file_text};
use drafthorse::inspect::{Origin, Position, Reliability};
use serde::Deserialize;
use std::path::Path;

const BINS: usize = 10;

#[derive(Deserialize)]
struct Line {
    confidence: f64,
    correct: bool,
}

/// Reads predictions from a JSONL file.
pub(super) fn read(path: &Path) -> Result<Reliability, Failure> {
    let content = file_text(path)?;
    let mut outcomes = Vec::new();
    for (number, line) in (1..).zip(content.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let fail = |what: String| Failure::new(format!("{} line {number}: {what}", path.display()));
        let Line { confidence, correct } =
            serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
        if !(0.0..=1.0).contains(&confidence) {
            return Err(fail(format!("confidence {confidence} is out of range: 0 to 1")));
        }
        outcomes.push((confidence, correct));
    }
    let name =
        path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into());
    let found = Reliability::of(format!("Predictions of {name}"), &outcomes, BINS);
    found.map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// The expert's most probable tokens against those of the prompt, which it did not write.
pub(super) fn of_prompt(positions: &[Position]) -> Option<Reliability> {
    let prompt = positions.iter().filter(|position| position.origin == Origin::Prompt);
    let outcomes: Vec<_> = prompt
        .filter_map(|position| position.expert.as_ref())
        .map(|belief| (belief.max_probability, belief.rank == 1))
        .collect();
    let source = "The expert's most probable token against the one that came, at the tokens of the prompt alone, which it did not write; no calibration data were given";
    Reliability::of(source, &outcomes, BINS).ok()
}
