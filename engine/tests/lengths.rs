//! Draft lengths change the speed of a text and never its law: laws of whole texts, over all random outcomes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::{DraftRequest, Drafter, ModelDrafter, NgramDrafter};
use drafthorse_engine::{Adaptive, Asked, DraftCosts, DraftLength, Engine, ErrorKind, SessionOptions};
use drafthorse_logits::{
    Draws, Proposal, SamplingOptions, TokenId, Verdict,
    exact::{distance, outcomes},
};
use drafthorse_model::{ModelError, TableModel};
use drafthorse_verifier::{AcceptanceRule, rule};
use std::{cell::RefCell, collections::HashMap, collections::HashSet, sync::Arc};

type Law = HashMap<Vec<TokenId>, f64>;

const VOCAB: usize = 3;
const PROMPT: [TokenId; 4] = [0, 1, 0, 1];
const TOLERANCE: f64 = 1e-9;
/// What a control is off by at least.
const OFF: f64 = 1e-3;

fn expert() -> Arc<TableModel> {
    Arc::new(TableModel::random(VOCAB, 1.5, 3))
}

fn engine(drafter: impl Drafter + 'static, rule: Arc<dyn AcceptanceRule>) -> Engine {
    Engine::builder().expert(expert()).drafter(drafter).rule(rule).build().unwrap()
}

fn options(length: impl Into<DraftLength>, temperature: f32, tokens: usize) -> SessionOptions {
    let sampling = SamplingOptions { temperature, ..Default::default() };
    SessionOptions { sampling, draft_length: Some(length.into()), max_tokens: tokens, ..Default::default() }
}

/// The law of the text, and which numbers of tokens rounds drafted.
fn of_engine(engine: &mut Engine, options: &SessionOptions) -> (Law, HashSet<usize>) {
    let drafted = RefCell::new(HashSet::new());
    let law = outcomes(|draws| {
        let session = engine.session_with(&PROMPT, options, draws).unwrap();
        let tokens = session.map(Result::unwrap).inspect(|step| {
            drafted.borrow_mut().insert(step.drafted);
        });
        tokens.flat_map(|step| step.tokens).map(|token| token.id).collect()
    });
    (law, drafted.into_inner())
}

/// Costs by which lengths from 0 up pay, as acceptances come out.
fn frozen(draft: f64, acceptance: f64) -> DraftLength {
    let costs = DraftCosts::new(vec![(1, 1.0), (2, 1.05), (5, 1.3)], vec![(1, draft)]);
    Adaptive::up_to(3).with_costs(costs.with_acceptance(vec![acceptance])).into()
}

fn lengths() -> Vec<DraftLength> {
    vec![
        DraftLength::Confidence { threshold: 0.6, max: 3 },
        DraftLength::Confidence { threshold: 0.9, max: 3 },
        DraftLength::Entropy { threshold: 0.3, max: 3 },
        DraftLength::Entropy { threshold: 0.38, max: 3 },
        frozen(0.05, 0.8),
        frozen(0.25, 0.6),
        frozen(0.4, 0.5),
    ]
}

fn drafters() -> [(&'static str, Box<dyn Drafter>); 3] {
    [
        ("another model", Box::new(ModelDrafter::new(Arc::new(TableModel::random(VOCAB, 2.0, 7))))),
        ("the expert", Box::new(ModelDrafter::new(expert()))),
        ("n-gram", Box::new(NgramDrafter::new(1, 3).unwrap())),
    ]
}

#[test]
fn every_length_keeps_the_experts_law() {
    for temperature in [0.7, 1.0] {
        let plain = of_engine(
            &mut engine(NgramDrafter::default(), rule("lossless").unwrap()),
            &options(0, temperature, 4),
        )
        .0;
        for spec in ["lossless", "block", "exact-match"] {
            for (name, drafter) in drafters() {
                let mut engine = engine(drafter, rule(spec).unwrap());
                for length in lengths() {
                    let (law, _) = of_engine(&mut engine, &options(length.clone(), temperature, 4));
                    let off = distance(&law, &plain);
                    assert!(off < TOLERANCE, "{spec}, {name}, {length}: {off} off");
                }
            }
        }
    }
}

/// The law of a cascade is made of what the drafter says; how much it says at once is not part of it.
#[test]
fn every_length_keeps_the_law_of_a_cascade() {
    for spec in ["cascade-chow:lenience=0.4", "cascade-token-v3:lenience=0.5"] {
        let drafter = || ModelDrafter::new(Arc::new(TableModel::random(VOCAB, 2.0, 7)));
        let mut engine = engine(drafter(), rule(spec).unwrap());
        let one = of_engine(&mut engine, &options(1, 1.0, 4)).0;
        for length in lengths() {
            let off = distance(&of_engine(&mut engine, &options(length.clone(), 1.0, 4)).0, &one);
            assert!(off < TOLERANCE, "{spec}, {length}: {off} off");
        }
    }
}

/// What never changes a length is tested by nothing.
#[test]
fn lengths_differ() {
    let mut engine =
        engine(ModelDrafter::new(Arc::new(TableModel::random(VOCAB, 2.0, 7))), rule("lossless").unwrap());
    for length in lengths() {
        let (_, drafted) = of_engine(&mut engine, &options(length.clone(), 1.0, 5));
        assert!(drafted.len() >= 2, "{length:?} drafted {drafted:?} tokens a round");
    }
}

/// A drafter that leaves out the last tokens of its draft as it sees fit.
#[derive(Debug)]
struct Cheat {
    honest: ModelDrafter,
    keeps: fn(&Proposal) -> usize,
}

impl Drafter for Cheat {
    fn name(&self) -> &'static str {
        "cheat"
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
        let mut proposal = self.honest.propose(sequence, request, draws)?;
        let length = (self.keeps)(&proposal);
        proposal.tokens.truncate(length);
        proposal.scores.truncate(length);
        Ok(proposal)
    }

    fn observe(&mut self, verdict: &Verdict) {
        self.honest.observe(verdict);
    }
}

