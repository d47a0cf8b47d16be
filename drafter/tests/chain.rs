//! A chain proposes what its model proposes alone, to the last bit, in fewer passes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::{
    ChainDrafter, DraftRequest, Drafter, ModelDrafter, NgramDrafter, NgramMemoryDrafter, NoDrafter, StopRule,
    SuffixDrafter,
};
use drafthorse_logits::{Memory, Origin, Proposal, Sampler, SamplingOptions, SeededDraws, TokenId, Verdict};
use drafthorse_model::{ModelError, TableModel};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

const VOCAB: usize = 5;

fn guessers(model: &Arc<TableModel>) -> Vec<(&'static str, Box<dyn Drafter>)> {
    vec![
        ("ngram", Box::new(NgramDrafter::new(1, 3).unwrap())),
        ("suffix", Box::<SuffixDrafter>::default()),
        ("ngram memory", Box::<NgramMemoryDrafter>::default()),
        ("another model", Box::new(ModelDrafter::new(Arc::new(TableModel::random(VOCAB + 2, 2.0, 99))))),
        ("the model itself", Box::new(ModelDrafter::new(model.clone()))),
        ("none", Box::new(NoDrafter)),
    ]
}

/// Ends a draft where its last token was improbable.
#[derive(Debug)]
struct Improbable(f64);

impl StopRule for Improbable {
    fn ends(&self, draft: &Proposal) -> bool {
        draft.tokens.last().zip(draft.scores.last()).is_some_and(|(token, row)| row.prob(*token) < self.0)
    }
}

