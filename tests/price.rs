//! What sessions count of rules that are not lossless: decisions, deferrals, and the distance from the expert.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/law.rs"]
mod law;

use common::{Run, run};
use drafthorse::{
    AcceptanceRule, Engine, ErrorKind, Finish, ModelDrafter, NgramDrafter, Provenance, SamplingOptions,
    SessionOptions, Stats, TableModel, TokenId,
    logits::{Context, Probs, Sampler, Scores},
    rule,
    verifier::{
        CascadeChow, CascadeOpt, CascadeTokenV3, Kind, Lenience, RULES, TopKAcceptance, TruncateTopP,
        Typical, describe,
    },
};
use law::{PROMPT, at};
use std::sync::Arc;

const VOCAB: usize = 6;

fn models() -> [Arc<TableModel>; 2] {
    [law::other_model(VOCAB), law::expert(VOCAB)]
}

fn engine() -> Engine {
    let [draft, expert] = models();
    Engine::builder().expert(expert).drafter(ModelDrafter::new(draft)).build().unwrap()
}

fn go(engine: &mut Engine, options: &SessionOptions) -> Run {
    let run = run(engine.session(&PROMPT, options).unwrap());
    assert!(run.error.is_none(), "{:?}", run.error);
    run
}

/// Every rule at its default and where it is stricter and more lenient.
fn rules() -> Vec<Arc<dyn AcceptanceRule>> {
    let of = |info: &drafthorse::verifier::RuleInfo| {
        let sweep = info.dials.first().map_or(&[][..], |dial| dial.sweep);
        let values = [None].into_iter().chain(sweep.iter().step_by(3).map(|&value| Some(value)));
        values.map(|value| info.with(&[value]).unwrap()).collect::<Vec<_>>()
    };
    RULES.iter().flat_map(of).collect()
}

fn samplings() -> [SamplingOptions; 3] {
    [at(0.0), at(0.7), SamplingOptions { top_p: 0.8, ..at(1.0) }]
}

/// Texts by this rule, some of which end inside a round.
fn texts(rule: &Arc<dyn AcceptanceRule>) -> impl Iterator<Item = SessionOptions> {
    let all = samplings().into_iter().flat_map(|sampling| (0..4).map(move |k| (sampling.clone(), k)));
    all.zip(0..).map(|((sampling, k), seed)| SessionOptions {
        seed,
        sampling,
        draft_length: Some(k.into()),
        rule: Some(rule.clone()),
        stop_tokens: vec![5],
        max_tokens: 12,
        ..Default::default()
    })
}

fn count(run: &Run, provenance: Provenance) -> u64 {
    let tokens = run.steps.iter().flat_map(|step| &step.tokens);
    tokens.filter(|token| token.provenance == provenance).count() as u64
}

#[test]
fn counts_add_up() {
    let (mut engine, mut all, mut cut) = (engine(), Stats::default(), 0);
    for rule in rules() {
        let mut own = Stats::default();
        for options in texts(&rule) {
            let run = go(&mut engine, &options);
            check_counts(&run, &*rule);
            let last = run.steps.last().unwrap();
            cut += usize::from(
                matches!(last.finish, Some(Finish::StopToken(_))) && last.tokens.len() <= last.accepted,
            );
            own.merge(&run.stats);
        }
        assert_eq!(own.deferral_rate().is_some(), decides(&*rule), "{}", describe(&*rule));
        all.merge(&own);
    }
    assert!(cut > 20, "{cut} texts end inside a round");
    assert!(all.price.deferred > 100 && all.draft_decided().unwrap() > 100, "{all:?}");
}

/// Whether the rule decides whom to ask.
fn decides(rule: &dyn AcceptanceRule) -> bool {
    let scores = Scores::point(0, 2);
    rule.deferral(0, &scores, &scores).is_some()
}

