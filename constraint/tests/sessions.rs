//! How constrained texts begin, end and fail.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/sessions.rs"]
mod common;

use common::{END, engine, model, options, regex, run};
use drafthorse_constraint::{Grammar, TokenTable};
use drafthorse_drafter::{NgramDrafter, NoDrafter};
use drafthorse_engine::{ErrorKind, Finish, SequentialCascade, SequentialRule, SessionOptions};
use drafthorse_logits::{Constraint, ConstraintError, Matcher, SamplingOptions, TokenId, TokenSet};
use drafthorse_model::TableModel;
use drafthorse_verifier::rule;
use std::sync::Arc;

#[test]
fn a_complete_text_ends() {
    for k in 0..4 {
        let plain = SessionOptions { draft_length: Some(k.into()), ..options(regex("abcabc")) };
        let run = run(&mut engine(model()), &plain);
        assert_eq!((run.text.as_str(), run.finish), ("abcabc", Some(Finish::Grammar)), "k = {k}");
        assert!(run.error.is_none());
    }
}

/// The grammar says when a text is complete, also where it is shorter than it was to be.
#[test]
fn the_grammar_ends_a_text_that_is_too_short() {
    for k in 0..4 {
        let mut options = SessionOptions {
            draft_length: Some(k.into()),
            stop_tokens: vec![END],
            ..options(regex("(abc){1,2}"))
        };
        options.sampling.min_tokens = 20;
        let longest = run(&mut engine(model()), &options);
        assert_eq!((longest.text.as_str(), longest.finish), ("abcabc", Some(Finish::Grammar)), "k = {k}");
        assert!(longest.error.is_none(), "{:?}", longest.error);
        options.sampling.min_tokens = 0;
        let free = (0..50).map(|seed| SessionOptions { seed, ..options.clone() });
        assert!(free.map(|options| run(&mut engine(model()), &options)).any(|run| run.text == "abc"));
    }
}

#[test]
fn a_forced_token_that_the_grammar_forbids_is_refused() {
    let mut options = options(regex("abc"));
    options.sampling.forced_first = Some(1);
    let error = engine(NoDrafter).session(&[0], &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Option);
    assert!(error.to_string().contains("does not allow token 1 at the beginning"), "{error}");
    options.sampling.forced_first = Some(0);
    assert_eq!(run(&mut engine(NoDrafter), &options).text, "abc");
}

#[test]
fn a_stop_token_ends_where_the_grammar_may_end() {
    for seed in 0..50 {
        let options = SessionOptions { stop_tokens: vec![END], seed, ..options(regex("(abc){1,4}")) };
        let run = run(&mut engine(model()), &options);
        assert_eq!((run.finish, run.text.len() % 3), (Some(Finish::StopToken(END)), 0), "{}", run.text);
        assert!(!run.text.is_empty());
    }
}

/// Without stop tokens, as where the end of the text is to be ignored, the model's end token is a token like others.
#[test]
fn without_stop_tokens_a_text_goes_on_as_long_as_it_can() {
    let run = run(&mut engine(model()), &options(regex("(ab)+")));
    assert_eq!((run.finish, run.stats.emitted), (Some(Finish::MaxTokens), 30));
    assert!(run.text.starts_with("abab"));
}

#[test]
fn tokens_that_were_asked_for_end_a_text_that_may_want_more() {
    let options = SessionOptions { max_tokens: 2, ..options(regex("abcabc")) };
    let cut = run(&mut engine(model()), &options);
    assert_eq!((cut.finish, cut.stats.emitted), (Some(Finish::MaxTokens), 2));
    // Where the last token completes the text, the text is complete.
    let exact = SessionOptions { max_tokens: 1, ..self::options(regex("ab|c")) };
    let seeds = (0..20).map(|seed| run(&mut engine(model()), &SessionOptions { seed, ..exact.clone() }));
    for run in seeds {
        let whole = ["ab", "c"].contains(&&*run.text);
        assert_eq!(run.finish, Some(if whole { Finish::Grammar } else { Finish::MaxTokens }), "{}", run.text);
    }
}

