//! Block verification against verification token by token, over random models.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{probs, weights};
use drafthorse_logits::{
    Draws, Probs, Proposal, Purpose, Scores, TokenId, Verdict,
    exact::{distance, outcomes},
};
use drafthorse_verifier::{AcceptanceRule, Block, ExactMatch, Lossless};
use proptest::{collection::vec, prelude::*};
use std::{borrow::Cow, collections::HashMap};

/// Laws of drafter and expert after every text of up to `k` tokens.
#[derive(Clone, Debug)]
struct Tree {
    vocab: usize,
    k: usize,
    laws: Vec<(Vec<f64>, Vec<f64>)>,
}

fn tree(k: usize) -> impl Strategy<Value = Tree> {
    (2usize..=3).prop_flat_map(move |vocab| {
        let nodes = (0..=k).map(|depth| vocab.pow(depth as u32)).sum::<usize>();
        let law = move || weights(vocab);
        vec((law(), law()), nodes).prop_map(move |laws| Tree { vocab, k, laws })
    })
}

impl Tree {
    fn at(&self, text: &[TokenId]) -> (Scores, Scores) {
        let node = text.iter().fold(0, |node, &token| node * self.vocab + 1 + token as usize);
        let (q, p) = &self.laws[node];
        let scores = |law: &[f64]| Scores::from_probs(probs(law), probs(law));
        (scores(q), scores(p))
    }

    /// Drafts `k` tokens and has them judged.
    fn round(&self, rule: &dyn AcceptanceRule, draws: &mut dyn Draws) -> (Vec<TokenId>, Verdict) {
        let (mut proposal, mut expert) = (Proposal::empty(), Vec::new());
        for index in 0..=self.k {
            let (q, p) = self.at(&proposal.tokens);
            expert.push(p);
            if index < self.k {
                proposal.tokens.push(draws.pick(index, Purpose::Draft, q.probs()));
                proposal.scores.push(q);
            }
        }
        let verdict = rule.judge(&proposal, &expert, 0, draws);
        (proposal.tokens, verdict)
    }

    /// How many drafted tokens stand, on average.
    fn accepted(&self, rule: &dyn AcceptanceRule) -> f64 {
        let law = outcomes(|draws| self.round(rule, draws).1.accepted);
        law.iter().map(|(n, p)| *n as f64 * p).sum()
    }

    /// The law of `k + 1` tokens: those of the round, and the rest drawn from the expert.
    fn text(&self, rule: &dyn AcceptanceRule) -> HashMap<Vec<TokenId>, f64> {
        outcomes(|draws| {
            let (mut text, verdict) = self.round(rule, draws);
            text.truncate(verdict.accepted);
            text.push(verdict.next);
            self.finish(text, draws)
        })
    }

    fn finish(&self, mut text: Vec<TokenId>, draws: &mut dyn Draws) -> Vec<TokenId> {
        while text.len() <= self.k {
            text.push(draws.pick(text.len(), Purpose::Target, self.at(&text).1.probs()));
        }
        text
    }

    fn expert_text(&self) -> HashMap<Vec<TokenId>, f64> {
        outcomes(|draws| self.finish(Vec::new(), draws))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn blocks_accept_at_least_as_much(tree in prop_oneof![tree(2), tree(3)]) {
        let [block, token_wise] = [tree.accepted(&Block), tree.accepted(&Lossless)];
        prop_assert!(block >= token_wise - 1e-9, "{block} < {token_wise}");
    }

    #[test]
    fn blocks_of_one_token_accept_as_much(tree in tree(1)) {
        prop_assert!((tree.accepted(&Block) - tree.accepted(&Lossless)).abs() < 1e-9);
    }

    #[test]
    fn texts_follow_the_expert(tree in prop_oneof![tree(1), tree(2)]) {
        prop_assert!(distance(&tree.text(&Block), &tree.expert_text()) < 1e-9);
    }
}

/// The recurrence with its residual unweighted: the law is broken.
struct Unweighted;

impl AcceptanceRule for Unweighted {
    fn name(&self) -> &'static str {
        "unweighted"
    }

    fn target<'a>(&self, _: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(expert.probs())
    }

    fn judge(&self, draft: &Proposal, expert: &[Scores], position: usize, draws: &mut dyn Draws) -> Verdict {
        let verdict = Block.judge(draft, expert, position, draws);
        let n = verdict.accepted;
        if n == draft.tokens.len() {
            return verdict;
        }
        let law = expert[n].probs().residual(draft.scores[n].probs());
        let law = law.unwrap_or_else(|| expert[n].probs().clone());
        Verdict { next: draws.pick(position + n, Purpose::Draft, &law), ..verdict }
    }
}

/// The comparisons must see a rule that accepts less, one that gains, and one that breaks the law.
#[test]
fn wrong_blocks_are_found() {
    // The example of Sun et al.: 11/9 accepted tokens against 10/9.
    let law = (vec![2.0, 1.0], vec![1.0, 2.0]);
    let example = Tree { vocab: 2, k: 2, laws: vec![law; 7] };
    assert!((example.accepted(&Block) - 11.0 / 9.0).abs() < 1e-9);
    assert!((example.accepted(&Lossless) - 10.0 / 9.0).abs() < 1e-9);
    assert!(example.accepted(&ExactMatch) < example.accepted(&Lossless) - 1e-3);
    // With two tokens a residual is one of them, whatever its weight.
    let law = (vec![8.0, 1.0, 1.0], vec![2.0, 5.0, 3.0]);
    let wider = Tree { vocab: 3, k: 2, laws: vec![law; 13] };
    let error = |rule: &dyn AcceptanceRule| distance(&wider.text(rule), &wider.expert_text());
    assert!(error(&Block) < 1e-9 && error(&Lossless) < 1e-9);
    assert!(error(&Unweighted) > 1e-3, "{}", error(&Unweighted));
}
