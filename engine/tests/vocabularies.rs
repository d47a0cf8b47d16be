//! Drafters with other tokens than the expert's: laws of whole texts over all random outcomes, and what one drafter
//! keeps of several texts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::{Bridge, DraftRequest, Drafter, TextDrafter, TokenDrafter, TranslatedDrafter};
use drafthorse_engine::{Engine, ErrorKind, SessionOptions};
use drafthorse_logits::{
    Draws, Memory, Probs, Proposal, Sampler, SamplingOptions, Scores, SeededDraws, TokenId,
    exact::{distance, outcomes},
};
use drafthorse_model::{ModelError, Spelling, TableModel, Translation, Vocabulary};
use drafthorse_verifier::rule;
use std::{collections::HashMap, sync::Arc};

type Law = HashMap<Vec<TokenId>, f64>;

const EXPERT: [&str; 4] = ["a", "b", "ab", "c"];
const DRAFTER: [&str; 5] = ["b", "ca", "a", "x", "c"];
const PROMPT: [TokenId; 4] = [0, 2, 3, 1];
const TOKENS: usize = 3;
const TOLERANCE: f64 = 1e-9;
/// What a control is off by at least.
const OFF: f64 = 1e-3;

fn vocabulary(texts: &[&str]) -> Vocabulary {
    Vocabulary::new(texts.iter().map(|text| Some((*text).to_owned())))
}

fn spelling(texts: &[&str]) -> Spelling {
    Spelling::plain(vocabulary(texts))
}

fn translation() -> Arc<Translation> {
    Arc::new(Translation::new(spelling(&EXPERT), spelling(&DRAFTER)))
}

/// The expert; `padding` rows more than it has tokens.
fn expert(padding: usize) -> Arc<TableModel> {
    let table = TableModel::random(EXPERT.len() + padding, 1.5, 3);
    Arc::new(table.with_vocabulary(vocabulary(&EXPERT)))
}

fn other() -> Arc<TableModel> {
    Arc::new(TableModel::random(DRAFTER.len(), 2.0, 7))
}

fn at(temperature: f32) -> SamplingOptions {
    SamplingOptions { temperature, ..Default::default() }
}

fn options(temperature: f32, k: usize) -> SessionOptions {
    SessionOptions {
        sampling: at(temperature),
        draft_length: Some(k.into()),
        max_tokens: TOKENS,
        ..Default::default()
    }
}

fn engine(padding: usize, drafter: impl Drafter + 'static, spec: &str) -> Engine {
    let builder = Engine::builder().expert(expert(padding)).drafter(drafter).draft_length(1);
    builder.rule(rule(spec).unwrap()).build().unwrap()
}

fn of_engine(engine: &mut Engine, options: &SessionOptions) -> Law {
    outcomes(|draws| {
        let session = engine.session_with(&PROMPT, options, draws).unwrap();
        session.flat_map(|step| step.unwrap().tokens).map(|token| token.id).collect()
    })
}

fn softmax(row: &[f32], temperature: f32) -> Vec<f64> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |&x: &f32| match temperature {
        0.0 => f64::from(u8::from(x == max)),
        1.0 => (f64::from(x) - f64::from(max)).exp(),
        t => f64::from((x - max) / t).exp(),
    };
    let weights: Vec<f64> = row.iter().map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// The product of the laws of the tokens.
fn on_paper(next: impl Fn(&[TokenId]) -> Vec<f64>) -> Law {
    let mut law = Law::new();
    let mut open = vec![(PROMPT.to_vec(), 1.0)];
    while let Some((sequence, probability)) = open.pop() {
        if sequence.len() == PROMPT.len() + TOKENS {
            law.insert(sequence[PROMPT.len()..].to_vec(), probability);
            continue;
        }
        for (token, p) in (0..).zip(next(&sequence)).filter(|(_, p)| *p > 0.0) {
            open.push(([&sequence[..], &[token]].concat(), probability * p));
        }
    }
    law
}

