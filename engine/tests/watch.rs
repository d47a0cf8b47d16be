//! What follows from how sure the expert is: giving up, drift, calibrated cascades.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::{Drafter, ModelDrafter, NgramDrafter};
use drafthorse_engine::{
    Abstain, Engine, ErrorKind, Finish, SequentialCascade, SequentialRule, SessionOptions, Step,
};
use drafthorse_logits::{
    Constraint, ConstraintError, Guidance, LogProbsOptions, Matcher, Probs, SamplingOptions, TokenId,
    TokenSet,
    calibration::Calibrator,
    drift::Reference,
    exact::{distance, outcomes},
};
use drafthorse_model::TableModel;
use drafthorse_verifier::{AcceptanceRule, Confidence, Guide, rule};
use std::{collections::HashMap, sync::Arc};

const PROMPT: [TokenId; 4] = [0, 1, 0, 1];

fn expert(vocab: usize) -> Arc<TableModel> {
    Arc::new(TableModel::random(vocab, 2.0, 3))
}

fn other(vocab: usize) -> Arc<TableModel> {
    Arc::new(TableModel::random(vocab, 2.0, 7))
}

fn drafters(vocab: usize) -> [Box<dyn Drafter>; 3] {
    [
        Box::new(ModelDrafter::new(other(vocab))),
        Box::new(NgramDrafter::new(1, 2).unwrap()),
        Box::new(ModelDrafter::new(expert(vocab))),
    ]
}

fn engine(expert: &Arc<TableModel>, drafter: Box<dyn Drafter>, rule: Arc<dyn AcceptanceRule>) -> Engine {
    Engine::builder().expert(expert.clone()).drafter(drafter).rule(rule).build().unwrap()
}

fn abstain(below: f64, patience: usize) -> Abstain {
    Abstain { below, patience, calibrator: None }
}

fn options(temperature: f32, max_tokens: usize) -> SessionOptions {
    let sampling = SamplingOptions { temperature, ..Default::default() };
    SessionOptions { sampling, max_tokens, ..Default::default() }
}

fn steps(engine: &mut Engine, options: &SessionOptions) -> Vec<Step> {
    engine.session(&PROMPT, options).unwrap().map(Result::unwrap).collect()
}

fn text(steps: &[Step]) -> (Vec<TokenId>, Option<Finish>) {
    let tokens = steps.iter().flat_map(|step| &step.tokens).map(|token| token.id);
    (tokens.collect(), steps.last().and_then(|step| step.finish.clone()))
}

/// Whether a text that grew to `tokens` ends there: the last `patience` confidences were all below, each of the row that
/// is `late` tokens before the one that predicts its token.
fn gives_up(expert: &TableModel, tokens: &[TokenId], abstain: &Abstain, late: usize) -> Option<f64> {
    let sequence = [&PROMPT, tokens].concat();
    let confidence = |end: usize| {
        let sure = Probs::softmax(expert.row(&sequence[..end - late])).max().1;
        abstain.calibrator.as_ref().map_or(sure, |calibrator| calibrator.apply(sure))
    };
    let ends = (PROMPT.len()..sequence.len()).rev().take(abstain.patience);
    let unsure = ends.clone().filter(|&end| confidence(end) < abstain.below).count();
    (unsure == abstain.patience).then(|| confidence(sequence.len() - 1))
}

