//! Chains of drafts against trees, on the demo pair: what each brings a pass and how fast it is, taken in turns, the best
//! of several; and the tree that the learned acceptance of ranks and the measured costs of passes say is fastest.
//!
//! `cargo run --release --example trees -- [TOKENS] [TURNS]`

use drafthorse::{
    DeviceChoice, Engine, ModelDrafter, SamplingOptions, SessionOptions, TokenId, Transformer, WeightType,
    demo,
    engine::Stats,
    logits::{Branching, RankAcceptance, TreePlan},
    model::{CachedModel, Tree},
    open_device,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PROMPTS: [&str; 4] = [
    "It was a dark and stormy night, and the old house at the end of the lane",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "Question: A box holds 6 eggs. How many eggs are in 7 boxes?\nAnswer:",
    "\"Where have you been?\" asked the doctor.\n\n\"",
];

const SHAPES: [&str; 9] =
    ["2", "2x1", "3x1", "2x2", "2x1x1", "3x1x1", "best:4:2:2", "best:6:3:3", "best:8:4:3"];

/// What is drafted a round, and what became of it.
struct Contender {
    name: String,
    options: SessionOptions,
    best: Option<Stats>,
    ranks: RankAcceptance,
}

fn contenders(temperature: f32, tokens: usize) -> Result<Vec<Contender>> {
    let sampling = SamplingOptions { temperature, ..Default::default() };
    let base = SessionOptions { sampling, max_tokens: tokens, seed: 1, ..Default::default() };
    let contender =
        |name: String, options| Contender { name, options, best: None, ranks: RankAcceptance::default() };
    let chain = |k: usize| {
        contender(format!("chain of {k}"), SessionOptions { draft_length: Some(k.into()), ..base.clone() })
    };
    let mut all: Vec<_> = (0..=4).map(chain).collect();
    let ways: &[Branching] = if temperature > 0.0 {
        &[Branching::TopChildren, Branching::WithoutReplacement]
    } else {
        &[Branching::TopChildren]
    };
    for &branching in ways {
        for shape in SHAPES {
            let plan = TreePlan { branching, shape: shape.parse()? };
            if plan.check().is_ok() {
                let options = SessionOptions { tree: Some(plan), ..base.clone() };
                all.push(contender(format!("{shape} {}", branching.name()), options));
            }
        }
    }
    Ok(all)
}

fn speed(stats: &Stats) -> f64 {
    stats.tokens_per_second().unwrap_or(0.0)
}

/// All prompts once.
fn turn(engine: &mut Engine, prompts: &[Vec<TokenId>], contender: &mut Contender) -> Result<()> {
    let mut stats = Stats::default();
    for prompt in prompts {
        let mut session = engine.session(prompt, &contender.options)?;
        for step in &mut session {
            contender.ranks.observe(&step?.ranks);
        }
        stats.merge(session.stats());
    }
    if contender.best.as_ref().is_none_or(|best| speed(&stats) > speed(best)) {
        contender.best = Some(stats);
    }
    Ok(())
}

/// The least time of a pass over one row and so many nodes more.
fn pass_times(model: &Arc<Transformer>, prompt: &[TokenId], nodes: usize) -> Result<Vec<f64>> {
    let mut cached = CachedModel::new(model.clone());
    let mut times = vec![Duration::MAX; nodes + 1];
    for _ in 0..20 {
        for (count, least) in times.iter_mut().enumerate() {
            cached.logits(&prompt[..prompt.len() - 1], 0)?;
            let (tokens, parents) = (vec![prompt[0]; count], vec![None; count]);
            let start = Instant::now();
            cached.tree_logits(prompt, Tree { tokens: &tokens, parents: &parents }, count + 1)?;
            *least = start.elapsed().min(*least);
        }
    }
    Ok(times.iter().map(Duration::as_secs_f64).collect())
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let (tokens, turns) = (args.next().unwrap_or(24), args.next().unwrap_or(1));
    measure(tokens, turns)
}

fn measure(tokens: usize, turns: usize) -> Result<()> {
    let device = open_device(DeviceChoice::Cpu)?;
    let (expert, drafter) =
        (demo::expert(&device, WeightType::F32)?, demo::drafter(&device, WeightType::F32)?);
    let tokenizer = expert.tokenizer().ok_or("the demo expert has a tokenizer")?.clone();
    let prompts =
        PROMPTS.iter().map(|text| tokenizer.encode(text)).collect::<std::result::Result<Vec<_>, _>>()?;
    let verify = pass_times(&expert, &prompts[0], 12)?;
    let step = pass_times(&drafter, &prompts[0], 0)?[0];
    let costs: Vec<_> = verify.iter().map(|time| format!("{:.2}", time / verify[0])).collect();
    println!("verify cost of 1 to 13 rows: {}; draft cost {:.3}", costs.join(" "), step / verify[0]);
    let mut engine = Engine::builder().expert(expert).drafter(ModelDrafter::new(drafter)).build()?;
    for temperature in [0.0, 0.8] {
        println!("\ntemperature {temperature}");
        let mut all = contenders(temperature, tokens)?;
        for _ in 0..turns {
            for contender in &mut all {
                turn(&mut engine, &prompts, contender)?;
            }
        }
        let plain = all.iter().find_map(|contender| contender.best.as_ref()).map_or(0.0, speed);
        let mut ranks = RankAcceptance::default();
        for contender in &all {
            let Some(stats) = &contender.best else { continue };
            ranks.merge(&contender.ranks);
            let share = stats.draft_time.as_secs_f64() / stats.decode_time().as_secs_f64();
            println!(
                "{:32} {:4.2} tokens per expert pass, {:4.1} nodes a round, speedup {:4.2}, drafting {:2.0}% of the time",
                contender.name,
                stats.tokens_per_expert_pass().unwrap_or(0.0),
                stats.drafted as f64 / stats.rounds.max(1) as f64,
                speed(stats) / plain,
                100.0 * share,
            );
        }
        let learned = ranks.probabilities(3);
        let fastest = ranks.fastest(3, 6, step, &verify);
        let fastest =
            fastest.map_or("plain decoding".into(), |(shape, speed)| format!("{shape}, {speed:.2}"));
        println!("acceptance of ranks {learned:.2?}; predicted to be fastest: {fastest}");
    }
    Ok(())
}
