//! What a constraint forces: drafted for nothing, and in none of the drafter's numbers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/sessions.rs"]
mod common;

use common::{builder, engine, model, options, regex, run};
use drafthorse_drafter::{DraftRequest, Drafter, ModelDrafter, NoDrafter};
use drafthorse_engine::{Finish, Provenance, SessionOptions};
use drafthorse_logits::{Draws, Origin, Proposal, Scores, TokenId, Verdict};
use drafthorse_model::{ModelError, TableModel};
use drafthorse_verifier::rule;
use std::sync::{Arc, Mutex};

#[test]
fn forced_tokens_are_free_drafts_and_counted() {
    // "c" is one token; of "ab" the longest is guessed. The draft length is the drafter's alone.
    let options = SessionOptions { draft_length: Some(1.into()), ..options(regex("cccccccc")) };
    let run = run(&mut engine(NoDrafter), &options);
    assert_eq!((run.text.as_str(), run.stats.rounds, run.stats.emitted), ("cccccccc", 1, 8));
    assert_eq!((run.stats.forced, run.stats.forced_accepted), (8, 8));
    assert_eq!((run.stats.drafted, run.stats.examined, run.stats.accepted), (0, 0, 0), "no drafter, no rate");
    assert_eq!((run.stats.rounds_with_draft, run.stats.acceptance_rate()), (0, None));
    let cut = self::run(&mut engine(NoDrafter), &SessionOptions { max_tokens: 5, ..options.clone() });
    assert_eq!((cut.text.as_str(), cut.stats.rounds, cut.stats.forced), ("ccccc", 1, 4), "and one on top");
    let long = SessionOptions { max_tokens: 90, ..self::options(regex("c{80}")) };
    let long = self::run(&mut engine(NoDrafter), &SessionOptions { draft_length: Some(1.into()), ..long });
    assert_eq!((long.stats.rounds, long.stats.forced), (3, 32 + 32 + 14), "32 and one on top");
    let plain = SessionOptions { draft_length: Some(0.into()), ..options };
    let stats = self::run(&mut engine(NoDrafter), &plain).stats;
    assert_eq!((stats.rounds, stats.forced, stats.drafted), (8, 0, 0));
}

/// What a token is said to come from is what is counted.
#[test]
fn tokens_say_that_they_were_forced() {
    for k in [1, 2, 4] {
        let options =
            SessionOptions { draft_length: Some(k.into()), max_tokens: 40, ..options(regex("(c(a|b)cc)+")) };
        let mut engine = engine(model());
        let mut session = engine.session(&[0], &options).unwrap();
        let tokens: Vec<_> = session.by_ref().flat_map(|step| step.unwrap().tokens).collect();
        let count = |wanted| tokens.iter().filter(|token| token.provenance == wanted).count() as u64;
        let stats = session.stats();
        assert!(stats.forced_accepted > 0 && count(Provenance::Forced) > 0);
        // The last round may be cut by the end of the text.
        let cut =
            stats.forced_accepted + stats.accepted - count(Provenance::Forced) - count(Provenance::Drafted);
        assert!(cut <= 1, "k = {k}: {stats:?}");
    }
}

/// A cascade's law looks at the draft, so that only what is certain is forced for it.
#[test]
fn guesses_are_for_rules_that_do_not_look_at_the_draft() {
    let forced = |spec: &str, pattern: &str| {
        let options = SessionOptions { rule: Some(rule(spec).unwrap()), ..options(regex(pattern)) };
        let run = run(&mut engine(model()), &options);
        assert!(run.error.is_none() && run.finish == Some(Finish::Grammar), "{spec} {:?}", run.error);
        run.stats.forced
    };
    assert!(forced("lossless", "ab") > 0, "`ab` or `a` begin the text, and both go on alike");
    assert_eq!(forced("cascade-chow", "ab"), 0);
    assert!(forced("cascade-chow", "cc") > 0);
}

/// Where a token is forced, nobody is asked, and nobody decides alone.
#[test]
fn forced_tokens_are_no_decisions_of_a_cascade() {
    for lenience in [0.0, 0.5, 1.0] {
        let chow = rule(&format!("cascade-chow:lenience={lenience}")).unwrap();
        let options = SessionOptions { rule: Some(chow), ..options(regex("(c(a|b)cc){3}")) };
        let stats = run(&mut engine(model()), &options).stats;
        assert!(stats.forced_accepted > 0 && stats.price.positions == stats.emitted, "{stats:?}");
        assert_eq!(stats.price.decisions, stats.examined, "of the drafter's own tokens alone");
        assert!(stats.examined <= 3);
    }
}

