//! Every kind of error, provoked: its kind, and that it names the thing, both values and the way out.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Fixed, Illegible, Unplugged, vocabulary};
use drafthorse::{
    AcceptanceRule, Drafter, Engine, Error, ErrorKind, Grammar, LanguageModel, ModelDrafter, ModelError,
    NgramDrafter, Pending, SamplingOptions, SessionOptions, TableModel, TokenId, TokenTable,
    drafter::DraftRequest,
    engine::EngineBuilder,
    logits::{Constraint, Draws, Origin, Probs, Proposal, Scores, Verdict},
    verifier::RuleError,
};
use std::{borrow::Cow, collections::BTreeSet, error::Error as _, iter, sync::Arc};

/// A way to an error, and what its message and those of its causes must hold.
struct Case {
    kind: ErrorKind,
    provoke: fn() -> Error,
    says: &'static [&'static str],
}

fn case(kind: ErrorKind, provoke: fn() -> Error, says: &'static [&'static str]) -> Case {
    Case { kind, provoke, says }
}

fn table(vocab: usize) -> TableModel {
    TableModel::random(vocab, 1.0, vocab as u64)
}

fn drafter(model: impl LanguageModel) -> ModelDrafter {
    ModelDrafter::new(Arc::new(model))
}

fn with(expert: impl LanguageModel, drafter: impl Drafter + 'static) -> EngineBuilder {
    Engine::builder().expert(Arc::new(expert)).drafter(drafter).draft_length(4)
}

fn refused(builder: EngineBuilder) -> Error {
    builder.build().expect_err("these parts do not fit")
}

/// The error with which a session on these parts does not begin.
fn denied(builder: EngineBuilder, prompt: &[TokenId], options: &SessionOptions) -> Error {
    builder.build().unwrap().session(prompt, options).map(|_| ()).unwrap_err()
}

fn bad_option(options: &SessionOptions) -> Error {
    denied(with(table(4), Fixed(1)), &[1], options)
}

fn bad_prompt(prompt: &[TokenId]) -> Error {
    denied(with(table(4).with_context(8), Fixed(1)), prompt, &SessionOptions::default())
}

/// The error with which a session on these parts ends.
fn ended(builder: EngineBuilder) -> Error {
    let mut engine = builder.build().unwrap();
    let run = common::run(engine.session(&[1, 2], &SessionOptions::default()).unwrap());
    run.error.expect("these parts fail")
}

/// A model that says one token.
fn always(token: usize) -> TableModel {
    TableModel::from_fn(4, |_| (0..4).map(|v| f32::from(u8::from(v == token))).collect())
}

/// A model that has lost its mind.
fn nan(vocab: usize) -> TableModel {
    TableModel::from_fn(vocab, |_| vec![f32::NAN; vocab])
}

/// A rule that asks for much.
struct Picky {
    lenience: f64,
    calibrated: bool,
}

impl AcceptanceRule for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn target<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(expert.probs())
    }

    fn needs_calibrated_draft(&self) -> bool {
        self.calibrated
    }

    fn check(&self) -> Result<(), RuleError> {
        let (value, range) = (self.lenience, "0 to 1");
        let error = RuleError::OutOfRange { rule: "picky", dial: "lenience", value, range };
        if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(error) }
    }
}

fn picky(lenience: f64, calibrated: bool) -> Arc<dyn AcceptanceRule> {
    Arc::new(Picky { lenience, calibrated })
}

/// A drafter that proposes whatever it was made with.
struct Broken(Proposal);

impl Drafter for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn propose(
        &mut self,
        _sequence: &[TokenId],
        _request: &DraftRequest<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        Ok(self.0.clone())
    }
}

fn broken(tokens: &[TokenId], scores: &[Scores]) -> Error {
    ended(with(table(4), Broken(Proposal { tokens: tokens.to_vec(), scores: scores.to_vec() })))
}

