//! Proofs: right engines pass, and whatever is wrong is found, through the library and as users meet it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::AlwaysAccept;
use drafthorse::{
    AcceptanceRule, Drafter, ExactMatch, LanguageModel, Lossless, ModelDrafter, ModelError, NgramDrafter,
    NoDrafter, Probs, Proposal, SamplingOptions, Scores, TableModel, TokenId, Verdict,
    drafter::DraftRequest,
    logits::{Context, Draws, Logits, Sampler},
    model::Segment,
    proof::{Cause, Outcome, Pair, ProofError, ProofOptions, Report, Subject, TestKind, Unwatched, prove},
    verifier::{Kind, RULES},
};
use serde_json::Value;
use std::{
    borrow::Cow,
    process::{Command, Output},
    sync::Arc,
};

const VOCAB: usize = 12;

fn model(seed: u64) -> Arc<TableModel> {
    Arc::new(TableModel::random(VOCAB, 2.0, seed))
}

fn pair() -> Pair<TableModel> {
    Pair::of_models(model(1), model(2))
}

/// Repeats itself, so that n-grams are found.
fn prompts() -> Vec<Vec<TokenId>> {
    (0..8).map(|i| vec![i, i + 1, 3, i, i + 1]).collect()
}

fn options(rules: &[&Arc<dyn AcceptanceRule>]) -> ProofOptions {
    ProofOptions {
        rules: rules.iter().map(|rule| (*rule).clone()).collect(),
        seeds: 6000,
        ..Default::default()
    }
}

fn of(rule: impl AcceptanceRule + 'static) -> ProofOptions {
    options(&[&(Arc::new(rule) as Arc<dyn AcceptanceRule>)])
}

fn report(subject: &dyn Subject, options: &ProofOptions) -> Report {
    prove(subject, &prompts(), options, &Unwatched).unwrap()
}

fn lossless_rules() -> ProofOptions {
    let rules = RULES.iter().filter(|info| info.kind == Kind::Lossless).map(|info| (info.make)(&[]));
    ProofOptions { rules: rules.collect(), seeds: 30_000, ..Default::default() }
}

/// Asserts that all was proved.
fn proved(report: &Report) {
    let missed: Vec<_> = report.missed().collect();
    assert!(report.proved, "{:?} {missed:?}", report.failed().collect::<Vec<_>>());
}

/// The kinds of tests that fail.
fn failed(report: &Report) -> Vec<TestKind> {
    let mut kinds: Vec<_> = report.failed().map(|test| test.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn right_engines_are_proved() {
    let report = report(&pair(), &lossless_rules());
    proved(&report);
    assert_eq!((report.controls.len(), report.places.len()), (7, 2));
    for kind in [
        TestKind::GreedyIdentity,
        TestKind::SeedIdentity,
        TestKind::NextToken,
        TestKind::SecondToken,
        TestKind::AcceptedFirst,
        TestKind::AcceptedSecond,
    ] {
        let tests: Vec<_> = report.tests.iter().filter(|test| test.kind == kind).collect();
        assert!(!tests.is_empty() && tests.iter().all(|test| test.outcome == Outcome::Passed), "{kind:?}");
        assert!(
            report.controls.iter().any(|control| control.failed.iter().any(|test| test.kind == kind)),
            "{kind:?}"
        );
    }
}

#[test]
fn other_samplings_and_certain_drafts_are_proved() {
    let sampling = SamplingOptions { temperature: 0.7, top_k: 8, min_p: 0.02, ..Default::default() };
    // To find block verification without its clip would take more texts.
    let rules = lossless_rules().rules.into_iter().filter(|rule| rule.name() != "block").collect();
    proved(&report(&pair(), &ProofOptions { sampling, rules, ..lossless_rules() }));
    let ngram = Pair::new(model(1), || Box::new(NgramDrafter::new(1, 3).unwrap()));
    let report = report(&ngram, &lossless_rules());
    proved(&report);
    assert_eq!(report.controls.len(), 5, "the others are not wrong where drafts are certain");
}

/// One thread or several, the same seeds give the same counts.
#[test]
fn threads_change_nothing() {
    let with = |threads| {
        report(&pair(), &ProofOptions { threads, seeds: 500, draft_lengths: vec![2], ..of(Lossless) })
    };
    assert_eq!(with(1), with(3));
}

/// Lossless but for tokens with an even number: they are never refused.
struct SoftOnEven;

impl AcceptanceRule for SoftOnEven {
    fn name(&self) -> &'static str {
        "soft"
    }

    fn target<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(expert.probs())
    }

    fn kind(&self) -> Kind {
        Kind::Lossless
    }

    fn judge(&self, draft: &Proposal, expert: &[Scores], position: usize, draws: &mut dyn Draws) -> Verdict {
        let verdict = Lossless.judge(draft, expert, position, draws);
        match draft.tokens.get(verdict.accepted) {
            Some(&refused) if refused % 2 == 0 => Verdict { next: refused, ..verdict },
            _ => verdict,
        }
    }
}

