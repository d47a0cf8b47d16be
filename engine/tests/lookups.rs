//! What is remembered of other texts never shows in a text's law: drafters that look up, with stores that were filled
//! before and fill on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::{
    ChainDrafter, Clock, DraftRequest, Drafter, HybridDrafter, ModelDrafter, NgramDrafter, NgramMemory,
    NgramMemoryDrafter, NgramMemoryOptions, SuffixDrafter, SuffixOptions, SuffixStore,
};
use drafthorse_engine::{Engine, SessionOptions};
use drafthorse_logits::{
    Context, Draws, Memory, Origin, Probs, Proposal, Purpose, Sampler, SamplingOptions, Scores, SeededDraws,
    TokenId, Verdict,
    exact::{distance, outcomes},
};
use drafthorse_model::{ModelError, TableModel};
use drafthorse_verifier::{AcceptanceRule, rule};
use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};

type Law = HashMap<Vec<TokenId>, f64>;
type Make = fn() -> Box<dyn Drafter>;

const VOCAB: usize = 3;
const PROMPT: [TokenId; 4] = [0, 1, 0, 1];
const TOLERANCE: f64 = 1e-9;
/// What a control is off by at least.
const OFF: f64 = 1e-3;

fn expert() -> Arc<TableModel> {
    Arc::new(TableModel::random(VOCAB, 1.5, 3))
}

fn other() -> Arc<TableModel> {
    Arc::new(TableModel::random(VOCAB, 2.0, 7))
}

/// Texts of earlier requests.
fn past() -> [Vec<TokenId>; 3] {
    [vec![0, 1, 2, 2, 0, 1, 2, 1], vec![1, 0, 1, 1, 2, 0, 1, 2, 2], vec![2, 2, 2, 1, 0]]
}

fn suffix(learn: bool) -> SuffixDrafter {
    let store = SuffixStore::new(SuffixStore::MIN_BYTES).unwrap();
    for text in past() {
        store.add(&text);
    }
    let options = SuffixOptions { learn, offset: 1.0, keep_prompts: true, ..SuffixOptions::default() };
    SuffixDrafter::new(Arc::new(store)).with_options(options).unwrap()
}

fn ngrams(learn: bool) -> NgramMemoryDrafter {
    let memory = NgramMemory::new(NgramMemory::MIN_BYTES).unwrap();
    for text in past() {
        memory.learn(&text, 0);
    }
    let options = NgramMemoryOptions { min_share: [0.4; 4], min_count: [1; 4], learn, learn_prompts: true };
    NgramMemoryDrafter::new(Arc::new(memory)).with_options(options).unwrap()
}

/// No time passes.
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

fn hybrid(parts: Vec<Box<dyn Drafter>>) -> Box<dyn Drafter> {
    Box::new(HybridDrafter::new(parts).unwrap().with_min_confidence(0.6).unwrap().with_clock(Stopped))
}

const DRAFTERS: [(&str, Make); 5] = [
    ("suffix", || Box::new(suffix(true))),
    ("n-gram memory", || Box::new(ngrams(true))),
    ("suffix, else a model", || hybrid(vec![Box::new(suffix(true)), Box::new(ModelDrafter::new(other()))])),
    ("n-gram memory, else suffix", || hybrid(vec![Box::new(ngrams(true)), Box::new(suffix(true))])),
    ("suffix for a model", || Box::new(ChainDrafter::new(other(), suffix(true)))),
];

fn options(temperature: f32, k: usize, max_tokens: usize) -> SessionOptions {
    let sampling = SamplingOptions { temperature, ..SamplingOptions::default() };
    SessionOptions { sampling, draft_length: Some(k.into()), max_tokens, ..SessionOptions::default() }
}

fn engine(drafter: Box<dyn Drafter>, rule: Arc<dyn AcceptanceRule>) -> Engine {
    Engine::builder().expert(expert()).drafter(drafter).rule(rule).build().unwrap()
}

/// The law of some texts after one another, with what was learnt from those before. What an outcome learns is unknown
/// to the next.
fn of_engine(
    make: &dyn Fn() -> Box<dyn Drafter>,
    rule: &Arc<dyn AcceptanceRule>,
    options: &SessionOptions,
    texts: usize,
) -> Law {
    outcomes(|draws| {
        let mut engine = engine(make(), rule.clone());
        let mut all = Vec::new();
        for _ in 0..texts {
            let session = engine.session_with(&PROMPT, options, &mut *draws).unwrap();
            all.extend(session.flat_map(|step| step.unwrap().tokens).map(|token| token.id));
        }
        all
    })
}

fn expert_law(sequence: &[TokenId], temperature: f32) -> Vec<f64> {
    let sampler = Sampler::new(&options(temperature, 0, 1).sampling).unwrap();
    let context = Context::new(sequence, PROMPT.len());
    sampler.scores(&context, expert().row(sequence)).unwrap().probs().to_vec()
}