fn parts() -> Vec<Case> {
    use ErrorKind::{Context, MissingPart, Rule, Vocabulary};
    vec![
        case(MissingPart, || refused(Engine::builder()), &["needs an expert", "call `expert`"]),
        case(
            Vocabulary,
            || refused(with(table(5), drafter(table(4)))),
            &["vocabulary sizes differ", "draft 4", "expert 5", "both need one tokenizer"],
        ),
        case(
            Vocabulary,
            || refused(with(named(4, &["a", "b", "c", "d"]), drafter(named(4, &["a", "b", "x", "d"])))),
            &["token 2", "`x` for the drafter", "`c` for the expert", "both need one tokenizer"],
        ),
        case(
            Vocabulary,
            || refused(with(named(4, &["a", "b", "c"]), drafter(named(6, &["a", "b", "c", "d"])))),
            &["token 3", "`d` for the drafter", "nothing for the expert", "draft 6", "expert 4"],
        ),
        case(
            Context,
            || refused(with(table(4).with_context(6), drafter(table(4))).draft_length(5)),
            &["expert's context of 6", "drafts of 5", "at least 7"],
        ),
        case(
            Context,
            || refused(with(table(4), drafter(table(4).with_context(3))).draft_length(5)),
            &["drafter's context of 3", "drafts of 5", "at least 7"],
        ),
        case(
            Rule,
            || refused(with(table(4), drafter(table(4))).rule(picky(1.5, false))),
            &["rule picky", "lenience 1.5", "0 to 1"],
        ),
        case(
            Rule,
            || refused(with(table(4), NgramDrafter::default()).rule(picky(0.5, true))),
            &["rule `picky`", "drafter `ngram` has none", "use a model as drafter, or another rule"],
        ),
        case(
            Rule,
            || {
                let rule = Some(picky(0.5, true));
                bad_option(&SessionOptions { rule, ..Default::default() })
            },
            &["rule `picky`", "drafter `fixed` has none", "use a model as drafter, or another rule"],
        ),
    ]
}

/// A model of `vocab` tokens, some of which have texts.
fn named(vocab: usize, texts: &[&str]) -> TableModel {
    table(vocab).with_vocabulary(vocabulary(texts))
}

fn sampling(change: impl FnOnce(&mut SamplingOptions)) -> Error {
    let mut options = SessionOptions::default();
    change(&mut options.sampling);
    bad_option(&options)
}

fn requests() -> Vec<Case> {
    use ErrorKind::{Option, Prompt};
    vec![
        case(Option, || sampling(|s| s.temperature = -0.5), &["temperature -0.5", "0 (greedy) or"]),
        case(Option, || sampling(|s| s.top_p = 1.5), &["top-p 1.5", "above 0 and at most 1"]),
        case(Option, || sampling(|s| s.min_p = -1.0), &["min-p -1", "0 (off) to 1"]),
        case(Option, || sampling(|s| s.repetition_penalty = 0.0), &["repetition penalty 0", "above 0"]),
        case(
            Option,
            || bad_option(&SessionOptions { stop_strings: vec![String::new()], ..Default::default() }),
            &["stop string is empty", "end every text"],
        ),
        case(
            Option,
            || bad_option(&SessionOptions { stop_strings: vec!["end".into()], ..Default::default() }),
            &["stop strings need text", "no detokenizer", "use stop tokens"],
        ),
        case(Prompt, || bad_prompt(&[]), &["prompt is empty", "at least one token"]),
        case(Prompt, || bad_prompt(&[1; 8]), &["prompt of 8 tokens", "context of 8", "shorten it to 7"]),
        case(Prompt, || bad_prompt(&[1, 4]), &["token 4 of the prompt", "vocabulary of 4 tokens"]),
    ]
}

fn constraints() -> Vec<Case> {
    vec![case(
        ErrorKind::Constraint,
        // After `a` the grammar wants a `b`, which a bias bans.
        || {
            let sampling = SamplingOptions { logit_bias: vec![(1, f32::NEG_INFINITY)], ..Default::default() };
            let constraint = Some(letters(&["a", "b", "c", "d"], "(ab)+") as Arc<dyn Constraint>);
            let options = SessionOptions { sampling, constraint, ..Default::default() };
            let mut engine = with(table(4), Fixed(1)).build().unwrap();
            let run = common::run(engine.session(&[2], &options).unwrap());
            assert_eq!(run.tokens(), [0], "what was generated is given out first");
            run.error.expect("nothing is left after `a`")
        },
        &["allows 1 token after 1 token of", "bias"],
    )]
}

fn letters(texts: &[&str], regex: &str) -> Arc<Grammar> {
    Arc::new(Grammar::regex(&TokenTable::of_texts(texts).unwrap(), regex).unwrap())
}

fn failures() -> Vec<Case> {
    use ErrorKind::{Drafter, Load, Logits, Model, Text};
    vec![
        case(Model, || ended(with(Unplugged::after(1, table(4)), Fixed(1))), &["expert failed", "unplugged"]),
        case(Logits, || ended(with(nan(4), Fixed(1))), &["expert's logits", "token 0 is NaN", "try f32"]),
        case(
            Logits,
            || ended(with(table(4), drafter(nan(4)).named("small"))),
            &["logits of drafter `small`", "token 0 is NaN", "try f32"],
        ),
        case(
            Drafter,
            || ended(with(table(4), drafter(Unplugged::after(1, table(4))).named("small"))),
            &["drafter `small` failed", "unplugged"],
        ),
        case(
            Drafter,
            || broken(&[1; 5], &[Scores::point(1, 4), Scores::point(1, 4)]),
            &["drafter `broken` broke its contract", "proposed 5 tokens", "at most 4"],
        ),
        case(
            Drafter,
            || broken(&[1, 1], &[Scores::point(1, 4)]),
            &["drafter `broken`", "1 rows of scores for 2 tokens", "one a token is needed"],
        ),
        case(
            Drafter,
            || broken(&[1], &[Scores::point(1, 9)]),
            &["drafter `broken`", "scored 9 tokens", "vocabulary has 4"],
        ),
        case(
            Drafter,
            || broken(&[1, 2], &[Scores::point(1, 4), Scores::point(3, 4)]),
            &["drafter `broken`", "token 2 at position 1", "probability 0"],
        ),
        case(
            Text,
            || ended(with(always(2), Fixed(1)).detokenizer(Illegible::new(2, &["a", "b", "c", "d"]))),
            &["could not be turned into text", "token 2 is illegible"],
        ),
        case(
            Load,
            || Pending::<u8>::spawn("expert", || Err(ModelError::EmptySequence)).wait().unwrap_err(),
            &["the expert could not be loaded", "sequence is empty"],
        ),
        case(
            Load,
            || Pending::<u8>::spawn("drafter", || panic!("as the test wants")).wait().unwrap_err(),
            &["loading the drafter panicked"],
        ),
    ]
}

