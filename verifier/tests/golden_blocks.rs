//! The golden cases of decisions over several positions: block verification, and laws of sequences.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_logits::{
    Draws, Probs, Proposal, Purpose, Scores, TokenId, Verdict,
    exact::{distance, outcomes},
};
use drafthorse_verifier::{AcceptanceRule, Block, Lossless, rule};
use std::collections::HashMap;

#[derive(serde::Deserialize)]
struct Golden {
    block_verification: Vec<BlockCase>,
    sequence_law: Vec<SequenceCase>,
}

#[derive(serde::Deserialize)]
struct BlockCase {
    name: String,
    k: usize,
    expected_accepted: f64,
    expected_accepted_token_verification: f64,
    context: Vec<Context>,
    path: Vec<Path>,
}

#[derive(serde::Deserialize)]
struct Context {
    prefix: Vec<TokenId>,
    q: Vec<f64>,
    p: Vec<f64>,
}

#[derive(serde::Deserialize)]
struct Path {
    tokens: Vec<TokenId>,
    probability: f64,
    accepted_law: Vec<f64>,
}

#[derive(serde::Deserialize)]
struct SequenceCase {
    rule: String,
    lenience: Option<f64>,
    q: Vec<Vec<f64>>,
    p: Vec<Vec<f64>>,
    law: Vec<f64>,
    law_bonus_from_p_k1: Option<Vec<f64>>,
    law_bonus_from_p_k2: Option<Vec<f64>>,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../reference/golden/golden.toml");
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn scores(weights: &[f64]) -> Scores {
    let probs = Probs::normalize(weights.to_vec()).unwrap();
    Scores::from_probs(probs.clone(), probs)
}

impl BlockCase {
    fn at(&self, prefix: &[TokenId]) -> &Context {
        self.context.iter().find(|context| context.prefix == prefix).unwrap()
    }

    /// A proposal of these tokens, and what the expert says of it.
    fn round(&self, tokens: &[TokenId]) -> (Proposal, Vec<Scores>) {
        let contexts: Vec<_> = (0..=tokens.len()).map(|n| self.at(&tokens[..n])).collect();
        let scores_of = |pick: fn(&Context) -> &[f64]| contexts.iter().map(move |c| scores(pick(c)));
        let drafts = scores_of(|c| &c.q).take(tokens.len()).collect();
        (Proposal { tokens: tokens.to_vec(), scores: drafts }, scores_of(|c| &c.p).collect())
    }

    /// How often 0, 1, ... k of these tokens are accepted.
    fn accepted_law(&self, rule: &dyn AcceptanceRule, tokens: &[TokenId]) -> Vec<f64> {
        let (proposal, expert) = self.round(tokens);
        let law = outcomes(|draws| rule.judge(&proposal, &expert, 0, draws).accepted);
        (0..=self.k).map(|n| law.get(&n).copied().unwrap_or(0.0)).collect()
    }

    fn expected_accepted(&self, rule: &dyn AcceptanceRule) -> f64 {
        let mean = |law: &[f64]| (0..).map(f64::from).zip(law).map(|(n, p)| n * p).sum::<f64>();
        self.path.iter().map(|path| path.probability * mean(&self.accepted_law(rule, &path.tokens))).sum()
    }
}

/// The recurrence with a running product that is clipped only where it is used.
struct ClippedLate;

impl AcceptanceRule for ClippedLate {
    fn name(&self) -> &'static str {
        "clipped-late"
    }

    fn target<'a>(&self, _: &'a Scores, expert: &'a Scores) -> std::borrow::Cow<'a, Probs> {
        std::borrow::Cow::Borrowed(expert.probs())
    }