#[test]
fn a_greedy_text_is_given_up_at_the_same_token_whatever_is_drafted() {
    const VOCAB: usize = 9;
    let expert = expert(VOCAB);
    let (mut given_up, mut whole) = (0, 0);
    for (below, patience) in [0.0, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 1.0]
        .into_iter()
        .flat_map(|below| [1, 2, 3, 5].map(|n| (below, n)))
    {
        let calibrator = (patience == 2).then(|| Calibrator::parse("platt:0.8,0.1").unwrap());
        let abstain = Abstain { below, patience, calibrator };
        // By hand: the best token, one after another.
        let mut wanted: (Vec<TokenId>, Finish) = (vec![], Finish::MaxTokens);
        while wanted.0.len() < 30 && wanted.1 == Finish::MaxTokens {
            let row = expert.row(&[&PROMPT, &wanted.0[..]].concat()).to_vec();
            wanted.0.push(Probs::softmax(&row).max().0);
            if let Some(confidence) = gives_up(&expert, &wanted.0, &abstain, 0) {
                wanted.1 = Finish::Unsure { confidence };
            }
        }
        *(if wanted.1 == Finish::MaxTokens { &mut whole } else { &mut given_up }) += 1;
        for name in ["lossless", "block", "exact-match", "cascade-token-v3:lenience=0"] {
            for (at, drafter) in drafters(VOCAB).into_iter().enumerate() {
                if name.starts_with("cascade") && at == 1 {
                    continue;
                }
                let mut engine = engine(&expert, drafter, rule(name).unwrap());
                for k in 0..=4 {
                    let abstain = Some(abstain.clone());
                    let options =
                        SessionOptions { abstain, draft_length: Some(k.into()), ..options(0.0, 30) };
                    let (tokens, finish) = text(&steps(&mut engine, &options));
                    assert_eq!(
                        (tokens, finish),
                        (wanted.0.clone(), Some(wanted.1.clone())),
                        "{name}, k = {k}"
                    );
                }
            }
        }
    }
    assert!(given_up >= 3 && whole >= 1, "{given_up} and {whole}");
}

type Law = HashMap<(Vec<TokenId>, bool), f64>;

/// The law of texts with whether they were given up, on paper.
fn on_paper(expert: &TableModel, abstain: &Abstain, length: usize, late: usize) -> Law {
    let (mut law, mut open) = (Law::new(), vec![(vec![], 1.0)]);
    while let Some((tokens, probability)) = open.pop() {
        let unsure = !tokens.is_empty() && gives_up(expert, &tokens, abstain, late).is_some();
        if unsure || tokens.len() == length {
            // A text that is as long as it may be was not given up.
            law.insert((tokens.clone(), unsure && tokens.len() < length), probability);
            continue;
        }
        let next = Probs::softmax(expert.row(&[&PROMPT, &tokens[..]].concat())).to_vec();
        open.extend((0..).zip(next).map(|(token, p)| ([&tokens[..], &[token]].concat(), probability * p)));
    }
    law
}

#[test]
fn the_law_of_given_up_texts_is_that_of_paper_whatever_is_drafted() {
    const VOCAB: usize = 3;
    const LENGTH: usize = 4;
    let expert = expert(VOCAB);
    for (below, patience) in [(0.55, 1), (0.6, 2), (0.68, 3)] {
        let abstain = abstain(below, patience);
        let paper = on_paper(&expert, &abstain, LENGTH, 0);
        assert!(paper.keys().any(|(_, unsure)| *unsure) && paper.keys().any(|(_, unsure)| !unsure));
        for name in ["lossless", "block"] {
            for drafter in drafters(VOCAB) {
                let mut engine = engine(&expert, drafter, rule(name).unwrap());
                for k in 0..=3 {
                    let abstain = Some(abstain.clone());
                    let options =
                        SessionOptions { abstain, draft_length: Some(k.into()), ..options(1.0, LENGTH) };
                    let law = outcomes(|draws| {
                        let session = engine.session_with(&PROMPT, &options, draws).unwrap();
                        let (tokens, finish) = text(&session.map(Result::unwrap).collect::<Vec<_>>());
                        (tokens, matches!(finish, Some(Finish::Unsure { .. })))
                    });
                    assert!(distance(&law, &paper) < 1e-9, "{name}, k = {k}");
                }
            }
        }
        // Confidences of the wrong row, and another patience, are other laws.
        assert!(distance(&on_paper(&expert, &abstain, LENGTH, 1), &paper) > 1e-3);
        let other = Abstain { patience: patience + 1, ..abstain.clone() };
        assert!(distance(&on_paper(&expert, &other, LENGTH, 0), &paper) > 1e-3);
    }
}

/// The third token is forced, and texts of six tokens are complete.
struct ThirdForced;

impl Constraint for ThirdForced {
    fn vocab_size(&self) -> usize {
        3
    }

    fn start(&self, _ends: &[TokenId]) -> Result<Box<dyn Matcher>, ConstraintError> {
        Ok(Box::new(Self))
    }
}

