//! Thousands of short texts after one prefix, counted.

use super::{
    ProofError, Subject, Watch,
    candidate::Candidate,
    prefix::Prefix,
    report::{Farthest, Outcome, Test, TestKind},
    statistics::{ChiSquare, binomial, chi_square},
};
use drafthorse_engine::{Engine, SessionOptions};
use drafthorse_logits::{SamplingOptions, TokenId};
use std::{ops::Range, thread};

/// What is sampled.
pub(super) struct Plan<'a> {
    pub(super) prefix: &'a Prefix,
    pub(super) k: usize,
    pub(super) seeds: Range<u64>,
    /// Of them, how many all candidates get, and how many candidates get the rest.
    pub(super) shared: u64,
    pub(super) right: usize,
    pub(super) sampling: &'a SamplingOptions,
    pub(super) threads: usize,
}

/// The counts of one rule.
#[derive(Clone)]
pub(super) struct Counts {
    /// Texts by their first token.
    first: Vec<u64>,
    /// Texts with the likely first token by their second.
    second: Vec<u64>,
    /// First rounds in which something was drafted, and of them those that accepted the first token.
    drafted: u64,
    accepted: u64,
    /// First rounds that accepted the likely token and had drafted another, and those that accepted both.
    drafted_after: u64,
    accepted_after: u64,
}

impl Counts {
    fn new(vocab: usize) -> Self {
        let tokens = vec![0; vocab];
        let (drafted, accepted, drafted_after, accepted_after) = (0, 0, 0, 0);
        Self { first: tokens.clone(), second: tokens, drafted, accepted, drafted_after, accepted_after }
    }

