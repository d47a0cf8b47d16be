//! Proposals are those of the drafter alone, whatever is asked of it: any length, rules that end drafts, scores after the
//! draft, other texts, other samplers.

use super::{VOCAB, always, pair};
use crate::ahead::Ahead;
use drafthorse_drafter::{DraftRequest, Drafter, ModelDrafter, StopRule};
use drafthorse_logits::{
    Draws, Memory, Origin, Proposal, Sampler, SamplingOptions, SeededDraws, TokenId, Verdict,
};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::{
    sync::{Mutex, atomic::Ordering},
    time::Duration,
};

/// Ends a draft after tokens divisible by three, and notes what it was asked.
#[derive(Debug, Default)]
struct Thirds(Mutex<Vec<Vec<TokenId>>>);

impl StopRule for Thirds {
    fn ends(&self, draft: &Proposal) -> bool {
        assert_eq!(draft.tokens.len(), draft.scores.len(), "a row of scores for each token");
        self.0.lock().unwrap().push(draft.tokens.clone());
        draft.tokens.last().is_some_and(|token| token % 3 == 0)
    }
}

/// What is asked in a round.
struct Asked {
    max: usize,
    score_after: bool,
    stops: bool,
    prompt: usize,
}

/// The proposal and what the stop rule was asked.
type Said = (Vec<TokenId>, Vec<Vec<f64>>, Vec<Vec<TokenId>>);

fn say(
    drafter: &mut dyn Drafter,
    sequence: &[TokenId],
    asked: &Asked,
    sampler: &Sampler,
    draws: &SeededDraws,
) -> Said {
    let stop = Thirds::default();
    let request = DraftRequest {
        max: asked.max,
        score_after: asked.score_after,
        raw: false,
        vocab: VOCAB,
        prompt: asked.prompt,
        memory: Memory::off(),
        sampler,
        stop: asked.stops.then_some(&stop),
    };
    let proposal = drafter.propose(sequence, &request, &mut draws.clone()).unwrap();
    assert_eq!(proposal.check(VOCAB, asked.max), Ok(()));
    let rows = proposal.scores.iter().map(|scores| scores.probs().to_vec()).collect();
    (proposal.tokens, rows, stop.0.into_inner().unwrap())
}

/// A verification of the proposal: mostly what drafts were made ahead for.
fn verdict(rng: &mut ChaCha8Rng, proposed: &Said) -> Verdict {
    let (tokens, rows, _) = proposed;
    let accepted = rng.random_range(0..=tokens.len());
    let best = |row: &Vec<f64>| {
        let other = |&v: &usize| tokens.get(accepted) != Some(&(v as TokenId));
        (0..VOCAB).filter(other).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0) as TokenId
    };
    let next = match rows.get(accepted) {
        Some(row) if rng.random_range(0..4) > 0 => best(row),
        _ => rng.random_range(0..VOCAB as TokenId),
    };
    let origin = if accepted < tokens.len() { Origin::Replacement } else { Origin::Bonus };
    Verdict { accepted, next, origin }
}

/// In how many of the runs a proposal differs, and how many drafts made ahead were used.
fn differing(runs: u64, mistake: bool) -> (usize, u64) {
    let (mut differing, mut used) = (0, 0);
    for run in 0..runs {
        let mut rng = ChaCha8Rng::seed_from_u64(run);
        let [_, model] = pair(run);
        let model = std::sync::Arc::new(model.as_ref().clone().with_context(rng.random_range(8..40)));
        let mut alone = ModelDrafter::new(model.clone());
        let mut ahead = Ahead::new(ModelDrafter::new(model), always(6));
        ahead.shared.mistake.store(mistake, Ordering::Relaxed);
        differing += usize::from(!agree(&mut rng, &mut alone, &mut ahead));
        let stats = ahead.report().stats();
        used += stats.hits + stats.partial;
    }
    (differing, used)
}

fn agree(rng: &mut ChaCha8Rng, alone: &mut ModelDrafter, ahead: &mut Ahead) -> bool {
    let samplers = [0.0, 0.0, 1.0, 1.0]
        .map(|temperature| Sampler::new(&SamplingOptions { temperature, ..Default::default() }).unwrap());
    let (mut sampler, mut draws) = (&samplers[2], SeededDraws::new(rng.random(), 0));
    let (mut sequence, prompt): (Vec<TokenId>, _) = (vec![1, 2], 2);
    let mut score_after = rng.random();
    for round in 0..12 {
        draws.begin_round(round);
        match rng.random_range(0..12) {
            0 => sampler = &samplers[rng.random_range(0..4)],
            1 => draws = SeededDraws::new(rng.random(), round),
            2 => score_after = rng.random(),
            3 => sequence = vec![rng.random_range(0..VOCAB as TokenId); rng.random_range(1..5)],
            _ => (),
        }
        let asked = Asked { max: rng.random_range(0..5), score_after, stops: rng.random(), prompt };
        let said = say(alone, &sequence, &asked, sampler, &draws);
        if said != say(ahead, &sequence, &asked, sampler, &draws) {
            return false;
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..200)));
        let verdict = verdict(rng, &said);
        sequence.extend(&said.0[..verdict.accepted]);
        sequence.push(verdict.next);
        if !said.0.is_empty() {
            ahead.observe(&verdict);
        }
    }
    true
}

#[test]
fn proposals_are_those_of_the_drafter_alone() {
    let (differing, used) = differing(500, false);
    assert_eq!(differing, 0);
    assert!(used > 500, "{used} drafts made ahead were of use");
}

#[test]
fn a_draft_for_another_token_is_found() {
    assert!(self::differing(50, true).0 > 5);
}
