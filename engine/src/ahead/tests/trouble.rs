//! Drafters that fail, panic, hang or are taken away; drafters that must not be asked ahead.

use super::{LONG, Slow, VOCAB, always, engine, pair};
use crate::{Ahead, Engine, Error, ErrorKind, SessionOptions};
use crossbeam_channel::bounded;
use drafthorse_drafter::{DraftRequest, Drafter, ModelDrafter, NgramDrafter};
use drafthorse_logits::{
    Constraint, ConstraintError, Context, Draws, LogitsProcessor, Matcher, Memory, Proposal, Sampler,
    SamplingOptions, SeededDraws, TokenId, TokenSet, Verdict, processors::Mirostat,
};
use drafthorse_model::ModelError;
use std::{
    error::Error as _,
    sync::{Arc, Mutex},
    thread::ThreadId,
    time::Instant,
};

/// What it does before it proposes.
type Act = Box<dyn FnMut(&[TokenId]) -> Result<(), ModelError> + Send>;

/// A model that does as it is told at times.
struct Odd {
    model: ModelDrafter,
    pure: bool,
    act: Act,
    heard: Arc<Mutex<Vec<Verdict>>>,
}

impl Odd {
    fn new(act: impl FnMut(&[TokenId]) -> Result<(), ModelError> + Send + 'static) -> Self {
        let model = ModelDrafter::new(pair(3)[1].clone());
        Self { model, pure: true, act: Box::new(act), heard: Arc::default() }
    }
}

impl Drafter for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    fn vocab_size(&self) -> Option<usize> {
        self.model.vocab_size()
    }

    fn is_stepwise(&self) -> bool {
        true
    }

    fn is_pure(&self) -> bool {
        self.pure
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        (self.act)(sequence)?;
        self.model.propose(sequence, request, draws)
    }

    fn confidences(&self) -> &[f64] {
        &[0.25]
    }

    fn observe(&mut self, verdict: &Verdict) {
        self.heard.lock().unwrap().push(*verdict);
    }
}

fn expert() -> Arc<Slow> {
    Slow::new(&pair(3)[0], 100, 3)
}

fn options() -> SessionOptions {
    let sampling = SamplingOptions { temperature: 1.0, ..Default::default() };
    SessionOptions { sampling, max_tokens: 40, draft_length: Some(3.into()), seed: 4, ..Default::default() }
}

/// The tokens of a text, and the error it broke off with.
fn text(engine: &mut Engine) -> (Vec<TokenId>, Option<Error>) {
    let (mut tokens, mut error) = (Vec::new(), None);
    for step in engine.session(&[1, 2, 1], &options()).unwrap() {
        match step {
            Ok(step) => tokens.extend(step.tokens.iter().map(|token| token.id)),
            Err(found) => error = Some(found),
        }
    }
    (tokens, error)
}

fn alone() -> Vec<TokenId> {
    let (tokens, error) = text(&mut engine(expert(), Odd::new(|_| Ok(())), "lossless"));
    assert!(error.is_none() && tokens.len() == 40);
    tokens
}

/// A failure shows where the drafter alone would show it: texts and messages are the same.
#[test]
fn an_error_comes_where_it_would_come() {
    let act = |sequence: &[TokenId]| match sequence.len() {
        20.. => Err(ModelError::Backend { message: "unplugged".into() }),
        _ => Ok(()),
    };
    let one = |drafter: Box<dyn Drafter>| text(&mut engine(expert(), drafter, "lossless"));
    let (tokens, error) = one(Box::new(Odd::new(act)));
    let (kept, found) = one(Box::new(Ahead::new(Odd::new(act), always(6))));
    assert_eq!(tokens, alone()[..tokens.len()]);
    // A draft asks at its later positions too; ahead each piece is asked for alone.
    assert!(!kept.is_empty() && kept == alone()[..kept.len()]);
    for error in [error.unwrap(), found.unwrap()] {
        assert_eq!(error.kind(), ErrorKind::Drafter);
        assert_eq!(error.source().unwrap().to_string(), "the device failed: unplugged");
    }
}

