//! Where drafters that remember earlier texts keep them.

use crate::cli::{failure::Failure, output};
use clap::Args;
use drafthorse::{
    Transformer,
    drafter::{Fingerprint, NgramMemory, NgramMemoryDrafter, StoreMemory, SuffixDrafter, SuffixStore},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// What drafters remember beyond a text.
#[derive(Args, Clone, Default)]
pub(crate) struct StoreArgs {
    /// Folder in which the drafters `suffix` and `memory` keep what they remember of texts, for later runs
    #[arg(long, value_name = "DIR", help_heading = "Drafting")]
    pub(crate) draft_store: Option<PathBuf>,
    /// The most MiB that each of them holds; the oldest is forgotten
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_048_576), help_heading = "Drafting")]
    pub(crate) draft_store_size: u32,
}

/// The stores of a drafter: the first that is asked for, once it is open, is the one that is kept.
#[derive(Debug)]
pub(crate) struct Shelf {
    folder: Option<PathBuf>,
    bytes: usize,
    vocabulary: Fingerprint,
    /// Until all drafters are known, those that are made are trials.
    open: AtomicBool,
    suffix: OnceLock<Arc<SuffixStore>>,
    memory: OnceLock<Arc<NgramMemory>>,
}

impl Shelf {
    pub(crate) fn new(args: &StoreArgs, expert: &Transformer) -> Result<Self, Failure> {
        if let Some(folder) = args.draft_store.as_ref().filter(|folder| folder.exists() && !folder.is_dir()) {
            return Err(Failure::new(format!(
                "--draft-store {}: it is a file; name a folder, which need not be there yet",
                folder.display()
            )));
        }
        let vocabulary = match expert.tokenizer() {
            Some(tokenizer) => Fingerprint::of(tokenizer.vocabulary()),
            None => Fingerprint::new(expert.config().vocab_size, 0),
        };
        let (suffix, memory) = (OnceLock::new(), OnceLock::new());
        let bytes = args.draft_store_size as usize * (1 << 20);
        Ok(Self {
            folder: args.draft_store.clone(),
            bytes,
            vocabulary,
            open: AtomicBool::new(false),
            suffix,
            memory,
        })
    }

    /// What is made from now on is used.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(name))
    }

    /// What is in the folder, or nothing.
    fn suffix_store(&self) -> Result<Arc<SuffixStore>, Failure> {
        let store = match self.file(SUFFIX).filter(|path| path.exists()) {
            Some(path) => SuffixStore::load(path, self.vocabulary, self.bytes)
                .map_err(|error| Failure::chain(&error))?,
            None => SuffixStore::new(self.bytes).unwrap_or_default(),
        };
        Ok(Arc::new(store))
    }

    fn ngram_memory(&self) -> Result<Arc<NgramMemory>, Failure> {
        let memory = match self.file(MEMORY).filter(|path| path.exists()) {
            Some(path) => NgramMemory::load(path, self.vocabulary, self.bytes)
                .map_err(|error| Failure::chain(&error))?,
            None => NgramMemory::new(self.bytes).unwrap_or_default(),
        };
        Ok(Arc::new(memory))
    }

    /// Whether what is in the folder can be used.
    pub(crate) fn check(&self, name: &str) -> Result<(), Failure> {
        if name == SUFFIX_NAME { self.suffix_store().map(drop) } else { self.ngram_memory().map(drop) }
    }

    /// A drafter with what was in the folder, which was [checked](Self::check). The first keeps what it learns.
    pub(crate) fn suffix(&self) -> SuffixDrafter {
        let store = self.suffix_store().unwrap_or_default();
        if self.open.load(Ordering::Relaxed) {
            let _ = self.suffix.set(store.clone());
        }
        SuffixDrafter::new(store)
    }

    /// As [`suffix`](Self::suffix).
    pub(crate) fn memory(&self) -> NgramMemoryDrafter {
        let memory = self.ngram_memory().unwrap_or_default();
        if self.open.load(Ordering::Relaxed) {
            let _ = self.memory.set(memory.clone());
        }
        NgramMemoryDrafter::new(memory)
    }

    /// Writes what was learnt, if there is a folder for it; says how much there is.
    pub(crate) fn save(&self, quiet: bool) -> Result<(), Failure> {
        let mut saved = Vec::new();
        if let Some(folder) =
            self.folder.as_ref().filter(|_| self.suffix.get().is_some() || self.memory.get().is_some())
        {
            fs::create_dir_all(folder)
                .map_err(|error| Failure::new(format!("--draft-store {}: {error}", folder.display())))?;
        }
        if let (Some(store), Some(path)) = (self.suffix.get(), self.file(SUFFIX)) {
            store.save(&path, self.vocabulary).map_err(|error| Failure::chain(&error))?;
            saved.push((SUFFIX_NAME, store.memory(), path));
        }
        if let (Some(memory), Some(path)) = (self.memory.get(), self.file(MEMORY)) {
            memory.save(&path, self.vocabulary).map_err(|error| Failure::chain(&error))?;
            saved.push((MEMORY_NAME, memory.memory(), path));
        }
        for (name, memory, path) in saved.into_iter().filter(|_| !quiet) {
            output::note(&describe(name, &memory, &path));
        }
        Ok(())
    }
}

pub(crate) const SUFFIX_NAME: &str = "suffix";
pub(crate) const MEMORY_NAME: &str = "memory";
const SUFFIX: &str = "suffix.store";
const MEMORY: &str = "memory.store";

fn describe(name: &str, memory: &StoreMemory, path: &Path) -> String {
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    format!(
        "{name} remembers {}: {:.1} of at most {:.0} MiB, kept in {}",
        output::count(memory.tokens, "token"),
        mib(memory.held),
        mib(memory.bound),
        path.display()
    )
}