/// What a drafter hears is of its own proposal.
#[derive(Clone, Default)]
struct Listens(Arc<Mutex<Vec<(usize, Verdict)>>>);

impl Drafter for Listens {
    fn name(&self) -> &'static str {
        "listens"
    }

    fn propose(
        &mut self,
        _: &[TokenId],
        request: &DraftRequest<'_>,
        _: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        self.0.lock().unwrap().push((request.max, Verdict { accepted: 99, next: 0, origin: Origin::Bonus }));
        Ok(Proposal {
            tokens: vec![3; request.max],
            scores: vec![Scores::point(3, request.vocab); request.max],
        })
    }

    fn observe(&mut self, verdict: &Verdict) {
        self.0.lock().unwrap().last_mut().unwrap().1 = *verdict;
    }
}

#[test]
fn a_drafter_is_asked_for_the_rest_and_hears_of_it() {
    let listens = Listens::default();
    let options = SessionOptions { draft_length: Some(3.into()), ..options(regex("cc(c|b)a")) };
    let run = run(&mut engine(listens.clone()), &options);
    assert!(run.error.is_none() && run.text.len() == 4);
    let heard = listens.0.lock().unwrap()[0];
    assert_eq!(heard.0, 3, "what is forced takes nothing from the draft length");
    // Its first token stands or falls; the `a` that is forced behind it is not its own.
    let (third, heard) = (run.text.as_bytes()[2], heard.1);
    let wanted = if third == b'c' { (1, 0, Origin::Bonus) } else { (0, 1, Origin::Replacement) };
    assert_eq!((heard.accepted, heard.next, heard.origin), wanted);
    assert_eq!(run.stats.forced_accepted + run.stats.accepted, 3 + u64::from(third == b'c'));
}

/// A drafter that drafts step by step is not asked for what is forced in the middle of a draft either.
#[test]
fn forced_tokens_between_drafted_ones_cost_no_step() {
    #[derive(Clone)]
    struct Counts(Arc<Mutex<usize>>, Arc<Mutex<ModelDrafter>>);
    impl Drafter for Counts {
        fn name(&self) -> &'static str {
            "counts"
        }

        fn is_stepwise(&self) -> bool {
            true
        }

        fn propose(
            &mut self,
            sequence: &[TokenId],
            request: &DraftRequest<'_>,
            draws: &mut dyn Draws,
        ) -> Result<Proposal, ModelError> {
            *self.0.lock().unwrap() += 1;
            assert_eq!((request.max, request.score_after), (1, false));
            self.1.lock().unwrap().propose(sequence, request, draws)
        }
    }
    // The expert drafts for itself: all is accepted.
    let expert = ModelDrafter::new(Arc::new(TableModel::random(5, 1.0, 3)));
    let counts = Counts(Arc::default(), Arc::new(Mutex::new(expert)));
    let options = SessionOptions { draft_length: Some(8.into()), ..options(regex("(a|b)cc(a|b)ccc")) };
    let run = run(&mut engine(counts.clone()), &options);
    assert_eq!((run.finish, run.stats.forced), (Some(Finish::Grammar), 5));
    assert_eq!((run.stats.drafted, run.stats.examined, run.stats.accepted), (2, 2, 2), "own ones alone");
    assert_eq!(run.stats.accepted_at, [1, 1], "own ones alone");
    assert_eq!((*counts.0.lock().unwrap(), run.stats.rounds), (2, 1));
}

/// Where the expert writes the text otherwise than the tokenizer, guesses are given up, and tried again now and then.
#[test]
fn guesses_pause_where_the_expert_writes_otherwise() {
    // The text is certain; `ab` is one token or two.
    let pattern = "(ab){30}";
    let refused = |dislike: f32| {
        let expert = TableModel::from_fn(5, |_| vec![1.0, 1.0, dislike, 1.0, 1.0]);
        let mut engine = builder().expert(Arc::new(expert)).drafter(NoDrafter).build().unwrap();
        let options =
            SessionOptions { max_tokens: 100, draft_length: Some(1.into()), ..options(regex(pattern)) };
        let mut session = engine.session(&[0], &options).unwrap();
        let tokens: Vec<_> = session.by_ref().flat_map(|step| step.unwrap().tokens).collect();
        let count = tokens.iter().filter(|token| token.provenance == Provenance::Replacement).count();
        (count, tokens.len(), session.stats().rounds)
    };
    let (wrong, tokens, rounds) = refused(-50.0);
    assert!(tokens == 60 && (2..=1 + rounds as usize / 8).contains(&wrong), "{wrong} of {rounds} rounds");
    let (wrong, tokens, rounds) = refused(50.0);
    assert_eq!((wrong, tokens, rounds), (0, 30, 1), "an expert that writes as the tokenizer does");
}