/// The other model's law of the expert's tokens, written down from what the tokens are: `a`, `b` and `c` are shared.
fn restricted(sequence: &[TokenId], temperature: f32) -> Vec<f64> {
    let own = sequence.iter().flat_map(|&token| [&[2][..], &[0], &[2, 0], &[4]][token as usize]).copied();
    let model = other();
    let row = model.row(&own.collect::<Vec<_>>());
    softmax(&[row[2], row[0], f32::NEG_INFINITY, row[4]], temperature)
}

type Make = fn() -> Box<dyn Drafter>;

const DRAFTERS: [(&str, Make); 2] = [
    ("by tokens", || Box::new(TokenDrafter::new(other(), translation()).unwrap())),
    ("as text", || Box::new(TextDrafter::new(other(), translation()).unwrap())),
];

/// Of few tokens, so that all that it can write can be walked.
fn sampled_text() -> TextDrafter {
    let translation = Translation::new(spelling(&EXPERT), spelling(&["b", "c", "a"]));
    TextDrafter::new(Arc::new(TableModel::random(3, 1.0, 9)), Arc::new(translation))
        .unwrap()
        .sampled(0.9)
        .unwrap()
}

#[test]
fn texts_follow_the_expert_whatever_is_drafted_by_chance() {
    let expert = expert(0);
    let paper = on_paper(|sequence| softmax(expert.row(sequence), 0.7));
    for spec in ["lossless", "block", "exact-match"] {
        let mut engine = engine(0, sampled_text(), spec);
        for k in 1..=2 {
            let off = distance(&of_engine(&mut engine, &options(0.7, k)), &paper);
            assert!(off < TOLERANCE, "{spec}, k = {k}: {off}");
        }
    }
}

/// Every rule that promises the expert's law keeps it with every bridge; at temperature 0 that is its very text.
#[test]
fn texts_follow_the_expert() {
    for padding in [0, 1] {
        for temperature in [0.0, 0.7, 1.0] {
            let expert = expert(padding);
            let paper = on_paper(|sequence| softmax(expert.row(sequence), temperature));
            for (name, make) in DRAFTERS {
                for spec in ["lossless", "block", "exact-match"] {
                    let mut engine = engine(padding, make(), spec);
                    for k in 0..=3 {
                        let off = distance(&of_engine(&mut engine, &options(temperature, k)), &paper);
                        assert!(off < TOLERANCE, "{name}, {spec}, k = {k}, at {temperature}: {off}");
                    }
                }
            }
        }
    }
}

/// Drafts of all kinds are made at all, and some of their tokens stand.
#[test]
fn there_are_drafts_to_judge() {
    for (name, make) in
        DRAFTERS.into_iter().chain([("as sampled text", (|| Box::new(sampled_text())) as Make)])
    {
        let mut engine = engine(0, make(), "lossless");
        let stats = (0..50).map(|seed| {
            let options = SessionOptions { seed, max_tokens: 20, ..options(1.0, 3) };
            let mut session = engine.session(&PROMPT, &options).unwrap();
            session.by_ref().for_each(|step| drop(step.unwrap()));
            (session.stats().drafted, session.stats().accepted)
        });
        let (drafted, accepted) = stats.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        assert!(drafted > 500 && accepted > 100, "{name}: {accepted} of {drafted}");
    }
}

/// A cascade's law on paper: of a restricted draft, and of the expert.
fn cascade(spec: &str, restricted: impl Fn(&[TokenId]) -> Vec<f64>) -> Law {
    let expert = expert(0);
    let max = |law: &[f64]| law.iter().copied().fold(0.0, f64::max);
    on_paper(|sequence| {
        let (q, p) = (restricted(sequence), softmax(expert.row(sequence), 1.0));
        if spec.contains("chow") {
            return if max(&q) < 1.0 - 0.45 { p } else { q };
        }
        let good = |v: usize| p[v] >= (1.0 - 0.6) * max(&p);
        let rest: f64 = (0..q.len()).filter(|&v| !good(v)).map(|v| q[v]).sum();
        (0..q.len()).map(|v| if good(v) { q[v] } else { 0.0 } + p[v] * rest).collect()
    })
}

