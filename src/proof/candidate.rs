//! Rules with what they promise, and verifiers that promise it and are wrong.

use drafthorse_logits::{Draws, Origin, Probs, Proposal, Purpose, Scores, TokenId, Verdict};
use drafthorse_verifier::{AcceptanceRule, ExactMatch, Kind, Lossless, describe};
use std::{borrow::Cow, sync::Arc};

/// How a rule accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// As often as any method can at one position.
    Coupling,
    /// A token that an independent draw gives too.
    Match,
    /// Races with common noise.
    Noise,
    /// Over all drafted tokens at once.
    Block,
}

/// A rule to be tested.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) rule: Arc<dyn AcceptanceRule>,
    pub(super) method: Method,
    /// Whether greedy texts are promised to be the expert's.
    pub(super) lossless: bool,
    /// Whether a seed is promised to give the text that it gives without drafts.
    pub(super) same_by_seed: bool,
}

impl Candidate {
    pub(super) fn new(rule: Arc<dyn AcceptanceRule>) -> Self {
        let method = match rule.name() {
            _ if rule.shares_noise() => Method::Noise,
            "exact-match" => Method::Match,
            "block" => Method::Block,
            _ => Method::Coupling,
        };
        Self {
            name: describe(&*rule),
            lossless: rule.kind() == Kind::Lossless,
            same_by_seed: matches!(method, Method::Match | Method::Noise),
            method,
            rule,
        }
    }

    /// From which draft length on it differs from others, if it is wrong.
    pub(super) fn least_draft(&self) -> usize {
        if self.method == Method::Block { 2 } else { 1 }
    }

    /// The law of a token after what drafter and expert say.
    pub(super) fn law(&self, draft: Option<&Scores>, expert: &Scores) -> Vec<f64> {
        match draft {
            Some(draft) => self.rule.target(draft, expert).to_vec(),
            None => expert.probs().to_vec(),
        }
    }

    /// With which probability the first drafted token is accepted.
    pub(super) fn accepted(&self, draft: &Scores, expert: &Scores) -> f64 {
        let (q, pi) = (draft.probs().to_vec(), self.law(Some(draft), expert));
        match self.method {
            Method::Coupling | Method::Block => overlap(&pi, &q, 1.0),
            Method::Match => pi.iter().zip(&q).map(|(pi, q)| pi * q).sum(),
            Method::Noise => races_agree(&pi, &q),
        }
    }

    /// With which probability the second one is, after this first one was. `first` and `second` are what drafter
    /// and expert say at the two positions.
    pub(super) fn accepted_after(
        &self,
        token: TokenId,
        first: (&Scores, &Scores),
        (draft, expert): (&Scores, &Scores),
    ) -> f64 {
        if self.method != Method::Block {
            return self.accepted(draft, expert);
        }
        // Two tokens stand with probability w_2 and the first with w_1, where w_2 = min(1, w_1 p / q).
        let weight = (first.1.probs().get(token) / first.0.probs().get(token)).min(1.0);
        overlap(&expert.probs().to_vec(), &draft.probs().to_vec(), weight) / weight
    }
}

/// The sum of min(weight p, q).
fn overlap(p: &[f64], q: &[f64], weight: f64) -> f64 {
    p.iter().zip(q).map(|(p, q)| (weight * p).min(*q)).sum()
}

/// The probability that two exponential races with common noise have one winner:
/// sum over v of 1 / sum over u of max(p(u) / p(v), q(u) / q(v)).
///
/// Source: Daliri, Musco, Suresh, "Coupling without Communication and Drafter-Invariant Speculative
/// Decoding", 2024.
fn races_agree(p: &[f64], q: &[f64]) -> f64 {
    // Above the ratio p(v) / q(v) the terms of p are the larger ones, below it those of q.
    let mut tokens: Vec<_> = p.iter().zip(q).map(|(&p, &q)| (p, q)).filter(|(p, q)| p + q > 0.0).collect();
    tokens.sort_by(|(a, b), (c, d)| (a / (a + b)).total_cmp(&(c / (c + d))));
    let (mut below, mut above) = (0.0, tokens.iter().map(|(p, _)| p).sum::<f64>());
    let mut sum = 0.0;
    for (p, q) in tokens {
        if p > 0.0 && q > 0.0 {
            sum += 1.0 / (above.max(p) / p + below / q);
        }
        above -= p;
        below += q;
    }
    sum
}