impl Matcher for ThirdForced {
    fn allowed(&mut self, generated: &[TokenId]) -> Result<Arc<TokenSet>, ConstraintError> {
        let allowed: &[TokenId] = match generated.len() {
            2 => &[1],
            0..=5 => &[0, 1],
            _ => &[],
        };
        Ok(Arc::new(TokenSet::of(3, allowed)))
    }
}

/// Where a constraint forces tokens, cuts drafts and ends texts, texts are given up at the same tokens all the same.
#[test]
fn constrained_texts_are_given_up_at_the_same_token() {
    let expert = expert(3);
    for name in ["lossless", "block"] {
        for drafter in drafters(3).into_iter().take(2) {
            let mut engine = engine(&expert, drafter, rule(name).unwrap());
            let mut law = |k: usize| {
                let (abstain, constraint) =
                    (Some(abstain(0.6, 2)), Some(Arc::new(ThirdForced) as Arc<dyn Constraint>));
                let draft_length = Some(k.into());
                let options = SessionOptions {
                    abstain,
                    constraint,
                    draft_length,
                    record: true,
                    certainties: true,
                    ..options(1.0, 9)
                };
                outcomes(|draws| {
                    let session = engine.session_with(&PROMPT, &options, draws).unwrap();
                    let steps: Vec<_> = session.map(Result::unwrap).collect();
                    let mut sequence = PROMPT.to_vec();
                    for step in &steps {
                        // The forced third token is not the drafter's, unless it proposes all at once and finds it itself.
                        assert_eq!((step.judged.len(), step.agreed.len()), (step.examined, step.examined));
                        assert!(step.forced_accepted <= step.forced && step.forced <= 1);
                        // The constraint does not count, not even where it forces a token.
                        for token in &step.tokens {
                            let p = Probs::softmax(expert.row(&sequence));
                            let found = token.certainty.unwrap();
                            assert!((found.entropy - p.entropy()).abs() < 1e-12 && found.entropy > 0.0);
                            assert_eq!(found.max_probability, p.max().1);
                            sequence.push(token.id);
                        }
                    }
                    let (tokens, finish) = text(&steps);
                    (tokens, format!("{finish:?}"))
                })
            };
            let plain = law(0);
            let ended = |finish: &str| plain.keys().any(|(_, text)| text.contains(finish));
            assert!(ended("Unsure") && ended("Grammar"));
            for k in [1, 3] {
                assert!(distance(&law(k), &plain) < 1e-9, "{name}, k = {k}");
            }
        }
    }
}

#[test]
fn another_model_drifts_from_the_reference() {
    const VOCAB: usize = 9;
    let model = |spread| Arc::new(TableModel::random(VOCAB, spread, 3));
    let run = |expert: &Arc<TableModel>, drift: Option<Reference>, seed| {
        let mut engine = engine(expert, Box::new(NgramDrafter::default()), rule("lossless").unwrap());
        let certainties = drift.is_none();
        let options = SessionOptions { drift, certainties, seed, ..options(1.0, 600) };
        let mut session = engine.session(&PROMPT, &options).unwrap();
        let tokens = session.by_ref().flat_map(|step| step.unwrap().tokens);
        let certainties: Vec<_> = tokens.filter_map(|token| token.certainty).collect();
        (certainties, session.drift(), session.watched().cloned())
    };
    let (certainties, warning, watched) = run(&model(2.0), None, 1);
    assert_eq!((certainties.len(), warning, watched), (600, None, None));
    let reference = Reference::of(&certainties).unwrap();
    let (none, same, watched) = run(&model(2.0), Some(reference.clone()), 2);
    assert!(none.is_empty() && same.is_none(), "{same:?}");
    let (_, moved, drift) = run(&model(4.0), Some(reference), 2);
    assert!(moved.unwrap().to_string().contains("shift"));
    let (mut both, more) = (watched.unwrap(), drift.unwrap());
    both.merge(&more).unwrap();
    assert_eq!(both.positions(), 1200);
}

