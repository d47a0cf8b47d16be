//! The controller on machines that are simulated, with a clock that counts what rounds cost there.

use super::{
    Adaptive,
    controller::{Controller, Rows, Why},
    costs::Times,
    learning::Outcome,
    marginal::Marginal,
};

#[path = "worth.rs"]
mod worth;

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

/// How likely a drafted token is accepted, after so many tokens of the text and at a position, and how sure the drafter
/// says it is.
type Accepts<'a> = dyn Fn(usize, usize, &mut Noise) -> (f64, Option<f64>) + 'a;
/// By what all times are multiplied after so many tokens.
type Slow<'a> = dyn Fn(usize, &mut Noise) -> f64 + 'a;

/// Times are in plain rounds of an empty context.
struct Machine<'a> {
    /// Seconds of a pass of so many rows.
    verify: &'a dyn Fn(usize) -> f64,
    /// Seconds of a drafted token.
    draft: f64,
    /// Seconds to read a token that was missed.
    read: f64,
    accepts: &'a Accepts<'a>,
    slow: &'a Slow<'a>,
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
        let stop: Option<Marginal> = plan.stop.is_some().then(|| controller.marginal(plan.max));
        let (mut drafted, mut accepted, mut refused, mut reach) = (0, 0, false, 1.0);
        let mut confidences = Vec::new();
        while drafted < plan.max
            && stop.as_ref().is_none_or(|stop| drafted == 0 || stop.goes_on(reach, drafted))
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
        let outcome = Outcome {
            tree: None,
            drafted,
            examined,
            accepted,
            forced: 0,
            lag,
            times,
            confidences: &confidences,
            offers: None,
        };
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
    run(machine, &mut Controller::new(&Adaptive::default(), Rows::There), tokens, seed)
}

/// Time over that of plain decoding, of the best draft length.
fn best_fixed(machine: &Machine<'_>, acceptance: f64) -> f64 {
    let cost = |k: usize| {
        let tokens =
            (0..k).fold((1.0, 1.0), |(sum, reach), _| (sum + reach * acceptance, reach * acceptance)).0;
        (machine.draft * k as f64 + (machine.verify)(k + 1)) / tokens
    };
    (0..=16).map(cost).fold(f64::INFINITY, f64::min)
}

fn noisy(_: usize, noise: &mut Noise) -> f64 {
    0.8 + 0.4 * noise.next()
}

/// The mean of several runs over the best draft length, and the worst over plain decoding.
fn against_best(machine: &Machine<'_>, acceptance: f64) -> (f64, f64) {
    let best = best_fixed(machine, acceptance);
    let costs: Vec<f64> = (0..5).map(|seed| simulate(machine, 4000, seed).cost()).collect();
    let worst = costs.iter().copied().fold(0.0, f64::max);
    (costs.iter().sum::<f64>() / costs.len() as f64 / best, worst)
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
                let (against, worst) = against_best(&machine, acceptance);
                assert!(against < 1.03, "{name}, draft cost {draft}, acceptance {acceptance}: {against}");
                assert!(worst < 1.02, "{name}, draft cost {draft}, acceptance {acceptance}: {worst}");
            }
        }
    }
}

/// Without a controller the same machines show what there is to lose and to find.
#[test]
fn fixed_lengths_lose() {
    let accepts = |_: usize, _: usize, _: &mut Noise| (0.05, None);
    let machine = Machine { verify: &|rows| linear(0.1, rows), accepts: &accepts, ..Machine::default() };
    let four =
        (machine.draft * 4.0 + (machine.verify)(5)) / (1..=4).fold(1.0, |sum, k| sum + 0.05_f64.powi(k));
    assert!(four > 1.5 && simulate(&machine, 4000, 0).cost() < 1.02);
}

