//! How sure both sides are: rules that read it through calibrators, giving up, records and drift.

use super::{
    failure::Failure,
    output,
    pairs::{self, Whose},
    prompt::file_text,
};
use clap::Args;
use drafthorse::{
    AcceptanceRule, SessionOptions, Step,
    engine::Abstain,
    logits::{
        calibration::{Calibrator, Judged},
        drift::{Certainty, Drift, Reference},
    },
    verifier::Confidence,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// What follows from how sure drafter and expert are.
#[derive(Args, Clone)]
#[command(next_help_heading = "Confidence")]
pub(crate) struct ConfidenceArgs {
    /// Give the text up ("unsure") where the expert's highest probability is below this, in its own distribution: sampling
    /// options and grammars do not count
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) abstain_below: Option<f64>,
    /// Give it up only after this many such tokens in a row
    #[arg(long, value_name = "N", default_value_t = 1, requires = "abstain_below")]
    pub(crate) abstain_patience: usize,
    /// Read that probability through a calibrator, as `drafthorse calibrate` prints it (temperature:T,
    /// platt:SLOPE,OFFSET or isotonic:C=P,...) for what `drafthorse score --record` wrote
    #[arg(long, value_name = "CALIBRATOR", requires = "abstain_below")]
    pub(crate) abstain_calibrator: Option<Calibrator>,
    /// Read the drafter's confidence in the rule's criterion through a calibrator, fitted to what --record wrote
    #[arg(long, value_name = "CALIBRATOR")]
    pub(crate) draft_calibrator: Option<Calibrator>,
    /// Read the expert's confidence in the rule's criterion through a calibrator, fitted to what `drafthorse score
    /// --record` wrote
    #[arg(long, value_name = "CALIBRATOR")]
    pub(crate) expert_calibrator: Option<Calibrator>,
    /// Add to FILE, for each drafted token looked at, a line with the drafter's highest probability and whether its most
    /// probable token was the expert's: from it `drafthorse calibrate` fits what --draft-calibrator wants
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Warn if the expert's certainty along the text has drifted from the reference in FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) drift: Option<PathBuf>,
    /// Write the expert's certainty along this text to FILE as a reference for --drift
    #[arg(long, value_name = "FILE")]
    pub(crate) save_drift: Option<PathBuf>,
}

/// What a text has shown of the confidence of both sides.
#[derive(Default)]
pub(crate) struct Record {
    agreed: Vec<Judged>,
    certainties: Vec<Certainty>,
}

impl Record {
    pub(crate) fn add(&mut self, step: &Step) {
        self.agreed.extend(&step.agreed);
        self.certainties.extend(step.tokens.iter().filter_map(|token| token.certainty));
    }
}

impl ConfidenceArgs {
    /// The rule with the calibrators that were given.
    pub(crate) fn rule(&self, rule: Arc<dyn AcceptanceRule>) -> Result<Arc<dyn AcceptanceRule>, Failure> {
        let confidence =
            Confidence { draft: self.draft_calibrator.clone(), expert: self.expert_calibrator.clone() };
        if confidence == Confidence::default() {
            return Ok(rule);
        }
        rule.calibrated(confidence).map_err(Failure::new)
    }

    /// Puts into the options what they need.
    pub(crate) fn apply(&self, options: &mut SessionOptions) -> Result<(), Failure> {
        options.abstain = self.abstain_below.map(|below| Abstain {
            below,
            patience: self.abstain_patience,
            calibrator: self.abstain_calibrator.clone(),
        });
        options.record = self.record.is_some();
        options.certainties = self.save_drift.is_some();
        options.drift = self.drift.as_deref().map(reference).transpose()?;
        Ok(())
    }

    /// Writes what was asked for.
    pub(crate) fn save(&self, record: &Record) -> Result<(), Failure> {
        if let Some(path) = &self.record {
            pairs::append(path, &record.agreed, Whose::Drafter)?;
        }
        if let Some(path) = &self.save_drift {
            let reference = Reference::of(&record.certainties)
                .map_err(|error| Failure::new(format!("--save-drift {}: {error}", path.display())))?;
            std::fs::write(path, format!("{reference}\n"))
                .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
            let positions = output::count(record.certainties.len(), "position");
            output::note(&format!("wrote a reference of {positions} to {}", path.display()));
        }
        Ok(())
    }
}

fn reference(path: &Path) -> Result<Reference, Failure> {
    let text = file_text(path)?;
    text.trim().parse().map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// Says what is to be said of drift.
pub(crate) fn note_drift(drift: &Drift) {
    if let Some(warning) = drift.check() {
        output::note(&format!("warning: {warning}"));
    } else if drift.positions() < Drift::POSITIONS {
        output::note(&format!(
            "--drift: {}, at least {} are needed to say anything",
            output::count(drift.positions() as usize, "position"),
            Drift::POSITIONS
        ));
    }
}
