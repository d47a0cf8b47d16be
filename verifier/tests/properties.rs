//! What holds for every rule, for any pair of drafter and expert and any value of its dials.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Pair, decisions, first_token, given, pair, probs, some_rule};
use drafthorse_logits::{Draws, Probs, Proposal, Scores, TokenId, Verdict};
use drafthorse_verifier::{AcceptanceRule, RULES, describe, judge, rule};
use proptest::{prelude::*, strategy::ValueTree};
use std::{borrow::Cow, sync::Arc};

type Check = fn(&dyn AcceptanceRule, &Pair) -> Result<(), String>;

/// The target is a distribution.
fn is_a_distribution(rule: &dyn AcceptanceRule, pair: &Pair) -> Result<(), String> {
    let law = rule.target(&pair.draft, &pair.expert).to_vec();
    let sum: f64 = law.iter().sum();
    let fine =
        law.len() == pair.q().vocab_size() && law.iter().all(|x| *x >= 0.0) && (sum - 1.0).abs() < 1e-9;
    if fine { Ok(()) } else { Err(format!("{law:?} sums to {sum}")) }
}

/// A drafted token stands with `min(1, pi / q)`, or, by exact match, with the expert's probability.
fn accepts_by_its_law(rule: &dyn AcceptanceRule, pair: &Pair) -> Result<(), String> {
    let law = rule.target(&pair.draft, &pair.expert);
    for v in pair.tokens().filter(|&v| pair.q().get(v) > 0.0) {
        let wanted = match rule.name() {
            "exact-match" => pair.p().get(v),
            _ => (law.get(v) / pair.q().get(v)).min(1.0),
        };
        let stands = rule.acceptance(v, &pair.draft, &pair.expert);
        // A law sums to 1 in f64: below some 1e-15 its probabilities carry no more digits than that.
        if (stands - wanted).abs() > 1e-9 + 1e-15 / pair.q().get(v).max(f64::MIN_POSITIVE) {
            return Err(format!("token {v} stands with {stands}, its law says {wanted}"));
        }
    }
    Ok(())
}

/// What comes out of a round follows the target.
fn draws_from_its_law(rule: &dyn AcceptanceRule, pair: &Pair) -> Result<(), String> {
    let (law, wanted) = (first_token(rule, pair), rule.target(&pair.draft, &pair.expert).to_vec());
    let same = law.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-9);
    if same { Ok(()) } else { Err(format!("{law:?} comes out of {wanted:?}")) }
}

/// A token about which the expert is not asked stands; either the rule makes such decisions or it does not.
fn keeps_what_it_does_not_defer(rule: &dyn AcceptanceRule, pair: &Pair) -> Result<(), String> {
    let decisions = decisions(rule, pair);
    if decisions.iter().any(Option::is_none) != decisions.iter().all(Option::is_none) {
        return Err(format!("{decisions:?}"));
    }
    for (v, asked) in pair.tokens().zip(&decisions) {
        let stands = rule.acceptance(v, &pair.draft, &pair.expert);
        if *asked == Some(false) && pair.q().get(v) > 0.0 && stands < 1.0 {
            return Err(format!("token {v} is kept and stands with {stands}"));
        }
    }
    Ok(())
}

const CHECKS: [Check; 4] =
    [is_a_distribution, accepts_by_its_law, draws_from_its_law, keeps_what_it_does_not_defer];

fn failed(rule: &dyn AcceptanceRule, pair: &Pair) -> Vec<usize> {
    (0..CHECKS.len()).filter(|&n| CHECKS[n](rule, pair).is_err()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    #[test]
    fn every_rule_is_lawful(rule in some_rule(), pair in pair()) {
        for check in CHECKS {
            let outcome = check(&*rule, &pair);
            prop_assert!(outcome.is_ok(), "{}: {}", describe(&*rule), outcome.unwrap_err());
        }
    }
}

/// The strategy must reach every rule, kept tokens and asked ones, tokens that stand for sure and never.
#[test]
fn every_rule_is_met() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut names = std::collections::BTreeSet::new();
    let (mut kept, mut asked, mut sure, mut never) = (0, 0, 0, 0);
    for _ in 0..2000 {
        let (rule, pair) = (some_rule(), pair()).new_tree(&mut runner).unwrap().current();
        names.insert(rule.name());
        for (v, decision) in pair.tokens().zip(decisions(&*rule, &pair)) {
            let stands = rule.acceptance(v, &pair.draft, &pair.expert);
            kept += usize::from(decision == Some(false));
            asked += usize::from(decision == Some(true));
            sure += usize::from(stands == 1.0);
            never += usize::from(stands == 0.0);
        }
    }
    assert_eq!(names.len(), RULES.len());
    assert!(kept.min(asked).min(sure).min(never) > 500, "{kept}, {asked}, {sure}, {never}");
}

/// A rule with one mistake.
struct Wrong {
    right: Arc<dyn AcceptanceRule>,
    mistake: Mistake,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    /// A token too many stands.
    Softer,
    /// Another law is stated than is followed.
    OtherLaw,
    /// The expert is said to be asked about nothing.
    SilentDeferral,
    /// Replacements come from the law, not from the residual.
    NoResidual,
}

impl AcceptanceRule for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn target<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        if self.mistake == Mistake::OtherLaw {
            return Cow::Borrowed(expert.probs());
        }
        self.right.target(draft, expert)
    }

    fn acceptance(&self, token: TokenId, draft: &Scores, expert: &Scores) -> f64 {
        let right = self.right.acceptance(token, draft, expert);
        if self.mistake == Mistake::Softer { right.sqrt() } else { right }
    }

    fn deferral(&self, token: TokenId, draft: &Scores, expert: &Scores) -> Option<bool> {
        if self.mistake == Mistake::SilentDeferral {
            return Some(false);
        }
        self.right.deferral(token, draft, expert)
    }

    fn judge(&self, draft: &Proposal, expert: &[Scores], position: usize, draws: &mut dyn Draws) -> Verdict {
        let verdict = judge(self, draft, expert, position, draws);
        if self.mistake != Mistake::NoResidual || verdict.accepted > 0 {
            return verdict;
        }
        let law = self.right.target(&draft.scores[0], &expert[0]);
        Verdict { next: draws.pick(position, drafthorse_logits::Purpose::Draft, &law), ..verdict }
    }
}

#[test]
fn mistakes_are_seen() {
    let pair = given(&[0.5, 0.3, 0.15, 0.05], &[0.25, 0.45, 0.1, 0.2]);
    for spec in
        ["cascade-token-v3:lenience=0.3", "cascade-token-v1:lenience=0.1", "lenience", "interpolation"]
    {
        let wrong = |mistake| failed(&Wrong { right: rule(spec).unwrap(), mistake }, &pair);
        assert_eq!(wrong(Mistake::None), [0; 0], "{spec}: the harness itself does no harm");
        assert_eq!(wrong(Mistake::Softer), [1, 2], "{spec}");
        assert_eq!(wrong(Mistake::OtherLaw), [1, 2], "{spec}");
        assert_eq!(wrong(Mistake::SilentDeferral), [3], "{spec}");
        assert_eq!(wrong(Mistake::NoResidual), [2], "{spec}");
    }
    // A law is a distribution by its type; what is none cannot be made.
    assert!(Probs::normalize(vec![0.5, -0.1]).is_none() && Probs::normalize(vec![f64::NAN]).is_none());
    assert!((probs(&[0.2, 0.2]).to_vec().iter().sum::<f64>() - 1.0).abs() < 1e-15);
}