#[test]
fn a_panic_is_an_error_and_another_drafter_goes_on() {
    let act = |sequence: &[TokenId]| {
        assert!(sequence.len() < 20, "too long for me");
        Ok(())
    };
    let mut engine = engine(expert(), Ahead::new(Odd::new(act), always(6)), "lossless");
    let (kept, error) = text(&mut engine);
    assert!(kept.len() >= 10 && kept == alone()[..kept.len()]);
    let error = error.unwrap();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Drafter, "drafter `odd` failed"));
    let reason = "drafter `odd` panicked: too long for me; put another in its place";
    assert_eq!(error.source().unwrap().to_string(), reason);
    let again = text(&mut engine);
    assert_eq!((again.0.len(), again.1.unwrap().source().unwrap().to_string().as_str()), (0, reason));
    engine.replace_drafter(Ahead::new(Odd::new(|_| Ok(())), always(6))).unwrap();
    let (tokens, error) = text(&mut engine);
    assert!(error.is_none());
    assert_eq!(tokens, alone());
}

/// The other thread is in a step that takes as long as the test wants.
#[test]
fn it_can_be_dropped_whatever_the_other_thread_does() {
    let (open, gate) = bounded::<()>(0);
    let here = std::thread::current().id();
    let wait = move |_: &[TokenId]| {
        if std::thread::current().id() != here {
            let _ = gate.recv_timeout(LONG);
        }
        Ok(())
    };
    let mut engine = engine(expert(), Ahead::new(Odd::new(wait), always(6)), "lossless");
    let mut session = engine.session(&[1, 2, 1], &options()).unwrap();
    assert!(session.next().unwrap().is_ok());
    drop(session);
    drop(engine);
    drop(open);
}

/// Dropped at any moment, and the drafter goes with it.
#[test]
fn nothing_is_left_behind() {
    for round in 0..200 {
        let here = Arc::new(());
        let there = here.clone();
        let odd = Odd::new(move |_| {
            let _ = &there;
            Ok(())
        });
        let mut engine = engine(Slow::new(&pair(3)[0], 0, 3), Ahead::new(odd, always(6)), "lossless");
        let session = engine.session(&[1, 2, 1], &options()).unwrap();
        assert!(session.take(round % 5).all(|step| step.is_ok()));
        drop(engine);
        // It is dropped by whoever comes last.
        let waited = Instant::now();
        while Arc::strong_count(&here) > 1 {
            assert!(waited.elapsed() < LONG, "something of the drafter is left");
            std::thread::yield_now();
        }
    }
}

#[test]
fn sessions_that_break_off_leave_nothing_to_the_next() {
    let mut engine = engine(expert(), Ahead::new(Odd::new(|_| Ok(())), always(6)), "lossless");
    let expected = alone();
    for rounds in 0..20 {
        let session = engine.session(&[1, 2, 1], &SessionOptions { seed: rounds as u64, ..options() });
        assert!(session.unwrap().take(rounds % 4).all(|step| step.is_ok()));
        assert_eq!(text(&mut engine).0, expected);
    }
}

/// Which threads asked the drafter, and what is said of it.
fn threads(drafter: impl FnOnce(Odd) -> Odd, options: &SessionOptions) -> (Vec<ThreadId>, String) {
    let (sender, receiver) = bounded(1000);
    let odd = Odd::new(move |_| {
        let _ = sender.try_send(std::thread::current().id());
        Ok(())
    });
    let ahead = Ahead::new(drafter(odd), always(6));
    let report = ahead.report();
    let mut engine = engine(expert(), ahead, "lossless");
    assert!(engine.session(&[1, 2, 1], options).unwrap().all(|step| step.is_ok()));
    let mut threads: Vec<_> = receiver.try_iter().collect();
    threads.dedup();
    (threads, report.stats().to_string())
}

struct Any;

impl Constraint for Any {
    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn start(&self, _: &[TokenId]) -> Result<Box<dyn Matcher>, ConstraintError> {
        Ok(Box::new(Any))
    }
}