/// How a wrong verifier decides a round.
type Judge = fn(&Proposal, &[Scores], usize, &mut dyn Draws) -> Verdict;

struct Wrong {
    name: &'static str,
    judge: Judge,
}

impl AcceptanceRule for Wrong {
    fn name(&self) -> &'static str {
        self.name
    }

    fn target<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(expert.probs())
    }

    fn judge(&self, draft: &Proposal, expert: &[Scores], position: usize, draws: &mut dyn Draws) -> Verdict {
        (self.judge)(draft, expert, position, draws)
    }
}

/// A verifier that is wrong.
struct Line {
    name: &'static str,
    /// The method it pretends to have.
    method: Method,
    /// Whether it is wrong with drafts that are certain too.
    certain: bool,
    judge: Judge,
}

const fn line(name: &'static str, method: Method, certain: bool, judge: Judge) -> Line {
    Line { name, method, certain, judge }
}

const WRONG: [Line; 7] = [
    line("replacement from p, not from the residual", Method::Coupling, true, replaces_from_expert),
    line("accepts everything", Method::Coupling, true, accepts_everything),
    line("bonus from the row before its own", Method::Coupling, true, takes_the_wrong_row),
    line("a refused token is kept", Method::Coupling, true, keeps_what_is_refused),
    line("accepts with probability p, not p / q", Method::Coupling, false, forgets_the_drafter),
    line("block verification without its clip", Method::Block, false, never_clips),
    line("exact match with draws that change with the round", Method::Match, true, draws_by_round),
];

/// Verifiers that are wrong, and look like the rules to be proved; `calibrated`: for drafters that draw from a
/// distribution.
pub(super) fn wrong(right: &[Candidate], calibrated: bool, longest: usize) -> Vec<Candidate> {
    let asked = |line: &Line| match line.method {
        Method::Coupling => true,
        // With one token there is nothing to carry on.
        Method::Block => longest > 1 && right.iter().any(|rule| rule.method == Method::Block),
        Method::Match | Method::Noise => right.iter().any(|rule| rule.same_by_seed),
    };
    let shown = WRONG.into_iter().filter(|line| asked(line) && (calibrated || line.certain));
    let candidate = |Line { name, method, judge, .. }: Line| Candidate {
        name: name.to_owned(),
        rule: Arc::new(Wrong { name, judge }),
        method,
        lossless: true,
        same_by_seed: method == Method::Match,
    };
    shown.map(candidate).collect()
}

fn replaces_from_expert(
    draft: &Proposal,
    expert: &[Scores],
    position: usize,
    draws: &mut dyn Draws,
) -> Verdict {
    let right = Lossless.judge(draft, expert, position, draws);
    let (accepted, origin) = (right.accepted, right.origin);
    if origin == Origin::Bonus {
        return right;
    }
    let next = draws.pick(position + accepted, Purpose::Replacement, expert[accepted].probs());
    Verdict { accepted, next, origin }
}

fn accepts_everything(
    draft: &Proposal,
    expert: &[Scores],
    position: usize,
    draws: &mut dyn Draws,
) -> Verdict {
    let accepted = draft.tokens.len();
    let next = draws.pick(position + accepted, Purpose::Target, expert[accepted].probs());
    Verdict { accepted, next, origin: Origin::Bonus }
}

fn takes_the_wrong_row(
    draft: &Proposal,
    expert: &[Scores],
    position: usize,
    draws: &mut dyn Draws,
) -> Verdict {
    let right = Lossless.judge(draft, expert, position, draws);
    if right.origin != Origin::Bonus || right.accepted == 0 {
        return right;
    }
    let law = expert[right.accepted - 1].probs();
    Verdict { next: draws.pick(position + right.accepted, Purpose::Target, law), ..right }
}

fn keeps_what_is_refused(
    draft: &Proposal,
    expert: &[Scores],
    position: usize,
    draws: &mut dyn Draws,
) -> Verdict {
    let right = Lossless.judge(draft, expert, position, draws);
    match right.origin {
        Origin::Replacement => Verdict { next: draft.tokens[right.accepted], ..right },
        Origin::Bonus => right,
    }
}