#[test]
fn wrong_rules_are_not_proved() {
    let report_of_all = report(&pair(), &of(AlwaysAccept));
    assert!(!report_of_all.proved && report_of_all.missed().count() == 0);
    // It says that its law is the drafter's, and so it is, but for the bonus token.
    assert_eq!(failed(&report_of_all), [TestKind::SecondToken]);
    let soft = report(&pair(), &of(SoftOnEven));
    assert!(!soft.proved);
    assert!(
        failed(&soft).contains(&TestKind::GreedyIdentity) && failed(&soft).contains(&TestKind::NextToken)
    );
}

/// Hands over other scores than it draws from.
struct Hot(Arc<TableModel>);

impl Drafter for Hot {
    fn name(&self) -> &'static str {
        "hot"
    }

    fn is_calibrated(&self) -> bool {
        true
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let proposal = ModelDrafter::new(self.0.clone()).propose(sequence, request, draws)?;
        let cool = Sampler::new(&SamplingOptions { temperature: 0.5, ..Default::default() })?;
        let scores = (0..proposal.tokens.len()).map(|i| {
            let read = [sequence, &proposal.tokens[..i]].concat();
            cool.scores(&Context::new(&read, request.prompt), self.0.row(&read))
        });
        Ok(Proposal { scores: scores.collect::<Result<_, _>>()?, ..proposal })
    }
}

#[test]
fn a_dishonest_drafter_is_not_proved() {
    let hot = Pair::new(model(1), || Box::new(Hot(model(2))));
    let report = report(&hot, &of(Lossless));
    assert!(!report.proved && failed(&report).contains(&TestKind::NextToken), "{:?}", failed(&report));
}

/// A model whose logits of the first token depend on the number of rows, as on devices that round.
struct Uneven {
    table: TableModel,
    by: f32,
}

impl LanguageModel for Uneven {
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
        let rows: Vec<_> = segments.iter().map(|segment| segment.rows).collect();
        let nudge = |(logits, rows): (Logits, usize)| {
            let mut values: Vec<f32> = logits.iter().flatten().copied().collect();
            let shift = if rows > 1 { self.by } else { 0.0 };
            values.iter_mut().step_by(self.vocab_size()).for_each(|logit| *logit += shift);
            Logits::new(values, self.vocab_size())
        };
        Ok(self.table.forward(segments)?.into_iter().zip(rows).map(nudge).collect())
    }
}

/// Two tokens that are often nearly equal, with a difference by rows.
fn uneven(by: f32) -> Pair<Uneven> {
    let table = model(1);
    let row = |tokens: &[TokenId]| {
        let mut row = table.row(tokens).to_vec();
        if tokens.last().is_none_or(|token| token % 2 == 0) {
            (row[0], row[1]) = (2.5 - 1e-4, 2.5);
        }
        row
    };
    Pair::of_models(Arc::new(Uneven { table: TableModel::from_fn(VOCAB, row), by }), model(2))
}

#[test]
fn near_ties_are_told_from_mistakes() {
    let report_of = |by, exact| report(&uneven(by), &ProofOptions { exact, ..of(Lossless) });
    let first = |report: &Report| report.tests[0].differences[0].clone();
    proved(&report_of(0.0, true));
    // The device rounds: forgiven where the device promises no more.
    let rounded = report_of(2e-4, false);
    proved(&rounded);
    assert_eq!(rounded.tests[0].outcome, Outcome::NearTies);
    let difference = first(&rounded);
    assert_eq!((difference.cause, difference.plain, difference.speculative), (Cause::Rounding, 1, 0));
    assert_eq!((difference.rows, difference.plain_pass.tokens), (2, [1, 0]));
    assert_eq!(difference.verify_pass.tokens, [0, 1]);
    assert!(difference.plain_pass.gap() < 2e-4 && difference.verify_pass.gap() < 2e-4);
    assert!(!report_of(2e-4, true).proved, "where every bit is promised it is a mistake");
    // More than rounding.
    let wrong = report_of(0.5, false);
    assert!(!wrong.proved);
    assert_eq!(first(&wrong).cause, Cause::Passes);
    // Nothing of the passes: the rule.
    let soft = report(&pair(), &ProofOptions { exact: false, ..of(SoftOnEven) });
    assert_eq!((soft.proved, first(&soft).cause), (false, Cause::Decision));
}

