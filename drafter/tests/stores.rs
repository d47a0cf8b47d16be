//! Stores on disk: what is saved is loaded, what is damaged is refused, and a writer that dies leaves the old one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::{
    DraftRequest, Drafter, Fingerprint, NgramMemory, NgramMemoryDrafter, StoreError, SuffixDrafter,
    SuffixStore,
};
use drafthorse_logits::{Memory, Sampler, SamplingOptions, SeededDraws, TokenId};
use proptest::prelude::*;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

const BYTES: usize = 1 << 20;
const CHILD: &str = "DRAFTHORSE_TEST_SAVES_TO";

fn vocabulary() -> Fingerprint {
    Fingerprint::new(100, 7)
}

fn suffix(texts: &[Vec<TokenId>]) -> SuffixStore {
    let store = SuffixStore::new(BYTES).unwrap();
    for text in texts {
        store.add(text);
    }
    store
}

fn ngrams(texts: &[Vec<TokenId>]) -> NgramMemory {
    let memory = NgramMemory::new(BYTES).unwrap();
    for text in texts {
        memory.learn(text, 0);
    }
    memory
}

fn load(path: &Path) -> Result<SuffixStore, StoreError> {
    SuffixStore::load(path, vocabulary(), BYTES)
}

fn load_ngrams(path: &Path) -> Result<NgramMemory, StoreError> {
    NgramMemory::load(path, vocabulary(), BYTES)
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_saved_is_loaded(
        texts in prop::collection::vec(prop::collection::vec(0u32..100, 1..50), 0..10),
        more in prop::collection::vec(prop::collection::vec(0u32..100, 1..50), 0..3)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["suffix", "ngrams"].map(|name| folder.path().join(name));
        for texts in [&texts, &[texts.clone(), more].concat()] {
            suffix(texts).save(&a, vocabulary()).unwrap();
            ngrams(texts).save(&b, vocabulary()).unwrap();
            prop_assert_eq!(&load(&a).unwrap().texts(), texts);
            let [first, second] = [load_ngrams(&b).unwrap(), ngrams(texts)];
            prop_assert_eq!(first.memory(), second.memory());
            first.save(folder.path().join("again"), vocabulary()).unwrap();
            prop_assert_eq!(fs::read(folder.path().join("again")).unwrap(), fs::read(&b).unwrap());
        }
        prop_assert_eq!(names(folder.path()).len(), 3, "no temporary file is left");
    }

    /// Whatever is wrong with a file, loading it says so, and names it.
    #[test]
    fn damage_is_noticed(at in 0usize..10_000, flip in 1u8..=255, cut in 0usize..10_000, junk in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("the store");
        let texts = [vec![1, 2, 3, 1, 2, 4], vec![5; 30]];
        for kind in 0..2 {
            if kind == 0 { suffix(&texts).save(&path, vocabulary()) } else { ngrams(&texts).save(&path, vocabulary()) }.unwrap();
            let good = fs::read(&path).unwrap();
            let mut flipped = good.clone();
            flipped[at % good.len()] ^= flip;
            let cut = good[..cut % good.len()].to_vec();
            let longer = [&good[..], &[0]].concat();
            let behind = [&good[..8], &junk].concat();
            for bad in [flipped, cut, longer, junk.clone(), behind] {
                fs::write(&path, &bad).unwrap();
                let error = if kind == 0 { load(&path).map(drop) } else { load_ngrams(&path).map(drop) };
                let error = error.unwrap_err();
                prop_assert!(matches!(error, StoreError::Damaged { .. } | StoreError::Version { .. }), "{error:?}");
                let message = error.to_string();
                prop_assert!(message.contains("the store") && message.contains("delete it to begin"), "{message}");
            }
        }
    }

    /// Also where the checksum is right: contents nobody saved.
    #[test]
    fn contents_that_cannot_be_are_noticed(content in prop::collection::vec(any::<u8>(), 0..200), small in prop::collection::vec(0u8..3, 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        for (content, kind) in [&content, &small].into_iter().flat_map(|c| [(c, b"DHSUFFIX"), (c, b"DHNGRAMS")]) {
            let mut bytes = kind.to_vec();
            bytes.extend_from_slice(&1u32.to_le_bytes());
            for number in [100u64, 7, content.len() as u64] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(content);
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
            fs::write(&path, &bytes).unwrap();
            // Neither panics nor takes more memory than it may; what is wrong is named.
            let result = if kind == b"DHSUFFIX" { load(&path).map(drop) } else { load_ngrams(&path).map(drop) };
            if let Err(error) = result {
                prop_assert!(error.to_string().contains("in it breaks off"), "{error}");
            }
        }
    }
}

#[test]
fn another_vocabulary_is_refused_by_both_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    suffix(&[vec![1, 2]]).save(&path, vocabulary()).unwrap();
    for other in [Fingerprint::new(101, 7), Fingerprint::new(100, 8)] {
        let error = SuffixStore::load(&path, other, BYTES).unwrap_err().to_string();
        assert!(error.contains(&vocabulary().to_string()) && error.contains(&other.to_string()), "{error}");
        assert!(error.contains("name another file"), "{error}");
    }
    let error = load_ngrams(&path).unwrap_err().to_string();
    assert!(error.contains("not a store of this kind"), "{error}");
    let error = SuffixStore::load(&path, vocabulary(), 10).unwrap_err().to_string();
    assert_eq!(error, "a store of 10 bytes is too small; at least 1048576 are needed");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    fs::write(&path, bytes).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.contains("format version 9, this program reads version 1"), "{error}");
}