const CASCADES: [&str; 2] = ["cascade-chow:lenience=0.45", "cascade-token-v3:lenience=0.6"];

/// Cascades mix the expert's law with the drafter's, restricted to the shared tokens: so the ids must be right, and the
/// law must not depend on where a draft began.
#[test]
fn cascades_follow_their_mixture() {
    for spec in CASCADES {
        let paper = cascade(spec, |sequence| restricted(sequence, 1.0));
        for k in 1..=3 {
            let drafter = TokenDrafter::new(other(), translation()).unwrap();
            let off = distance(&of_engine(&mut engine(0, drafter, spec), &options(1.0, k)), &paper);
            assert!(off < TOLERANCE, "{spec}, k = {k}: {off}");
        }
    }
}

#[test]
fn ids_that_are_mapped_wrongly_are_seen() {
    let wrong = ["c", "ca", "b", "x", "a"];
    for spec in CASCADES {
        let paper = cascade(spec, |sequence| restricted(sequence, 1.0));
        let translation = Arc::new(Translation::new(spelling(&EXPERT), spelling(&wrong)));
        let drafter = TokenDrafter::new(other(), translation).unwrap();
        let off = distance(&of_engine(&mut engine(0, drafter, spec), &options(1.0, 2)), &paper);
        assert!(off > OFF, "{spec}: {off}");
    }
}

/// Hands over other scores than those it drew from.
struct Liar {
    drafter: TokenDrafter,
    lie: Lie,
}

type Lie = fn(Vec<f64>) -> Vec<f64>;

impl Drafter for Liar {
    fn name(&self) -> &'static str {
        "liar"
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let mut proposal = self.drafter.propose(sequence, request, draws)?;
        for scores in &mut proposal.scores {
            let law = Probs::normalize((self.lie)(scores.probs().to_vec())).unwrap();
            *scores = Scores::from_probs(law.clone(), law);
        }
        Ok(proposal)
    }
}

#[test]
fn laws_that_are_not_normalized_or_of_other_tokens_are_seen() {
    let expert = expert(0);
    let paper = on_paper(|sequence| softmax(expert.row(sequence), 1.0));
    let lies: [(&str, bool, Lie); 3] = [
        ("the truth", true, |law| law),
        // As if the mass of what is not shared were still there.
        ("not normalized", false, |law| vec![law[0] * 0.6, law[1] * 0.6, 0.4, law[3] * 0.6]),
        ("other ids", false, |law| vec![law[1], law[0], law[2], law[3]]),
    ];
    for (name, right, lie) in lies {
        let drafter = Liar { drafter: TokenDrafter::new(other(), translation()).unwrap(), lie };
        let off = distance(&of_engine(&mut engine(0, drafter, "lossless"), &options(1.0, 2)), &paper);
        assert!(if right { off < TOLERANCE } else { off > OFF }, "{name}: {off}");
    }
}

/// Texts in turn, asked of one drafter, get the drafts that each would get of a drafter of its own.
#[test]
fn one_drafter_serves_texts_in_turn() {
    let translation = translation();
    let sampler = Sampler::new(&at(1.0)).unwrap();
    let texts: [&[TokenId]; 3] = [&[0, 2, 3, 1, 0, 1, 2, 2, 0], &[0, 2, 3, 3, 3, 1, 0, 0, 1], &[2; 9]];
    for bridge in [Bridge::Tokens, Bridge::Text] {
        let make = || TranslatedDrafter::new(other(), translation.clone(), bridge).unwrap();
        let propose = |drafter: &mut TranslatedDrafter, sequence: &[TokenId]| {
            let (prompt, memory, sampler) = (2, Memory::off(), &sampler);
            let request = DraftRequest {
                max: 3,
                score_after: true,
                raw: true,
                vocab: EXPERT.len(),
                prompt,
                memory,
                sampler,
                stop: None,
            };
            let proposal = drafter.propose(sequence, &request, &mut SeededDraws::new(4, 1)).unwrap();
            assert_eq!(proposal.check(EXPERT.len(), 3), Ok(()));
            let laws: Vec<_> = proposal.scores.iter().map(|scores| scores.probs().clone()).collect();
            (proposal.tokens, laws)
        };
        let mut shared = make();
        let mut separate = texts.map(|_| make());
        for length in 1..=9 {
            for (text, own) in texts.iter().zip(&mut separate) {
                let proposal = propose(&mut shared, &text[..length]);
                assert_eq!(proposal, propose(own, &text[..length]), "{bridge}, {:?}", &text[..length]);
                assert_eq!(proposal, propose(&mut make(), &text[..length]), "nothing that was read matters");
            }
        }
    }
}

