//! Texts are those of the drafter alone, whatever the timing.

mod drafts;
mod measure;
mod rest;
mod trouble;

use super::{Ahead, AheadOptions, AheadWhen, AheadWhy};
use crate::{DraftLength, Engine, Provenance, SessionOptions};
use drafthorse_drafter::{Drafter, ModelDrafter};
use drafthorse_logits::{Draws, Logits, Probs, Purpose, SamplingOptions, SeededDraws, TokenId};
use drafthorse_model::{LanguageModel, ModelError, Segment, TableModel};
use drafthorse_verifier::rule;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

const VOCAB: usize = 6;
/// After so long a test fails, which else would hang.
const LONG: Duration = Duration::from_mins(1);

fn always(outcomes: usize) -> AheadOptions {
    AheadOptions { outcomes, when: AheadWhen::Always }
}

/// An expert, and a drafter that is often right.
fn pair(seed: u64) -> [Arc<TableModel>; 2] {
    let expert = TableModel::random(VOCAB, 3.0, seed);
    let other = TableModel::random(VOCAB, 0.5, seed + 1);
    let mixed = |context: &[TokenId]| {
        expert.row(context).iter().zip(other.row(context)).map(|(a, b)| a + b).collect()
    };
    let drafter = TableModel::from_fn(VOCAB, mixed);
    [Arc::new(expert), Arc::new(drafter)]
}

/// Takes now this long, now that.
struct Slow {
    model: Arc<TableModel>,
    longest: u64,
    calls: AtomicU64,
    /// Waits until nothing is asked of this one any more.
    other: Option<Arc<Slow>>,
}

impl Slow {
    fn new(model: &Arc<TableModel>, longest: u64, seed: u64) -> Arc<Self> {
        Self::after(model, longest, seed, None)
    }

    fn after(model: &Arc<TableModel>, longest: u64, seed: u64, other: Option<Arc<Slow>>) -> Arc<Self> {
        Arc::new(Self { model: model.clone(), longest, calls: AtomicU64::new(seed << 32), other })
    }

    fn wait(&self) {
        let calls = || self.other.as_ref().map(|other| other.calls.load(Ordering::Relaxed));
        let mut seen = None;
        while self.other.is_some() && seen != calls() {
            seen = calls();
            std::thread::sleep(Duration::from_micros(500));
        }
        let mut state = self.calls.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state ^= state >> 29;
        match state % 4 {
            0 => std::thread::yield_now(),
            _ if self.longest > 0 => {
                std::thread::sleep(Duration::from_micros((state >> 8) % self.longest));
            }
            _ => (),
        }
    }
}

impl LanguageModel for Slow {
    type Cache = <TableModel as LanguageModel>::Cache;

    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn context_len(&self) -> usize {
        self.model.context_len()
    }

    fn new_cache(&self) -> Self::Cache {
        self.model.new_cache()
    }

    fn forward(&self, segments: &mut [Segment<'_, Self::Cache>]) -> Result<Vec<Logits>, ModelError> {
        self.wait();
        self.model.forward(segments)
    }
}

/// What is compared of a round: its tokens with where they come from, and what was drafted and examined.
type Rounds = Vec<(Vec<(TokenId, Provenance)>, usize, usize)>;

fn rounds(engine: &mut Engine, options: &SessionOptions, draws: impl Draws) -> Rounds {
    let session = engine.session_with(&[1, 2, 1], options, draws).unwrap();
    let round = |step: Result<crate::Step, crate::Error>| {
        let step = step.unwrap();
        let tokens = step.tokens.iter().map(|token| (token.id, token.provenance)).collect();
        (tokens, step.drafted, step.examined)
    };
    session.map(round).collect()
}

fn engine(expert: Arc<Slow>, drafter: impl Drafter + 'static, spec: &str) -> Engine {
    Engine::builder().expert(expert).drafter(drafter).rule(rule(spec).unwrap()).build().unwrap()
}

const RULES: [&str; 5] =
    ["lossless", "coupled-noise", "exact-match", "block", "cascade-token-v3:lenience=0.4"];

fn options(rng: &mut ChaCha8Rng) -> SessionOptions {
    let temperature = f32::from(rng.random::<bool>());
    let sampling = match rng.random_range(0..4) {
        0 => SamplingOptions { temperature, repetition_penalty: 1.2, ..Default::default() },
        1 => SamplingOptions { temperature, top_k: 4, ..Default::default() },
        _ => SamplingOptions { temperature, ..Default::default() },
    };
    let max = rng.random_range(1..=4);
    let draft_length = Some(match rng.random_range(0..4) {
        0 => DraftLength::Confidence { threshold: 0.6, max },
        1 => DraftLength::Entropy { threshold: 0.4, max },
        _ => DraftLength::Fixed(max),
    });
    let max_tokens = rng.random_range(8..20);
    SessionOptions { sampling, draft_length, max_tokens, seed: rng.random(), ..Default::default() }
}

#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    None,
    /// Drafts made ahead are drawn as those of the round after the next.
    WrongRound,
    /// A draft for another token is taken.
    WrongToken,
}