/// Tokens, rows as bits.
fn bits(proposal: &Proposal) -> (Vec<TokenId>, Vec<Vec<u64>>) {
    let row = |row: &drafthorse_logits::Scores| row.probs().to_vec().into_iter().map(f64::to_bits).collect();
    (proposal.tokens.clone(), proposal.scores.iter().map(row).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn a_chain_proposes_what_its_model_does(
        seed in 0u64..1000, temperature in prop::sample::select(vec![0.0f32, 0.5, 1.0, 1.5]), top_p in prop::sample::select(vec![1.0f64, 0.8]),
        penalty in prop::sample::select(vec![1.0f32, 1.4]), max in 0usize..7, after in any::<bool>(), raw in any::<bool>(),
        stop in prop::option::of(0.1f64..0.6), context in 12usize..40, vocab in 4usize..8, text in prop::collection::vec(0u32..4, 1..12)
    ) {
        let options = SamplingOptions { temperature, top_p: top_p as _, repetition_penalty: penalty, ..SamplingOptions::default() };
        let sampler = Sampler::new(&options).unwrap();
        let stop = stop.map(Improbable);
        let stop = stop.as_ref().map(|stop| stop as &dyn StopRule);
        let model = Arc::new(TableModel::random(VOCAB, 2.0, seed).with_context(context));
        for (name, guesser) in guessers(&model) {
            let mut alone = ModelDrafter::new(model.clone());
            let mut chain = ChainDrafter::new(model.clone(), guesser);
            let mut sequence = text.clone();
            if sequence.len() > 1 {
                chain.prepare(&sequence[..sequence.len() - 1]).unwrap();
            }
            for round in 1..8 {
                let request = DraftRequest { max, score_after: after, raw, vocab, prompt: text.len(), memory: Memory::off(), sampler: &sampler, stop };
                let mut draws = SeededDraws::new(seed, round);
                let wanted = alone.propose(&sequence, &request, &mut draws.clone()).unwrap();
                let passes = chain.passes();
                let proposal = chain.propose(&sequence, &request, &mut draws).unwrap();
                prop_assert_eq!(proposal.check(vocab, max), Ok(()));
                prop_assert_eq!(bits(&proposal), bits(&wanted), "{}, round {}", name, round);
                if raw {
                    let raws = |proposal: &Proposal| proposal.scores.iter().map(|row| row.raw().to_vec()).collect::<Vec<_>>();
                    prop_assert_eq!(raws(&proposal), raws(&wanted));
                }
                prop_assert!(chain.passes() - passes <= (proposal.scores.len() as u64).max(1) + 1);
                // Some of it stands, and another token follows.
                let accepted = (seed as usize + round as usize) % (proposal.tokens.len() + 1);
                sequence.extend(&proposal.tokens[..accepted]);
                sequence.push((seed as u32 + round as u32) % 4);
                chain.observe(&Verdict { accepted, next: 0, origin: Origin::Bonus });
            }
        }
    }
}

#[test]
fn guesses_that_are_right_save_passes() {
    // One token always follows another: all can be guessed by who has seen it.
    let model = Arc::new(TableModel::from_fn(4, |last| {
        let next = last.last().map_or(0, |token| (token + 1) % 4);
        (0..4).map(|token| if token == next { 5.0 } else { 0.0 }).collect()
    }));
    let sampler = Sampler::new(&SamplingOptions { temperature: 0.0, ..SamplingOptions::default() }).unwrap();
    let request = |max, after| DraftRequest {
        max,
        score_after: after,
        raw: true,
        vocab: 4,
        prompt: 9,
        memory: Memory::off(),
        sampler: &sampler,
        stop: None,
    };
    let text = [0, 1, 2, 3, 0, 1, 2, 3, 0];
    let passes = |guesser: Box<dyn Drafter>, max, after| {
        let mut chain = ChainDrafter::new(model.clone(), guesser).named("small");
        let proposal = chain.propose(&text, &request(max, after), &mut SeededDraws::new(0, 1)).unwrap();
        assert_eq!(proposal.tokens.len(), max);
        assert_eq!(chain.name().rsplit('>').next(), Some("small"));
        let parts = chain.parts();
        (chain.passes(), (parts[0].drafted, parts[0].accepted))
    };
    assert_eq!(passes(Box::new(NoDrafter), 8, false), (8, (0, 0)));
    assert_eq!(passes(Box::<NgramDrafter>::default(), 8, false), (1, (7, 7)));
    assert_eq!(passes(Box::<NgramDrafter>::default(), 8, true), (1, (8, 8)));
    assert_eq!(passes(Box::new(NoDrafter), 8, true).0, 9);
    let suffix = passes(Box::<SuffixDrafter>::default(), 8, false);
    assert!(suffix.0 <= 2, "{suffix:?}");
}

/// The control of the identity: guesses differ from what the model draws, and are refused.
#[test]
fn guesses_of_another_model_stand_now_and_then() {
    let sampler = Sampler::new(&SamplingOptions::default()).unwrap();
    let model = Arc::new(TableModel::random(VOCAB, 2.0, 5));
    let other = Arc::new(TableModel::random(VOCAB, 2.0, 99));
    let mut chain = ChainDrafter::new(model, ModelDrafter::new(other.clone()));
    let mut wrong = ModelDrafter::new(other);
    let (mut tokens, mut different) = (0, 0);
    for round in 0..100 {
        let (prompt, memory, sampler) = (2, Memory::off(), &sampler);
        let request = DraftRequest {
            max: 6,
            score_after: false,
            raw: true,
            vocab: VOCAB,
            prompt,
            memory,
            sampler,
            stop: None,
        };
        let sequence = [round % 5, round / 5 % 5];
        let mut draws = SeededDraws::new(3, round.into());
        let proposal = chain.propose(&sequence, &request, &mut draws).unwrap();
        different +=
            usize::from(proposal.tokens != wrong.propose(&sequence, &request, &mut draws).unwrap().tokens);
        tokens += proposal.tokens.len() as u64;
    }
    let part = &chain.parts()[0];
    assert!(different > 50, "{different}");
    assert!(part.accepted > 20 && part.examined > part.accepted + 20, "{part:?}");
    assert!(chain.passes() < tokens - 20, "{} passes for {tokens} tokens", chain.passes());
}

/// Hears verdicts, and guesses the same three tokens.
struct Listener(Arc<Mutex<Vec<Verdict>>>);

impl Drafter for Listener {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn propose(
        &mut self,
        _sequence: &[TokenId],
        request: &DraftRequest<'_>,
        _draws: &mut dyn drafthorse_logits::Draws,
    ) -> Result<Proposal, ModelError> {
        let tokens: Vec<_> = [1, 2, 3].into_iter().take(request.max).collect();
        let scores =
            tokens.iter().map(|&token| drafthorse_logits::Scores::point(token, request.vocab)).collect();
        Ok(Proposal { tokens, scores })
    }

    fn observe(&mut self, verdict: &Verdict) {
        self.0.lock().unwrap().push(*verdict);
    }
}

#[test]
fn the_guesser_hears_what_became_of_its_guesses() {
    let sampler = Sampler::new(&SamplingOptions { temperature: 0.0, ..SamplingOptions::default() }).unwrap();
    let heard = |says: &'static [TokenId], max| {
        // After the token `n` of the draft, the next one of `says`.
        let model = TableModel::from_fn(9, move |last| {
            let at = says.iter().position(|token| Some(token) == last.last()).map_or(0, |at| at + 1);
            (0..9).map(|token| if Some(&token) == says.get(at) { 5.0 } else { 0.0 }).collect()
        });
        let verdicts = Arc::new(Mutex::new(Vec::new()));
        let mut chain = ChainDrafter::new(Arc::new(model), Listener(verdicts.clone()));
        let (memory, sampler) = (Memory::off(), &sampler);
        let request = DraftRequest {
            max,
            score_after: false,
            raw: true,
            vocab: 9,
            prompt: 1,
            memory,
            sampler,
            stop: None,
        };
        chain.propose(&[0], &request, &mut SeededDraws::new(0, 1)).unwrap();
        verdicts.lock().unwrap().first().copied()
    };
    let verdict = |accepted, next, origin| Some(Verdict { accepted, next, origin });
    assert_eq!(heard(&[1, 2, 3, 4], 4), verdict(3, 4, Origin::Bonus));
    assert_eq!(heard(&[1, 5, 6, 7], 4), verdict(1, 5, Origin::Replacement));
    assert_eq!(heard(&[5, 6, 7, 8], 4), verdict(0, 5, Origin::Replacement));
    assert_eq!(heard(&[1, 2, 3, 4], 1), None, "nothing is guessed for one token");
}
