//! Rounds that are decided where the rows of logits are: the same texts and the same laws as with rows on the
//! host, and no row is read.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/checkpoint.rs"]
mod checkpoint;
mod common;
#[path = "common/far.rs"]
mod far;

use checkpoint::{Checkpoint, EMBEDDING, HEAD, Stored};
use common::{Fixed, generate, parity_folders, read_expected, run};
use drafthorse::{
    AcceptanceRule, DeviceChoice, Drafter, Engine, ErrorKind, ExactMatch, LanguageModel, LogitsProcessor,
    Lossless, ModelDrafter, ModelError, NgramDrafter, NoDrafter, SamplingOptions, SessionOptions, TableModel,
    TokenId, Transformer, WeightType, demo,
    logits::{
        Context, Draws, Probs, Purpose, RowQuestion,
        exact::{distance, outcomes},
    },
    model::{CachedModel, Segment, adapters, open_device},
};
use far::Far;
use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

/// Changes nothing, but nobody knows: rows come to the host.
struct Nothing;

impl LogitsProcessor for Nothing {
    fn process(&self, _context: &Context<'_>, _row: &mut [f32]) {}
}

fn on_host(options: &SessionOptions) -> SessionOptions {
    SessionOptions { processors: vec![Arc::new(Nothing)], ..options.clone() }
}

fn options(temperature: f32, rule: &Arc<dyn AcceptanceRule>, k: usize, max_tokens: usize) -> SessionOptions {
    SessionOptions {
        sampling: SamplingOptions { temperature, ..Default::default() },
        rule: Some(rule.clone()),
        draft_length: Some(k.into()),
        max_tokens,
        ..Default::default()
    }
}

fn rules() -> [Arc<dyn AcceptanceRule>; 2] {
    [Arc::new(Lossless), Arc::new(ExactMatch)]
}

fn engine(expert: Arc<impl LanguageModel>, drafter: Box<dyn Drafter>) -> Engine {
    Engine::builder().expert(expert).drafter(drafter).build().unwrap()
}

const VOCAB: usize = 6;
const PROMPT: [TokenId; 4] = [0, 1, 0, 1];

fn expert() -> TableModel {
    TableModel::random(VOCAB, 2.0, 3)
}

/// Drafters, and whether they hand over points at every temperature.
fn drafters() -> Vec<(Box<dyn Drafter>, bool)> {
    vec![
        (Box::new(NoDrafter), true),
        (Box::new(NgramDrafter::new(1, 3).unwrap()), true),
        (Box::new(Fixed(1)), true),
        (Box::new(ModelDrafter::new(Arc::new(TableModel::random(VOCAB, 1.0, 4)))), false),
    ]
}

/// The settings in which texts with rows on the host and with rows out of reach differ.
fn differences(change: fn(RowQuestion) -> RowQuestion) -> Vec<String> {
    let mut found = Vec::new();
    for (number, (drafter, points)) in drafters().into_iter().enumerate() {
        let other = drafters().swap_remove(number).0;
        let mut near = engine(Arc::new(expert()), drafter);
        let mut far = engine(Far::wrong(expert(), change), other);
        for rule in rules() {
            for temperature in [0.0, 0.7, 1.0, 1.5] {
                // What was drawn from more than a point is coupled on the host.
                if !points && temperature > 0.0 && rule.name() == "lossless" {
                    continue;
                }
                for (k, seed) in [0, 1, 2, 4, 8].into_iter().flat_map(|k| (0..20).map(move |s| (k, s))) {
                    let options = SessionOptions { seed, ..options(temperature, &rule, k, 24) };
                    let host = generate(&mut near, &PROMPT, &on_host(&options));
                    assert_eq!(generate(&mut near, &PROMPT, &options), host);
                    if generate(&mut far, &PROMPT, &options) != host {
                        found.push(format!("drafter {number}, {options:?}"));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn texts_are_those_of_rows_on_the_host() {
    assert_eq!(differences(|question| question), [""; 0]);
    // The comparison sees answers that are wrong.
    let other_noise = differences(|question| RowQuestion { noise: 1.0 - question.noise, ..question });
    assert!(other_noise.len() > 500, "{} differ", other_noise.len());
    let not_left_out = differences(|question| RowQuestion { drafted: None, ..question });
    assert!(not_left_out.len() > 100, "{} differ", not_left_out.len());
}

/// Steps and statistics too, and at temperature 0 with a drafter whose rows are out of reach as well.
#[test]
fn rounds_are_those_of_rows_on_the_host() {
    let draft = || TableModel::random(VOCAB, 1.0, 4);
    let mut near = engine(Arc::new(expert()), Box::new(ModelDrafter::new(Arc::new(draft()))));
    let mut far = engine(Far::new(expert()), Box::new(ModelDrafter::new(Far::new(draft()))));
    for rule in rules() {
        for k in 0..=8 {
            let options = options(0.0, &rule, k, 40);
            let [host, there] =
                [(&mut near, on_host(&options)), (&mut far, options)].map(|(engine, options)| {
                    let run = run(engine.session(&PROMPT, &options).unwrap());
                    assert!(run.error.is_none(), "{:?}", run.error);
                    let rounds: Vec<_> =
                        run.steps.iter().map(|s| (s.drafted, s.examined, s.accepted)).collect();
                    (run.tokens(), rounds)
                });
            assert_eq!(host, there, "{}, k = {k}", rule.name());
        }
    }
}

/// Two numbers for each token drafted and the one after; nothing else.
#[test]
fn a_round_reads_a_few_numbers() {
    for (rule, temperature) in rules().into_iter().flat_map(|rule| [(rule.clone(), 0.0), (rule, 1.0)]) {
        for k in [0, 1, 4, 8] {
            let expert = Far::new(expert());
            let mut engine = engine(expert.clone(), Box::new(NgramDrafter::new(1, 3).unwrap()));
            let run = run(engine.session(&PROMPT, &options(temperature, &rule, k, 30)).unwrap());
            let rows: usize = run.steps.iter().map(|step| step.drafted + 1).sum();
            assert_eq!(expert.numbers.load(Ordering::Relaxed), 2 * rows);
        }
    }
}

/// Draws of tokens by numbers on a grid, each with the same probability.
struct Grid<'a>(RefCell<&'a mut dyn Draws>, usize);

impl Draws for Grid<'_> {
    fn accept(&mut self, position: usize, probability: f64) -> bool {
        self.0.get_mut().accept(position, probability)
    }

    fn pick(&mut self, _position: usize, _purpose: Purpose, probs: &Probs) -> TokenId {
        probs.as_point().expect("nothing is drawn on the host")
    }

    fn noise(&self, position: usize, purpose: Purpose) -> Option<f64> {
        let all = Probs::normalize(vec![1.0; self.1]).unwrap();
        let cell = self.0.borrow_mut().pick(position, purpose, &all);
        Some((f64::from(cell) + 0.5) / self.1 as f64)
    }
}

/// The law of texts of three tokens, on a grid of twelfths.
fn law(rule: &Arc<dyn AcceptanceRule>, k: usize, far: &Arc<Far<TableModel>>) -> HashMap<Vec<TokenId>, f64> {
    let mut engine = engine(far.clone(), Box::new(Fixed(1)));
    outcomes(|draws| {
        let grid = Grid(RefCell::new(draws), 12);
        let session = engine.session_with(&PROMPT, &options(1.0, rule, k, 3), grid).unwrap();
        session.flat_map(|step| step.unwrap().tokens).map(|token| token.id).collect()
    })
}

/// Weights of 1, 1 and 2, whose shares with and without one of them are whole twelfths.
fn twelfths(context: &[TokenId]) -> [f32; 3] {
    let mut weights = [1.0; 3];
    weights[context.iter().map(|&token| token as usize).sum::<usize>() % 3] = 2.0;
    weights
}

#[test]
fn the_law_is_the_experts() {
    let table = || TableModel::from_fn(3, |context| twelfths(context).map(f32::ln).to_vec());
    let mut paper: HashMap<Vec<TokenId>, f64> = HashMap::from([(Vec::new(), 1.0)]);
    for _ in 0..3 {
        let longer = paper.into_iter().flat_map(|(text, probability)| {
            let sequence = [&PROMPT, &text[..]].concat();
            let weights = twelfths(&sequence[sequence.len() - 2..]);
            (0..3u32).map(move |token| {
                let mut text = text.clone();
                text.push(token);
                (text, probability * f64::from(weights[token as usize]) / 4.0)
            })
        });
        paper = longer.collect();
    }
    for rule in rules() {
        for k in [0, 1] {
            let error = distance(&law(&rule, k, &Far::new(table())), &paper);
            assert!(error < 1e-6, "{}, k = {k}: {error}", rule.name());
        }
    }
    let lossless = &rules()[0];
    let error = distance(
        &law(
            lossless,
            1,
            &Far::wrong(table(), |question| RowQuestion { noise: question.noise / 2.0, ..question }),
        ),
        &paper,
    );
    assert!(error > 1e-2, "draws from half of the distribution are not seen: {error}");
}

/// A row from which nothing can be drawn is refused in the same words.
#[test]
fn unusable_rows_are_refused_as_on_the_host() {
    for bad in [f32::NAN, f32::INFINITY] {
        let table = || {
            TableModel::from_fn(3, move |context| vec![0.0, if context == [1, 2] { bad } else { 1.0 }, 0.5])
        };
        for temperature in [0.0, 1.0] {
            let options = options(temperature, &rules()[0], 2, 9);
            let error = |mut engine: Engine| {
                let run = run(engine.session(&[1, 2], &options).unwrap());
                let error = run.error.unwrap();
                assert_eq!(error.kind(), ErrorKind::Logits);
                format!("{error}: {}", std::error::Error::source(&error).unwrap())
            };
            let near = engine(Arc::new(table()), Box::new(Fixed(1)));
            assert_eq!(error(engine(Far::new(table()), Box::new(Fixed(1)))), error(near));
        }
    }
    let nan = || TableModel::from_fn(3, |_| vec![f32::NAN; 3]);
    let drafter = Box::new(ModelDrafter::new(Arc::new(nan())));
    let mut engine = engine(Far::new(TableModel::random(3, 1.0, 1)), drafter);
    let run = run(engine.session(&[1, 2], &options(0.0, &rules()[0], 2, 9)).unwrap());
    assert_eq!(run.error.unwrap().kind(), ErrorKind::Logits);
}

/// The demo pair on the CPU, whose kernels give a row the same bits alone and among others.
#[test]
fn greedy_texts_of_the_demo_pair() {
    let device = open_device(DeviceChoice::Cpu).unwrap();
    let expert = demo::expert(&device, WeightType::F32).unwrap();
    let drafter = demo::drafter(&device, WeightType::F32).unwrap();
    let tokenizer = expert.tokenizer().unwrap().clone();
    let mut engine = engine(expert, Box::new(ModelDrafter::new(drafter)));
    for prompt in ["Question: What is 27 plus 15?\nAnswer:", "The whale"] {
        let prompt = tokenizer.encode(prompt).unwrap();
        let plain = generate(&mut engine, &prompt, &on_host(&options(0.0, &rules()[0], 0, 48)));
        for k in 0..=8 {
            let options = options(0.0, &rules()[0], k, 48);
            assert_eq!(generate(&mut engine, &prompt, &options), plain, "k = {k}");
        }
    }
}

/// A checkpoint on the first Vulkan adapter, a software one too. Where there is none the test fails if
/// `DRAFTHORSE_REQUIRE_VULKAN` is set, as it is in CI, and says so otherwise.
fn on_vulkan(name: &str) -> Option<(Transformer, Vec<TokenId>)> {
    let Some(adapter) = adapters().into_iter().find(|a| matches!(a.choice, DeviceChoice::Vulkan(_))) else {
        assert!(std::env::var_os("DRAFTHORSE_REQUIRE_VULKAN").is_none(), "no Vulkan adapter on this machine");
        println!("NOT RUN: no Vulkan adapter on this machine");
        return None;
    };
    let device = open_device(adapter.choice).unwrap();
    let folder = parity_folders().into_iter().find(|folder| folder.ends_with(name)).unwrap();
    let prompt = read_expected(&folder).greedy_prompt;
    Some((Transformer::open(&folder, &device, WeightType::F32).unwrap(), prompt))
}

/// What the numbers from the device say of a row, and what the row itself says, are one error.
#[test]
fn unusable_rows_on_vulkan() {
    let Some((good, _)) = on_vulkan("llama") else { return };
    for bad in [f32::NAN, f32::INFINITY] {
        // Tokens that are never read, but have logits.
        let folder = Checkpoint::changed(|checkpoint| {
            let name = if checkpoint.tensors.contains_key(HEAD) { HEAD } else { EMBEDDING };
            let head = checkpoint.tensors.get_mut(name).unwrap();
            let (mut values, width): (Vec<f32>, _) = (head.values().collect(), head.shape[1]);
            // Whatever the sign of what they are multiplied with, one of them is beyond all numbers.
            (values[77 * width], values[78 * width]) = (bad, -bad);
            *head = Stored::f32(&head.shape, values);
        })
        .write();
        let model = Transformer::open(folder.path(), good.device(), WeightType::F32).unwrap();
        let mut cached = CachedModel::new(Arc::new(model));
        let host = |cached: &mut CachedModel<Transformer>| {
            let logits = cached.logits(&[5, 6], 2).unwrap();
            let error = RowQuestion::default().answer(logits.row(0), 1.0).expect_err("a row is unusable");
            error.to_string()
        };
        let expected = host(&mut cached);
        assert!(expected.starts_with("logit of token 7"), "{expected}");
        for temperature in [0.0, 0.7] {
            let questions = [RowQuestion { drafted: Some(1), noise: 0.5 }; 2];
            let error = cached.answers(&[5, 6], &questions, temperature).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let error = cached.continue_greedily(&[5, 6], 3).unwrap_err();
        assert!(error.to_string().starts_with("logit of token 7"), "{error}");
    }
}

/// Tokens that never leave the device between steps are those of Hugging Face transformers.
#[test]
fn continuations_on_vulkan() {
    for name in ["llama", "mistral", "qwen2", "qwen3"] {
        let Some((model, prompt)) = on_vulkan(name) else { return };
        let folder = parity_folders().into_iter().find(|folder| folder.ends_with(name)).unwrap();
        let expected = read_expected(&folder).greedy;
        let mut cached = CachedModel::new(Arc::new(model));
        // What was read before is kept, and forgotten where it is another text.
        for (ahead, count) in [(0, expected.len()), (2, 1), (0, 3), (5, expected.len() - 5)] {
            let sequence = [&prompt, &expected[..ahead]].concat();
            let found = cached.continue_greedily(&sequence, count).unwrap();
            assert_eq!(found, expected[ahead..ahead + count], "{name}, {count} after {ahead}");
        }
        let context = cached.model().context_len();
        let error = cached
            .model()
            .continue_greedily(Segment::new(&prompt, 0, &mut cached.model().new_cache()), context);
        assert!(matches!(error, Err(ModelError::ContextFull { .. })));
    }
}

type MakeDrafter = fn(Arc<Transformer>) -> Box<dyn Drafter>;

#[test]
fn texts_on_vulkan() {
    let Some((model, prompt)) = on_vulkan("qwen3") else { return };
    let model = Arc::new(model);
    let far = Far::new(on_vulkan("qwen3").unwrap().0);
    let draft = || Arc::new(on_vulkan("llama").unwrap().0);
    let drafters: [MakeDrafter; 2] =
        [|_| Box::new(NgramDrafter::new(1, 3).unwrap()), |model| Box::new(ModelDrafter::new(model))];
    for (number, drafter) in drafters.into_iter().enumerate() {
        let mut near = engine(model.clone(), drafter(draft()));
        let mut there = engine(far.clone(), drafter(draft()));
        for (rule, temperature) in rules().into_iter().flat_map(|rule| [(rule.clone(), 0.0), (rule, 1.0)]) {
            if number == 1 && temperature > 0.0 && rule.name() == "lossless" {
                continue;
            }
            for k in [0, 3] {
                let options = SessionOptions { seed: 5, ..options(temperature, &rule, k, 24) };
                let host = generate(&mut near, &prompt, &on_host(&options));
                assert_eq!(generate(&mut there, &prompt, &options), host, "drafter {number}, {options:?}");
            }
        }
    }
    assert!(far.numbers.load(Ordering::Relaxed) > 0);
}
