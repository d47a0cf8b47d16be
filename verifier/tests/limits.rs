//! Where the dials of the rules end: which law stands there, and which does not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Pair, given, near, open_pair, pair, rejection, rows, rule, two_rows};
use drafthorse_logits::Scores;
use drafthorse_verifier::{AcceptanceRule, describe};
use proptest::prelude::*;

/// Lenience far beyond all that confidences, entropies and distances can differ.
const FAR: f64 = 1e12;

/// Rules that are the expert at these values, whatever the pair.
const EXPERT: &[(&str, f64)] = &[
    ("cascade-diff", -1.0),
    ("cascade-opt", -FAR),
    ("cascade-diff-log", -FAR),
    ("cascade-opt-log", -FAR),
    ("cascade-token-v1", -1.0),
    ("cascade-token-v2", -1.0),
    ("cascade-token-v3", -1e-6),
    ("cascade-token-v3", -5.0),
    ("lenience", 0.0),
    ("lenience-balanced", 0.0),
    ("interpolation", 0.0),
    ("mentored", 0.0),
    ("bild", 0.0),
    ("truncate-min-p", 0.0),
    ("truncate-top-p", 1.0),
];

/// Rules that are the drafter at these values, whatever the pair.
const DRAFTER: &[(&str, f64)] = &[
    ("cascade-chow", 1.0),
    ("cascade-diff", 1.0),
    ("cascade-chow-log", FAR),
    ("cascade-diff-log", FAR),
    ("cascade-token-v1", 1.0),
    ("cascade-token-v2", 1.0),
    ("cascade-token-v3", 1.0),
    ("interpolation", 1.0),
    ("top-k", 8.0),
];

/// Rules that become the drafter where both sides can say everything.
const NEARLY_DRAFTER: &[(&str, f64)] = &[
    ("cascade-opt", FAR),
    ("cascade-opt-log", FAR),
    ("lenience", 1.0 - f64::EPSILON),
    ("lenience-balanced", 1.0 - f64::EPSILON),
    ("mentored", 1e3),
    ("typical", 0.0),
];

fn is_expert(rule: &dyn AcceptanceRule, pair: &Pair) -> bool {
    near(&rule.target(&pair.draft, &pair.expert), pair.p())
}

fn is_drafter(rule: &dyn AcceptanceRule, pair: &Pair) -> bool {
    near(&rule.target(&pair.draft, &pair.expert), pair.q()) && rejection(rule, pair) < 1e-9
}

proptest! {
    #[test]
    fn strict_ends_give_the_expert(pair in pair()) {
        for &(name, value) in EXPERT {
            let rule = rule(name, value);
            // BiLD is not asked where the expert is certain of something else than is sampled.
            let certain = name == "bild" && pair.expert.raw_max() > 1.0 - 1e-9;
            prop_assert!(certain || is_expert(&*rule, &pair), "{}", describe(&*rule));
        }
    }

    #[test]
    fn lenient_ends_give_the_drafter(pair in pair()) {
        for &(name, value) in DRAFTER {
            let rule = rule(name, value);
            prop_assert!(is_drafter(&*rule, &pair), "{}", describe(&*rule));
        }
    }

    #[test]
    fn lenient_ends_give_the_drafter_where_everything_is_possible(pair in open_pair()) {
        for &(name, value) in NEARLY_DRAFTER {
            let rule = rule(name, value);
            prop_assert!(is_drafter(&*rule, &pair), "{}", describe(&*rule));
        }
    }

    /// A step before the end is another law: the comparison sees it.
    #[test]
    fn ends_differ_from_each_other(pair in open_pair().prop_filter("alike", |pair| pair.p().total_variation(pair.q()) > 0.01)) {
        for &(name, value) in EXPERT.iter().filter(|(name, _)| !name.starts_with("bild")) {
            prop_assert!(!is_drafter(&*rule(name, value), &pair), "{name}");
        }
        for &(name, value) in DRAFTER.iter().chain(NEARLY_DRAFTER) {
            prop_assert!(!is_expert(&*rule(name, value), &pair), "{name}");
        }
    }

    /// A rule of the expert's law alone ends at its most probable token, whatever the drafter says.
    #[test]
    fn strictest_truncations_are_greedy((q, p) in two_rows()) {
        let (pair, greedy) = (rows(&q, &p, 1.0, 1.0), rows(&q, &p, 0.0, 1.0));
        for (name, value) in [("truncate-min-p", 1.0), ("truncate-top-p", 1e-9), ("top-k", 1.0)] {
            let rule = rule(name, value);
            let law = rule.target(&pair.draft, &pair.expert).into_owned();
            let best = greedy.p().as_point().unwrap();
            // Equals share.
            let raw = pair.expert.raw();
            let equals = pair.tokens().filter(|&v| raw.get(v) == raw.get(best)).map(|v| law.get(v)).sum::<f64>();
            prop_assert!((equals - 1.0).abs() < 1e-9, "{name}: {law:?}");
        }
        prop_assert!(rule("typical", 1.0).target(&greedy.draft, &greedy.expert).as_point() == greedy.p().as_point());
    }

    /// Without strength the contrastive law is the expert's among plausible tokens.
    #[test]
    fn without_strength_nothing_is_taken_away(pair in open_pair()) {
        let [contrastive, truncated] = [("contrastive", 0.0), ("truncate-min-p", 0.1)].map(|(name, x)| rule(name, x));
        let law = |rule: &dyn AcceptanceRule| rule.target(&pair.draft, &pair.expert).into_owned();
        prop_assert!(law(&*contrastive).total_variation(&law(&*truncated)) < 1e-6);
    }

    /// At temperature 0 the token cascades are greedy lenience: a token stands that is nearly as probable.
    #[test]
    fn at_temperature_0_token_v3_is_greedy_lenience((q, p) in two_rows(), lenience in 0.0..1.0f64) {
        let pair = rows(&q, &p, 0.0, 1.0);
        let (drafted, best) = (pair.q().as_point().unwrap(), pair.p().as_point().unwrap());
        let raw = pair.expert.raw();
        let stands = raw.get(drafted) >= (1.0 - lenience) * raw.get(best);
        let law = rule("cascade-token-v3", lenience).target(&pair.draft, &pair.expert).into_owned();
        prop_assert_eq!(law.as_point(), Some(if stands { drafted } else { best }));
        let strict = rule("cascade-token-v3", 0.0).target(&pair.draft, &pair.expert).into_owned();
        prop_assert_eq!(raw.get(strict.as_point().unwrap()), raw.get(best));
    }

    /// At 0 the token cascades V2 and V3 put more on the expert's best than the expert does.
    #[test]
    fn at_0_token_cascades_are_sharper_than_the_expert(pair in open_pair()) {
        let best = pair.p().max().0;
        for name in ["cascade-token-v2", "cascade-token-v3"] {
            let (more, law) = (pair.p().get(best), rule(name, 0.0).target(&pair.draft, &pair.expert).get(best));
            let eta = 1.0 - pair.q().get(best);
            prop_assert!((law - (1.0 - eta + eta * more)).abs() < 1e-9);
            prop_assert!(law > more && !is_expert(&*rule(name, 0.0), &pair));
        }
    }
}