    fn judge(
        &self,
        proposal: &Proposal,
        expert: &[Scores],
        position: usize,
        draws: &mut dyn Draws,
    ) -> Verdict {
        // A first token that the expert likes better than the drafter makes the product exceed 1.
        let mut lifted = proposal.clone();
        let mut product = 1.0;
        for (index, &token) in proposal.tokens.iter().enumerate() {
            product *= expert[index].prob(token) / proposal.scores[index].prob(token);
            if product > 1.0 && index + 1 < proposal.tokens.len() {
                let q = lifted.scores[index + 1].probs().to_vec();
                let at = proposal.tokens[index + 1] as usize;
                let less =
                    q.iter().enumerate().map(|(v, q)| if v == at { q / product } else { *q }).collect();
                lifted.scores[index + 1] = scores(&Probs::normalize(less).unwrap().to_vec());
            }
        }
        Block.judge(&lifted, expert, position, draws)
    }
}

#[test]
fn block_verification_reproduces_its_golden_cases() {
    for case in golden().block_verification {
        for path in &case.path {
            let law = case.accepted_law(&Block, &path.tokens);
            let same = law.iter().zip(&path.accepted_law).all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(same, "{} {:?}: {law:?}, {:?}", case.name, path.tokens, path.accepted_law);
        }
        assert!((case.expected_accepted(&Block) - case.expected_accepted).abs() < 1e-9, "{}", case.name);
        let token_wise = case.expected_accepted(&Lossless);
        assert!((token_wise - case.expected_accepted_token_verification).abs() < 1e-9, "{}", case.name);
    }
}

#[test]
fn another_recurrence_is_found() {
    let differs =
        |case: &BlockCase| (case.expected_accepted(&ClippedLate) - case.expected_accepted).abs() > 1e-3;
    assert!(golden().block_verification.iter().any(differs));
}

/// The law of three tokens, drafted `k` at a time, with or without the drafter's row after its last token in the first
/// round.
fn law_of_three(
    case: &SequenceCase,
    rule: &dyn AcceptanceRule,
    k: usize,
    after: bool,
) -> HashMap<Vec<TokenId>, f64> {
    let row = |rows: &[Vec<f64>], text: &[TokenId]| scores(&rows[text.last().map_or(0, |t| *t as usize + 1)]);
    outcomes(|draws| {
        let mut text: Vec<TokenId> = Vec::new();
        while text.len() < 3 {
            let (mut proposal, mut ahead) = (Proposal::empty(), text.clone());
            let drafted = k.min(2 - text.len().min(2));
            for _ in 0..drafted {
                let scores = row(&case.q, &ahead);
                let token = draws.pick(ahead.len(), Purpose::Draft, scores.probs());
                proposal.tokens.push(token);
                proposal.scores.push(scores);
                ahead.push(token);
            }
            if after || !text.is_empty() {
                proposal.scores.push(row(&case.q, &ahead));
            }
            let expert: Vec<_> = (0..=drafted).map(|n| row(&case.p, &ahead[..text.len() + n])).collect();
            let verdict = rule.judge(&proposal, &expert, text.len(), draws);
            text.extend(&proposal.tokens[..verdict.accepted]);
            text.push(verdict.next);
        }
        text
    })
}

#[test]
fn laws_of_sequences_are_those_of_the_golden_cases() {
    for case in golden().sequence_law {
        let name = case.rule.replace('_', "-");
        let spec = case.lenience.map_or(name.clone(), |x| format!("cascade-{name}:lenience={x}"));
        let rule = rule(&spec).unwrap();
        let as_law = |law: &[f64]| -> HashMap<Vec<TokenId>, f64> {
            (0..27).map(|i| (vec![i / 9, i / 3 % 3, i % 3], law[i as usize])).collect()
        };
        for k in 0..=3 {
            let difference = distance(&law_of_three(&case, &*rule, k, true), &as_law(&case.law));
            assert!(difference < 1e-9, "{spec}, k = {k}: {difference}");
        }
        // Without the drafter's word after its last token the bonus comes from the expert: another law, which the file
        // has too.
        for (k, wrong) in [(1, &case.law_bonus_from_p_k1), (2, &case.law_bonus_from_p_k2)] {
            let Some(wrong) = wrong else { continue };
            let without = law_of_three(&case, &*rule, k, false);
            assert!(distance(&without, &as_law(&case.law)) > 1e-3, "{spec}, k = {k}");
            assert!(distance(&without, &as_law(wrong)) < 1e-9, "{spec}, k = {k}");
        }
    }
}
