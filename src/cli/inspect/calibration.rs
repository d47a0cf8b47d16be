//! What confidence is compared with.

use crate::cli::{failure::Failure, pairs, prompt::file_text};
use drafthorse::inspect::{Origin, Position, Reliability};
use std::path::Path;

const BINS: usize = 10;

/// Reads predictions from a JSONL file.
pub(super) fn read(path: &Path) -> Result<Reliability, Failure> {
    let outcomes = pairs::parse(path, &file_text(path)?)?;
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
