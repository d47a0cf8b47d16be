//! Files of pairs: JSON lines with a confidence, and whether it was right.

use super::{
    failure::Failure,
    output::{count, note},
};
use drafthorse::logits::calibration::Judged;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{fs::OpenOptions, io::Write, path::Path};

/// Whose confidences pairs are of.
#[derive(Clone, Copy)]
pub(crate) enum Whose {
    Drafter,
    Expert,
}

impl Whose {
    fn name(self) -> &'static str {
        match self {
            Self::Drafter => "drafter",
            Self::Expert => "expert",
        }
    }
}

#[derive(Deserialize)]
struct Line {
    confidence: f64,
    correct: bool,
    #[serde(default)]
    of: Value,
}

/// Adds pairs to a file.
pub(crate) fn append(path: &Path, pairs: &[Judged], whose: Whose) -> Result<(), Failure> {
    let mut text = String::new();
    for (confidence, correct) in pairs {
        let line = json!({ "confidence": confidence, "correct": correct, "of": whose.name() });
        text += &line.to_string();
        text.push('\n');
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    note(&format!("added {} of the {} to {}", count(pairs.len(), "pair"), whose.name(), path.display()));
    Ok(())
}

/// Reads the pairs of a file with this content; empty lines do not count.
pub(crate) fn parse(path: &Path, content: &str) -> Result<Vec<Judged>, Failure> {
    let (mut pairs, mut of) = (Vec::new(), [0usize; 2]);
    for (number, line) in (1..).zip(content.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let fail = |what: String| Failure::new(format!("{} line {number}: {what}", path.display()));
        let line: Line = serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
        if !(0.0..=1.0).contains(&line.confidence) {
            return Err(fail(format!("confidence {} is out of range: 0 to 1", line.confidence)));
        }
        for (count, whose) in of.iter_mut().zip([Whose::Drafter, Whose::Expert]) {
            *count += usize::from(line.of.as_str() == Some(whose.name()));
        }
        pairs.push((line.confidence, line.correct));
    }
    let [drafter, expert] = of;
    if drafter > 0 && expert > 0 {
        note(&format!(
            "warning: {} mixes {} of the drafter and {} of the expert; a calibrator is for one of them: record them in two files",
            path.display(),
            count(drafter, "pair"),
            count(expert, "pair")
        ));
    }
    Ok(pairs)
}
