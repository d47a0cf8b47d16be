//! Drafting ahead with the demo pair on the CPU: texts are those of the drafter alone, and what it costs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::generate;
use drafthorse::{
    DeviceChoice, Drafter, Engine, LanguageModel, ModelDrafter, ModelError, SamplingOptions, SessionOptions,
    TokenId, Transformer, WeightType,
    cost::Counted,
    demo,
    engine::{Ahead, AheadOptions, AheadReport, AheadWhen, Stats},
    logits::{Draws, Logits, Probs, Purpose, SeededDraws},
    model::Segment,
    open_device,
};
use std::{sync::Arc, time::Duration};

const PROMPTS: [&str; 3] = [
    "Question: Anna has 12 apples and gives 5 of them to Tom. How many apples are left?\nAnswer:",
    "It was a dark and stormy night, and the old house at the end of the lane",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
];

struct Pair {
    expert: Arc<Transformer>,
    drafter: Arc<Transformer>,
}

impl Pair {
    fn load() -> Self {
        let device = open_device(DeviceChoice::Cpu).unwrap();
        let expert = demo::expert(&device, WeightType::F32).unwrap();
        Self { expert, drafter: demo::drafter(&device, WeightType::F32).unwrap() }
    }

    fn ahead(&self, outcomes: usize, when: AheadWhen) -> (Ahead, AheadReport) {
        let ahead = Ahead::new(ModelDrafter::new(self.drafter.clone()), AheadOptions { outcomes, when });
        let report = ahead.report();
        (ahead, report)
    }

    fn prompts(&self) -> Vec<Vec<TokenId>> {
        let tokenizer = self.expert.tokenizer().unwrap();
        PROMPTS.iter().map(|prompt| tokenizer.encode(prompt).unwrap()).collect()
    }
}

fn engine(expert: &Arc<impl LanguageModel>, drafter: impl Drafter + 'static) -> Engine {
    Engine::builder().expert(expert.clone()).drafter(drafter).build().unwrap()
}

fn options(k: usize, temperature: f32) -> SessionOptions {
    let sampling = SamplingOptions { temperature, ..Default::default() };
    SessionOptions { sampling, max_tokens: 64, draft_length: Some(k.into()), seed: 3, ..Default::default() }
}

/// An expert that does part of its work elsewhere.
struct Elsewhere(Arc<Transformer>, Duration);

impl LanguageModel for Elsewhere {
    type Cache = <Transformer as LanguageModel>::Cache;

    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.0.context_len()
    }

    fn new_cache(&self) -> Self::Cache {
        self.0.new_cache()
    }

    fn forward(&self, segments: &mut [Segment<'_, Self::Cache>]) -> Result<Vec<Logits>, ModelError> {
        std::thread::sleep(self.1);
        self.0.forward(segments)
    }
}

/// An expert that has time: it waits until nothing is drafted any more, so that drafts made ahead are ready.
struct Patient(Arc<Transformer>, Arc<Counted<Transformer>>);