#[test]
fn a_write_that_fails_leaves_the_old_store_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let error = suffix(&[vec![1]]).save(folder.path().join("no folder/store"), vocabulary()).unwrap_err();
    assert!(error.to_string().contains("cannot write") && error.to_string().contains("no folder"), "{error}");
    assert!(matches!(load(&path), Err(StoreError::Io { action: "read", .. })));
    // A folder stands where the file should be: it is written and cannot take its place.
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "x").unwrap();
    assert!(suffix(&[vec![1]]).save(&path, vocabulary()).is_err());
    assert_eq!(names(folder.path()), ["store"]);
    fs::remove_dir_all(&path).unwrap();
    // What a writer that died half way leaves beside it is not looked at.
    suffix(&[vec![1, 2, 3]]).save(&path, vocabulary()).unwrap();
    let half = fs::read(&path).unwrap();
    fs::write(folder.path().join(".store.1-0.tmp"), &half[..half.len() / 2]).unwrap();
    assert_eq!(load(&path).unwrap().texts(), [vec![1, 2, 3]]);
    suffix(&[vec![4]]).save(&path, vocabulary()).unwrap();
    assert_eq!(load(&path).unwrap().texts(), [vec![4]]);
}

#[test]
fn drafters_on_several_threads_share_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, memory) =
        // Room for all: how much of it texts take hangs on who is first.
        (Arc::new(SuffixStore::new(16 * BYTES).unwrap()), Arc::new(NgramMemory::new(BYTES).unwrap()));
    let sampler = Sampler::new(&SamplingOptions::default()).unwrap();
    let (store, memory, sampler, path) = (&store, &memory, &sampler, &path);
    let work = &|thread: usize| {
        let mut drafters: [Box<dyn Drafter>; 2] =
            [Box::new(SuffixDrafter::new(store.clone())), Box::new(NgramMemoryDrafter::new(memory.clone()))];
        for text in 0..30 {
            let whole: Vec<_> = (0..60).map(|at| ((thread + text + at * at / 5) % 90) as TokenId).collect();
            for end in 1..whole.len() {
                let (prompt, memory) = (1, Memory::off());
                let request = DraftRequest {
                    max: 8,
                    score_after: false,
                    raw: false,
                    vocab: 100,
                    prompt,
                    memory,
                    sampler,
                    stop: None,
                };
                for drafter in &mut drafters {
                    let proposal =
                        drafter.propose(&whole[..end], &request, &mut SeededDraws::new(0, 1)).unwrap();
                    assert_eq!(proposal.check(100, 8), Ok(()));
                }
            }
            store.save(path, vocabulary()).unwrap();
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|thread| drop(scope.spawn(move || work(thread)))));
    // 59 tokens are read of each text, one of which is the prompt.
    assert_eq!(store.memory().tokens, 4 * 30 * 58);
    assert!(load(path).unwrap().memory().tokens > 100);
    assert_eq!(names(folder.path()), ["store"]);
}

/// After so long a test fails, which else would hang.
const LONG: Duration = Duration::from_mins(2);

/// The texts of the nth store a child saves.
fn nth(n: usize) -> Vec<Vec<TokenId>> {
    vec![vec![(n % 100) as TokenId; 20_000 + n % 7]]
}

/// Not a test of its own: the process that is killed.
#[test]
fn child_that_saves() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    for n in 0.. {
        suffix(&nth(n)).save(&path, vocabulary()).unwrap();
    }
}

#[test]
fn a_process_killed_while_it_saves_leaves_a_whole_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    suffix(&nth(0)).save(&path, vocabulary()).unwrap();
    for kill in 0..8 {
        let before = fs::read(&path).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_saves"])
            .env(CHILD, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It has saved something, and is somewhere in the middle of the next.
        let start = Instant::now();
        while fs::read(&path).unwrap() == before {
            assert!(start.elapsed() < LONG, "the child saved nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(700 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        let texts = load(&path).unwrap().texts().concat();
        let n = texts[0] as usize;
        assert!((n..=n + 100_000).step_by(100).any(|n| nth(n)[0] == texts), "{n} and {} tokens", texts.len());
    }
}