/// Draws that lie about the rounds to come.
struct Lying(SeededDraws);

impl Draws for Lying {
    fn begin_round(&mut self, round: u64) {
        self.0.begin_round(round);
    }

    fn accept(&mut self, position: usize, probability: f64) -> bool {
        self.0.accept(position, probability)
    }

    fn pick(&mut self, position: usize, purpose: Purpose, probs: &Probs) -> TokenId {
        self.0.pick(position, purpose, probs)
    }

    fn race(&mut self, position: usize, probs: &Probs) -> TokenId {
        self.0.race(position, probs)
    }

    fn ahead(&self, rounds: u64) -> Option<SeededDraws> {
        self.0.ahead(rounds + 1)
    }
}

/// Runs with random models, options and delays; how many differ from those of the drafter alone, and the share of drafts
/// made ahead that were of use.
fn differing(runs: u64, mistake: Mistake) -> (usize, f64) {
    let (mut differing, mut used, mut made) = (0, 0, 0);
    for run in 0..runs {
        let mut rng = ChaCha8Rng::seed_from_u64(run);
        let [expert, drafter] = pair(rng.random_range(0..1000));
        let spec = RULES[run as usize % RULES.len()];
        let options = options(&mut rng);
        let seeded = SeededDraws::new(options.seed, 0);
        let mut plain = engine(Slow::new(&expert, 0, run), ModelDrafter::new(drafter.clone()), spec);
        let alone = rounds(&mut plain, &options, seeded.clone());
        let [of_drafter, of_expert] = [(); 2].map(|()| [0, 30, 100, 300][rng.random_range(0..4)]);
        let drafter = Slow::new(&drafter, of_drafter, run);
        let ahead = Ahead::new(ModelDrafter::new(drafter.clone()), always(1 + run as usize % 24));
        // Every other expert has time, so that it does not hang on the machine whether drafts are ready.
        let other = run.is_multiple_of(2).then_some(drafter);
        ahead.shared.mistake.store(mistake == Mistake::WrongToken, Ordering::Relaxed);
        let report = ahead.report();
        let mut engine = engine(Slow::after(&expert, of_expert, run, other), ahead, spec);
        let found = match mistake {
            Mistake::WrongRound => rounds(&mut engine, &options, Lying(seeded)),
            _ => rounds(&mut engine, &options, seeded),
        };
        differing += usize::from(found != alone);
        let stats = report.stats();
        assert_eq!((stats.on, stats.why.clone()), (true, AheadWhy::Asked), "{stats}");
        used += stats.hits + stats.partial;
        made += stats.hits + stats.partial + stats.misses;
    }
    (differing, used as f64 / made as f64)
}

#[test]
fn a_thousand_texts_are_those_of_the_drafter_alone() {
    let (differing, used) = differing(1000, Mistake::None);
    println!("{:.0} % of the drafts made ahead were of use", used * 100.0);
    assert_eq!(differing, 0);
    assert!(used > 0.3, "{used}: the test looks at drafts made ahead");
}

#[test]
fn mistakes_are_found() {
    for mistake in [Mistake::WrongRound, Mistake::WrongToken] {
        assert!(differing(100, mistake).0 > 5);
    }
}

/// Where all outcomes are walked nothing can be drawn ahead, and the law is that of the drafter alone.
#[test]
fn the_law_is_exact() {
    use drafthorse_logits::exact::{distance, outcomes};
    let [expert, drafter] = pair(5);
    let sampling = SamplingOptions { temperature: 1.0, top_k: 3, ..Default::default() };
    let options =
        SessionOptions { sampling, max_tokens: 3, draft_length: Some(2.into()), ..Default::default() };
    let law = |drafter: Box<dyn Drafter>| {
        let mut engine = engine(Slow::new(&expert, 0, 0), drafter, "lossless");
        outcomes(|draws| {
            let session = engine.session_with(&[1, 2, 1], &options, draws).unwrap();
            session.flat_map(|step| step.unwrap().tokens).map(|token| token.id).collect::<Vec<_>>()
        })
    };
    let ahead = Ahead::new(ModelDrafter::new(drafter.clone()), always(4));
    let report = ahead.report();
    let [with, without] = [law(Box::new(ahead)), law(Box::new(ModelDrafter::new(drafter)))];
    assert!(distance(&with, &without) < 1e-12);
    assert!(!report.stats().on && report.stats().to_string().contains("are not known ahead"));
}
