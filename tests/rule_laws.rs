//! The law of whole texts under every acceptance rule, exact to within rounding, against the rule's law on paper.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/law.rs"]
mod law;
#[path = "common/paper.rs"]
mod paper;

use drafthorse::{
    AcceptanceRule, Engine, ModelDrafter, NgramDrafter, SamplingOptions, SessionOptions, TableModel, TokenId,
    logits::{Draws, Probs, Proposal, Purpose, Scores, Verdict, exact::distance},
    rule,
    verifier::{Kind, RULES, describe, judge},
};
use law::{Law, PROMPT, at, next_law, of_engine, on_paper, options};
use paper::{Position, divergence, total_variation};
use std::{borrow::Cow, sync::Arc};

const VOCAB: usize = 3;

/// Dials beside the default, at which the law is another one.
const DIALS: &[(&str, [&str; 2])] = &[
    ("cascade-chow", ["lenience=0.15", "lenience=0.25"]),
    ("cascade-diff", ["lenience=-0.3", "lenience=-0.2"]),
    ("cascade-opt", ["lenience=-0.4", "lenience=0.1"]),
    ("cascade-chow-log", ["lenience=0.6", "lenience=0.7"]),
    ("cascade-diff-log", ["lenience=-0.25", "lenience=-0.1"]),
    ("cascade-opt-log", ["lenience=-1", "lenience=-0.5"]),
    ("cascade-token-v1", ["lenience=0.1", "lenience=0.7"]),
    ("cascade-token-v2", ["lenience=0", "lenience=0.6"]),
    ("cascade-token-v3", ["lenience=0.1", "lenience=0.6"]),
    ("lenience", ["lenience=0.05", "lenience=0.7"]),
    ("lenience-balanced", ["lenience=0.05", "lenience=0.7"]),
    ("interpolation", ["draft-weight=0.1", "draft-weight=0.8"]),
    ("mentored", ["budget=0.01", "budget=0.4"]),
    ("typical", ["threshold=0.3", "threshold=0.6,alpha=0.9"]),
    ("top-k", ["k=1", "k=2"]),
    ("bild", ["rollback=0.5", "rollback=1.5,fallback=0.3"]),
    ("contrastive", ["strength=0.2", "strength=1.5,plausibility=0.3"]),
    ("truncate-min-p", ["min-p=0.35", "min-p=0.8"]),
    ("truncate-top-p", ["top-p=0.7", "top-p=0.4"]),
];

/// Every rule, at its default and twice elsewhere.
fn rules() -> Vec<Vec<Arc<dyn AcceptanceRule>>> {
    let all = |name: &str| {
        let dials = DIALS.iter().find(|(rule, _)| *rule == name).map_or(&[][..], |(_, dials)| dials);
        let specs = dials.iter().map(|dials| format!("{name}:{dials}"));
        [name.to_owned()].into_iter().chain(specs).map(|spec| rule(&spec).unwrap()).collect()
    };
    RULES.iter().map(|info| all(info.name)).collect()
}

fn samplings() -> [SamplingOptions; 4] {
    [at(0.0), at(0.7), at(1.0), SamplingOptions { top_p: 0.7, ..at(1.0) }]
}

fn models() -> [Arc<TableModel>; 2] {
    [law::other_model(VOCAB), law::expert(VOCAB)]
}

fn session(sampling: &SamplingOptions, max_tokens: usize, k: usize) -> SessionOptions {
    let options = options(sampling.clone(), max_tokens);
    SessionOptions { draft_length: Some(k.into()), measure_price: false, ..options }
}

/// What both models say after `sequence`, on paper.
fn position<'a>(sequence: &[TokenId], sampling: &'a SamplingOptions) -> Position<'a> {
    let [draft, expert] = models();
    let [[q, raw_q], [p, raw_p]] =
        [draft, expert].map(|model| [sampling, &at(1.0)].map(|s| next_law(&model, sequence, s)));
    Position { q, p, raw_q, raw_p, sampling }
}

fn dials(rule: &dyn AcceptanceRule) -> Vec<f64> {
    rule.settings().into_iter().map(|(_, value)| value).collect()
}

/// The law of the text of a rule on paper, with its dials at these values.
fn text_of(rule: &str, dials: &[f64], options: &SessionOptions) -> Law {
    on_paper(options, |sequence| position(sequence, &options.sampling).law(rule, dials))
}

/// The law of the text if nothing is drafted: where the drafter says nothing, a law that is made of both is
/// the expert's, and a law of the expert alone stays what it is.
fn undrafted_text_of(rule: &str, dials: &[f64], options: &SessionOptions) -> Law {
    if rule.starts_with("truncate-") {
        text_of(rule, dials, options)
    } else {
        text_of("lossless", &[], options)
    }
}

fn engine(rule: Arc<dyn AcceptanceRule>) -> Engine {
    let [draft, expert] = models();
    law::engine(&expert, ModelDrafter::new(draft), rule)
}