/// What must hold of every text.
fn check_counts(run: &Run, rule: &dyn AcceptanceRule) {
    let (stats, price, what) = (&run.stats, &run.stats.price, describe(rule));
    assert_eq!(stats.accepted + stats.replaced, stats.examined, "{what}");
    assert!(price.decisions >= price.deferred && price.decisions <= stats.examined, "{what}");
    let [drafted, deferred, replaced, bonus] = {
        use Provenance::{Bonus, Deferred, Drafted, Replacement};
        [Drafted, Deferred, Replacement, Bonus].map(|provenance| count(run, provenance))
    };
    assert_eq!(drafted + deferred + replaced + bonus, stats.emitted, "{what}");
    assert_eq!(bonus, stats.bonus, "{what}");
    if decides(rule) {
        // What the drafter decided stands; what it did not is drafted and asked about, or replaced.
        assert_eq!(price.decisions - price.deferred, drafted, "{what}");
        assert_eq!(price.deferred, deferred + replaced, "{what}");
        assert_eq!(stats.draft_decided().unwrap_or(0), drafted, "{what}");
    } else {
        assert_eq!((price.decisions, deferred, stats.draft_decided()), (0, 0, None), "{what}");
    }
    if rule.kind() == Kind::Lossless {
        assert!(*price == Stats::default().price && run.steps.iter().all(|step| step.price.is_none()));
        assert_eq!((stats.mean_total_variation(), stats.mean_kl()), (None, None));
    } else {
        assert_eq!(price.positions, stats.emitted, "{what}");
        assert!(run.steps.iter().all(|step| step.price.is_some()), "{what}");
    }
}

/// Total variation and divergence of the rule's law from the expert's after each part of the text, from the tables.
fn recomputed(run: &Run, rule: &dyn AcceptanceRule, sampling: &SamplingOptions) -> (f64, f64, u64) {
    let [draft, expert] = models();
    let sampler = Sampler::new(sampling).unwrap();
    let (mut distance, mut divergence, mut unsupported) = (0.0, 0.0, 0);
    for end in PROMPT.len()..run.sequence.len() {
        let before = &run.sequence[..end];
        let context = Context::new(before, PROMPT.len());
        let score = |model: &TableModel| sampler.scores(&context, model.row(before)).unwrap();
        let (q, p) = (score(&draft), score(&expert));
        let (pi, p): (Probs, &Probs) = (rule.target(&q, &p).into_owned(), p.probs());
        let laws = || (0..VOCAB as TokenId).map(|v| (pi.get(v), p.get(v)));
        distance += laws().map(|(pi, p)| (pi - p).abs()).sum::<f64>() / 2.0;
        let term = |(pi, p): (f64, f64)| if pi > 0.0 { pi * (pi / p).ln() } else { 0.0 };
        let kl: f64 = laws().map(term).sum();
        if kl.is_finite() { divergence += kl } else { unsupported += 1 }
    }
    (distance, divergence, unsupported)
}

#[test]
fn the_price_is_that_of_the_laws_along_the_text() {
    let (mut engine, mut dear) = (engine(), 0);
    for rule in rules().into_iter().filter(|rule| rule.kind() != Kind::Lossless) {
        for options in texts(&rule).filter(|options| options.draft_length != Some(0.into())) {
            let run = go(&mut engine, &options);
            let (distance, divergence, unsupported) = recomputed(&run, &*rule, &options.sampling);
            let (price, what) = (&run.stats.price, describe(&*rule));
            assert_eq!((price.positions, price.unsupported), (run.stats.emitted, unsupported), "{what}");
            assert!((price.total_variation - distance).abs() < 1e-9, "{what}: {price:?}, {distance}");
            assert!((price.divergence - divergence).abs() < 1e-9, "{what}: {price:?}, {divergence}");
            let mean = distance / run.stats.emitted as f64;
            assert!((run.stats.mean_total_variation().unwrap() - mean).abs() < 1e-9);
            dear += usize::from(mean > 0.05);
        }
    }
    assert!(dear > 100, "{dear} texts differ in law from the expert's");
    // The control: the price of a dial that stands 0.05 away is another.
    let options = texts(&rule("interpolation:draft-weight=0.3").unwrap()).last().unwrap();
    let run = go(&mut engine, &options);
    let mean =
        |spec: &str| recomputed(&run, &*rule(spec).unwrap(), &options.sampling).0 / run.stats.emitted as f64;
    let said = run.stats.mean_total_variation().unwrap();
    assert!((mean("interpolation:draft-weight=0.3") - said).abs() < 1e-9);
    assert!((mean("interpolation:draft-weight=0.35") - said).abs() > 1e-3);
}

#[test]
fn where_the_price_is_not_measured_the_text_is_the_same() {
    let mut engine = engine();
    for rule in rules() {
        for options in texts(&rule) {
            let measured = go(&mut engine, &options);
            let unmeasured = go(&mut engine, &SessionOptions { measure_price: false, ..options });
            assert_eq!(measured.sequence, unmeasured.sequence, "{}", describe(&*rule));
            let origins =
                |run: &Run| [Provenance::Drafted, Provenance::Deferred].map(|origin| count(run, origin));
            assert_eq!(origins(&measured), origins(&unmeasured), "{}", describe(&*rule));
            assert_eq!(unmeasured.stats.price, Stats::default().price);
            assert!(unmeasured.steps.iter().all(|step| step.price.is_none()));
        }
    }
}

