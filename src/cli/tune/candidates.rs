//! What could draft for an expert, and what could not.

use super::args::TuneArgs;
use crate::cli::{
    config::lasting_name,
    drafters::{self, DrafterPart},
    failure::Failure,
    parts,
    prompts::Prompt,
};
use drafthorse::{
    Lossless, TokenId, Transformer,
    model::ModelConfig,
    self_speculation::{self, SearchOptions},
};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Drafters without a model of their own, under the names that `generate` takes.
const WITHOUT_MODEL: [&str; 3] = ["ngram", "suffix", "memory"];

/// How deep folders are searched for models.
const DEPTH: usize = 2;

/// What was found.
pub(super) struct Found {
    pub(super) drafters: Vec<DrafterPart>,
    pub(super) excluded: Vec<Excluded>,
}

/// A drafter that cannot be used, or is not worth a trial.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Excluded {
    pub(super) drafter: String,
    pub(super) reason: String,
}

/// Everything that could draft for the expert.
pub(super) fn find(
    args: &TuneArgs,
    expert: &Arc<Transformer>,
    prompts: &[(Prompt, Vec<TokenId>)],
) -> Result<Found, Failure> {
    let mut found = Found { drafters: Vec::new(), excluded: Vec::new() };
    if !args.drafter.is_empty() {
        let mut seen = BTreeSet::new();
        for name in args.drafter.iter().filter(|name| seen.insert(*name)) {
            found.open(name, args, expert);
        }
        return Ok(found);
    }
    for name in WITHOUT_MODEL {
        found.open(name, args, expert);
    }
    let mut models: Vec<String> = if args.expert == "demo" { vec!["demo".into()] } else { Vec::new() };
    let expert_folder = PathBuf::from(lasting_name(&args.expert));
    for folder in folders(args, &expert_folder)? {
        let name = folder.display().to_string();
        match unfit(&folder, expert) {
            Some(reason) => found.excluded.push(Excluded { drafter: name, reason }),
            None => models.push(name),
        }
    }
    if let Some(shortcut) = found.own_layers(args, expert, prompts)? {
        found.open(&shortcut, args, expert);
    }
    for name in models {
        let before = found.drafters.len();
        found.open(&name, args, expert);
        if found.drafters.len() > before {
            found.open(&format!("suffix+{name}"), args, expert);
        }
    }
    Ok(found)
}

impl Found {
    /// The expert's own layers that draft best for it, if they promise anything.
    fn own_layers(
        &mut self,
        args: &TuneArgs,
        expert: &Arc<Transformer>,
        prompts: &[(Prompt, Vec<TokenId>)],
    ) -> Result<Option<String>, Failure> {
        let options = SearchOptions {
            budget: Duration::from_secs_f64(args.seconds),
            max_draft: usize::from(args.longest),
            sampling: args.sampling.options(expert.tokenizer(), SearchOptions::default().tokens)?,
            ..SearchOptions::default()
        };
        let texts: Vec<_> = prompts.iter().take(2).map(|(_, tokens)| tokens.clone()).collect();
        let found = self_speculation::search(expert, &texts, &options)?;
        if let (None, Some(first)) = (found.best(), found.candidates.first()) {
            let drafter = first.shortcut.to_string();
            self.excluded
                .push(Excluded { drafter, reason: format!("of the expert's own layers the best, {first}") });
        }
        Ok(found.best().map(|best| best.shortcut.to_string()))
    }

    /// Opens a drafter, or notes why that is impossible.
    fn open(&mut self, name: &str, args: &TuneArgs, expert: &Arc<Transformer>) {
        match opened(name, args, expert) {
            Ok(part) => self.drafters.push(part),
            Err(Failure::Message(reason)) => {
                self.excluded.push(Excluded { drafter: name.to_owned(), reason });
            }
            Err(Failure::OutputClosed) => {}
        }
    }
}

/// A drafter that the expert can be used with.
fn opened(name: &str, args: &TuneArgs, expert: &Arc<Transformer>) -> Result<DrafterPart, Failure> {
    let part = drafters::open(name, &args.models, expert, false)?;
    if part.is_none() {
        return Err(Failure::new("it drafts nothing; plain decoding is measured anyway"));
    }
    parts::engine(part.begin(parts::Expert::alone(expert))?, expert, Arc::new(Lossless), 1.into())?;
    Ok(part)
}

/// Folders with a model, but the expert's.
fn folders(args: &TuneArgs, expert: &Path) -> Result<Vec<PathBuf>, Failure> {
    let beside = expert.is_dir().then(|| expert.parent().map(Path::to_path_buf)).flatten();
    let roots = if args.folders.is_empty() { beside.into_iter().collect() } else { args.folders.clone() };
    let mut models = BTreeSet::new();
    for root in roots {
        if !root.is_dir() {
            return Err(Failure::new(format!("--search {}: it is not a folder", root.display())));
        }
        search(&root.canonicalize()?, DEPTH, &mut models);
    }
    models.remove(expert);
    Ok(models.into_iter().collect())
}

fn search(folder: &Path, depth: usize, models: &mut BTreeSet<PathBuf>) {
    if folder.join("config.json").is_file() {
        models.insert(folder.to_path_buf());
    }
    // What cannot be read holds no models for this user.
    let Ok(entries) = fs::read_dir(folder) else { return };
    let inner = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    inner.filter(|_| depth > 0).for_each(|path| search(&path, depth - 1, models));
}

/// Why a model is not worth a trial, by its configuration alone.
fn unfit(folder: &Path, expert: &Transformer) -> Option<String> {
    let config = match ModelConfig::read(folder) {
        Ok(config) => config,
        Err(error) => return Some(format!("its config.json cannot be used: {error}")),
    };
    let (draft, own) = (config.parameters() as f64, expert.config().parameters() as f64);
    (draft >= own).then(|| {
        format!(
            "it has {:.1} M parameters, the expert {:.1} M: a drafted token costs no less than one of the expert's",
            draft / 1e6,
            own / 1e6
        )
    })
}