/// Drafters that are of no use, that lure, and that are slow.
fn traps() -> Vec<(String, Box<Accepts<'static>>)> {
    let mut traps: Vec<(String, Box<Accepts<'static>>)> = vec![
        ("useless".into(), Box::new(|_, _, _| (0.02, None))),
        ("at the edge".into(), Box::new(|_, _, _| (0.12, None))),
        ("first token only".into(), Box::new(|_, position, _| (f64::from(u8::from(position == 0)), None))),
        ("sure and wrong".into(), Box::new(|_, _, _| (0.05, Some(0.99)))),
    ];
    for period in [8, 32, 64, 128, 512, 2048] {
        for of in [2, 8] {
            let right = move |text: usize, _: usize, _: &mut Noise| {
                (f64::from(u8::from((text / period).is_multiple_of(of))), None)
            };
            traps.push((format!("right for {period} of {}", of * period), Box::new(right)));
        }
    }
    traps
}

#[test]
fn it_never_loses() {
    let even = |_: usize, _: &mut Noise| 1.0;
    let slows: [&Slow<'_>; 2] = [&even, &noisy];
    for (name, accepts) in traps() {
        for (draft, read) in [(0.0, 0.0), (0.02, 0.001), (0.3, 0.03), (3.0, 0.1)] {
            for (kind, slow) in slows.into_iter().enumerate() {
                let verify = |rows| linear(0.1, rows);
                let machine = Machine { draft, read, accepts: &*accepts, slow, verify: &verify };
                for seed in 0..5 {
                    let cost = simulate(&machine, 2500, seed).cost();
                    assert!(cost < 1.02, "{name}, draft cost {draft}, noise {kind}, seed {seed}: {cost}");
                }
            }
        }
    }
}

#[test]
fn machines_may_change() {
    let hiccup = |at: usize| move |text: usize, _: &mut Noise| if text == at { 100.0 } else { 1.0 };
    let (early, late) = (hiccup(10), hiccup(700));
    let longer = |text: usize, _: &mut Noise| 1.0 + text as f64 / 1000.0;
    let busy = |text: usize, _: &mut Noise| if (1000..1500).contains(&text) { 3.0 } else { 1.0 };
    let slows: [(&str, &Slow<'_>); 5] = [
        ("longer context", &longer),
        ("noise", &noisy),
        ("busy for a while", &busy),
        ("early hiccup", &early),
        ("late hiccup", &late),
    ];
    for (name, slow) in slows {
        for acceptance in [0.05, 0.3, 0.7, 0.9] {
            let accepts = |_: usize, _: usize, _: &mut Noise| (acceptance, None);
            let machine = Machine { accepts: &accepts, slow, ..Machine::default() };
            let (against, worst) = against_best(&machine, acceptance);
            // The round of a hiccup itself is some 5 % of the late one's time, and a machine that is suddenly slower looks for
            // some rounds as if drafts were to blame.
            assert!(against < 1.1, "{name}, acceptance {acceptance}: {against}");
            assert!(worst < 1.02, "{name}, acceptance {acceptance}: {worst}");
        }
    }
}

/// Where the drafter knows when it is wrong, drafts end there, and that is worth more than any fixed length.
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
        let cost =
            |machine: &Machine<'_>| (0..5).map(|seed| simulate(machine, 4000, seed).cost()).sum::<f64>();
        let (with, without) = (cost(&machine), cost(&Machine { accepts: &blind, ..machine }));
        assert!(with < 0.93 * without, "draft cost {draft}, slope {slope}: {with} against {without}");
    }
}

/// After a long time without drafts a round costs what a plain one does, and little is tried.
#[test]
fn what_is_of_no_use_is_hardly_asked() {
    let accepts = |_: usize, _: usize, _: &mut Noise| (0.02, None);
    let machine = Machine { draft: 0.3, accepts: &accepts, ..Machine::default() };
    let run = simulate(&machine, 5000, 1);
    assert!(run.drafts < 50 && run.probes <= run.drafts, "{run:?}");
    let mut controller = Controller::new(&Adaptive::default(), Rows::There);
    super::simulate::run(&machine, &mut controller, 5000, 1);
    assert!(!controller.prepares(), "nor does it read the next prompt");
    assert!(controller.speculation().is_some_and(|speculation| !speculation.pays));
}