#[test]
fn nothing_drafted_costs_nothing_but_where_the_expert_itself_is_changed() {
    let mut engine = engine();
    for rule in rules().into_iter().filter(|rule| rule.kind() != Kind::Lossless) {
        for options in texts(&rule).filter(|options| options.draft_length == Some(0.into())) {
            let (run, what) = (go(&mut engine, &options), describe(&*rule));
            let (distance, ..) = recomputed(&run, &*rule, &options.sampling);
            let expected = if rule.name().starts_with("truncate-") { distance } else { 0.0 };
            assert!((run.stats.price.total_variation - expected).abs() < 1e-9, "{what}");
            assert_eq!(run.stats.deferral_rate(), None, "{what}");
        }
    }
}

/// A rule that weighs confidence goes with a drafter that has some, and all others go with any.
#[test]
fn rules_that_weigh_confidence_refuse_drafters_without() {
    let [draft, expert] = models();
    let (mut refused, builder) = (0, || Engine::builder().expert(expert.clone()));
    for info in RULES {
        let rule = rule(info.name).unwrap();
        let with = |k: usize| builder().drafter(NgramDrafter::new(1, 2).unwrap()).draft_length(k);
        let built = with(3).rule(rule.clone()).build();
        let mut lossless = with(3).build().unwrap();
        let options = SessionOptions { rule: Some(rule.clone()), ..Default::default() };
        let begun = lossless.session(&PROMPT, &options);
        for error in [built.as_ref().err(), begun.as_ref().err()] {
            let Some(error) = error else {
                assert!(!rule.needs_calibrated_draft(), "{} is not refused", info.name);
                continue;
            };
            assert!(rule.needs_calibrated_draft(), "{} is refused", info.name);
            assert_eq!(error.kind(), ErrorKind::Rule);
            let says = format!(
                "rule `{}` needs the drafter's own probabilities, and drafter `ngram` has none",
                info.name
            );
            assert!(error.to_string().starts_with(&says), "{error}");
            refused += 1;
        }
        assert!(
            builder().drafter(ModelDrafter::new(draft.clone())).rule(rule).build().is_ok(),
            "{}",
            info.name
        );
    }
    assert!(refused >= 16, "{refused}");
}

/// A rule made by hand is checked as one made by name.
#[test]
fn dials_out_of_range_are_refused_at_build() {
    fn refused(rule: impl AcceptanceRule + 'static, says: &str) {
        let [draft, expert] = models();
        let drafter = ModelDrafter::new(draft);
        let error = Engine::builder().expert(expert).drafter(drafter).rule(rule).build().unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Rule, says));
    }
    refused(CascadeChow { lenience: 2.0 }, "rule cascade-chow: lenience 2 is out of range: 0 to 1");
    refused(CascadeChow { lenience: f64::NAN }, "rule cascade-chow: lenience NaN is out of range: 0 to 1");
    let infinite = CascadeOpt { lenience: f64::NEG_INFINITY };
    refused(infinite, "rule cascade-opt: lenience -inf is out of range: a finite number");
    refused(
        CascadeTokenV3 { lenience: 1.01 },
        "rule cascade-token-v3: lenience 1.01 is out of range: up to 1",
    );
    refused(Lenience { lenience: 1.0 }, "rule lenience: lenience 1 is out of range: 0 to below 1");
    refused(TopKAcceptance { k: 0 }, "rule top-k: k 0 is out of range: a whole number from 1");
    let alpha = Typical { threshold: 0.1, alpha: -1.0 };
    refused(
        alpha,
        "rule typical: alpha -1 is out of range: 0 or more; unless given, the root of the threshold",
    );
    refused(
        TruncateTopP { top_p: 0.0 },
        "rule truncate-top-p: top-p 0 is out of range: above 0 and at most 1",
    );
    // At the ends of their ranges they are built, and by a session too they are checked.
    let mut engine =
        Engine::builder().expert(models()[1].clone()).rule(CascadeTokenV3 { lenience: 1.0 }).build().unwrap();
    let rule: Option<Arc<dyn AcceptanceRule>> = Some(Arc::new(Lenience { lenience: -0.1 }));
    let error =
        engine.session(&PROMPT, &SessionOptions { rule, ..Default::default() }).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "rule lenience: lenience -0.1 is out of range: 0 to below 1");
}