fn forgets_the_drafter(
    draft: &Proposal,
    expert: &[Scores],
    position: usize,
    draws: &mut dyn Draws,
) -> Verdict {
    for (accepted, token) in draft.tokens.iter().enumerate() {
        let (p, at) = (expert[accepted].probs(), position + accepted);
        if !draws.accept(at, p.get(*token)) {
            let residual = p.residual(draft.scores[accepted].probs());
            let next = draws.pick(at, Purpose::Replacement, residual.as_ref().unwrap_or(p));
            return Verdict { accepted, next, origin: Origin::Replacement };
        }
    }
    accepts_everything(draft, expert, position, draws)
}

/// Block verification whose weight may grow beyond 1.
fn never_clips(draft: &Proposal, expert: &[Scores], position: usize, draws: &mut dyn Draws) -> Verdict {
    let k = draft.tokens.len();
    let (mut weight, mut kept, mut residual) = (1.0, 0, None);
    let rest = |weight: f64, i: usize| -> Vec<f64> {
        let (p, q) = (expert[i].probs().to_vec(), draft.scores[i].probs().to_vec());
        p.iter().zip(q).map(|(p, q)| (weight * p - q).max(0.0)).collect()
    };
    if k > 0 {
        residual = Probs::normalize(rest(1.0, 0));
    }
    for (i, &token) in draft.tokens.iter().enumerate() {
        weight *= expert[i].probs().get(token) / draft.scores[i].probs().get(token);
        let after = if i + 1 < k { rest(weight, i + 1) } else { Vec::new() };
        let mass: f64 = after.iter().sum();
        let denominator = mass + 1.0 - weight;
        let chance = match (i + 1 < k, denominator > 0.0) {
            (false, _) => weight,
            (true, true) => mass / denominator,
            (true, false) => 1.0,
        };
        if draws.accept(position + i, chance.clamp(0.0, 1.0)) {
            (kept, residual) = (i + 1, Probs::normalize(after));
        }
    }
    if kept == k {
        return accepts_everything(draft, expert, position, draws);
    }
    let law = residual.as_ref().unwrap_or(expert[kept].probs());
    let next = draws.pick(position + kept, Purpose::Replacement, law);
    Verdict { accepted: kept, next, origin: Origin::Replacement }
}

fn draws_by_round(draft: &Proposal, expert: &[Scores], position: usize, draws: &mut dyn Draws) -> Verdict {
    /// Draws whose targets are keyed by the round.
    struct ByRound<'a>(&'a mut dyn Draws);
    impl Draws for ByRound<'_> {
        fn accept(&mut self, position: usize, probability: f64) -> bool {
            self.0.accept(position, probability)
        }
        fn pick(&mut self, position: usize, _purpose: Purpose, probs: &Probs) -> TokenId {
            self.0.pick(position, Purpose::Replacement, probs)
        }
    }
    ExactMatch.judge(draft, expert, position, &mut ByRound(draws))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn distribution(n: usize) -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(prop_oneof![1 => Just(0.0), 4 => 1e-3..1.0f64], n)
            .prop_filter_map("no mass", |weights| Probs::normalize(weights).map(|probs| probs.to_vec()))
    }

    /// The formula as it stands.
    fn on_paper(p: &[f64], q: &[f64]) -> f64 {
        let both = (0..p.len()).filter(|&v| p[v] > 0.0 && q[v] > 0.0);
        both.map(|v| 1.0 / (0..p.len()).map(|u| (p[u] / p[v]).max(q[u] / q[v])).sum::<f64>()).sum()
    }

    proptest! {
        #[test]
        fn races_agree_as_often_as_on_paper((p, q) in (1usize..9).prop_flat_map(|n| (distribution(n), distribution(n)))) {
            prop_assert!((races_agree(&p, &q) - on_paper(&p, &q)).abs() < 1e-9);
        }
    }

    #[test]
    fn races_agree_as_in_the_golden_case() {
        let agree = races_agree(&[0.25, 0.45, 0.1, 0.2], &[0.5, 0.3, 0.15, 0.05]);
        assert!((agree - 0.669_231).abs() < 1e-6, "{agree}");
        let point = races_agree(&[0.25, 0.45, 0.3], &[0.0, 1.0, 0.0]);
        assert!((point - 0.45).abs() < 1e-12, "{point}");
    }
}
