//! Pairs of drafter and expert at a position, and laws of one round.
#![allow(dead_code, reason = "each test uses a part")]

use drafthorse_logits::{
    Context, Draws, Probs, Proposal, Purpose, Sampler, SamplingOptions, Scores, TokenId, exact::outcomes,
};
use drafthorse_verifier::{AcceptanceRule, Dial, RULES, RuleInfo};
use proptest::{collection::vec, prelude::*};
use std::sync::Arc;

/// What drafter and expert say at a position.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) draft: Scores,
    pub(crate) expert: Scores,
}

impl Pair {
    pub(crate) fn tokens(&self) -> std::ops::Range<TokenId> {
        0..self.draft.vocab_size() as TokenId
    }

    pub(crate) fn q(&self) -> &Probs {
        self.draft.probs()
    }

    pub(crate) fn p(&self) -> &Probs {
        self.expert.probs()
    }
}

pub(crate) fn probs(weights: &[f64]) -> Probs {
    Probs::normalize(weights.to_vec()).unwrap()
}

/// Both sides as given, sampled as they are.
pub(crate) fn given(q: &[f64], p: &[f64]) -> Pair {
    let [draft, expert] = [q, p].map(|law| Scores::from_probs(probs(law), probs(law)));
    Pair { draft, expert }
}

/// Rows of logits, sampled at a temperature and among a nucleus.
pub(crate) fn rows(q: &[f32], p: &[f32], temperature: f32, top_p: f64) -> Pair {
    let sampler = Sampler::new(&SamplingOptions { temperature, top_p, ..Default::default() }).unwrap();
    let [draft, expert] = [q, p].map(|row| sampler.scores(&Context::new(&[], 0), row).unwrap());
    Pair { draft, expert }
}

/// A row of logits with excluded tokens among them.
pub(crate) fn row(vocab: usize) -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![5 => -6.0..6.0f32, 1 => Just(f32::NEG_INFINITY)];
    (vec(logit, vocab), 0..vocab).prop_map(|(mut row, token)| {
        if !row.iter().any(|x| x.is_finite()) {
            row[token] = 0.0;
        }
        row
    })
}

/// Two rows of one vocabulary of 2 to 8 tokens; now and then the same row twice.
pub(crate) fn two_rows() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
    let both = (2usize..=8).prop_flat_map(|vocab| (row(vocab), row(vocab), 0..8));
    both.prop_map(|(q, p, same)| if same == 0 { (q.clone(), q) } else { (q, p) })
}

/// Weights of which some are 0, as peaked as a Dirichlet distribution of small parameters.
pub(crate) fn weights(vocab: usize) -> impl Strategy<Value = Vec<f64>> {
    let weight = prop_oneof![4 => (0.0..1.0f64).prop_map(|u| u * u * u), 1 => Just(0.0)];
    (vec(weight, vocab), 0..vocab).prop_map(|(mut row, token)| {
        if row.iter().sum::<f64>() < 1e-3 {
            row[token] = 1.0;
        }
        row
    })
}

/// Everything a rule can meet: rows at some temperature, distributions whose raw side is another, and point masses on
/// either side.
pub(crate) fn pair() -> impl Strategy<Value = Pair> {
    let temperature = prop_oneof![Just(0.0f32), Just(0.2), Just(0.7), Just(1.0), Just(1.6)];
    let top_p = prop_oneof![2 => Just(1.0), 1 => Just(0.8)];
    let of_rows = (two_rows(), temperature, top_p).prop_map(|((q, p), t, top_p)| rows(&q, &p, t, top_p));
    // A drafter of the user's may say anything; what is sampled of an expert comes from its raw side.
    let of_laws =
        (2usize..=8).prop_flat_map(|n| ([weights(n), weights(n), weights(n)], 0.3..3.0f64, 0.0..0.5f64));
    let of_laws = of_laws.prop_map(|([raw_q, q, raw_p], power, cut)| {
        let best = raw_p.iter().copied().fold(0.0, f64::max);
        let p: Vec<_> = raw_p.iter().map(|w| if *w < cut * best { 0.0 } else { w.powf(power) }).collect();
        Pair {
            draft: Scores::from_probs(probs(&raw_q), probs(&q)),
            expert: Scores::from_probs(probs(&raw_p), probs(&p)),
        }
    });
    let pointed = (2usize..=8).prop_flat_map(|n| (weights(n), 0..n, 0..n, 0..3));
    let pointed = pointed.prop_map(|(law, a, b, kind)| {
        let vocab = law.len();
        let [a, b] = [a, b].map(|token| Scores::point(token as TokenId, vocab));
        let dense = Scores::from_probs(probs(&law), probs(&law));
        match kind {
            0 => Pair { draft: a, expert: dense },
            1 => Pair { draft: dense, expert: a },
            _ => Pair { draft: a, expert: b },
        }
    });
    prop_oneof![4 => of_rows, 2 => of_laws, 1 => pointed]
}

