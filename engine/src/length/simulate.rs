//! The controller on machines that are simulated, with a clock that counts what rounds cost there.

use super::{
    Adaptive,
    controller::{Controller, Outcome, Why},
    costs::Times,
};

/// Numbers from 0 to 1 that look random.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Times are in plain rounds of an empty context.
struct Machine<'a> {
    /// Seconds of a pass of so many rows.
    verify: &'a dyn Fn(usize) -> f64,
    /// Seconds of a drafted token.
    draft: f64,
    /// Seconds to read a token that was missed.
    read: f64,
    /// How likely a drafted token is accepted: after so many tokens of the text, at a position, and whether the round is
    /// a probe. The rest of the pair is how sure the drafter says it is.
    accepts: &'a dyn Fn(usize, usize, &mut Noise) -> (f64, Option<f64>),
    /// By what all times are multiplied after so many tokens.
    slow: &'a dyn Fn(usize, &mut Noise) -> f64,
}

impl Default for Machine<'_> {
    fn default() -> Self {
        Self {
            verify: &|rows| linear(0.05, rows),
            draft: 0.1,
            read: 0.01,
            accepts: &|_, _, _| (0.6, None),
            slow: &|_, _| 1.0,
        }
    }
}

fn linear(slope: f64, rows: usize) -> f64 {
    1.0 + slope * (rows - 1) as f64
}

/// Flat, then steep.
fn convex(rows: usize) -> f64 {
    1.0 + 0.01 * (rows - 1) as f64 + 0.02 * (rows.saturating_sub(4) as f64).powi(2)
}

/// What a run came to, after its first tokens.
#[derive(Debug, Default)]
struct Run {
    tokens: usize,
    time: f64,
    /// What plain rounds would have taken.
    plain: f64,
    drafts: usize,
    probes: usize,
}

impl Run {
    /// Time over that of plain decoding.
    fn cost(&self) -> f64 {
        self.time / self.plain
    }
}

/// Tokens that are not counted.
const FIRST: usize = 64;

fn run(machine: &Machine<'_>, controller: &mut Controller, tokens: usize, seed: u64) -> Run {
    let (mut noise, mut run, mut text, mut read) = (Noise(seed), Run::default(), 0, 0);
    while text < tokens {
        let lag = text - read;
        let plan = controller.plan(64, lag);
        let (mut drafted, mut accepted, mut refused, mut reach) = (0, 0, false, 1.0);
        let mut confidences = Vec::new();
        while drafted < plan.max
            && plan.stop.as_ref().is_none_or(|stop| drafted == 0 || stop.goes_on(reach, drafted))
        {
            let (chance, confidence) = (machine.accepts)(text, drafted, &mut noise);
            confidences.extend(confidence);
            reach *= confidence
                .map_or(1.0, |confidence| controller.marginal(1).calibration.acceptance(confidence));
            refused |= noise.next() >= chance;
            accepted += usize::from(!refused);
            drafted += 1;
        }
        let slow = (machine.slow)(text, &mut noise);
        let missed = if drafted > 0 { lag.saturating_sub(4) as f64 * machine.read } else { 0.0 };
        let times = Times {
            draft: slow * (machine.draft * drafted as f64 + missed),
            rest: slow * (machine.verify)(drafted + 1),
        };
        let examined = accepted + usize::from(refused);
        confidences.truncate(examined);
        let outcome =
            Outcome { drafted, examined, accepted, forced: 0, lag, times, confidences: &confidences };
        controller.learn(&plan, &outcome);
        if drafted > 0 {
            read = text + accepted;
        }
        if text >= FIRST {
            run.tokens += accepted + 1;
            run.time += times.draft + times.rest;
            run.plain += (accepted + 1) as f64 * slow;
            run.drafts += usize::from(drafted > 0);
            run.probes += usize::from(plan.why == Why::Probe);
        }
        text += accepted + 1;
    }
    run
}

fn simulate(machine: &Machine<'_>, tokens: usize, seed: u64) -> Run {
    run(machine, &mut Controller::new(&Adaptive::default(), true), tokens, seed)
}

/// Time over that of plain decoding, of the best draft length.
fn best_fixed(machine: &Machine<'_>, acceptance: f64) -> (usize, f64) {
    let cost = |k: usize| {
        let tokens: f64 = (0..=k).map(|accepted| acceptance.powi(accepted as i32)).sum();
        (k, (machine.draft * k as f64 + (machine.verify)(k + 1)) / tokens)
    };
    (0..=16).map(cost).min_by(|a, b| a.1.total_cmp(&b.1)).expect("17 lengths")
}

fn noisy(_: usize, noise: &mut Noise) -> f64 {
    0.8 + 0.4 * noise.next()
}

