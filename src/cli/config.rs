//! What was found to be the fastest, kept for later: the file that `tune` writes and `generate` reads.

use super::{args::ModelArgs, failure::Failure, output};
use clap::Args;
use drafthorse::Transformer;
use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Where the choices are kept.
#[derive(Args, Clone)]
pub(crate) struct ConfigArgs {
    /// File with the choices of `drafthorse tune`; without it, drafthorse/tuned.toml in the user's folder of
    /// configurations
    #[arg(long, value_name = "FILE", help_heading = "Models")]
    pub(crate) config: Option<PathBuf>,
}

impl ConfigArgs {
    /// The file, if this machine has a place for it.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        let usual =
            || Some(etcetera::choose_base_strategy().ok()?.config_dir().join("drafthorse/tuned.toml"));
        self.config.clone().or_else(usual)
    }

    /// What is in the file; nothing where there is none. A file that was named must be there.
    pub(crate) fn read(&self) -> Result<Config, Failure> {
        let named = self.config.is_some();
        match self.path().map(|path| Config::read(&path, named)) {
            // A file that nobody named must not be in the way.
            Some(Err(Failure::Message(error))) if !named => {
                output::note(&format!("note: {error}; it is left out"));
                Ok(Config::default())
            }
            Some(config) => config,
            None => Ok(Config::default()),
        }
    }
}

/// Everything that was chosen on this machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) choice: Vec<Choice>,
}

/// What a choice was made for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// A folder with its whole path, or the name of a model inside the program.
    pub(crate) expert: String,
    pub(crate) device: String,
    pub(crate) weights: String,
    /// Whether texts are sampled, or greedy.
    pub(crate) sampled: bool,
}

impl Subject {
    pub(crate) fn of(name: &str, expert: &Transformer, models: &ModelArgs, temperature: f32) -> Self {
        Self {
            expert: lasting_name(name),
            device: expert.device().to_string(),
            weights: models.load_options(false).weights.name().into(),
            sampled: temperature != 0.0,
        }
    }
}

/// What goes with an expert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Choice {
    #[serde(flatten)]
    pub(crate) subject: Subject,
    pub(crate) drafter: String,
    /// As after `-k`.
    pub(crate) draft_length: String,
    /// As after `--tree`, and as after `--branching`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tree: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branching: Option<String>,
    /// As after the options of these names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bridge: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) draft_weights: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) draft_device: Option<String>,
    /// As after `--rule`.
    pub(crate) rule: String,
    /// Tokens per second over plain decoding, when it was measured.
    pub(crate) speedup: f64,
    /// The program that measured it.
    pub(crate) version: String,
}

impl Choice {
    /// What is drafted, as on a command line.
    pub(crate) fn drafts(&self) -> String {
        self.tree
            .as_ref()
            .map_or_else(|| format!("-k {}", self.draft_length), |shape| format!("--tree {shape}"))
    }
}

impl Config {
    fn read(path: &Path, required: bool) -> Result<Self, Failure> {
        let fail = |error: &dyn std::fmt::Display| {
            Failure::new(format!(
                "{} cannot be used: {error}; delete it, and `drafthorse tune` writes a new one",
                path.display()
            ))
        };
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| fail(&error.to_string().trim_end())),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => Ok(Self::default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Failure::new(format!("--config {}: there is no such file", path.display())))
            }
            Err(error) => Err(fail(&error)),
        }
    }

    /// What was chosen for this expert, there and so.
    pub(crate) fn find(&self, subject: &Subject) -> Option<&Choice> {
        self.choice.iter().find(|choice| choice.subject == *subject)
    }

    /// Puts a choice in the place of an earlier one for the same.
    pub(crate) fn put(&mut self, choice: Choice) {
        self.choice.retain(|old| old.subject != choice.subject);
        self.choice.push(choice);
    }

    /// Writes everything, so that a crash leaves the old file or the new one.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = toml::to_string(self).map_err(Failure::new)?;
        write_whole(path, text.as_bytes())
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
    }
}

fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

/// The name under which an expert is remembered.
pub(crate) fn lasting_name(expert: &str) -> String {
    let path = Path::new(expert);
    let whole = if path.is_dir() { path.canonicalize().ok() } else { None };
    whole.map_or_else(|| expert.to_owned(), |path| path.display().to_string())
}

impl Choice {
    /// What is used, and how not to.
    pub(crate) fn describe(&self, lossy: bool) -> String {
        let drafts = self.drafts();
        let lossy = if lossy { " [lossy]" } else { "" };
        format!(
            "tuned: drafter {}, {drafts}, rule {}{lossy} (speedup {:.2} when measured; --no-tuned leaves it out)",
            self.drafter, self.rule, self.speedup
        )
    }

    /// What is said where this program cannot use it.
    pub(crate) fn unusable(&self, failure: Failure) -> Failure {
        let (drafter, version) = (&self.drafter, &self.version);
        match failure {
            Failure::Message(error) => Failure::new(format!(
                "the tuned choice (drafter {drafter}, by version {version}) cannot be used: {error}; run `drafthorse tune` again, or add --no-tuned"
            )),
            failure @ Failure::OutputClosed => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(expert: &str, sampled: bool, drafter: &str) -> Choice {
        let (expert, device, weights) = (expert.to_owned(), "cpu".to_owned(), "f32".to_owned());
        Choice {
            subject: Subject { expert, device, weights, sampled },
            drafter: drafter.into(),
            draft_length: "auto".into(),
            tree: None,
            branching: None,
            chain: None,
            bridge: None,
            draft_weights: None,
            draft_device: None,
            rule: "lossless".into(),
            speedup: 1.5,
            version: "0.1.0".into(),
        }
    }

    #[test]
    fn a_choice_replaces_the_earlier_one_for_the_same_and_comes_back_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/tuned.toml");
        let mut config = Config::default();
        for choice in [choice("a", false, "ngram"), choice("a", true, "demo"), choice("a", false, "suffix")] {
            config.put(choice);
        }
        config.write(&path).unwrap();
        let read = Config::read(&path, true).ok().unwrap();
        assert_eq!(read, config);
        let drafter = |sampled| read.find(&choice("a", sampled, "").subject).unwrap().drafter.clone();
        assert_eq!((drafter(false), drafter(true)), ("suffix".into(), "demo".into()));
        assert!(read.find(&choice("b", false, "").subject).is_none());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuned.toml");
        assert_eq!(Config::read(&path, false).ok().unwrap(), Config::default());
        let message = |path: &Path| match Config::read(path, true) {
            Err(Failure::Message(message)) => message,
            _ => panic!("it was read"),
        };
        assert!(message(&path).contains("tuned.toml: there is no such file"));
        fs::write(&path, "[[choice]]\nexpert = 3\n").unwrap();
        assert!(message(&path).contains("`drafthorse tune`"));
    }
}
