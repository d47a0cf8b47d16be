//! Hybrids use the drafter that pays most, by what verdicts and the clock say.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::{
    Clock, DraftRequest, Drafter, HybridDrafter, ModelDrafter, NgramDrafter, NoDrafter, SuffixDrafter,
};
use drafthorse_logits::{
    Draws, Memory, Origin, Proposal, Sampler, SamplingOptions, Scores, SeededDraws, TokenId, Verdict,
};
use drafthorse_model::{ModelError, TableModel, Vocabulary};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A clock that is set by hand.
#[derive(Clone, Default)]
struct Hands(Arc<Mutex<Duration>>);

impl Hands {
    fn pass(&self, millis: u64) {
        *self.0.lock().unwrap() += Duration::from_millis(millis);
    }
}

impl Clock for Hands {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

/// Proposes its token, as often as asked; takes its time, and hears verdicts.
struct Talker {
    token: TokenId,
    millis: u64,
    clock: Hands,
    confidence: Vec<f64>,
    heard: Arc<Mutex<Vec<Verdict>>>,
}

impl Talker {
    fn new(token: TokenId, millis: u64, clock: &Hands) -> Self {
        Self { token, millis, clock: clock.clone(), confidence: vec![], heard: Arc::default() }
    }
}

impl Drafter for Talker {
    fn name(&self) -> &'static str {
        ["zero", "one", "two", "three"][self.token as usize]
    }

    fn propose(
        &mut self,
        _sequence: &[TokenId],
        request: &DraftRequest<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        self.clock.pass(self.millis);
        let tokens = vec![self.token; request.max];
        let rows = request.max + usize::from(request.score_after);
        Ok(Proposal { tokens, scores: vec![Scores::point(self.token, request.vocab); rows] })
    }

    fn observe(&mut self, verdict: &Verdict) {
        self.heard.lock().unwrap().push(*verdict);
    }

    fn confidences(&self) -> &[f64] {
        &self.confidence
    }
}

fn propose(hybrid: &mut HybridDrafter, max: usize) -> Proposal {
    let sampler = Sampler::new(&SamplingOptions::default()).unwrap();
    let (memory, sampler) = (Memory::off(), &sampler);
    let request = DraftRequest {
        max,
        score_after: max == 0,
        raw: true,
        vocab: 9,
        prompt: 1,
        memory,
        sampler,
        stop: None,
    };
    let proposal = hybrid.propose(&[1, 2, 1], &request, &mut SeededDraws::new(0, 1)).unwrap();
    assert_eq!(proposal.check(9, max), Ok(()));
    proposal
}

/// Runs rounds in which `accept` tokens of the token's drafter stand and the expert takes 10 ms; who was used.
fn rounds(
    hybrid: &mut HybridDrafter,
    clock: &Hands,
    rounds: usize,
    accept: impl Fn(TokenId) -> usize,
) -> Vec<TokenId> {
    let mut used = Vec::new();
    for _ in 0..rounds {
        let proposal = propose(hybrid, 4);
        let token = proposal.tokens[0];
        clock.pass(10);
        let accepted = accept(token);
        let origin = if accepted < 4 { Origin::Replacement } else { Origin::Bonus };
        hybrid.observe(&Verdict { accepted, next: 0, origin });
        used.push(token);
    }
    used
}

#[test]
fn the_one_that_pays_most_is_used_and_a_change_is_noticed() {
    let clock = Hands::default();
    let parts = [Talker::new(1, 0, &clock), Talker::new(2, 2, &clock), Talker::new(3, 30, &clock)];
    let heard = parts.each_ref().map(|part| part.heard.clone());
    let parts = parts.map(|part| Box::new(part) as Box<dyn Drafter>);
    let mut hybrid = HybridDrafter::new(parts.into()).unwrap().with_clock(clock.clone());
    assert_eq!(hybrid.name(), "one+two+three");
    // The third is right most often, and too slow for that to pay.
    let used = rounds(&mut hybrid, &clock, 200, |token| token as usize);
    let count = |used: &[TokenId], token| used.iter().filter(|used| **used == token).count();
    assert!(count(&used, 2) > 180, "{used:?}");
    assert!(used[..9].iter().all(|token| count(&used[..9], *token) == 3), "all are tried at first: {used:?}");
    // The verdicts went to whom they were about.
    for (token, heard) in (1..).zip(&heard) {
        assert_eq!(heard.lock().unwrap().len(), count(&used, token));
    }
    let counted: Vec<_> =
        hybrid.parts().iter().map(|part| (part.asked, part.used, part.drafted, part.accepted)).collect();
    let wanted = (1..=3u32).map(|token| {
        let n = count(&used, token) as u64;
        (n, n, 4 * n, u64::from(token) * n)
    });
    let wanted: Vec<_> = wanted.collect();
    assert_eq!(counted, wanted);
    let names: Vec<_> = hybrid.parts().into_iter().map(|part| part.name).collect();
    assert_eq!(names, ["one", "two", "three"]);
    let rates: Vec<_> = hybrid.parts().iter().map(|part| part.tokens_per_second.unwrap().round()).collect();
    assert_eq!(rates, [200.0, 250.0, 100.0]);
    // The second fails from now on; the first is as it was.
    let used = rounds(&mut hybrid, &clock, 200, |token| if token == 2 { 0 } else { token as usize });
    assert!(count(&used[100..], 1) > 80, "{used:?}");
    // The same observations and times give the same choices.
    let again = || {
        let clock = Hands::default();
        let parts = [1, 2, 3].map(|t| Box::new(Talker::new(t, 1, &clock)) as Box<dyn Drafter>);
        let mut hybrid = HybridDrafter::new(parts.into()).unwrap().with_clock(clock.clone());
        rounds(&mut hybrid, &clock, 100, |token| (4 - token) as usize)
    };
    assert_eq!(again(), again());
}

