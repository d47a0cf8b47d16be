//! c(m): what a forward of m rows costs, beside what the machine can do.
//!
//! `cargo bench --bench verify_cost` prints, for each type of weights, whole forwards of a generated model
//! of 134 M parameters on the CPU: one row reads all weights and is bound by memory, many rows are bound by
//! arithmetic, and drafting pays as far as the rows between cost little.
//!
//! Times depend on the machine and on what else it does: compare figures of one run only.

mod kernels;
mod machine;

use criterion::Criterion;
use drafthorse::{
    DeviceChoice, ModelError, TokenId, Transformer, WeightType,
    cost::CostMeter,
    model::{CachedModel, LoadedDevice, ModelConfig},
    open_device,
    synthetic::{bench_134m, random_tokens},
};
use machine::Limits;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Tokens in the cache before every forward.
const LENGTH: usize = 128;
/// The most rows of a forward.
const ROWS: usize = 16;
/// Tokens of the prompt.
const PROMPT: usize = 128;

/// Sweeps over all numbers of rows end when there are enough of them or this time is over.
const SWEEPS: usize = 20;
const TIME: Duration = Duration::from_secs(20);

fn main() -> Result<(), ModelError> {
    // Without `--bench` (as a test) everything runs, but briefly.
    let earnest = std::env::args().any(|argument| argument == "--bench");
    kernels::bench(&mut Criterion::default().configure_from_args());
    forwards(if earnest { SWEEPS } else { 1 })
}

fn forwards(sweeps: usize) -> Result<(), ModelError> {
    let device = open_device(DeviceChoice::Cpu)?;
    println!("\n{device}; bench-134m after {LENGTH} tokens\n");
    for weights in WeightType::ALL {
        Forwards::measure(&device, weights, sweeps)?.print(weights);
    }
    println!(
        "c(m) = time of m rows / of 1 row; GB/s of weights read and GFLOP/s of the linear layers, and their shares of\nwhat the machine does at most, measured in turn with them"
    );
    Ok(())
}

/// Times of one type of weights.
struct Forwards {
    config: ModelConfig,
    by_rows: Vec<(usize, Duration)>,
    prompt: Duration,
    sweeps: usize,
    limits: Limits,
}

impl Forwards {
    fn measure(device: &LoadedDevice, weights: WeightType, sweeps: usize) -> Result<Self, ModelError> {
        let model = bench_134m(device, weights)?;
        let config = model.config().clone();
        let prompt = random_tokens(1, PROMPT, config.vocab_size);
        let mut meter =
            CostMeter::new(Box::new(CachedModel::new(model.clone())), Vec::new(), LENGTH, 1..=ROWS);
        let (start, mut best) = (Instant::now(), Duration::MAX);
        let mut limits = Limits::measure(1, None);
        while meter.sweeps() < sweeps && (meter.sweeps() < 3 || start.elapsed() < TIME) {
            meter.sweep()?;
            best = best.min(read(&model, &prompt)?);
            // What else the machine does changes from second to second, and what it leaves us with it.
            limits = Limits::measure(1, Some(&limits));
        }
        Ok(Self { config, by_rows: meter.forwards(), prompt: best, sweeps: meter.sweeps(), limits })
    }

    fn print(&self, weights: WeightType) {
        let limits = &self.limits;
        let (layers, head) = (layer_weights(&self.config), head_weights(&self.config));
        let one = self.by_rows.first().map_or(0.0, |(_, time)| time.as_secs_f64());
        let bytes = (layers * weights.bits() + head * weights.of_head().bits()) / 8.0;
        println!(
            "weights in {}, best of {}; {} threads: reads {:.1} GB/s, {:.0} GFLOP/s of f32 multiply-adds\n",
            weights.name(),
            self.sweeps,
            limits.threads,
            limits.bandwidth / 1e9,
            limits.peak / 1e9
        );
        println!("{:>6} {:>9} {:>6} {:>7} {:>8} {:>9} {:>8}", "m", "ms", "c(m)", "GB/s", "", "GFLOP/s", "");
        let row = |label: &str, time: Duration, multiplied: f64| {
            let seconds = time.as_secs_f64();
            let (traffic, work) = (bytes / seconds, 2.0 * multiplied / seconds);
            println!(
                "{label:>6} {:>9.2} {:>6.2} {:>7.1} {:>6.0} % {:>9.0} {:>6.0} %",
                seconds * 1e3,
                seconds / one,
                traffic / 1e9,
                100.0 * traffic / limits.bandwidth,
                work / 1e9,
                100.0 * work / limits.peak
            );
        };
        for &(rows, time) in &self.by_rows {
            row(&rows.to_string(), time, (layers + head) * rows as f64);
        }
        // Of a prompt only the last row has logits, and nothing is in the cache before it.
        row("prompt", self.prompt, layers * PROMPT as f64 + head);
        println!();
    }
}

/// The time to read a prompt, with the logits after its last token.
fn read(model: &Arc<Transformer>, prompt: &[TokenId]) -> Result<Duration, ModelError> {
    let mut fresh = CachedModel::new(model.clone());
    let start = Instant::now();
    fresh.logits(prompt, 1)?;
    Ok(start.elapsed())
}

/// Weights of the linear layers that every row is multiplied with.
fn layer_weights(config: &ModelConfig) -> f64 {
    let (width, heads) = (config.hidden_size, config.heads * config.head_dim);
    let qkv = width * (heads + 2 * config.kv_heads * config.head_dim);
    let feed_forward = 3 * width * config.intermediate_size;
    (config.layers * (qkv + heads * width + feed_forward)) as f64
}

/// Weights of the head.
fn head_weights(config: &ModelConfig) -> f64 {
    (config.hidden_size * config.vocab_size) as f64
}