#[test]
fn stop_strings_cut_a_text_wherever_they_come() {
    let options = SessionOptions { stop_strings: vec!["bc".into()], ..options(regex("abcabc")) };
    let run = run(&mut engine(model()), &options);
    assert_eq!((run.text.as_str(), run.finish), ("a", Some(Finish::StopString("bc".into()))));
}

/// Drafters that look tokens up propose what the grammar excludes; that much is cut off.
#[test]
fn lookups_are_cut_where_the_grammar_ends_them() {
    let options = SessionOptions { draft_length: Some(4.into()), ..options(regex("(ab|c){4}b")) };
    for seed in 0..30 {
        let run =
            run(&mut engine(NgramDrafter::new(1, 2).unwrap()), &SessionOptions { seed, ..options.clone() });
        assert_eq!(run.finish, Some(Finish::Grammar));
        assert!(run.text.ends_with('b') && run.text.replace("ab", "c") == "ccccb", "{}", run.text);
    }
}

#[test]
fn a_dead_end_is_an_error_after_the_text() {
    // There is no "x": behind "ca" nothing can follow, behind "cb" the end.
    let constraint = regex("c(b|ax)");
    let (mut ends, mut errors) = (0, 0);
    for seed in 0..60 {
        for k in 0..4 {
            let options =
                SessionOptions { seed, draft_length: Some(k.into()), ..options(constraint.clone()) };
            let run = run(&mut engine(model()), &options);
            match &run.error {
                None => assert_eq!((run.text.as_str(), run.finish), ("cb", Some(Finish::Grammar))),
                Some(error) => {
                    assert_eq!((error.kind(), run.text.as_str()), (ErrorKind::Constraint, "ca"));
                    let source = std::error::Error::source(error).unwrap().to_string();
                    assert!(
                        source.starts_with("no token of the vocabulary can go on with the text after 2"),
                        "{source}"
                    );
                }
            }
            ends += u32::from(run.error.is_none());
            errors += u32::from(run.error.is_some());
        }
    }
    assert!(ends > 20 && errors > 20, "{ends} {errors}");
}

/// A constraint whose parser gives up at a position.
struct GivesUp(usize);

impl Constraint for GivesUp {
    fn vocab_size(&self) -> usize {
        5
    }

    fn start(&self, _: &[TokenId]) -> Result<Box<dyn Matcher>, ConstraintError> {
        Ok(Box::new(Self(self.0)))
    }
}

impl Matcher for GivesUp {
    fn allowed(&mut self, generated: &[TokenId]) -> Result<Arc<TokenSet>, ConstraintError> {
        let position = generated.len();
        let limit = ConstraintError::Limit { position, limit: "the test's".into() };
        if position < self.0 { Ok(Arc::new(TokenSet::of(5, &[0, 1]))) } else { Err(limit) }
    }
}

#[test]
fn a_limit_ends_the_text_with_an_error_of_its_own_kind() {
    for (k, drafter) in [(0, true), (1, true), (3, true), (3, false)] {
        let options = SessionOptions { draft_length: Some(k.into()), ..options(Arc::new(GivesUp(5))) };
        let mut engine = if drafter { engine(model()) } else { engine(NgramDrafter::default()) };
        let run = run(&mut engine, &options);
        let error = run.error.unwrap();
        assert_eq!((error.kind(), run.stats.emitted), (ErrorKind::Constraint, 5), "k = {k}");
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("the test's"));
    }
    let at_once = engine(model()).session(&[0], &options(Arc::new(GivesUp(0)))).err().unwrap();
    assert_eq!(at_once.kind(), ErrorKind::Constraint);
}

/// A constraint that forces a token that no model has.
struct ForcesNothingKnown;

impl Constraint for ForcesNothingKnown {
    fn vocab_size(&self) -> usize {
        5
    }

    fn start(&self, _: &[TokenId]) -> Result<Box<dyn Matcher>, ConstraintError> {
        Ok(Box::new(Self))
    }
}

impl Matcher for ForcesNothingKnown {
    fn allowed(&mut self, _: &[TokenId]) -> Result<Arc<TokenSet>, ConstraintError> {
        Ok(Arc::new(TokenSet::of(5, &[0, 1])))
    }

    fn guess(&mut self, generated: &[TokenId]) -> Result<Option<TokenId>, ConstraintError> {
        Ok((generated.len() == 2).then_some(77))
    }
}