/// How far the engine's text with this rule is from that on paper of a rule with these dials.
fn error_of(rule: Arc<dyn AcceptanceRule>, paper: (&str, &[f64]), options: &SessionOptions) -> f64 {
    distance(&of_engine(&mut engine(rule), options), &text_of(paper.0, paper.1, options))
}

/// The engine's text follows the rule's law, whatever the draft length.
fn texts_agree(sampling: &SamplingOptions, max_tokens: usize) {
    for rule in rules().into_iter().flatten() {
        let (mut engine, name, dials) = (engine(rule.clone()), rule.name(), dials(&*rule));
        let paper = text_of(name, &dials, &session(sampling, max_tokens, 0));
        assert!((paper.values().sum::<f64>() - 1.0).abs() < 1e-12);
        for k in 0..=3 {
            let options = session(sampling, max_tokens, k);
            let error = match k {
                0 => distance(&of_engine(&mut engine, &options), &undrafted_text_of(name, &dials, &options)),
                _ => distance(&of_engine(&mut engine, &options), &paper),
            };
            assert!(error < 1e-9, "{}, k = {k}, {options:?}: {error}", describe(&*rule));
        }
    }
}

#[test]
fn at_temperature_0_every_rule_follows_its_law() {
    texts_agree(&samplings()[0], 4);
}

#[test]
fn at_temperature_0_7_every_rule_follows_its_law() {
    texts_agree(&samplings()[1], 3);
}

#[test]
fn at_temperature_1_every_rule_follows_its_law() {
    texts_agree(&samplings()[2], 4);
}

#[test]
fn with_a_nucleus_every_rule_follows_its_law() {
    texts_agree(&samplings()[3], 3);
}

/// The last token of a text is never drafted, and still follows the rule.
#[test]
fn short_texts_follow_the_law() {
    (1..=2).for_each(|max_tokens| texts_agree(&at(0.7), max_tokens));
}

/// A law that is the expert's own affair is the same with any drafter, also one that says nothing after its last
/// token.
#[test]
fn truncations_do_not_depend_on_the_drafter() {
    let expert = law::expert(VOCAB);
    let ngram = || NgramDrafter::new(1, 2).unwrap();
    for rule in rules().into_iter().flatten().filter(|rule| rule.name().starts_with("truncate-")) {
        for k in 0..=3 {
            let options = session(&at(1.0), 4, k);
            let paper = text_of(rule.name(), &dials(&*rule), &options);
            let law = of_engine(&mut law::engine(&expert, ngram(), rule.clone()), &options);
            assert!(distance(&law, &paper) < 1e-9, "{}, k = {k}", describe(&*rule));
        }
    }
    // The control: what both have a part in does depend on it.
    let (rule, options) = (rule("cascade-token-v2").unwrap(), session(&at(1.0), 4, 2));
    let law = of_engine(&mut law::engine(&expert, ngram(), rule.clone()), &options);
    assert!(distance(&law, &text_of(rule.name(), &dials(&*rule), &options)) > 1e-3);
}

/// A dial without effect would be tested by nothing.
#[test]
fn dials_change_the_law() {
    let options = session(&at(1.0), 3, 0);
    let expert = text_of("lossless", &[], &options);
    let apart = |a: &Law, b: &Law| distance(a, b) > 1e-3;
    for rules in rules() {
        let laws: Vec<_> = rules.iter().map(|rule| text_of(rule.name(), &dials(&**rule), &options)).collect();
        let (name, lossless) = (rules[0].name(), rules[0].kind() == Kind::Lossless);
        assert_eq!(laws.len(), if lossless { 1 } else { 3 }, "{name}");
        for (i, law) in laws.iter().enumerate() {
            assert!(laws[..i].iter().all(|other| apart(law, other)), "{}", describe(&*rules[i]));
        }
        // One of the three may leave the expert's law as it is.
        let changed = laws.iter().filter(|law| apart(law, &expert)).count();
        assert!(if lossless { changed == 0 } else { changed >= 2 }, "{name}: {changed}");
    }
}

/// What makes the law of mentored decoding: the budget is used up, or the drafter has all it wants.
#[test]
fn mentored_decoding_uses_its_budget_up() {
    let probs = |weights: &[f64]| Probs::normalize(weights.to_vec()).unwrap();
    let (mut used, mut spared) = (0, 0);
    for budget in [0.01, 0.1, 0.4, 5.0] {
        let rule = rule(&format!("mentored:budget={budget}")).unwrap();
        for a in 0..VOCAB as TokenId {
            for b in 0..VOCAB as TokenId {
                let sampling = at(1.0);
                let Position { q, p, .. } = position(&[&PROMPT[..], &[a, b]].concat(), &sampling);
                let [draft, expert] = [&q, &p].map(|law| Scores::from_probs(probs(law), probs(law)));
                let pi = rule.target(&draft, &expert).to_vec();
                if divergence(&p, &q) <= budget {
                    assert!(total_variation(&pi, &q) < 1e-12);
                    spared += 1;
                } else {
                    assert!((divergence(&p, &pi) - budget).abs() < 1e-9, "{budget}: {}", divergence(&p, &pi));
                    used += 1;
                }
            }
        }
    }
    assert!(used > 0 && spared > 0, "both must happen: {used} and {spared}");
}