/// A text ends where the drafter says so, by a mark of another name.
#[test]
fn ends_are_drafted() {
    use drafthorse_model::TokenBytes::{Special, Text};
    let tokens = |end: &str| vec![Text(b"a"[..].into()), Special(end.into()), Text(b"b"[..].into())];
    let of = |end: &str| Spelling::new(vocabulary(&["a", end, "b"]), tokens(end)).ending_with(vec![1]);
    let translation = Arc::new(Translation::new(of("<end>"), of("<stop>")));
    let table = || {
        Arc::new(TableModel::from_fn(3, |last| {
            vec![0.0, [9.0, 0.0, 0.0][last.last().map_or(0, |t| *t as usize)], 1.0]
        }))
    };
    for bridge in [Bridge::Tokens, Bridge::Text] {
        let drafter = TranslatedDrafter::new(table(), translation.clone(), bridge).unwrap();
        let expert = TableModel::clone(&table()).with_vocabulary(vocabulary(&["a", "<end>", "b"]));
        let mut engine = Engine::builder().expert(Arc::new(expert)).drafter(drafter).build().unwrap();
        let options = SessionOptions { stop_tokens: vec![1], ..options(0.0, 2) };
        let mut session = engine.session(&[2, 0], &options).unwrap();
        let text: Vec<_> =
            session.by_ref().flat_map(|step| step.unwrap().tokens).map(|token| token.id).collect();
        assert_eq!((text, session.stats().accepted > 0), (vec![1], true), "{bridge}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let text = TextDrafter::new(other(), translation()).unwrap();
    let builder = Engine::builder().expert(expert(0)).drafter(text).rule(rule("cascade-chow").unwrap());
    assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Rule);
    let stranger = TableModel::random(4, 1.0, 1).with_vocabulary(vocabulary(&["b", "a", "ab", "c"]));
    let tokens = TokenDrafter::new(other(), translation()).unwrap();
    let builder = Engine::builder().expert(Arc::new(stranger)).drafter(tokens);
    assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Vocabulary, "made for another expert");
    let error = TranslatedDrafter::new(other(), translation(), Bridge::Direct).unwrap_err();
    assert!(error.to_string().contains("vocabularies differ"), "{error}");
    assert!(TextDrafter::new(other(), translation()).unwrap().sampled(-1.0).is_err());
}

/// A drafter whose context is full drafts less, then nothing; the text goes on.
#[test]
fn a_full_context_ends_drafts_and_not_texts() {
    let small = || Arc::new(TableModel::random(DRAFTER.len(), 2.0, 7).with_context(8));
    let expert = expert(0);
    let paper = on_paper(|sequence| softmax(expert.row(sequence), 1.0));
    for bridge in [Bridge::Tokens, Bridge::Text] {
        let drafter = TranslatedDrafter::new(small(), translation(), bridge).unwrap();
        let mut engine = engine(0, drafter, "lossless");
        let off = distance(&of_engine(&mut engine, &options(1.0, 3)), &paper);
        assert!(off < TOLERANCE, "{bridge}: {off}");
        let long = SessionOptions { max_tokens: 30, ..options(1.0, 3) };
        let steps: Vec<_> = engine.session(&PROMPT, &long).unwrap().map(Result::unwrap).collect();
        assert_eq!(steps.iter().map(|step| step.tokens.len()).sum::<usize>(), 30);
        assert!(steps.last().is_some_and(|step| step.drafted == 0));
    }
}