#[test]
fn a_forced_token_of_no_vocabulary_is_an_error() {
    let options = SessionOptions { draft_length: Some(1.into()), ..options(Arc::new(ForcesNothingKnown)) };
    let run = run(&mut engine(NoDrafter), &options);
    let error = run.error.unwrap();
    assert_eq!((error.kind(), run.stats.emitted), (ErrorKind::Constraint, 2));
    let source = std::error::Error::source(&error).unwrap().to_string();
    let message =
        "the constraint failed at position 2 of the text: it forces token 77, and the vocabulary has 5";
    assert_eq!(source, message);
}

#[test]
fn options_that_exclude_what_the_grammar_needs_are_an_error() {
    for k in 0..4 {
        let mut options = SessionOptions { draft_length: Some(k.into()), ..options(regex("abc")) };
        options.sampling.logit_bias = vec![(3, f32::NEG_INFINITY)];
        let run = run(&mut engine(model()), &options);
        let error = run.error.unwrap();
        assert_eq!((error.kind(), run.text.as_str()), (ErrorKind::Constraint, "ab"), "k = {k}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            source.starts_with("the constraint allows 1 token after") && source.contains("logit bias"),
            "{source}"
        );
    }
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    let empty = engine(model()).session(&[0], &options(regex(""))).err().unwrap();
    assert_eq!((empty.kind(), empty.to_string().contains("empty text")), (ErrorKind::Option, true));
    let texts: Vec<String> = (0..9).map(|letter| letter.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let wide = Arc::new(Grammar::regex(&TokenTable::of_texts(&texts).unwrap(), "1").unwrap());
    let wide = engine(model()).session(&[0], &options(wide)).err().unwrap();
    assert_eq!(wide.kind(), ErrorKind::Vocabulary);
    assert!(wide.to_string().starts_with("the constraint speaks of 9 tokens and the expert of 5"));
    let models = [1, 2].map(|seed| Arc::new(TableModel::random(5, 1.0, seed)));
    let [expert, drafter] = models;
    let mut cascade = SequentialCascade::new(expert, drafter).unwrap();
    let refused = cascade.generate(&[0], &options(regex("a")), SequentialRule::Token { lenience: 0.5 });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Option);
}

/// One grammar serves texts on several threads at a time.
#[test]
fn texts_share_a_grammar_and_nothing_else() {
    let options = options(regex("((ab|c){2}b){1,6}"));
    let text = &|seed| run(&mut engine(model()), &SessionOptions { seed, ..options.clone() }).text;
    let alone: Vec<String> = (0..32).map(text).collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..32).map(|seed| scope.spawn(move || text(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
}

/// Rules that promise the same text for a seed keep it: what is drafted or forced makes no difference.
#[test]
fn texts_of_a_seed_do_not_hang_on_drafts() {
    for name in ["exact-match", "coupled-noise"] {
        for seed in 0..40 {
            let options = SessionOptions {
                rule: Some(rule(name).unwrap()),
                stop_tokens: vec![END],
                seed,
                ..options(regex("((ab|c){2}b){1,6}"))
            };
            let with = |k: usize| SessionOptions { draft_length: Some(k.into()), ..options.clone() };
            let plain = run(&mut engine(NoDrafter), &with(0)).text;
            for k in 1..5 {
                assert_eq!(run(&mut engine(model()), &with(k)).text, plain, "{name}, seed {seed}, k = {k}");
                assert_eq!(run(&mut engine(NgramDrafter::default()), &with(k)).text, plain);
                assert_eq!(run(&mut engine(NoDrafter), &with(k)).text, plain);
            }
        }
    }
}

/// Greedy decoding is the same with drafts and without.
#[test]
fn greedy_texts_do_not_hang_on_drafts() {
    for pattern in ["(ab|c|ba){3,6}", "a(b|c)*a", "(a|b)*c"] {
        let greedy = SessionOptions { sampling: SamplingOptions::default(), ..options(regex(pattern)) };
        let text = |k: usize| {
            run(&mut engine(model()), &SessionOptions { draft_length: Some(k.into()), ..greedy.clone() }).text
        };
        assert!((1..5).all(|k| text(k) == text(0)), "{pattern}");
    }
}