fn law(name: &str, dial: f64, pair: &Pair) -> Vec<f64> {
    rule(name, dial).target(&pair.draft, &pair.expert).to_vec()
}

fn same(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9)
}

/// Where the rules do not end as one might think.
#[test]
fn ends_that_are_none() {
    let pair = given(&[0.4, 0.3, 0.2, 0.1], &[0.7, 0.1, 0.15, 0.05]);
    for name in ["cascade-token-v2", "cascade-token-v3"] {
        assert!(same(&law(name, 0.0, &pair), &[0.82, 0.06, 0.09, 0.03]), "{name}");
        assert!((rejection(&*rule(name, 0.0), &pair) - 0.42).abs() < 1e-9, "more than lossless, 0.3");
    }
    assert!(!same(&law("cascade-token-v3", -0.1, &pair), &[0.82, 0.06, 0.09, 0.03]), "the control");
    // A drafter that is certain is believed by Chow's rule at 0, also where the expert knows better.
    let certain = given(&[1.0, 0.0], &[0.1, 0.9]);
    assert!(is_drafter(&*rule("cascade-chow", 0.0), &certain));
    assert!(is_drafter(&*rule("cascade-chow-log", 0.0), &certain));
    let unsure = given(&[0.99, 0.01], &[0.1, 0.9]);
    assert!(
        is_expert(&*rule("cascade-chow", 0.0), &unsure)
            && is_expert(&*rule("cascade-chow-log", 0.0), &unsure)
    );
    // Lenience never lets pass what the expert cannot say.
    let impossible = given(&[0.5, 0.5], &[1.0, 0.0]);
    assert!((rejection(&*rule("lenience", 0.999), &impossible) - 0.5).abs() < 1e-9);
}

/// Token cascades sharpen: two sides that agree still refuse. Binary ones never do.
#[test]
fn token_cascades_refuse_where_both_agree() {
    let pair = given(&[0.6, 0.4], &[0.6, 0.4]);
    for name in ["cascade-token-v1", "cascade-token-v2", "cascade-token-v3"] {
        assert!(same(&law(name, 0.0, &pair), &[0.84, 0.16]), "{name}: {:?}", law(name, 0.0, &pair));
        assert!((rejection(&*rule(name, 0.0), &pair) - 0.24).abs() < 1e-9);
    }
    for name in common::BINARY {
        for dial in [0.0, 0.25, 0.5, 1.0] {
            assert!(rejection(&*rule(name, dial), &pair) < 1e-12, "{name}");
        }
    }
}

/// More lenience can mean more rejections: counter-example C of section 2.6.
#[test]
fn rejections_of_token_v3_do_not_only_fall() {
    let pair = given(&[0.1, 0.3, 0.6], &[0.5, 0.4, 0.1]);
    let refused = |lenience| rejection(&*rule("cascade-token-v3", lenience), &pair);
    assert!((refused(0.0) - 0.51).abs() < 1e-9 && (refused(0.3) - 0.54).abs() < 1e-9);
    assert!(refused(1.0) < 1e-12);
}

/// A point mass has no second side: laws of a certain expert and drafter are one of the two.
#[test]
fn between_two_points_every_law_is_one_of_them() {
    let pair = Pair { draft: Scores::point(1, 3), expert: Scores::point(2, 3) };
    for info in drafthorse_verifier::RULES.iter().filter(|info| info.name != "interpolation") {
        let law = info.with(&[]).unwrap().target(&pair.draft, &pair.expert).to_vec();
        assert!(law == [0.0, 1.0, 0.0] || law == [0.0, 0.0, 1.0], "{}: {law:?}", info.name);
    }
    assert!(same(&law("interpolation", 0.3, &pair), &[0.0, 0.3, 0.7]), "but a mixture is both");
}
