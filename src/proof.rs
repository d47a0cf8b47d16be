//! Proves on one's own models and device what is promised of an engine.
//!
//! [`prove`] generates texts with the engine itself and compares them with what they must be: greedy texts
//! with those of plain decoding, tokens after a prefix with the law computed from both models apart from the
//! engine, accepted tokens with the probability on paper, and texts of one seed with each other. The same
//! comparisons are given verifiers that are wrong on purpose, and must find each of them.
//!
//! # Example
//!
//! ```
//! use drafthorse::{ExactMatch, Lossless, TableModel, proof};
//! use std::sync::Arc;
//!
//! let (expert, drafter) = (TableModel::random(12, 2.0, 1), TableModel::random(12, 2.0, 2));
//! let pair = proof::Pair::of_models(Arc::new(expert), Arc::new(drafter));
//! let options = proof::ProofOptions {
//!     rules: vec![Arc::new(Lossless), Arc::new(ExactMatch)],
//!     seeds: 4000,
//!     ..Default::default()
//! };
//! let prompts: Vec<Vec<u32>> = (0..6).map(|i| vec![i, i + 1]).collect();
//! let report = proof::prove(&pair, &prompts, &options, &proof::Unwatched)?;
//! assert!(report.proved);
//! # Ok::<(), proof::ProofError>(())
//! ```

mod candidate;
mod identity;
mod prefix;
mod remembering;
mod report;
mod sample;
pub mod statistics;
mod subject;

pub use remembering::{Remembering, RememberingCache};
pub use report::{Cause, Control, Difference, Farthest, Outcome, Place, Report, Test, TestKind, TopTwo};
pub use subject::{Pair, Subject};

use candidate::Candidate;
use drafthorse_engine::Error;
use drafthorse_logits::{SamplingOptions, TokenId};
use drafthorse_model::ModelError;
use drafthorse_verifier::{AcceptanceRule, Lossless};
use identity::{Setting, Text};
use prefix::Prefix;
use sample::Plan;
use std::{collections::BTreeSet, sync::Arc};

/// How much is tested.
#[derive(Clone)]
#[allow(clippy::exhaustive_structs)]
pub struct ProofOptions {
    /// The rules.
    pub rules: Vec<Arc<dyn AcceptanceRule>>,
    /// Tokens drafted a round; every one of them is tested.
    pub draft_lengths: Vec<usize>,
    /// Tokens of each text that is compared token by token.
    pub max_tokens: usize,
    /// Texts drawn after a prefix for laws, with one token drafted. Longer drafts get a share of it,
    /// [`ProofOptions::texts`].
    pub seeds: u64,
    /// The first seed.
    pub seed: u64,
    /// How tokens are sampled where they are; the temperature must be above 0.
    pub sampling: SamplingOptions,
    /// Prefixes after which laws are tested.
    pub prefixes: usize,
    /// The probability with which a right engine may fail.
    pub level: f64,
    /// Whether forwards of any number of rows give the same bits, as on the CPU. Where not, texts may differ
    /// by near ties.
    pub exact: bool,
    /// Threads that sample.
    pub threads: usize,
}

impl Default for ProofOptions {
    fn default() -> Self {
        Self {
            rules: vec![Arc::new(Lossless)],
            draft_lengths: vec![1, 3, 5],
            max_tokens: 64,
            seeds: 20_000,
            seed: 1,
            sampling: SamplingOptions { temperature: 1.0, ..SamplingOptions::default() },
            prefixes: 2,
            level: 0.001,
            exact: true,
            threads: std::thread::available_parallelism().map_or(1, usize::from).min(8),
        }
    }
}

impl std::fmt::Debug for ProofOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rules: Vec<_> = self.rules.iter().map(AcceptanceRule::name).collect();
        write!(f, "ProofOptions {{ rules {rules:?}, k {:?}, {} seeds }}", self.draft_lengths, self.seeds)
    }
}

impl ProofOptions {
    /// Texts drawn after a prefix with `k` tokens drafted: hardly any two long drafts are the same, and so
    /// nearly each needs forwards of its own.
    pub fn texts(&self, k: usize) -> u64 {
        self.seeds.div_ceil(if k > 1 { 2 * k as u64 } else { 1 })
    }

    /// Of them, texts of verifiers that are wrong on purpose: what a quarter of the texts shows, all of them
    /// would show too.
    fn texts_of_controls(&self, k: usize) -> u64 {
        self.texts(k).min(self.seeds.div_ceil(4))
    }