    fn add(&mut self, other: &Self) {
        let sum = |a: &mut Vec<u64>, b: &[u64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        sum(&mut self.first, &other.first);
        sum(&mut self.second, &other.second);
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        self.drafted_after += other.drafted_after;
        self.accepted_after += other.accepted_after;
    }

    /// Generates one text, no further than is needed, and counts it.
    fn text(
        &mut self,
        engine: &mut Engine,
        options: &SessionOptions,
        prefix: &Prefix,
    ) -> Result<(), ProofError> {
        let mut session = engine.session(&prefix.tokens, options)?;
        let mut tokens: Vec<TokenId> = Vec::new();
        while let Some(step) = session.next().transpose()? {
            let stands = |n: usize| u64::from(step.accepted >= n);
            if tokens.is_empty() && step.drafted > 0 {
                self.drafted += 1;
                self.accepted += stands(1);
                let likely = step.tokens.first().is_some_and(|token| token.id == prefix.likely);
                if step.drafted > 1 && step.accepted > 0 && likely {
                    self.drafted_after += 1;
                    self.accepted_after += stands(2);
                }
            }
            tokens.extend(step.tokens.iter().map(|token| token.id));
            if tokens.len() > 1 || tokens.first() != Some(&prefix.likely) {
                break;
            }
        }
        if let Some(&first) = tokens.first() {
            self.first[first as usize] += 1;
            if let (true, Some(&second)) = (first == prefix.likely, tokens.get(1)) {
                self.second[second as usize] += 1;
            }
        }
        Ok(())
    }
}

/// Samples with every rule; the seeds are the outer loop, because rules that draft the same tokens for a seed
/// need the same forwards.
pub(super) fn sample(
    subject: &dyn Subject,
    candidates: &[Candidate],
    plan: &Plan<'_>,
    watch: &dyn Watch,
) -> Result<Vec<Counts>, ProofError> {
    let threads = plan.threads.max(1) as u64;
    let part = |index: u64| (plan.seeds.start + index..plan.seeds.end).step_by(threads as usize);
    let results = thread::scope(|scope| {
        let work = |index| scope.spawn(move || sample_some(subject, candidates, plan, part(index), watch));
        let workers: Vec<_> = (0..threads).map(work).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect::<Result<Vec<Vec<Counts>>, ProofError>>()
    })?;
    let mut results = results.into_iter();
    let mut sum = results.next().unwrap_or_default();
    for part in results {
        sum.iter_mut().zip(&part).for_each(|(sum, part)| sum.add(part));
    }
    Ok(sum)
}

fn sample_some(
    subject: &dyn Subject,
    candidates: &[Candidate],
    plan: &Plan<'_>,
    seeds: impl Iterator<Item = u64>,
    watch: &dyn Watch,
) -> Result<Vec<Counts>, ProofError> {
    let mut engine = subject.quick_engine(plan.k)?;
    let vocab = plan.prefix.expert.probs().vocab_size();
    let mut counts = vec![Counts::new(vocab); candidates.len()];
    for seed in seeds {
        let shared = seed - plan.seeds.start < plan.shared;
        let number = if shared { candidates.len() } else { plan.right };
        for (candidate, counts) in candidates.iter().zip(&mut counts).take(number) {
            let options = SessionOptions {
                sampling: plan.sampling.clone(),
                seed,
                // The last token of a text is never drafted.
                max_tokens: plan.k + 1,
                draft_length: Some(plan.k.into()),
                rule: Some(candidate.rule.clone()),
                ..SessionOptions::default()
            };
            counts.text(&mut engine, &options, plan.prefix)?;
        }
        watch.step()?;
    }
    Ok(counts)
}

/// What the counts of a rule are compared with.
pub(super) fn tests(candidate: &Candidate, plan: &Plan<'_>, counts: &Counts) -> Vec<Test> {
    let (prefix, base) = (plan.prefix, Base { candidate, plan });
    let law = candidate.law(Some(&prefix.draft), &prefix.expert);
    let chance = candidate.accepted(&prefix.draft, &prefix.expert);
    let mut tests = vec![
        base.tokens(TestKind::NextToken, &counts.first, &law),
        base.lengths(TestKind::AcceptedFirst, (counts.accepted, counts.drafted), chance),
    ];
    let after = prefix.draft_after.as_ref();
    // A drafter that only guesses may guess otherwise in a new round, and a law that mixes follows it.
    if candidate.lossless || after.is_some_and(|draft| draft.probs().as_point().is_none()) {
        let law = candidate.law(after, &prefix.expert_after);
        tests.push(base.tokens(TestKind::SecondToken, &counts.second, &law));
    }
    if let (Some(draft), true) = (after, plan.k > 1) {
        let (first, second) = ((&prefix.draft, &prefix.expert), (draft, &prefix.expert_after));
        let chance = candidate.accepted_after(prefix.likely, first, second);
        let seen = (counts.accepted_after, counts.drafted_after);
        tests.push(base.lengths(TestKind::AcceptedSecond, seen, chance));
    }
    tests
}

/// Whose tests they are.
struct Base<'a> {
    candidate: &'a Candidate,
    plan: &'a Plan<'a>,
}

impl Base<'_> {
    fn test(&self, kind: TestKind, samples: u64) -> Test {
        Test {
            kind,
            rule: self.candidate.name.clone(),
            k: self.plan.k,
            at: self.plan.prefix.label(),
            samples,
            statistic: 0.0,
            degrees: None,
            expected: None,
            p: None,
            farthest: None,
            outcome: if samples > 0 { Outcome::Passed } else { Outcome::Untested },
            differences: Vec::new(),
        }
    }

    fn tokens(&self, kind: TestKind, counts: &[u64], law: &[f64]) -> Test {
        let test = self.test(kind, counts.iter().sum());
        match chi_square(counts, law) {
            Some(ChiSquare { statistic, degrees, p, farthest }) => {
                let expected = law[farthest] * test.samples as f64;
                let farthest = Farthest { token: farthest as TokenId, seen: counts[farthest], expected };
                Test { statistic, degrees: Some(degrees), p: Some(p), farthest: Some(farthest), ..test }
            }
            None => Test { outcome: Outcome::Untested, ..test },
        }
    }

    fn lengths(&self, kind: TestKind, (seen, of): (u64, u64), chance: f64) -> Test {
        let statistic = if of > 0 { seen as f64 / of as f64 } else { 0.0 };
        Test { statistic, expected: Some(chance), p: binomial(seen, of, chance), ..self.test(kind, of) }
    }
}