#[test]
fn it_finds_the_best_length() {
    let verifies: [(&str, &dyn Fn(usize) -> f64); 3] =
        [("flat", &|rows| linear(0.01, rows)), ("linear", &|rows| linear(0.1, rows)), ("convex", &convex)];
    for (name, verify) in verifies {
        for draft in [0.0, 0.05, 0.1, 0.2, 0.5] {
            for acceptance in [0.3, 0.5, 0.7, 0.8, 0.9, 0.95] {
                let accepts = |_: usize, _: usize, _: &mut Noise| (acceptance, None);
                let machine = Machine { verify, draft, accepts: &accepts, ..Machine::default() };
                let (k, best) = best_fixed(&machine, acceptance);
                let costs: Vec<f64> = (0..5).map(|seed| simulate(&machine, 4000, seed).cost()).collect();
                let mean = costs.iter().sum::<f64>() / costs.len() as f64;
                println!(
                    "{name} d {draft} a {acceptance}: best {k} {best:.3}, adaptive {mean:.3} {:+.1} % {costs:.3?}",
                    100.0 * (mean / best - 1.0)
                );
            }
        }
    }
}

/// Drafters that are of no use, or lure.
#[test]
fn it_never_loses() {
    type Accepts = Box<dyn Fn(usize, usize, &mut Noise) -> (f64, Option<f64>)>;
    let chance = |right: bool| (f64::from(u8::from(right)), None);
    let mut drafters: Vec<(String, Accepts)> = vec![
        ("useless".into(), Box::new(|_, _, _| (0.02, None))),
        ("at the edge".into(), Box::new(|_, _, _| (0.12, None))),
        ("first token only".into(), Box::new(|_, position, _| (if position == 0 { 0.9 } else { 0.0 }, None))),
        ("sure and wrong".into(), Box::new(|_, _, _| (0.05, Some(0.99)))),
    ];
    for period in [8, 32, 64, 128, 512, 2048] {
        let lure = move |text: usize, _: usize, _: &mut Noise| chance(text / period % 2 == 0);
        drafters.push((format!("right and wrong for {period} in turn"), Box::new(lure)));
        let rare = move |text: usize, _: usize, _: &mut Noise| chance(text / period % 8 == 0);
        drafters.push((format!("right for {period} of {}", 8 * period), Box::new(rare)));
    }
    for (name, accepts) in &drafters {
        for (draft, read) in [(0.02, 0.001), (0.3, 0.03), (3.0, 0.1)] {
            for (how, slow) in [
                ("steady", &(|_, _: &mut Noise| 1.0) as &dyn Fn(usize, &mut Noise) -> f64),
                ("noisy", &noisy),
            ] {
                let machine =
                    Machine { draft, read, accepts: &**accepts, slow, verify: &|rows| linear(0.1, rows) };
                let costs: Vec<f64> = (0..5).map(|seed| simulate(&machine, 2500, seed).cost()).collect();
                let worst = costs.iter().fold(0.0, |a, b| f64::max(a, *b));
                let runs = (0..1).map(|seed| simulate(&machine, 2500, seed)).last().expect("a run");
                println!(
                    "{}{name}, {how}, d {draft}: {worst:.3} drafts {} probes {}",
                    if worst > 1.02 { "!!! " } else { "" },
                    runs.drafts,
                    runs.probes
                );
            }
        }
    }
}

#[test]
fn machines_that_change() {
    let hiccup = |at: usize| move |text: usize, _: &mut Noise| if text == at { 100.0 } else { 1.0 };
    let (early, late) = (hiccup(10), hiccup(700));
    let slows: [(&str, &dyn Fn(usize, &mut Noise) -> f64); 5] = [
        ("longer context", &|text, _| 1.0 + text as f64 / 1000.0),
        ("noise", &noisy),
        ("busy for a while", &|text, _| if (1000..1500).contains(&text) { 3.0 } else { 1.0 }),
        ("early hiccup", &early),
        ("late hiccup", &late),
    ];
    for (name, slow) in slows {
        for acceptance in [0.1, 0.3, 0.7, 0.9] {
            let accepts = |_: usize, _: usize, _: &mut Noise| (acceptance, None);
            let machine = Machine { accepts: &accepts, slow, ..Machine::default() };
            let (k, best) = best_fixed(&machine, acceptance);
            let costs: Vec<f64> = (0..5).map(|seed| simulate(&machine, 4000, seed).cost()).collect();
            let mean = costs.iter().sum::<f64>() / costs.len() as f64;
            println!(
                "{name} a {acceptance}: best {k} {best:.3}, adaptive {mean:.3} {:+.1} % {costs:.3?}",
                100.0 * (mean / best - 1.0)
            );
        }
    }
}

#[test]
fn confidences_pay() {
    for (draft, slope) in [(0.05, 0.05), (0.2, 0.05), (0.05, 0.15)] {
        let accepts = |_: usize, _: usize, noise: &mut Noise| {
            let sure = noise.next() < 0.7;
            (if sure { 0.95 } else { 0.2 }, Some(if sure { 0.9 } else { 0.4 }))
        };
        let blind = |a: usize, b: usize, noise: &mut Noise| (accepts(a, b, noise).0, None);
        let verify = |rows| linear(slope, rows);
        let machine = Machine { verify: &verify, draft, accepts: &accepts, ..Machine::default() };
        let cost = |machine: &Machine<'_>| {
            (0..5).map(|seed| simulate(machine, 4000, seed).cost()).sum::<f64>() / 5.0
        };
        println!(
            "d {draft} slope {slope}: with {:.3}, without {:.3}",
            cost(&machine),
            cost(&Machine { accepts: &blind, ..machine })
        );
    }
}
