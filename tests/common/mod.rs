//! What several tests need.
#![allow(dead_code, reason = "each test uses a part")]

use drafthorse::{
    AcceptanceRule, Drafter, Engine, Error, Finish, LanguageModel, ModelDrafter, ModelError, Session,
    SessionOptions, Stats, Step, TableModel,
    drafter::DraftRequest,
    logits::{Draws, Logits, Origin, Probs, Proposal, Purpose, Scores, TokenId, Verdict},
    model::{Detokenizer, Segment, TextDecoder, Vocabulary},
};
use std::{
    borrow::Cow,
    hash::{BuildHasher, Hasher, RandomState},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

/// What the reference says of a checkpoint.
#[derive(serde::Deserialize)]
pub(crate) struct Expected {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) logits: Vec<Vec<f32>>,
    pub(crate) greedy_prompt: Vec<TokenId>,
    pub(crate) greedy: Vec<TokenId>,
}

/// The checkpoints under `tests/fixtures/parity`.
pub(crate) fn parity_folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity");
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

pub(crate) fn read_expected(folder: &Path) -> Expected {
    serde_json::from_str(&std::fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap()
}

/// Texts for tokens 0, 1, 2, ...
pub(crate) fn vocabulary(texts: &[&str]) -> Vocabulary {
    Vocabulary::new(texts.iter().map(|text| Some((*text).to_owned())))
}

/// What came out of a session: everything up to its end or its first error.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) steps: Vec<Step>,
    pub(crate) error: Option<Error>,
    pub(crate) stats: Stats,
    pub(crate) sequence: Vec<TokenId>,
}

impl Run {
    pub(crate) fn tokens(&self) -> Vec<TokenId> {
        self.steps.iter().flat_map(|step| &step.tokens).map(|token| token.id).collect()
    }

    pub(crate) fn text(&self) -> String {
        self.steps.iter().map(|step| step.text.as_str()).collect()
    }

    pub(crate) fn finish(&self) -> Option<&Finish> {
        self.steps.last()?.finish.as_ref()
    }
}

/// Runs a session to its end, and makes sure that it has one.
pub(crate) fn run(mut session: Session<'_>) -> Run {
    let (mut steps, mut error) = (Vec::new(), None);
    for result in &mut session {
        assert!(error.is_none(), "nothing comes after an error");
        match result {
            Ok(step) => steps.push(step),
            Err(cause) => error = Some(cause),
        }
    }
    assert!(session.next().is_none(), "what has ended stays ended");
    Run { steps, error, stats: session.stats().clone(), sequence: session.sequence().to_vec() }
}

/// The tokens of a session that must not fail.
pub(crate) fn generate(engine: &mut Engine, prompt: &[TokenId], options: &SessionOptions) -> Vec<TokenId> {
    let run = run(engine.session(prompt, options).unwrap());
    assert!(run.error.is_none(), "{:?}", run.error);
    run.tokens()
}

/// Proposes one and the same token, always, as a point mass.
pub(crate) struct Fixed(pub(crate) TokenId);

impl Drafter for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn propose(
        &mut self,
        _sequence: &[TokenId],
        request: &DraftRequest<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let scores = vec![Scores::point(self.0, request.vocab); request.max];
        Ok(Proposal { tokens: vec![self.0; request.max], scores })
    }
}

/// A drafter that takes its time, another each time.
pub(crate) struct Sleepy(pub(crate) ModelDrafter);

impl Drafter for Sleepy {
    fn name(&self) -> &'static str {
        "sleepy"
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        thread::sleep(Duration::from_micros(RandomState::new().build_hasher().finish() % 500));
        self.0.propose(sequence, request, draws)
    }
}

/// A wrong rule: nothing is ever refused.
pub(crate) struct AlwaysAccept;

impl AcceptanceRule for AlwaysAccept {
    fn name(&self) -> &'static str {
        "always-accept"
    }

    fn target<'a>(&self, draft: &'a Scores, _expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(draft.probs())
    }

    fn judge(
        &self,
        proposal: &Proposal,
        expert: &[Scores],
        position: usize,
        draws: &mut dyn Draws,
    ) -> Verdict {
        let accepted = proposal.tokens.len();
        let next = draws.pick(position + accepted, Purpose::Target, expert[accepted].probs());
        Verdict { accepted, next, origin: Origin::Bonus }
    }
}

/// A model on a device that fails once it has done some forwards.
pub(crate) struct Unplugged {
    table: TableModel,
    left: AtomicUsize,
}

impl Unplugged {
    pub(crate) fn after(forwards: usize, table: TableModel) -> Self {
        Self { table, left: AtomicUsize::new(forwards) }
    }

    /// The device works again.
    pub(crate) fn plug_in(&self) {
        self.left.store(usize::MAX, Ordering::Relaxed);
    }
}

impl LanguageModel for Unplugged {
    type Cache = <TableModel as LanguageModel>::Cache;

    fn vocab_size(&self) -> usize {
        self.table.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.table.context_len()
    }

    fn new_cache(&self) -> Self::Cache {
        self.table.new_cache()
    }

    fn forward(&self, segments: &mut [Segment<'_, Self::Cache>]) -> Result<Vec<Logits>, ModelError> {
        let left = self.left.load(Ordering::Relaxed);
        let Some(left) = left.checked_sub(1) else {
            return Err(ModelError::Backend { message: "unplugged".into() });
        };
        self.left.store(left, Ordering::Relaxed);
        self.table.forward(segments)
    }
}

/// Texts of tokens, one of which cannot be read; nor can what follows it.
#[derive(Clone)]
pub(crate) struct Illegible {
    token: TokenId,
    texts: Vocabulary,
    broken: bool,
}

impl Illegible {
    pub(crate) fn new(token: TokenId, texts: &[&str]) -> Self {
        Self { token, texts: vocabulary(texts), broken: false }
    }

    fn check(&self) -> Result<(), ModelError> {
        let message = format!("token {} is illegible", self.token);
        if self.broken { Err(ModelError::Tokenizer { message }) } else { Ok(()) }
    }
}

impl Detokenizer for Illegible {
    fn text_after(&self, _prompt: &[TokenId]) -> Box<dyn TextDecoder> {
        Box::new(self.clone())
    }
}

impl TextDecoder for Illegible {
    fn push(&mut self, token: TokenId) -> Result<String, ModelError> {
        self.broken |= token == self.token;
        self.check()?;
        self.texts.push(token)
    }

    fn finish(&mut self) -> Result<String, ModelError> {
        self.check()?;
        self.texts.finish()
    }
}
