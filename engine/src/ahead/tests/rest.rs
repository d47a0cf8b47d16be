//! While nobody asks, nobody drafts.

use super::{LONG, Slow, VOCAB, always, engine, pair};
use crate::{Ahead, SessionOptions};
use crossbeam_channel::bounded;
use drafthorse_drafter::{DraftRequest, Drafter, ModelDrafter};
use drafthorse_logits::{Draws, Memory, Proposal, Sampler, SamplingOptions, SeededDraws, TokenId};
use drafthorse_model::ModelError;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A model that tells when it is asked and when it may rest.
struct Told<A, R> {
    model: ModelDrafter,
    asked: A,
    rests: R,
}

impl<A: FnMut() + Send, R: FnMut() + Send> Told<A, R> {
    fn new(asked: A, rests: R) -> Self {
        Self { model: ModelDrafter::new(pair(3)[1].clone()), asked, rests }
    }
}

impl<A: FnMut() + Send, R: FnMut() + Send> Drafter for Told<A, R> {
    fn name(&self) -> &'static str {
        "told"
    }

    fn is_stepwise(&self) -> bool {
        true
    }

    fn is_pure(&self) -> bool {
        true
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        (self.asked)();
        self.model.propose(sequence, request, draws)
    }

    fn rest(&mut self) {
        (self.rests)();
    }
}

/// Whether the other thread takes another step after the one it is in.
fn goes_on(rests: bool) -> bool {
    let (begun, steps) = bounded::<()>(1000);
    let (open, gate) = bounded::<()>(0);
    let here = std::thread::current().id();
    let asked = move || {
        if std::thread::current().id() != here {
            let _ = begun.try_send(());
            let _ = gate.recv_timeout(LONG);
        }
    };
    let mut ahead = Ahead::new(Told::new(asked, || ()), always(6));
    let sampler = Sampler::new(&SamplingOptions::default()).unwrap();
    let (memory, sampler, stop) = (Memory::off(), &sampler, None);
    let (score_after, raw, vocab, prompt) = (false, false, VOCAB, 1);
    let request = DraftRequest { max: 3, score_after, raw, vocab, prompt, memory, sampler, stop };
    ahead.propose(&[1, 2], &request, &mut SeededDraws::new(0, 1)).unwrap();
    steps.recv_timeout(LONG).unwrap();
    if rests {
        ahead.rest();
    }
    drop(open);
    let patience = if rests { Duration::from_millis(100) } else { LONG };
    steps.recv_timeout(patience).is_ok()
}

#[test]
fn the_other_thread_ends_with_the_step_it_is_in() {
    assert!(!goes_on(true));
    assert!(goes_on(false), "otherwise this would see nothing");
}

/// The last round of a text drafts nothing.
#[test]
fn a_drafter_rests_in_rounds_without_drafts_and_when_a_text_ends_or_is_given_up() {
    let counts: [Arc<AtomicUsize>; 2] = Default::default();
    let [asked, rests] = counts.clone().map(|count| {
        move || {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut engine = engine(Slow::new(&pair(3)[0], 0, 3), Told::new(asked, rests), "lossless");
    let taken = || counts.each_ref().map(|count| count.swap(0, Ordering::Relaxed));
    let options = |k: usize, max_tokens| SessionOptions {
        max_tokens,
        draft_length: Some(k.into()),
        ..Default::default()
    };
    // Without drafts: in each round, at the end, and when the session goes.
    let rounds = engine.session(&[1, 2, 1], &options(0, 5)).unwrap().count();
    assert_eq!((rounds, taken()), (5, [0, 7]));
    // Given up after a round with drafts.
    let mut session = engine.session(&[1, 2, 1], &options(3, 40)).unwrap();
    assert!(session.next().unwrap().is_ok());
    assert_eq!(taken(), [1, 0]);
    drop(session);
    assert_eq!(taken(), [0, 1]);
    // A single token has no room for drafts.
    assert_eq!(engine.session(&[1, 2, 1], &options(3, 1)).unwrap().count(), 1);
    assert_eq!(taken(), [0, 3]);
}