/// The law of some texts of `length` tokens on paper: the product of the expert's laws.
fn on_paper(temperature: f32, length: usize, texts: usize) -> Law {
    let mut law = Law::from([(vec![], 1.0)]);
    for at in 0..length * texts {
        let grow = |(text, probability): (Vec<TokenId>, f64)| {
            let sequence = [&PROMPT, &text[at / length * length..]].concat();
            let next = expert_law(&sequence, temperature);
            let longer = (0..).zip(next).filter(|(_, p)| *p > 0.0);
            longer.map(|(token, p)| ([&text[..], &[token]].concat(), probability * p)).collect::<Vec<_>>()
        };
        law = law.into_iter().flat_map(grow).collect();
    }
    law
}

/// How far texts of this drafter and rule are from the expert's, at most.
fn error_of(
    make: &dyn Fn() -> Box<dyn Drafter>,
    rule: &Arc<dyn AcceptanceRule>,
    temperature: f32,
    shape: (usize, usize),
) -> f64 {
    let (length, texts) = shape;
    let paper = on_paper(temperature, length, texts);
    let error = |k| distance(&of_engine(make, rule, &options(temperature, k, length), texts), &paper);
    (1..=3).map(error).fold(0.0, f64::max)
}

#[test]
fn lossless_rules_keep_their_law_whatever_is_remembered() {
    for (name, make) in DRAFTERS {
        for spec in ["lossless", "block", "exact-match", "coupled-noise"] {
            for temperature in [0.0, 0.5, 1.0] {
                let rule = rule(spec).unwrap();
                let error = error_of(&make, &rule, temperature, (4, 1));
                assert!(error < TOLERANCE, "{name}, {spec}, temperature {temperature}: {error}");
            }
            let error = error_of(&make, &rule(spec).unwrap(), 1.0, (2, 2));
            assert!(error < TOLERANCE, "{name}, {spec}, a text that learns from another: {error}");
        }
    }
}

/// A comparison in which nothing is drafted would prove nothing.
#[test]
fn something_is_drafted_and_some_of_it_from_the_text_before() {
    for (name, make) in DRAFTERS {
        let mut engine = engine(make(), rule("lossless").unwrap());
        let mut drafted = |seed| {
            let options = SessionOptions { seed, ..options(1.0, 3, 40) };
            let mut session = engine.session(&PROMPT, &options).unwrap();
            session.by_ref().for_each(|step| drop(step.unwrap()));
            (session.stats().drafted, session.stats().accepted)
        };
        let counts: Vec<_> = (0..5).map(&mut drafted).collect();
        assert!(
            counts.iter().all(|(drafted, accepted)| *drafted > 10 && *accepted > 0),
            "{name}: {counts:?}"
        );
    }
    let store: Arc<SuffixStore> = Arc::default();
    let mut engine = engine(Box::new(SuffixDrafter::new(store.clone())), rule("lossless").unwrap());
    for _ in 0..2 {
        engine.session(&PROMPT, &options(1.0, 3, 20)).unwrap().for_each(|step| drop(step.unwrap()));
    }
    assert!(store.memory().tokens > 10, "{:?}", store.memory());
}

/// The law of a cascade on paper, round by round: what the rule makes of the drafter's points and the expert's laws.
fn cascade_on_paper(make: &dyn Fn() -> Box<dyn Drafter>, lenience: f64, k: usize, length: usize) -> Law {
    let (mut law, mut open) = (Law::new(), vec![(vec![], 1.0)]);
    let sampler = Sampler::new(&options(1.0, k, length).sampling).unwrap();
    while let Some((text, probability)) = open.pop() {
        if text.len() == length {
            *law.entry(text).or_insert(0.0) += probability;
            continue;
        }
        let sequence = [&PROMPT, &text[..]].concat();
        let (max, prompt) = (k.min(length - text.len() - 1), PROMPT.len());
        let memory = Memory::off();
        let request = DraftRequest {
            max,
            score_after: true,
            raw: true,
            vocab: VOCAB,
            prompt,
            memory,
            sampler: &sampler,
            stop: None,
        };
        let proposal = make().propose(&sequence, &request, &mut SeededDraws::new(0, 1)).unwrap();
        // The text as far as all drafted tokens stood.
        let (mut stood, mut weight) = (text, probability);
        for at in 0..=proposal.tokens.len() {
            let p = expert_law(&[&PROMPT, &stood[..]].concat(), 1.0);
            let drafted = proposal.scores.get(at).and_then(|row| row.probs().as_point());
            let pi = drafted.map_or(p.clone(), |token| token_v2(token, &p, lenience));
            let proposed = proposal.tokens.get(at).copied();
            for (token, share) in (0..).zip(&pi).filter(|(token, p)| **p > 0.0 && Some(*token) != proposed) {
                open.push(([&stood[..], &[token]].concat(), weight * share));
            }
            let Some(token) = proposed else { break };
            stood.push(token);
            weight *= pi[token as usize];
        }
    }
    law
}