/// Has something to say every so many rounds, and takes its time in any case; 0 for never.
struct Seldom(Talker, u64, u64);

impl Drafter for Seldom {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        self.1 += 1;
        let proposal = self.0.propose(sequence, request, draws)?;
        Ok(if self.2 > 0 && self.1.is_multiple_of(self.2) { proposal } else { Proposal::empty() })
    }
}

/// Tokens a second of 400 rounds in which the expert takes 10 ms and as many tokens stand as the drafter is called.
fn speed(parts: impl FnOnce(&Hands) -> Vec<Box<dyn Drafter>>) -> f64 {
    let clock = Hands::default();
    let mut hybrid = HybridDrafter::new(parts(&clock)).unwrap().with_clock(clock.clone());
    let mut tokens = 0;
    for _ in 0..400 {
        let proposal = propose(&mut hybrid, 4);
        clock.pass(10);
        tokens += 1;
        let Some(token) = proposal.tokens.first() else { continue };
        tokens += *token as usize;
        hybrid.observe(&Verdict { accepted: *token as usize, next: 0, origin: Origin::Replacement });
    }
    tokens as f64 / clock.now().as_secs_f64()
}

/// A hybrid of a drafter that looks tokens up, or a quick model, and one that is of no use.
#[test]
fn a_bad_partner_does_not_spoil_a_good_drafter() {
    let lookup = |clock: &Hands| Box::new(Seldom(Talker::new(3, 0, clock), 0, 3)) as Box<dyn Drafter>;
    let model = |clock: &Hands| Box::new(Talker::new(2, 3, clock)) as Box<dyn Drafter>;
    let useless = |clock: &Hands| Box::new(Talker::new(0, 12, clock)) as Box<dyn Drafter>;
    let mute = |clock: &Hands| Box::new(Seldom(Talker::new(1, 12, clock), 0, 0)) as Box<dyn Drafter>;
    for good in [&lookup as &dyn Fn(&Hands) -> Box<dyn Drafter>, &model] {
        let alone = speed(|clock| vec![good(clock), Box::new(NoDrafter)]);
        for bad in [&useless as &dyn Fn(&Hands) -> Box<dyn Drafter>, &mute] {
            let spoilt = speed(|clock| vec![bad(clock), Box::new(NoDrafter)]);
            for [first, second] in [[good, bad], [bad, good]] {
                let both = speed(|clock| vec![first(clock), second(clock)]);
                assert!(both > 0.94 * alone, "{both} tokens a second, and {alone} without the other");
            }
            assert!((85.0..100.1).contains(&spoilt), "about as without drafts: {spoilt}");
        }
    }
    // Two that are of use are better than each of them.
    let both = speed(|clock| vec![lookup(clock), model(clock)]);
    let alone = [&lookup as &dyn Fn(&Hands) -> _, &model]
        .map(|part| speed(|clock| vec![part(clock), Box::new(NoDrafter)]));
    assert!(both > alone[0] && both > alone[1], "{both} and {alone:?}");
}

/// Where a rule needs scores in any case, everybody may be asked.
#[test]
fn who_is_left_out_still_answers_where_scores_are_needed() {
    let clock = Hands::default();
    let parts = [Talker::new(0, 30, &clock), Talker::new(0, 40, &clock)];
    let parts = parts.map(|part| Box::new(part) as Box<dyn Drafter>);
    let mut hybrid = HybridDrafter::new(parts.into()).unwrap().with_clock(clock.clone());
    for _ in 0..12 {
        if !propose(&mut hybrid, 4).tokens.is_empty() {
            clock.pass(10);
            hybrid.observe(&Verdict { accepted: 0, next: 0, origin: Origin::Replacement });
        }
    }
    assert!(propose(&mut hybrid, 4).tokens.is_empty(), "both are worse than silence");
    assert_eq!(propose(&mut hybrid, 0).scores.len(), 1);
}