fn all() -> Vec<Case> {
    parts().into_iter().chain(requests()).chain(constraints()).chain(failures()).collect()
}

/// An error and its causes, as a program would print them.
fn message(error: &Error) -> String {
    let causes = iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[test]
fn errors_have_their_kind_and_say_what_to_do() {
    for Case { kind, provoke, says } in all() {
        let error = provoke();
        let message = message(&error);
        assert_eq!(error.kind(), kind, "{message}");
        for part in says {
            assert!(message.contains(part), "`{part}` is missing: {message}");
        }
        let style = message.starts_with(char::is_lowercase) && !message.ends_with('.');
        assert!(style, "lower case and no full stop: {message}");
    }
}

/// The list of kinds as it stands in the source: it is open for the future, so no `match` can be
/// exhaustive here.
fn kinds_in_source() -> BTreeSet<String> {
    let source = include_str!("../engine/src/error.rs");
    let body = source.split("pub enum ErrorKind {").nth(1).unwrap().split('}').next().unwrap();
    let names = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    names.map(|line| line.trim_end_matches(',').to_owned()).collect()
}

#[test]
fn every_kind_is_provoked() {
    let provoked: BTreeSet<_> = all().iter().map(|case| format!("{:?}", case.kind)).collect();
    assert_eq!(provoked, kinds_in_source());
    assert!(provoked.len() >= 11, "the source is read");
}

/// Rows of logits are often padded: sizes may differ where the texts agree.
#[test]
fn padded_vocabularies_fit() {
    let texts = ["a", "b", "c"];
    for (expert, draft) in [(3, 8), (8, 3), (4, 4)] {
        let mut engine = with(named(expert, &texts), drafter(named(draft, &texts))).build().unwrap();
        let run = common::run(engine.session(&[1, 2], &SessionOptions::default()).unwrap());
        assert!(run.error.is_none() && run.tokens().len() == 256, "{expert} and {draft}: {:?}", run.error);
    }
    // A size alone is no text.
    let error = refused(with(named(4, &texts), drafter(table(5))));
    assert_eq!(error.kind(), ErrorKind::Vocabulary);
}

/// What can be known before the first token is said before it.
#[test]
fn a_bias_outside_the_vocabulary_is_refused_at_once() {
    let mut engine = with(table(4), Fixed(1)).build().unwrap();
    let mut options = SessionOptions::default();
    options.sampling.logit_bias = vec![(4, 1.0)];
    let error = engine.session(&[1], &options).map(|_| ()).expect_err("there is no token 4");
    assert_eq!(error.kind(), ErrorKind::Option);
}

/// A rule that decides what cannot be is an error, not a panic.
#[test]
fn a_verdict_beyond_the_draft_or_the_vocabulary_is_refused() {
    struct Beyond(usize, TokenId);
    impl AcceptanceRule for Beyond {
        fn name(&self) -> &'static str {
            "beyond"
        }
        fn target<'a>(&self, _: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
            Cow::Borrowed(expert.probs())
        }
        fn judge(&self, proposal: &Proposal, _: &[Scores], _: usize, _: &mut dyn Draws) -> Verdict {
            Verdict { accepted: proposal.tokens.len() + self.0, next: self.1, origin: Origin::Bonus }
        }
    }
    let expert = || Arc::new(TableModel::random(4, 1.0, 1));
    for (more, next) in [(1, 0), (0, 4)] {
        let drafter = ModelDrafter::new(expert());
        let engine =
            Engine::builder().expert(expert()).drafter(drafter).rule(Beyond(more, next)).draft_length(2);
        let mut engine = engine.build().unwrap();
        let error = engine.session(&[1], &SessionOptions::default()).unwrap().next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rule);
        assert!(error.to_string().contains("rule `beyond` accepted"), "{error}");
    }
}