fn chances(proposal: &Proposal) -> Vec<f64> {
    proposal.tokens.iter().zip(&proposal.scores).map(|(token, scores)| scores.prob(*token)).collect()
}

/// Drops the token that is not likely enough, as `p-min` does.
fn drops_the_unlikely(proposal: &Proposal) -> usize {
    chances(proposal).iter().take_while(|chance| **chance >= 0.5).count()
}

/// Looks for the best length once all tokens are drawn.
fn picks_the_best(proposal: &Proposal) -> usize {
    let mut reach = 1.0;
    let mut tokens = 1.0;
    let rate = |(length, chance): (usize, f64)| {
        reach *= chance;
        tokens += reach;
        (length + 1, tokens / (1.0 + 0.35 * (length + 1) as f64))
    };
    let rates = chances(proposal).into_iter().enumerate().map(rate);
    rates.fold((0, 1.0), |best, rate| if rate.1 > best.1 { rate } else { best }).0
}

/// Decides by what is drawn before a token alone.
fn looks_back(proposal: &Proposal) -> usize {
    let unlikely = chances(proposal).iter().position(|chance| *chance < 0.5);
    unlikely.map_or(proposal.tokens.len(), |last| last + 1)
}

#[test]
fn lengths_that_look_ahead_break_the_law() {
    for spec in ["lossless", "block"] {
        let off = |keeps| {
            let honest = ModelDrafter::new(Arc::new(TableModel::random(VOCAB, 2.0, 7)));
            let mut engine = engine(Cheat { honest, keeps }, rule(spec).unwrap());
            let plain = of_engine(&mut engine, &options(0, 1.0, 4)).0;
            distance(&of_engine(&mut engine, &options(3, 1.0, 4)).0, &plain)
        };
        assert!(off(looks_back) < TOLERANCE, "{spec}: {}", off(looks_back));
        for (name, keeps) in
            [("drops", drops_the_unlikely as fn(&Proposal) -> usize), ("picks", picks_the_best)]
        {
            assert!(off(keeps) > OFF, "{spec}: a drafter that {name} is {} off", off(keeps));
        }
    }
}

/// The golden case `legality`: drafter and expert say (1/2, 1/2), and the second draft is withdrawn whenever it is
/// token 0.
#[test]
fn the_golden_case_of_a_cheating_length() {
    let even = || Arc::new(TableModel::from_fn(2, |_| vec![0.0, 0.0]));
    let second_of_1 = |keeps| {
        let cheat = Cheat { honest: ModelDrafter::new(even()), keeps };
        let mut engine = Engine::builder().expert(even()).drafter(cheat).build().unwrap();
        let law = outcomes(|draws| {
            let options = options(2, 1.0, 3);
            let session = engine.session_with(&[0], &options, draws).unwrap();
            session.flat_map(|step| step.unwrap().tokens).map(|token| token.id).nth(1).unwrap()
        });
        law[&1]
    };
    let cheats =
        |proposal: &Proposal| if proposal.tokens.get(1) == Some(&0) { 1 } else { proposal.tokens.len() };
    assert!((second_of_1(cheats) - 0.75).abs() < 1e-12);
    assert!((second_of_1(|proposal| proposal.tokens.len()) - 0.5).abs() < 1e-12);
}