impl LanguageModel for Patient {
    type Cache = <Transformer as LanguageModel>::Cache;

    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.0.context_len()
    }

    fn new_cache(&self) -> Self::Cache {
        self.0.new_cache()
    }

    fn forward(&self, segments: &mut [Segment<'_, Self::Cache>]) -> Result<Vec<Logits>, ModelError> {
        let mut seen = None;
        while seen != Some(self.1.rows()) {
            seen = Some(self.1.rows());
            std::thread::sleep(Duration::from_millis(15));
        }
        self.0.forward(segments)
    }
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

fn text(engine: &mut Engine, prompt: &[TokenId], options: &SessionOptions, lies: bool) -> Vec<TokenId> {
    let draws = SeededDraws::new(options.seed, 0);
    let session = if lies {
        engine.session_with(prompt, options, Lying(draws))
    } else {
        engine.session_with(prompt, options, draws)
    };
    session.unwrap().flat_map(|step| step.unwrap().tokens).map(|token| token.id).collect()
}

/// Texts with it and without, in rounds whose drafts are made ahead; how many differ where the draws ahead are others.
#[test]
fn texts_are_those_of_the_drafter_alone() {
    let pair = Pair::load();
    let mut alone = engine(&pair.expert, ModelDrafter::new(pair.drafter.clone()));
    let counted = Arc::new(Counted::new(pair.drafter.clone()));
    let options_of = |k, temperature| SessionOptions { max_tokens: 20, ..options(k, temperature) };
    let mut differing = 0;
    for lies in [false, true] {
        let drafter = ModelDrafter::new(counted.clone());
        let ahead = Ahead::new(drafter, AheadOptions { outcomes: 6, when: AheadWhen::Always });
        let report = ahead.report();
        let patient = Arc::new(Patient(pair.expert.clone(), counted.clone()));
        let mut ahead = engine(&patient, ahead);
        for prompt in pair.prompts() {
            for (k, temperature) in [(2, 0.0), (3, 1.0)] {
                let options = options_of(k, temperature);
                let with = text(&mut ahead, &prompt, &options, lies);
                let without = text(&mut alone, &prompt, &options, false);
                assert!(lies || with == without, "k = {k}, temperature {temperature}");
                differing += usize::from(with != without);
            }
        }
        let stats = report.stats();
        println!("{stats}");
        assert!(stats.hits + stats.partial > 10, "drafts made ahead were used: {stats}");
    }
    assert!(differing > 0, "drafts of other draws are seen");
}

/// However drafter and expert meet on the processors.
#[test]
fn texts_are_those_of_the_drafter_alone_when_both_compute() {
    let pair = Pair::load();
    let mut alone = engine(&pair.expert, ModelDrafter::new(pair.drafter.clone()));
    let (ahead, report) = pair.ahead(6, AheadWhen::Always);
    let mut ahead = engine(&pair.expert, ahead);
    for prompt in pair.prompts() {
        for (k, temperature) in [(2, 0.0), (3, 1.0), (4, 0.8)] {
            let options = options(k, temperature);
            let [with, without] = [&mut ahead, &mut alone].map(|engine| generate(engine, &prompt, &options));
            assert_eq!(with, without, "k = {k}, temperature {temperature}");
        }
    }
    println!("{}", report.stats());
    assert!(report.stats().hit_rate().is_some());
}

/// Time with it and without, in turns. `cargo test --release --workspace --test ahead -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn what_it_costs() {
    let pair = Pair::load();
    println!("on {} processors", std::thread::available_parallelism().unwrap());
    measure(&pair, &pair.expert);
    println!("an expert with 20 ms of work elsewhere");
    measure(&pair, &Arc::new(Elsewhere(pair.expert.clone(), Duration::from_millis(20))));
}

fn measure(pair: &Pair, expert: &Arc<impl LanguageModel>) {
    let prompts = pair.prompts();
    for (k, temperature) in [(0, 0.0), (2, 0.0), (3, 0.0), (2, 1.0), (3, 1.0)] {
        let measured = AheadWhen::Measured { spare: false };
        let ways = [(1, AheadWhen::Always), (3, AheadWhen::Always), (6, AheadWhen::Always), (6, measured)];
        let alone = engine(expert, ModelDrafter::new(pair.drafter.clone()));
        let mut engines = vec![("alone".to_owned(), alone, None, Vec::new())];
        engines.extend(ways.iter().filter(|_| k > 0).map(|&(outcomes, when)| {
            let (ahead, report) = pair.ahead(outcomes, when);
            (format!("{outcomes} outcomes, {when:?}"), engine(expert, ahead), Some(report), Vec::new())
        }));
        for pass in 0..4 {
            for (_, engine, _, all) in &mut engines {
                let mut stats = Stats::default();
                for prompt in &prompts {
                    let options = SessionOptions { max_tokens: 128, seed: pass, ..options(k, temperature) };
                    let mut session = engine.session(prompt, &options).unwrap();
                    assert!(session.by_ref().all(|step| step.is_ok()));
                    stats.merge(session.stats());
                }
                all.push(stats);
            }
        }
        println!("k = {k}, temperature {temperature}");
        for (name, _, report, all) in &engines {
            let ms = |of: &dyn Fn(&Stats) -> f64| {
                let mut all: Vec<f64> = all[1..].iter().map(of).collect();
                all.sort_by(f64::total_cmp);
                all[all.len() / 2] * 1e3
            };
            println!(
                "  {name}: {:.3} ms a token; a round drafts {:.3} ms and verifies {:.3} ms; {:.2} tokens a round",
                ms(&|s| s.decode_time().as_secs_f64() / s.emitted as f64),
                ms(&|s| s.draft_time.as_secs_f64() / s.rounds as f64),
                ms(&|s| s.verify_time.as_secs_f64() / s.rounds as f64),
                ms(&|s| s.tokens_per_expert_pass().unwrap_or(0.0)) / 1e3,
            );
            if let Some(report) = report {
                println!("    {}", report.stats());
            }
        }
    }
}