#[test]
fn a_calibrated_cascade_has_one_law_whatever_the_draft_length() {
    const VOCAB: usize = 3;
    const LENGTH: usize = 4;
    let (expert, drafter) = (expert(VOCAB), other(VOCAB));
    let calibrators =
        ["platt:1,-1", "isotonic:0.4=0.35,0.8=0.7"].map(|text| Calibrator::parse(text).unwrap());
    let [draft, large] = calibrators.clone();
    let confidence = Confidence { draft: Some(draft), expert: Some(large) };
    let plain = rule("cascade-diff:lenience=0.05").unwrap();
    let paper = |calibrators: Option<&[Calibrator; 2]>| {
        let mut law = HashMap::from([(vec![], 1.0)]);
        for _ in 0..LENGTH {
            let mut longer = HashMap::new();
            for (tokens, probability) in law {
                let sequence = [&PROMPT, &tokens[..]].concat();
                let [q, p] = [&drafter, &expert].map(|model| Probs::softmax(model.row(&sequence)));
                let sure = calibrators
                    .map_or([q.max().1, p.max().1], |[a, b]| [a.apply(q.max().1), b.apply(p.max().1)]);
                let next = if sure[0] < sure[1] - 0.05 { p } else { q };
                for token in 0..VOCAB as TokenId {
                    longer.insert([&tokens[..], &[token]].concat(), probability * next.get(token));
                }
            }
            law = longer;
        }
        law
    };
    let wanted = paper(Some(&calibrators));
    assert!(distance(&wanted, &paper(None)) > 1e-3, "the calibrators decide otherwise");
    let boxed = Box::new(ModelDrafter::new(drafter.clone()));
    let mut engine = engine(&expert, boxed, plain.calibrated(confidence).unwrap());
    for k in 1..=3 {
        let options = SessionOptions { draft_length: Some(k.into()), ..options(1.0, LENGTH) };
        let law = outcomes(|draws| {
            let session = engine.session_with(&PROMPT, &options, draws).unwrap();
            text(&session.map(Result::unwrap).collect::<Vec<_>>()).0
        });
        assert!(distance(&law, &wanted) < 1e-9, "k = {k}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let expert = expert(5);
    let mut engine = engine(&expert, Box::new(NgramDrafter::default()), rule("lossless").unwrap());
    for (below, patience, message) in [
        (1.5, 1, "abstention below a confidence of 1.5 is out of range: 0 to 1"),
        (f64::NAN, 1, "abstention below a confidence of NaN is out of range: 0 to 1"),
        (0.5, 0, "abstention with a patience of 0 tokens; at least 1 is needed"),
    ] {
        let options = SessionOptions { abstain: Some(abstain(below, patience)), ..options(1.0, 5) };
        let error = engine.session(&PROMPT, &options).map(drop).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Option, message));
    }
    let mut cascade = SequentialCascade::new(expert, other(5)).unwrap();
    let (plain, options) =
        (options(1.0, 5), |record| SessionOptions { record, certainties: !record, ..options(1.0, 5) });
    for options in [true, false].map(options) {
        let error = cascade.generate(&PROMPT, &options, SequentialRule::Token { lenience: 0.5 }).unwrap_err();
        assert!(error.to_string().starts_with("a sequential cascade records no confidences"), "{error}");
    }
    assert!(cascade.generate(&PROMPT, &plain, SequentialRule::Token { lenience: 0.5 }).is_ok());
}

#[test]
fn sequential_cascades_drop_no_option_in_silence() {
    let mut cascade = SequentialCascade::new(expert(5), other(5)).unwrap();
    let guide = Some(Guide { negative: vec![1], guidance: Guidance::new(1.5).unwrap() });
    let log_probs = Some(LogProbsOptions::default());
    for (options, wanted) in [
        (SessionOptions { guide, ..options(1.0, 5) }, "a sequential cascade has no guidance"),
        (SessionOptions { log_probs, ..options(1.0, 5) }, "a sequential cascade gives no log-probabilities"),
    ] {
        for rule in [SequentialRule::Token { lenience: 0.5 }, SequentialRule::Sequence { threshold: 0.5 }] {
            let error = cascade.generate(&PROMPT, &options, rule).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Option);
            let text = error.to_string();
            assert!(text.starts_with(wanted) && text.ends_with("use a session"), "{text}");
        }
    }
}