impl Matcher for Any {
    fn allowed(&mut self, _: &[TokenId]) -> Result<Arc<TokenSet>, ConstraintError> {
        Ok(Arc::new(TokenSet::from_words(vec![0b11_1111], VOCAB)))
    }

    fn forced(&mut self, _: &[TokenId], _: usize, _: bool) -> Result<Vec<TokenId>, ConstraintError> {
        Ok(Vec::new())
    }
}

struct Notes;

impl LogitsProcessor for Notes {
    fn process(&self, _: &Context<'_>, _: &mut [f32]) {}
}

#[test]
fn what_cannot_be_known_ahead_is_asked_here_alone() {
    let here = vec![std::thread::current().id()];
    let impure = threads(|odd| Odd { pure: false, ..odd }, &options());
    assert_eq!(impure.0, here);
    assert!(impure.1.starts_with("drafting ahead is off: the drafter drafts all at once, or from what"));
    let sampling = SamplingOptions { mirostat: Some(Mirostat::default()), ..options().sampling };
    let mirostat = threads(|odd| odd, &SessionOptions { sampling, ..options() });
    assert_eq!(mirostat.0, here);
    assert!(mirostat.1.contains("mirostat"), "{}", mirostat.1);
    let constrained = SessionOptions { constraint: Some(Arc::new(Any)), ..options() };
    let processors: Vec<Arc<dyn LogitsProcessor>> = vec![Arc::new(Notes)];
    for options in [constrained, SessionOptions { processors, ..options() }] {
        let (threads, why) = threads(|odd| odd, &options);
        assert_eq!(threads, here);
        assert!(why.contains("follows the text"), "{why}");
    }
    let is_seen = |_| threads(|odd| odd, &options()).0.len() > 1;
    assert!((0..1000).any(is_seen), "otherwise another thread asks, sooner or later");
}

/// Verdicts arrive in order: at once where the drafter may learn from them, else before its next step.
#[test]
fn verdicts_are_heard_in_order() {
    for pure in [false, true] {
        let odd = Odd { pure, ..Odd::new(|_| Ok(())) };
        let heard = odd.heard.clone();
        let other = Odd::new(|_| Ok(()));
        let expected = other.heard.clone();
        assert_eq!(text(&mut engine(expert(), other, "lossless")).0, alone());
        let mut engine = engine(expert(), Ahead::new(odd, always(6)), "lossless");
        assert_eq!(text(&mut engine).0, alone());
        drop(engine);
        let [heard, expected] = [heard, expected].map(|all| all.lock().unwrap().clone());
        assert!(heard == expected[..heard.len()]);
        assert!(heard.len() == expected.len() || pure && heard.len() > 3);
    }
}

#[test]
fn what_the_drafter_says_of_its_proposal_is_handed_on() {
    let mut ahead = Ahead::new(Odd { pure: false, ..Odd::new(|_| Ok(())) }, always(6));
    assert!(ahead.confidences().is_empty());
    let sampler = Sampler::new(&SamplingOptions::default()).unwrap();
    let (memory, stop) = (Memory::off(), None);
    let request = DraftRequest {
        max: 1,
        score_after: false,
        raw: false,
        vocab: VOCAB,
        prompt: 1,
        memory,
        sampler: &sampler,
        stop,
    };
    for _ in 0..2 {
        ahead.propose(&[1], &request, &mut SeededDraws::new(0, 1)).unwrap();
        assert_eq!(ahead.confidences(), [0.25]);
    }
    assert!(ahead.parts().is_empty());
}

/// Drafters that look tokens up work as without.
#[test]
fn a_drafter_that_looks_up_is_left_alone() {
    let ahead = Ahead::new(NgramDrafter::default(), always(6));
    let report = ahead.report();
    let with = text(&mut engine(expert(), ahead, "lossless"));
    let without = text(&mut engine(expert(), NgramDrafter::default(), "lossless"));
    assert_eq!(with.0, without.0);
    assert!(!report.stats().on && report.stats().hit_rate().is_none());
}