    fn check(&self, prompts: &[Vec<TokenId>]) -> Result<(), ProofError> {
        let fail = |message: &str| Err(ProofError::Options(message.to_owned()));
        match () {
            () if prompts.is_empty() => fail("there are no prompts; give at least 1"),
            () if self.rules.is_empty() => fail("there are no rules to prove; give at least 1"),
            () if self.draft_lengths.iter().all(|k| *k == 0) => {
                fail("no draft length is above 0; with k = 0 nothing is drafted and nothing is to be proved")
            }
            () if self.max_tokens == 0 => fail("max tokens is 0; at least 1 is needed"),
            () if self.seeds == 0 || self.prefixes == 0 => {
                fail("seeds and prefixes must be at least 1; laws cannot be tested without texts")
            }
            () if self.sampling.temperature == 0.0 => fail(
                "temperature 0 leaves no law to test; give one above 0 (greedy decoding is tested anyway)",
            ),
            () if self.sampling.mirostat.is_some() => fail(
                "mirostat remembers the whole text, and laws are tested after prefixes; prove with another choice, such as top-p",
            ),
            () if self.sampling.xtc_probability > 0.0 => fail(
                "XTC has another law for each seed, and laws are tested over many seeds; prove with XTC probability 0",
            ),
            () if !(self.level > 0.0 && self.level < 1.0) => {
                let message = format!("level {} is out of range: above 0 and below 1", self.level);
                Err(ProofError::Options(message))
            }
            () => Ok(()),
        }
    }
}

/// Why nothing was proved or disproved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// An option that makes no sense.
    #[error("{0}")]
    Options(String),
    /// The drafter has nothing to say.
    #[error(
        "the drafter proposes nothing after any of {prompts} prompts or their texts, so there is nothing to prove; give other prompts, for an n-gram drafter some that repeat themselves"
    )]
    NothingDrafted {
        /// Prompts tried.
        prompts: usize,
    },
    /// The engine fails.
    #[error(transparent)]
    Engine(#[from] Error),
    /// A model fails.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The user stopped it.
    #[error("interrupted before the proof was complete")]
    Interrupted,
}

/// Watches a proof, from several threads.
pub trait Watch: Sync {
    /// A part begins that takes this many steps.
    fn begin(&self, _part: &str, _steps: u64) {}

    /// A step begins.
    ///
    /// # Errors
    ///
    /// [`ProofError::Interrupted`] ends the proof.
    fn step(&self) -> Result<(), ProofError> {
        Ok(())
    }
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs)]
pub struct Unwatched;

impl Watch for Unwatched {}

/// Proves what is promised of these rules with this subject, or shows what is broken.
///
/// # Errors
///
/// Options out of range, a drafter that proposes nothing, an engine that fails. A broken promise is no error
/// but a [`Report`] that says so.
pub fn prove(
    subject: &dyn Subject,
    prompts: &[Vec<TokenId>],
    options: &ProofOptions,
    watch: &dyn Watch,
) -> Result<Report, ProofError> {
    options.check(prompts)?;
    let lengths: BTreeSet<_> = options.draft_lengths.iter().copied().filter(|k| *k > 0).collect();
    let lengths: Vec<_> = lengths.into_iter().collect();
    let right: Vec<_> = options.rules.iter().cloned().map(Candidate::new).collect();
    let wrong = candidate::wrong(&right, subject.drafter().is_calibrated(), lengths[lengths.len() - 1]);
    let mut proof =
        Proof { subject, prompts, options, watch, lengths, right, wrong, tests: vec![], controls: vec![] };
    proof.controls.resize_with(proof.wrong.len(), Vec::new);
    let greedy = proof.greedy()?;
    proof.seeds()?;
    let prefixes = proof.prefixes(&greedy)?;
    proof.laws(&prefixes)?;
    Ok(proof.report(&prefixes))
}

struct Proof<'a> {
    subject: &'a dyn Subject,
    prompts: &'a [Vec<TokenId>],
    options: &'a ProofOptions,
    watch: &'a dyn Watch,
    lengths: Vec<usize>,
    right: Vec<Candidate>,
    wrong: Vec<Candidate>,
    tests: Vec<Test>,
    /// The tests of each wrong verifier.
    controls: Vec<Vec<Test>>,
}

/// Prompts and prefixes with which wrong verifiers are tried.
const FEW: usize = 2;