#[test]
fn who_is_unsure_or_has_nothing_gives_way() {
    let clock = Hands::default();
    let unsure = Talker { confidence: vec![0.3, 0.9], ..Talker::new(1, 1, &clock) };
    let make = |least, second: Box<dyn Drafter>| {
        let unsure = Talker { confidence: unsure.confidence.clone(), ..Talker::new(1, 1, &clock) };
        let hybrid = HybridDrafter::new(vec![Box::new(NoDrafter), Box::new(unsure), second]).unwrap();
        hybrid.with_min_confidence(least).unwrap().with_clock(clock.clone())
    };
    let mut hybrid = make(0.4, Box::new(Talker::new(2, 1, &clock)));
    assert_eq!(propose(&mut hybrid, 2).tokens, [2, 2]);
    assert!(hybrid.confidences().is_empty());
    assert_eq!(propose(&mut make(0.2, Box::new(Talker::new(2, 1, &clock))), 2).tokens, [1, 1]);
    // Better than nothing.
    let mut hybrid = make(0.4, Box::new(NoDrafter));
    assert_eq!(propose(&mut hybrid, 2).tokens, [1, 1]);
    assert_eq!(hybrid.confidences(), [0.3, 0.9]);
    // Only the row after the sequence is wanted.
    assert_eq!(propose(&mut hybrid, 0).scores.len(), 1);
    // Nobody has anything, and a verdict that nobody waits for.
    let mut hybrid = HybridDrafter::new(vec![Box::new(NoDrafter), Box::new(NoDrafter)]).unwrap();
    assert!(propose(&mut hybrid, 3).tokens.is_empty());
    hybrid.observe(&Verdict { accepted: 0, next: 1, origin: Origin::Bonus });
}

#[test]
fn a_hybrid_is_what_all_its_parts_are() {
    let model = |vocab, context| {
        let model = TableModel::random(vocab, 1.0, 1).with_context(context);
        Box::new(ModelDrafter::new(Arc::new(model))) as Box<dyn Drafter>
    };
    let hybrid = HybridDrafter::new(vec![Box::new(SuffixDrafter::default()), model(9, 50)]).unwrap();
    assert_eq!(
        (hybrid.name(), hybrid.vocab_size(), hybrid.context_len()),
        ("suffix+model", Some(9), Some(50))
    );
    assert!(!hybrid.is_calibrated() && !hybrid.is_stepwise() && hybrid.mixes_beliefs());
    let lookups: Vec<Box<dyn Drafter>> =
        vec![Box::new(SuffixDrafter::default()), Box::new(NgramDrafter::default())];
    assert!(!HybridDrafter::new(lookups).unwrap().mixes_beliefs());
    let hybrid = HybridDrafter::new(vec![model(9, 50), model(9, 30)]).unwrap();
    assert!(hybrid.is_calibrated() && hybrid.is_stepwise() && hybrid.context_len() == Some(30));
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let error = |parts| HybridDrafter::new(parts).unwrap_err().to_string();
    assert!(error(vec![Box::new(NgramDrafter::default())]).starts_with("a hybrid of 1 drafters; at least 2"));
    let model = |vocab, text: Option<&str>| {
        let model = TableModel::random(vocab, 1.0, 1);
        let texts = |text: &str| Vocabulary::new((0..vocab).map(|token| Some(format!("{text}{token}"))));
        let model = match text {
            Some(text) => model.with_vocabulary(texts(text)),
            None => model,
        };
        Box::new(ModelDrafter::new(Arc::new(model)).named(format!("of {vocab}"))) as Box<dyn Drafter>
    };
    let message = error(vec![model(4, None), Box::new(NoDrafter), model(5, None)]);
    assert_eq!(
        message,
        "drafters `of 4` and `of 5` have different tokens (4 and 5 of them); both need one tokenizer"
    );
    let message = error(vec![model(4, Some("a")), model(4, Some("b"))]);
    assert!(message.contains("(token 0)"), "{message}");
    let hybrid = HybridDrafter::new(vec![model(4, None), model(4, None)]).unwrap();
    let error = hybrid.with_min_confidence(1.5).unwrap_err().to_string();
    assert_eq!(error, "min confidence 1.5 is out of range: 0 to 1");
}