#[test]
fn what_cannot_be_proved_is_said() {
    let error = |subject: &dyn Subject, options: &ProofOptions| {
        prove(subject, &prompts(), options, &Unwatched).unwrap_err()
    };
    let none = Pair::new(model(1), || Box::new(NoDrafter));
    let message = error(&none, &of(ExactMatch)).to_string();
    assert!(message.contains("proposes nothing after any of 8 prompts"), "{message}");
    let cold = SamplingOptions::default();
    let cases = [
        (ProofOptions { rules: vec![], ..of(Lossless) }, "no rules to prove"),
        (ProofOptions { draft_lengths: vec![0], ..of(Lossless) }, "no draft length is above 0"),
        (ProofOptions { max_tokens: 0, ..of(Lossless) }, "max tokens is 0"),
        (ProofOptions { seeds: 0, ..of(Lossless) }, "seeds and prefixes must be at least 1"),
        (ProofOptions { sampling: cold, ..of(Lossless) }, "temperature 0 leaves no law to test"),
        (ProofOptions { level: 1.0, ..of(Lossless) }, "level 1 is out of range"),
    ];
    for (options, expected) in cases {
        let found = error(&pair(), &options);
        assert!(matches!(found, ProofError::Options(_)) && found.to_string().contains(expected), "{found}");
    }
    let nothing = prove(&pair(), &[], &of(Lossless), &Unwatched).unwrap_err().to_string();
    assert!(nothing.contains("there are no prompts"), "{nothing}");
}

/// With two texts nothing can be told from anything.
#[test]
fn too_little_power_is_no_proof() {
    let options = ProofOptions { seeds: 2, draft_lengths: vec![1], ..of(Lossless) };
    let report = report(&pair(), &options);
    assert!(!report.proved && report.failed().count() == 0 && report.missed().count() > 0);
}

fn prove_pair(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drafthorse"));
    command.arg("prove").args(arguments).args(["--device", "cpu"]).output().unwrap()
}

/// With the demo expert.
fn command(arguments: &[&str]) -> Output {
    prove_pair(&[&["demo"], arguments].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const SHORT: [&str; 6] = ["--limit", "8", "-n", "32", "-k", "1,3"];

#[test]
fn the_demo_pair_is_proved() {
    let arguments = [&["demo"], &SHORT[..], &["--seeds", "6000", "--rule", "block"]].concat();
    let output = command(&[&arguments[..], &["--rule", "coupled-noise", "--json"]].concat());
    assert!(output.status.success(), "{} {}", text(&output.stdout), text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["proved"], &report["seeds"]), (&true.into(), &6000.into()));
    assert_eq!(report["rules"], serde_json::json!(["block", "coupled-noise"]));
    let tests = report["tests"].as_array().unwrap();
    assert!(tests.iter().any(|test| test["kind"] == "next_token" && test["p"].is_f64()));
    assert!(tests.iter().all(|test| test["outcome"] == "passed"));
    assert_eq!(report["controls"].as_array().unwrap().len(), 7);
}

#[test]
fn the_table_says_what_was_tested() {
    let output = command(&["ngram", "--limit", "6", "-n", "32", "-k", "2", "--seeds", "4000"]);
    let table = text(&output.stdout);
    assert!(output.status.success(), "{table} {}", text(&output.stderr));
    for word in [
        "greedy identity",
        "law of the next token",
        "chi-square",
        "on paper",
        "Bonferroni",
        "wrong on purpose",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    assert!(table.lines().last().unwrap().starts_with("proved: "), "{table}");
}

#[test]
fn without_power_the_command_fails_and_says_so() {
    let output = command(&[&["demo"], &SHORT[..], &["--seeds", "5", "--rule", "lossless"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let last = text(&output.stdout).lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("NOT proved: the tests have too little power to see `"), "{last}");
    assert!(last.contains("draw more texts with --seeds 20, or give more prompts"), "{last}");
}

/// Where drafter and expert are one model, accepting everything is right.
#[test]
fn equal_models_prove_nothing() {
    let stranger = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parity/llama");
    let options = ["-n", "8", "-k", "2", "--limit", "3", "--seeds", "200", "--rule", "lossless"];
    let output = prove_pair(&[&[stranger, stranger], &options[..]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let last = text(&output.stdout).lines().last().unwrap_or_default().to_owned();
    assert!(
        last.contains("drafter and expert say the same") && last.contains("`accepts everything`"),
        "{last}"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let cases: [(&[&str], &str); 4] = [
        (&["none"], "without a drafter there is nothing to prove"),
        (&["demo", "--temperature", "0"], "temperature 0 leaves no law to test"),
        (&["demo", "-k", "0"], "no draft length is above 0"),
        (&["demo", "--level", "2"], "level 2 is out of range"),
    ];
    for (arguments, expected) in cases {
        let output = command(arguments);
        let message = text(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        assert!(message.contains(expected) && !message.contains("panicked"), "{arguments:?}: {message}");
    }
}