impl<'a> Proof<'a> {
    fn setting(&self, sampling: SamplingOptions) -> Setting<'a> {
        Setting { subject: self.subject, options: self.options, sampling }
    }

    fn few(&self) -> &'a [Vec<TokenId>] {
        &self.prompts[..self.prompts.len().min(FEW)]
    }

    fn longest(&self) -> usize {
        self.lengths.last().copied().unwrap_or(1)
    }

    /// Greedy identity; gives the texts of plain decoding.
    fn greedy(&mut self) -> Result<Vec<Text>, ProofError> {
        let setting = self.setting(SamplingOptions::default());
        let lossless = self.right.iter().filter(|rule| rule.lossless).count();
        let texts = self.prompts.len() * (1 + lossless * self.lengths.len());
        let steps = texts + self.wrong.len() * self.few().len();
        self.watch.begin("greedy texts", steps as u64);
        let plainly = Candidate::new(Arc::new(Lossless));
        let plain = setting.texts(&plainly, 0, self.prompts, self.watch)?;
        for rule in self.right.iter().filter(|rule| rule.lossless) {
            for &k in &self.lengths {
                self.tests.push(setting.compare(rule, k, self.prompts, &plain, self.watch)?);
            }
        }
        for (rule, tests) in self.wrong.iter().zip(&mut self.controls) {
            let few = &self.prompts[..self.prompts.len().min(FEW)];
            let k = self.lengths.last().copied().unwrap_or(1);
            tests.push(setting.compare(rule, k, few, &plain, self.watch)?);
        }
        Ok(plain)
    }

    /// Identity of texts of one seed.
    fn seeds(&mut self) -> Result<(), ProofError> {
        let setting = self.setting(self.options.sampling.clone());
        let (few, longest) = (self.few(), self.longest());
        let same = |rules: &[Candidate]| rules.iter().filter(|rule| rule.same_by_seed).count();
        let texts = self.prompts.len() * same(&self.right) * (1 + self.lengths.len());
        self.watch.begin("texts by seed", (texts + 2 * few.len() * same(&self.wrong)) as u64);
        for rule in self.right.iter().filter(|rule| rule.same_by_seed) {
            let plain = setting.texts(rule, 0, self.prompts, self.watch)?;
            for &k in &self.lengths {
                self.tests.push(setting.compare(rule, k, self.prompts, &plain, self.watch)?);
            }
        }
        let wrong = self.wrong.iter().zip(&mut self.controls).filter(|(rule, _)| rule.same_by_seed);
        for (rule, tests) in wrong {
            let plain = setting.texts(rule, 0, few, self.watch)?;
            tests.push(setting.compare(rule, longest, few, &plain, self.watch)?);
        }
        Ok(())
    }

    fn prefixes(&self, greedy: &[Text]) -> Result<Vec<Prefix>, ProofError> {
        self.watch.begin("prefixes", 1);
        let prompts = self.prompts.iter().map(Vec::as_slice);
        let texts: Vec<_> = prompts.zip(greedy.iter().map(|text| &text.tokens[..])).collect();
        prefix::choose(self.subject, &texts, &self.options.sampling, self.options.prefixes)
    }

    /// Laws of tokens and of accepted lengths.
    fn laws(&mut self, prefixes: &[Prefix]) -> Result<(), ProofError> {
        let all: Vec<_> = self.right.iter().chain(&self.wrong).cloned().collect();
        let mut seed = self.options.seed;
        for (number, prefix) in prefixes.iter().enumerate() {
            // The first two prefixes are enough to find what is wrong.
            let rules = if number < FEW { &all } else { &self.right };
            for &k in &self.lengths {
                let seeds = seed..seed.saturating_add(self.options.texts(k));
                seed = seeds.end;
                self.watch.begin(&format!("laws, {}, k = {k}", prefix.label()), seeds.end - seeds.start);
                let (sampling, threads) = (&self.options.sampling, self.options.threads);
                let (shared, right) = (self.options.texts_of_controls(k), self.right.len());
                let plan = Plan { prefix, k, seeds, shared, right, sampling, threads };
                let counts = sample::sample(self.subject, rules, &plan, self.watch)?;
                for (number, (rule, counts)) in rules.iter().zip(&counts).enumerate() {
                    let tests = sample::tests(rule, &plan, counts);
                    match number.checked_sub(self.right.len()) {
                        None => self.tests.extend(tests),
                        Some(number) if k >= rule.least_draft() => self.controls[number].extend(tests),
                        Some(_) => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn report(self, prefixes: &[Prefix]) -> Report {
        let place = |prefix: &Prefix| Place {
            label: prefix.label(),
            tokens: prefix.tokens.len(),
            total_variation: prefix.expert.probs().total_variation(prefix.draft.probs()),
            first_token: prefix.likely,
        };
        let names = self.wrong.iter().map(|rule| rule.name.clone());
        let controls = names.zip(self.controls).collect();
        Report::new(self.options.level, prefixes.iter().map(place).collect(), self.tests, controls)
    }
}