/// A rule with one mistake in how it decides.
struct Wrong {
    right: Arc<dyn AcceptanceRule>,
    mistake: Mistake,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    /// The drafter's scores after its last token are not asked for: the bonus comes from the expert.
    BonusFromExpert,
    /// Tokens stand as the lossless rule has them, replacements come from the law that is stated.
    OtherAcceptance,
    /// A refused token is replaced from the law instead of from the residual.
    NoResidual,
}

impl AcceptanceRule for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn target<'a>(&self, draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        self.right.target(draft, expert)
    }

    fn acceptance(&self, token: TokenId, draft: &Scores, expert: &Scores) -> f64 {
        match self.mistake {
            Mistake::OtherAcceptance => (expert.prob(token) / draft.prob(token)).min(1.0),
            _ => self.right.acceptance(token, draft, expert),
        }
    }

    fn needs_draft_after(&self) -> bool {
        self.mistake != Mistake::BonusFromExpert
    }

    fn judge(&self, draft: &Proposal, expert: &[Scores], position: usize, draws: &mut dyn Draws) -> Verdict {
        let verdict = judge(self, draft, expert, position, draws);
        let n = verdict.accepted;
        if self.mistake != Mistake::NoResidual || n == draft.tokens.len() {
            return verdict;
        }
        let law = self.right.target(&draft.scores[n], &expert[n]);
        Verdict { next: draws.pick(position + n, Purpose::Draft, &law), ..verdict }
    }
}

/// Rules that refuse something and are not the expert's own law.
const CONTROLS: [&str; 7] = [
    "cascade-token-v1",
    "cascade-token-v3:lenience=0.6",
    "lenience",
    "interpolation",
    "mentored",
    "contrastive",
    "truncate-min-p:min-p=0.35",
];

fn error_of_mistake(spec: &str, mistake: Mistake) -> f64 {
    let right = rule(spec).unwrap();
    let (name, dials) = (right.name(), dials(&*right));
    error_of(Arc::new(Wrong { right, mistake }), (name, &dials), &session(&at(0.7), 4, 2))
}

#[test]
fn mistakes_are_seen() {
    for spec in CONTROLS {
        let harness = error_of_mistake(spec, Mistake::None);
        assert!(harness < 1e-9, "{spec}: the harness itself does harm: {harness}");
        for mistake in [Mistake::BonusFromExpert, Mistake::OtherAcceptance, Mistake::NoResidual] {
            let error = error_of_mistake(spec, mistake);
            assert!(error > 1e-3, "{spec}: {mistake:?} is not seen: {error}");
        }
    }
    // By a binary rule that keeps the draft nothing is refused; the bonus still shows.
    assert!(error_of_mistake("cascade-chow:lenience=1", Mistake::BonusFromExpert) > 1e-3);
    assert!(error_of_mistake("cascade-chow:lenience=1", Mistake::OtherAcceptance) > 1e-3);
}

/// A dial that stands 0.05 from where it is said to stand gives another text.
#[test]
fn a_dial_that_is_off_is_seen() {
    let options = session(&at(1.0), 3, 2);
    let Position { raw_q, raw_p, .. } = position(&PROMPT, &options.sampling);
    let (q, p) = (law::sorted(&raw_q), law::sorted(&raw_p));
    // Rules that compare are set so that the first token lies between the two dials.
    let edges = [
        ("cascade-chow", 1.0 - q[0]),
        ("cascade-diff", p[0] - q[0]),
        ("cascade-token-v1", p[0] - q[1]),
        ("cascade-token-v2", p[0] - p[1]),
        ("cascade-token-v3", 1.0 - p[1] / p[0]),
    ];
    let smooth = [
        ("lenience", 0.2),
        ("lenience-balanced", 0.2),
        ("interpolation", 0.3),
        ("mentored", 0.1),
        ("contrastive", 0.5),
    ];
    for (name, middle) in edges.into_iter().chain(smooth) {
        let info = RULES.iter().find(|info| info.name == name).unwrap();
        let values =
            |dial: f64| (0..info.dials.len()).map(move |i| if i == 0 { dial } else { info.dials[i].default });
        let (low, high) = (middle - 0.025, middle + 0.025);
        let rule = || info.with(&values(low).map(Some).collect::<Vec<_>>()).unwrap();
        let error = |dial: f64| error_of(rule(), (name, &values(dial).collect::<Vec<_>>()), &options);
        assert!(error(low) < 1e-9, "{name}: {}", error(low));
        assert!(error(high) > 1e-3, "{name}: a dial that is off is not seen: {}", error(high));
    }
}