/// The law of the second token-specific cascade where the drafter is certain of a token.
fn token_v2(token: TokenId, p: &[f64], lenience: f64) -> Vec<f64> {
    let best = p.iter().copied().fold(0.0, f64::max);
    if p[token as usize] < best - lenience {
        return p.to_vec();
    }
    (0..).zip(p).map(|(v, _)| f64::from(u8::from(v == token))).collect()
}

#[test]
fn a_cascade_keeps_its_law_whatever_is_remembered() {
    let make: [(&str, Make); 3] = [
        ("suffix", || Box::new(suffix(false))),
        ("n-gram memory", || Box::new(ngrams(false))),
        ("n-gram memory, else suffix", || hybrid(vec![Box::new(ngrams(false)), Box::new(suffix(false))])),
    ];
    for (name, make) in make {
        for lenience in [0.15, 0.4] {
            let rule = rule(&format!("cascade-token-v2:lenience={lenience}")).unwrap();
            let mut controls = [0.0_f64; 2];
            for k in 1..=3 {
                let law = of_engine(&make, &rule, &options(1.0, k, 4), 1);
                let paper = cascade_on_paper(&make, lenience, k, 4);
                assert!((paper.values().sum::<f64>() - 1.0).abs() < TOLERANCE);
                let error = distance(&law, &paper);
                assert!(error < TOLERANCE, "{name}, lenience {lenience}, k = {k}: {error}");
                let other: &dyn Fn() -> Box<dyn Drafter> = &|| Box::new(NgramDrafter::new(1, 2).unwrap());
                let wrong = [cascade_on_paper(&make, -1.0, k, 4), cascade_on_paper(other, lenience, k, 4)];
                for (control, wrong) in controls.iter_mut().zip(wrong) {
                    *control = control.max(distance(&law, &wrong));
                }
            }
            // The expert alone, and another drafter.
            assert!(
                controls.iter().all(|control| *control > OFF),
                "{name}, lenience {lenience}: {controls:?}"
            );
        }
    }
}

/// Accepts whatever is drafted.
struct AlwaysAccept;

impl AcceptanceRule for AlwaysAccept {
    fn name(&self) -> &'static str {
        "always-accept"
    }

    fn target<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(expert.probs())
    }

    fn judge(&self, draft: &Proposal, expert: &[Scores], position: usize, draws: &mut dyn Draws) -> Verdict {
        let accepted = draft.tokens.len();
        let next = draws.pick(position + accepted, Purpose::Target, expert[accepted].probs());
        Verdict { accepted, next, origin: Origin::Bonus }
    }
}

/// What a drafter that looks up could do wrong.
#[derive(Clone, Copy)]
enum Wrong {
    /// It hands over a belief for tokens that it did not draw from it.
    Belief,
    /// It looks at what the expert would draw, and proposes that where it is token 0.
    Peek,
}

struct Wronged(SuffixDrafter, Wrong);

impl Drafter for Wronged {
    fn name(&self) -> &'static str {
        "wronged"
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let mut proposal = self.0.propose(sequence, request, draws)?;
        let certain = |proposal: &mut Proposal, token| {
            let vocab = request.vocab;
            *proposal = Proposal { tokens: vec![token], scores: vec![Scores::point(token, vocab)] };
        };
        match self.1 {
            Wrong::Belief => {
                let even = Probs::normalize(vec![1.0; VOCAB]).unwrap();
                proposal.scores.fill(Scores::from_probs(even.clone(), even));
            }
            Wrong::Peek if request.max > 0 => {
                // It draws from the expert's law, keeps what it likes, and claims to have known.
                let law = Probs::normalize(expert_law(sequence, 1.0)).unwrap();
                let token = draws.pick(sequence.len(), Purpose::Draft, &law);
                certain(&mut proposal, token);
                if token == 0 {
                    proposal.scores[0] = Scores::from_probs(law.clone(), law);
                }
            }
            Wrong::Peek => {}
        }
        Ok(proposal)
    }
}

#[test]
fn what_is_wrong_is_rejected() {
    let always: Arc<dyn AcceptanceRule> = Arc::new(AlwaysAccept);
    for (name, make) in DRAFTERS {
        let error = error_of(&make, &always, 1.0, (4, 1));
        assert!(error > OFF, "{name}, all that is drafted is accepted: {error}");
    }
    for wrong in [Wrong::Belief, Wrong::Peek] {
        let make: &dyn Fn() -> Box<dyn Drafter> = &|| Box::new(Wronged(suffix(true), wrong));
        let error = error_of(make, &rule("lossless").unwrap(), 1.0, (4, 1));
        assert!(error > OFF, "{error}");
    }
}