/// A pair at temperature 1 in which everything is possible on both sides.
pub(crate) fn open_pair() -> impl Strategy<Value = Pair> {
    let row = |vocab| vec(-3.0..3.0f32, vocab);
    let both = (2usize..=6).prop_flat_map(move |vocab| (row(vocab), row(vocab)));
    both.prop_map(|(q, p)| rows(&q, &p, 1.0, 1.0))
}

/// A value within a dial's range, of which a sensible part is taken where it has no end.
fn value(dial: &'static Dial) -> BoxedStrategy<f64> {
    let (low, high) = (dial.low.max(-4.0), dial.high.min(8.0));
    let inside = (low..=high).prop_map(|x| if dial.whole { x.round() } else { x });
    let noted = if dial.sweep.is_empty() { vec![dial.default] } else { dial.sweep.to_vec() };
    prop_oneof![2 => inside, 1 => proptest::sample::select(noted), 1 => Just(dial.default)].boxed()
}

/// Some rule with its dials somewhere.
pub(crate) fn some_rule() -> impl Strategy<Value = Arc<dyn AcceptanceRule>> {
    let with = |info: &'static RuleInfo| {
        let values: Vec<_> = info.dials.iter().map(value).collect();
        values.prop_map(move |values| info.with(&values.into_iter().map(Some).collect::<Vec<_>>()).unwrap())
    };
    proptest::sample::select((0..RULES.len()).collect::<Vec<_>>()).prop_flat_map(move |n| with(&RULES[n]))
}

pub(crate) fn rule(name: &str, dial: f64) -> Arc<dyn AcceptanceRule> {
    let info = RULES.iter().find(|info| info.name == name).unwrap();
    info.with(&[Some(dial)]).unwrap()
}

pub(crate) fn near(a: &Probs, b: &Probs) -> bool {
    (0..a.vocab_size() as TokenId).all(|v| (a.get(v) - b.get(v)).abs() < 1e-9)
}

/// In one round of one drafted token: the law of what comes first.
pub(crate) fn first_token(rule: &dyn AcceptanceRule, pair: &Pair) -> Vec<f64> {
    let law = outcomes(|draws| {
        let (proposal, expert) = draft_one(pair, draws);
        let verdict = rule.judge(&proposal, &expert, 0, draws);
        if verdict.accepted > 0 { proposal.tokens[0] } else { verdict.next }
    });
    pair.tokens().map(|v| law.get(&v).copied().unwrap_or(0.0)).collect()
}

/// In one round of one drafted token: how likely it is refused.
pub(crate) fn rejection(rule: &dyn AcceptanceRule, pair: &Pair) -> f64 {
    let law = outcomes(|draws| {
        let (proposal, expert) = draft_one(pair, draws);
        rule.judge(&proposal, &expert, 0, draws).accepted
    });
    law.get(&0).copied().unwrap_or(0.0)
}

fn draft_one(pair: &Pair, draws: &mut dyn Draws) -> (Proposal, [Scores; 2]) {
    let tokens = vec![draws.pick(0, Purpose::Draft, pair.q())];
    // What follows the draft does not matter.
    (Proposal { tokens, scores: vec![pair.draft.clone()] }, [pair.expert.clone(), pair.expert.clone()])
}

/// How likely the rule asks the expert about what was drafted.
pub(crate) fn deferral(rule: &dyn AcceptanceRule, pair: &Pair) -> f64 {
    let asks = |v: TokenId| rule.deferral(v, &pair.draft, &pair.expert).unwrap();
    pair.tokens().map(|v| if asks(v) { pair.q().get(v) } else { 0.0 }).sum()
}

/// Whether it asks about each token.
pub(crate) fn decisions(rule: &dyn AcceptanceRule, pair: &Pair) -> Vec<Option<bool>> {
    pair.tokens().map(|v| rule.deferral(v, &pair.draft, &pair.expert)).collect()
}

/// The binary cascades, each with the rule's value at which nearly everything, and nothing, is deferred.
pub(crate) const BINARY: [&str; 6] = [
    "cascade-chow",
    "cascade-diff",
    "cascade-opt",
    "cascade-chow-log",
    "cascade-diff-log",
    "cascade-opt-log",
];

/// The same before and after sampling.
pub(crate) fn scores(weights: &[f64]) -> Scores {
    Scores::from_probs(probs(weights), probs(weights))
}

/// The `count` most probable tokens, the lowest id among equals.
pub(crate) fn top(q: &Probs, count: usize) -> Vec<TokenId> {
    let mut all: Vec<TokenId> = (0..q.vocab_size() as TokenId).collect();
    all.sort_by(|a, b| q.get(*b).total_cmp(&q.get(*a)));
    all.truncate(count);
    all
}
