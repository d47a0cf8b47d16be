//! The demo pair on the CPU: speculation changes no token.
//!
//! This holds to the bit, not nearly: the kernels sum in an order that does not depend on the number of
//! rows, so that a verify pass and a decode step give the same logits.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{AlwaysAccept, generate};
use drafthorse::{
    DeviceChoice, Drafter, Engine, ExactMatch, ModelDrafter, NgramDrafter, SamplingOptions, SessionOptions,
    TokenId, Transformer, WeightType, demo, open_device,
};
use std::sync::{Arc, OnceLock};

const PROMPTS: [&str; 20] = [
    // Arithmetic
    "Question: What is 27 plus 15?\nAnswer:",
    "Question: Anna has 12 apples and gives 5 of them to Tom. How many apples are left?\nAnswer:",
    "Question: A box holds 6 eggs. How many eggs are in 7 boxes?\nAnswer:",
    "Question: A train goes 60 miles in one hour. How far does it go in 3 hours?\nAnswer:",
    "Question: What is 100 minus 37?\nAnswer:",
    // Prose
    "It was a dark and stormy night, and the old house at the end of the lane",
    "The captain looked at the sea for a long while before he",
    "In the spring of that year my father, who had never left the village,",
    "She had always been told that beauty was a kind of misfortune;",
    "The whale",
    // Code
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "import os\n\ndef read_lines(path):\n    \"\"\"Return the lines of a file.\"\"\"\n",
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n",
    "for i in range(10):\n    for j in range(10):\n        print(",
    "fn main() {\n    let numbers = vec![1, 2, 3];\n",
    // Dialogue
    "\"My dear Mr. Bennet,\" said his lady to him one day,",
    "\"Where have you been?\" asked the doctor.\n\n\"",
    "\"Yes,\" he said.\n\"No,\" she said.\n\"Yes,\" he said.\n\"",
    "\"I do not believe a word of it,\" cried Elizabeth. \"He is",
    "HAMLET. To be, or not to be,",
];

/// The models, loaded once.
struct Pair {
    expert: Arc<Transformer>,
    drafter: Arc<Transformer>,
}

fn load(weights: WeightType) -> Pair {
    let device = open_device(DeviceChoice::Cpu).unwrap();
    Pair {
        expert: demo::expert(&device, weights).unwrap(),
        drafter: demo::drafter(&device, weights).unwrap(),
    }
}

fn pair_f32() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| load(WeightType::F32))
}

impl Pair {
    fn engine(&self, drafter: impl Drafter + 'static) -> Engine {
        Engine::builder().expert(self.expert.clone()).drafter(drafter).build().unwrap()
    }

    fn speculative(&self) -> Engine {
        self.engine(ModelDrafter::new(self.drafter.clone()))
    }

    fn prompts(&self) -> Vec<Vec<TokenId>> {
        let tokenizer = self.expert.tokenizer().unwrap();
        PROMPTS.iter().map(|prompt| tokenizer.encode(prompt).unwrap()).collect()
    }
}

fn options(k: usize) -> SessionOptions {
    SessionOptions { max_tokens: 128, draft_length: Some(k.into()), ..Default::default() }
}

/// What the expert says alone.
fn baseline(pair: &Pair, prompts: &[Vec<TokenId>], options: &SessionOptions) -> Vec<Vec<TokenId>> {
    let options = SessionOptions { draft_length: Some(0.into()), ..options.clone() };
    let mut engine = pair.speculative();
    prompts.iter().map(|prompt| generate(&mut engine, prompt, &options)).collect()
}

/// The prompts after which an engine says something else than `expected`.
fn differences(
    engine: &mut Engine,
    prompts: &[Vec<TokenId>],
    expected: &[Vec<TokenId>],
    options: &SessionOptions,
) -> Vec<usize> {
    let differs = |&i: &usize| generate(engine, &prompts[i], options) != expected[i];
    (0..prompts.len()).filter(differs).collect()
}

#[test]
fn greedy_tokens_are_those_of_the_expert() {
    let pair = pair_f32();
    let prompts = pair.prompts();
    let expected = baseline(pair, &prompts, &options(0));
    assert!(expected.iter().all(|tokens| tokens.len() == 128));
    let mut engine = pair.speculative();
    for k in [1, 3, 5, 8] {
        assert_eq!(differences(&mut engine, &prompts, &expected, &options(k)), [0; 0], "k = {k}");
    }
    engine.replace_drafter(NgramDrafter::default()).unwrap();
    for k in [3, 8] {
        assert_eq!(differences(&mut engine, &prompts, &expected, &options(k)), [0; 0], "n-grams, k = {k}");
    }
    // The same comparison sees a rule that keeps what the drafter says, and an expert that was not asked.
    let credulous = SessionOptions { rule: Some(Arc::new(AlwaysAccept)), ..options(3) };
    let mut engine = pair.speculative();
    assert!(!differences(&mut engine, &prompts, &expected, &credulous).is_empty());
}

#[test]
fn greedy_tokens_are_those_of_the_expert_in_f16() {
    let pair = load(WeightType::F16);
    let prompts: Vec<_> = pair.prompts().into_iter().step_by(5).collect();
    let expected = baseline(&pair, &prompts, &options(0));
    for k in [1, 3, 5, 8] {
        assert_eq!(differences(&mut pair.speculative(), &prompts, &expected, &options(k)), [0; 0], "k = {k}");
    }
    for k in [3, 8] {
        let mut engine = pair.engine(NgramDrafter::default());
        assert_eq!(differences(&mut engine, &prompts, &expected, &options(k)), [0; 0], "n-grams, k = {k}");
    }
}

/// Exact match gives one text a seed at any temperature.
#[test]
fn sampled_tokens_are_those_of_the_expert() {
    let pair = pair_f32();
    let prompts: Vec<_> = pair.prompts().into_iter().skip(2).step_by(4).collect();
    let sampled = |k, seed| SessionOptions {
        sampling: SamplingOptions { temperature: 0.8, ..Default::default() },
        seed,
        rule: Some(Arc::new(ExactMatch)),
        ..options(k)
    };
    let expected = baseline(pair, &prompts, &sampled(0, 11));
    let mut engine = pair.speculative();
    for k in [3, 8] {
        assert_eq!(differences(&mut engine, &prompts, &expected, &sampled(k, 11)), [0; 0], "k = {k}");
    }
    let other_seed = differences(&mut engine, &prompts, &expected, &sampled(3, 12));
    assert_eq!(other_seed.len(), prompts.len(), "the comparison sees another seed");
}