#[test]
fn given_costs_give_the_same_text_for_the_same_seed() {
    let drafter = || ModelDrafter::new(Arc::new(TableModel::random(VOCAB, 2.0, 7)));
    let run = |engine: &mut Engine, seed| {
        let options = SessionOptions { seed, ..options(frozen(0.25, 0.6), 1.0, 200) };
        let steps: Vec<_> = engine.session(&PROMPT, &options).unwrap().map(Result::unwrap).collect();
        steps
            .iter()
            .map(|step| (step.drafted, step.tokens.iter().map(|token| token.id).collect()))
            .collect::<Vec<(usize, Vec<TokenId>)>>()
    };
    let mut engine = engine(drafter(), rule("lossless").unwrap());
    let first = run(&mut engine, 5);
    run(&mut engine, 6);
    assert_eq!(run(&mut engine, 5), first, "what another text taught is forgotten");
}

#[test]
fn what_is_learnt_is_kept_and_can_be_given() {
    let drafter = || ModelDrafter::new(Arc::new(TableModel::random(VOCAB, 2.0, 7)));
    let mut engine = engine(drafter(), rule("lossless").unwrap());
    assert_eq!(engine.draft_costs(), None);
    let options = options(DraftLength::default(), 1.0, 200);
    let mut session = engine.session(&PROMPT, &options).unwrap();
    session.by_ref().for_each(|step| drop(step.unwrap()));
    let stats = session.stats().clone();
    drop(session);
    assert!(stats.idle_rounds > 0, "plain rounds were measured: {stats:?}");
    assert!(stats.speculation.is_some() && stats.mean_draft_length().is_some());
    let costs = engine.draft_costs().unwrap();
    assert_eq!(costs.check(), Ok(()));
    assert!(costs.verify.len() > 1 && !costs.draft.is_empty() && !costs.acceptance.is_empty(), "{costs:?}");
    let first = |length: DraftLength| {
        let builder = Engine::builder().expert(expert()).drafter(drafter()).draft_length(length);
        let options = SessionOptions { draft_length: None, ..options.clone() };
        builder.build().unwrap().session(&PROMPT, &options).unwrap().next().unwrap().unwrap().asked
    };
    assert_eq!(first(DraftLength::default()), Asked::Idle, "what plain decoding costs is not known");
    let free = DraftCosts::new(vec![(1, 1.0), (9, 1.1)], vec![(1, 0.0)]);
    assert!(matches!(first(Adaptive::default().starting_from(free).into()), Asked::Tokens(_)));
    engine.replace_drafter(drafter()).unwrap();
    assert_eq!(engine.draft_costs(), None, "another drafter, other costs");
}

#[test]
fn costs_and_thresholds_out_of_range_are_refused() {
    let mut engine = engine(NgramDrafter::default(), rule("lossless").unwrap());
    let wrong: [DraftLength; 4] = [
        DraftLength::Confidence { threshold: 1.5, max: 3 },
        DraftLength::Entropy { threshold: 0.3, max: 0 },
        Adaptive::up_to(0).into(),
        Adaptive::default().with_costs(DraftCosts::new(Vec::new(), Vec::new())).into(),
    ];
    for length in wrong {
        let error = engine.session(&PROMPT, &options(length.clone(), 1.0, 3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Option, "{error}");
        let built = Engine::builder().expert(expert()).draft_length(length).build();
        assert_eq!(built.unwrap_err().kind(), ErrorKind::Option);
    }
}

/// A drafter that is sure of some of what it looks up.
struct Sure(NgramDrafter, Vec<f64>);

impl Drafter for Sure {
    fn name(&self) -> &'static str {
        "sure"
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let proposal = self.0.propose(sequence, request, draws)?;
        self.1 = proposal.tokens.iter().map(|token| 0.9 - 0.4 * f64::from(*token)).collect();
        Ok(proposal)
    }

    fn confidences(&self) -> &[f64] {
        &self.1
    }
}

/// Point masses may be cut by what they are.
#[test]
fn drafts_that_are_looked_up_are_cut() {
    let plain =
        of_engine(&mut engine(NgramDrafter::default(), rule("lossless").unwrap()), &options(0, 1.0, 5)).0;
    let sure = || Sure(NgramDrafter::new(1, 3).unwrap(), Vec::new());
    for length in [DraftLength::Confidence { threshold: 0.7, max: 3 }, frozen(0.0, 0.5)] {
        let mut engine = engine(sure(), rule("lossless").unwrap());
        let (law, drafted) = of_engine(&mut engine, &options(length.clone(), 1.0, 5));
        let off = distance(&law, &plain);
        assert!(off < TOLERANCE, "{length:?}: {off} off");
        assert!(drafted.len() >= 3, "{length:?}: {drafted:?}");
    }
}
