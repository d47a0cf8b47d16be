//! What the first tokens of a text reach of the best draft length: expected tokens a second, over those of the best.

use super::{
    super::{
        Adaptive,
        controller::{Controller, Rows},
        costs::Times,
        learning::Outcome,
    },
    Noise, linear,
};

/// Seconds of a round's drafting and of the rest of it, by round, draft, tokens drafted and tokens missed.
type Clock<'a> = dyn Fn(usize, usize, usize, usize, &mut Noise) -> (f64, f64) + 'a;

struct Pair<'a> {
    acceptance: f64,
    draft: f64,
    slope: f64,
    clock: &'a Clock<'a>,
}

impl Pair<'_> {
    fn tokens(&self, drafted: usize) -> f64 {
        std::iter::successors(Some(1.0), |reach| Some(reach * self.acceptance)).take(drafted + 1).sum()
    }

    fn round(&self, drafted: usize) -> f64 {
        self.draft * drafted as f64 + linear(self.slope, drafted + 1)
    }

    fn best(&self) -> f64 {
        (0..=16).map(|drafted| self.tokens(drafted) / self.round(drafted)).fold(0.0, f64::max)
    }

    /// The share of the best rate that `tokens` tokens have, with what the rounds would take without trouble.
    fn share(&self, tokens: f64, seed: u64) -> f64 {
        let mut controller = Controller::new(&Adaptive::default(), Rows::Away);
        controller.prepared(20, 0.2);
        let mut noise = Noise(seed);
        let (mut said, mut time, mut drafts, mut sequence, mut read, mut rounds) = (0.0, 0.0, 0, 20, 20, 0);
        while said < tokens {
            let lag = sequence - read;
            let plan = controller.plan(64, lag);
            let drafted = plan.max;
            let accepted = (0..drafted).take_while(|_| noise.next() < self.acceptance).count();
            drafts += usize::from(drafted > 0);
            rounds += 1;
            let (draft, rest) = (self.clock)(rounds, drafts, drafted, lag, &mut noise);
            let times = Times { draft: if drafted > 0 { draft } else { 0.0 }, rest };
            let examined = (accepted + 1).min(drafted);
            let (forced, confidences, offers) = (0, &[][..], (drafted > 0).then_some(false));
            let outcome =
                Outcome { drafted, examined, accepted, forced, lag, times, confidences, offers, tree: None };
            controller.learn(&plan, &outcome);
            if drafted > 0 {
                read = sequence + accepted;
            }
            sequence += accepted + 1;
            said += self.tokens(drafted);
            time += self.round(drafted);
        }
        said / time / self.best()
    }

    /// The share that 19 of 20 runs exceed.
    fn nearly_always(&self, tokens: f64) -> f64 {
        let mut shares: Vec<f64> = (0..200).map(|seed| self.share(tokens, seed)).collect();
        shares.sort_by(f64::total_cmp);
        shares[10]
    }
}

fn good<'a>(clock: &'a Clock<'a>) -> Pair<'a> {
    Pair { acceptance: 0.7, draft: 0.15, slope: 0.075, clock }
}

fn usual(drafted: usize, lag: usize) -> (f64, f64) {
    (0.15 * drafted as f64 + 0.01 * lag.saturating_sub(4) as f64, linear(0.075, drafted + 1))
}

#[test]
fn a_good_drafter_is_soon_used() {
    let first = |times: f64| {
        move |_: usize, draft: usize, drafted: usize, lag: usize, _: &mut Noise| {
            let (usual, rest) = usual(drafted, lag);
            (if draft == 1 { times } else { usual }, rest)
        }
    };
    let hiccups = |_: usize, draft: usize, drafted: usize, lag: usize, _: &mut Noise| {
        let (usual, rest) = usual(drafted, lag);
        (if draft == 20 || draft == 40 { 20.0 } else { usual }, rest)
    };
    let shaky = |_: usize, _: usize, drafted: usize, lag: usize, noise: &mut Noise| {
        let (usual, rest) = usual(drafted, lag);
        ((0.8 + 0.4 * noise.next()) * usual, (0.8 + 0.4 * noise.next()) * rest)
    };
    let busy = |_: usize, _: usize, drafted: usize, lag: usize, noise: &mut Noise| {
        let (usual, rest) = usual(drafted, lag);
        let mut slow = || (0.5 + noise.next()) * if noise.next() < 0.05 { 5.0 } else { 1.0 };
        (slow() * usual, slow() * rest)
    };
    let steady = |_: usize, _: usize, drafted: usize, lag: usize, _: &mut Noise| usual(drafted, lag);
    let (four, ten, thirty) = (first(4.0), first(10.0), first(30.0));
    let clocks: [(&str, &Clock<'_>, [f64; 3]); 7] = [
        ("steady", &steady, [0.91, 0.94, 0.97]),
        ("first draft of 4 rounds", &four, [0.91, 0.94, 0.97]),
        ("first draft of 10", &ten, [0.91, 0.94, 0.97]),
        ("first draft of 30", &thirty, [0.91, 0.94, 0.97]),
        ("two hiccups", &hiccups, [0.91, 0.92, 0.96]),
        ("some noise", &shaky, [0.89, 0.91, 0.95]),
        ("busy", &busy, [0.80, 0.86, 0.90]),
    ];
    for (name, clock, least) in clocks {
        let shares = [100.0, 300.0, 1000.0].map(|tokens| good(clock).nearly_always(tokens));
        let enough = shares.iter().zip(least).all(|(share, least)| *share >= least);
        assert!(enough, "{name}: {shares:.3?}");
    }
    assert!(1.0 / good(&steady).best() < 0.67, "what plain decoding would reach");
}

/// However long the machine was busy with something else at the beginning, that is forgotten.
#[test]
fn nothing_is_concluded_for_good() {
    for times in [4.0, 10.0, 30.0, 300.0] {
        for busy in [1, 2] {
            let clock = |_: usize, draft: usize, drafted: usize, lag: usize, _: &mut Noise| {
                let (usual, rest) = usual(drafted, lag);
                (if draft <= busy { times } else { usual }, rest)
            };
            let share = good(&clock).share(20_000.0, 1);
            assert!(share > 0.97, "first {busy} drafts of {times} rounds: {share}");
        }
    }
}
