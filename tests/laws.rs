//! The law of whole texts, exact to within rounding.
//!
//! On tiny models every outcome of the engine's draws is walked, so no sampling noise can hide a mistake.
//! The same comparison is given procedures that are wrong, and must reject each.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/law.rs"]
mod law;

use common::{AlwaysAccept, Fixed, generate};
use drafthorse::{
    AcceptanceRule, Drafter, Engine, ExactMatch, Lossless, ModelDrafter, ModelError, NgramDrafter, NoDrafter,
    SamplingOptions, SessionOptions, TableModel, TokenId,
    drafter::DraftRequest,
    logits::{
        Context, Draws, Origin, Probs, Proposal, Purpose, Sampler, Scores, Verdict,
        exact::{distance, outcomes},
    },
    verifier::{Block, CoupledNoise},
};
use law::{Law, PROMPT, at, engine, expert, next_law, of_engine, options};
use std::{borrow::Cow, collections::HashMap, sync::Arc};

type MakeDrafter = fn(&Arc<TableModel>, usize) -> Box<dyn Drafter>;

const DRAFTERS: &[(&str, MakeDrafter)] = &[
    ("another model", |_, vocab| Box::new(ModelDrafter::new(Arc::new(TableModel::random(vocab, 2.0, 7))))),
    ("the expert itself", |expert, _| Box::new(ModelDrafter::new(expert.clone()))),
    ("ngram", |_, _| Box::new(NgramDrafter::new(1, 2).unwrap())),
    ("a fixed token", |_, _| Box::new(Fixed(1))),
    ("none", |_, _| Box::new(NoDrafter)),
];

/// Every rule that promises the expert's law.
fn rules() -> [Arc<dyn AcceptanceRule>; 4] {
    [Arc::new(Lossless), Arc::new(Block), Arc::new(ExactMatch), Arc::new(CoupledNoise)]
}

fn samplings() -> Vec<SamplingOptions> {
    let penalties = SamplingOptions {
        repetition_penalty: 1.5,
        presence_penalty: 0.25,
        frequency_penalty: 0.5,
        ..at(1.0)
    };
    vec![
        at(0.0),
        at(0.7),
        at(1.0),
        at(1.3),
        SamplingOptions { top_k: 2, ..at(0.7) },
        SamplingOptions { top_p: 0.7, ..at(1.0) },
        SamplingOptions { min_p: 0.3, ..at(1.3) },
        SamplingOptions { top_k: 3, top_p: 0.8, min_p: 0.1, ..penalties.clone() },
        SamplingOptions { temperature: 0.7, ..penalties },
    ]
}

/// The law of the text on paper: the product of the expert's laws.
fn on_paper(expert: &TableModel, options: &SessionOptions) -> Law {
    law::on_paper(options, |sequence| next_law(expert, sequence, &options.sampling))
}

/// Compares engine and paper for every rule, drafter and draft length, which so have one law among them.
fn all_agree(vocab: usize, options: &SessionOptions) {
    let expert = expert(vocab);
    let paper = on_paper(&expert, options);
    assert!((paper.values().sum::<f64>() - 1.0).abs() < 1e-12);
    // Where all outcomes are walked, coupled noise walks those of exact match: small vocabularies will do.
    let rules = || rules().into_iter().take(if vocab == 2 { 4 } else { 3 });
    for (name, drafter) in DRAFTERS {
        for rule in rules() {
            let mut engine = engine(&expert, drafter(&expert, vocab), rule.clone());
            // Longer drafts are cut to what is left of the text.
            for k in 0..options.max_tokens.clamp(3, 5) {
                let options = SessionOptions { draft_length: Some(k.into()), ..options.clone() };
                let difference = distance(&of_engine(&mut engine, &options), &paper);
                assert!(difference < 1e-9, "{}, {name}, k = {k}, {options:?}: {difference}", rule.name());
            }
        }
    }
}

fn every_sampling_agrees(vocab: usize, tokens: usize) {
    for sampling in samplings() {
        all_agree(vocab, &options(sampling, tokens));
    }
}

#[test]
fn a_text_of_two_tokens_to_choose_from_follows_the_expert() {
    every_sampling_agrees(2, 5);
}

#[test]
fn a_text_of_three_tokens_to_choose_from_follows_the_expert() {
    every_sampling_agrees(3, 4);
}

#[test]
fn a_text_of_four_tokens_to_choose_from_follows_the_expert() {
    every_sampling_agrees(4, 3);
}

/// With one token left nothing is drafted, with two one token, whatever the draft length.
#[test]
fn short_texts_follow_the_expert() {
    (1..=3).for_each(|max_tokens| all_agree(3, &options(at(0.7), max_tokens)));
}

#[test]
fn texts_with_a_stop_token_follow_the_expert() {
    for sampling in [at(1.0), SamplingOptions { repetition_penalty: 1.5, top_p: 0.9, ..at(0.7) }] {
        let options = SessionOptions { stop_tokens: vec![2], ..options(sampling, 4) };
        let lengths: Vec<usize> = on_paper(&expert(3), &options).keys().map(Vec::len).collect();
        assert!((1..=4).all(|length| lengths.contains(&length)), "texts end everywhere: {lengths:?}");
        all_agree(3, &options);
    }
}

/// An option without effect would be tested by nothing.
#[test]
fn every_sampling_option_changes_the_law() {
    for vocab in [3, 4] {
        let expert = expert(vocab);
        let laws: Vec<Law> = samplings().into_iter().map(|s| on_paper(&expert, &options(s, 3))).collect();
        for (i, a) in laws.iter().enumerate() {
            assert!(laws[..i].iter().all(|b| distance(a, b) > 1e-3), "sampling {i} of {vocab} tokens");
        }
    }
}

/// A rule that is lossless but for the tokens of one origin, which come from another law.
struct Wrong(&'static str, Origin, LawAt);

/// The law after `n` accepted tokens, of what drafter and expert say.
type LawAt = for<'a> fn(proposal: &'a Proposal, expert: &'a [Scores], n: usize) -> &'a Probs;

const WRONG_RULES: [(&str, Origin, LawAt); 3] = [
    ("replacements from p, not the residual", Origin::Replacement, |_, expert, n| expert[n].probs()),
    ("bonus from q", Origin::Bonus, |proposal, _, n| proposal.scores[n].probs()),
    ("bonus from the row before its own", Origin::Bonus, |_, expert, n| expert[n.saturating_sub(1)].probs()),
];

impl AcceptanceRule for Wrong {
    fn name(&self) -> &'static str {
        self.0
    }

    fn target<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Cow<'a, Probs> {
        Cow::Borrowed(expert.probs())
    }

    fn needs_draft_after(&self) -> bool {
        true
    }

    fn judge(&self, draft: &Proposal, expert: &[Scores], position: usize, draws: &mut dyn Draws) -> Verdict {
        let Self(_, origin, law) = self;
        let right = Lossless.judge(draft, expert, position, draws);
        if right.origin != *origin {
            return right;
        }
        let next = draws.pick(position + right.accepted, Purpose::Draft, law(draft, expert, right.accepted));
        Verdict { next, ..right }
    }
}

/// A drafter that breaks its contract where no check can see it.
struct Dishonest {
    model: Arc<TableModel>,
    /// Draws at temperature 1, whatever it hands over.
    hot: bool,
    /// Keeps to itself what it does not like.
    choosy: bool,
}

impl Drafter for Dishonest {
    fn name(&self) -> &'static str {
        "dishonest"
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let (mut proposal, mut sequence) = (Proposal::empty(), sequence.to_vec());
        for _ in 0..request.max {
            let context = Context::new(&sequence, request.prompt);
            let score = |sampler: &Sampler| sampler.scores(&context, self.model.row(&sequence));
            let said = score(request.sampler)?;
            let meant = if self.hot { score(&Sampler::new(&at(1.0))?)? } else { said.clone() };
            let token = draws.pick(sequence.len(), Purpose::Draft, meant.probs());
            if self.choosy && token == 0 {
                break;
            }
            proposal.tokens.push(token);
            proposal.scores.push(said);
            sequence.push(token);
        }
        Ok(proposal)
    }
}

/// How far the text of a drafter and a rule is from the expert's, in the comparison used above.
fn error_of(drafter: impl Drafter + 'static, rule: impl AcceptanceRule + 'static) -> f64 {
    let (expert, options) =
        (expert(3), SessionOptions { draft_length: Some(2.into()), ..options(at(0.7), 4) });
    let mut engine = engine(&expert, drafter, Arc::new(rule));
    distance(&of_engine(&mut engine, &options), &on_paper(&expert, &options))
}

fn other_model() -> Arc<TableModel> {
    law::other_model(3)
}

#[test]
fn wrong_rules_are_rejected() {
    let drafter = || ModelDrafter::new(other_model());
    let right = Wrong("bonus from p", Origin::Bonus, |_, expert, n| expert[n].probs());
    assert!(error_of(drafter(), right) < 1e-9, "the harness itself does no harm");
    for (name, origin, law) in WRONG_RULES {
        let error = error_of(drafter(), Wrong(name, origin, law));
        assert!(error > 1e-3, "{name} is not seen: {error}");
    }
    let error = error_of(drafter(), AlwaysAccept);
    assert!(error > 1e-3, "a rule that refuses nothing is not seen: {error}");
}

#[test]
fn wrong_drafters_are_rejected() {
    let drafter = |hot, choosy| Dishonest { model: other_model(), hot, choosy };
    assert!(error_of(drafter(false, false), Lossless) < 1e-9, "the harness itself does no harm");
    let hot = error_of(drafter(true, false), Lossless);
    assert!(hot > 1e-3, "scores other than those drawn from are not seen: {hot}");
    let choosy = error_of(drafter(false, true), Lossless);
    assert!(choosy > 1e-3, "a proposal that depends on its token is not seen: {choosy}");
}

/// In one round of `k` drafted tokens: how many are accepted, and how many tokens the text gains.
fn first_round(engine: &mut Engine, k: usize) -> HashMap<(usize, usize), f64> {
    let options = SessionOptions { draft_length: Some(k.into()), ..options(at(1.0), k + 1) };
    outcomes(|draws| {
        let step = engine.session_with(&PROMPT, &options, draws).unwrap().next().unwrap().unwrap();
        (step.accepted, step.tokens.len())
    })
}

/// Where every position is alike, lengths are geometric: Leviathan et al., 2023, equation 1.
#[test]
fn accepted_lengths_are_geometric() {
    let everywhere = |row: [f32; 3]| Arc::new(TableModel::from_fn(3, move |_| row.to_vec()));
    let (expert, draft) = (everywhere([0.3, -0.5, 1.1]), everywhere([1.0, 0.2, -0.4]));
    let [p, q] = [&expert, &draft].map(|model| next_law(model, &PROMPT, &at(1.0)));
    let overlap: f64 = p.iter().zip(&q).map(|(p, q)| p.min(*q)).sum();
    let coincidence: f64 = p.iter().zip(&q).map(|(p, q)| p * q).sum();
    let [lossless, _, exact_match, coupled_noise] = rules();
    // Draws that walk all outcomes have no noise to share.
    for (rule, a) in [(lossless, overlap), (exact_match, coincidence), (coupled_noise, coincidence)] {
        let mut engine = engine(&expert, ModelDrafter::new(draft.clone()), rule.clone());
        let power = |n| std::iter::repeat_n(a, n).product::<f64>();
        for k in 0..=4 {
            let law = first_round(&mut engine, k);
            for i in 0..=k {
                let at_least: f64 = law.iter().filter(|((n, _), _)| *n >= i).map(|(_, p)| p).sum();
                assert!((at_least - power(i)).abs() < 1e-9, "{}, k = {k}, i = {i}", rule.name());
            }
            let tokens: f64 = law.iter().map(|((_, tokens), p)| *tokens as f64 * p).sum();
            let expected = (1.0 - power(k + 1)) / (1.0 - a);
            assert!((tokens - expected).abs() < 1e-9, "{}, k = {k}: {tokens}", rule.name());
        }
    }
    let mut wrong = engine(&expert, ModelDrafter::new(draft), Arc::new(AlwaysAccept));
    assert!((first_round(&mut wrong, 2)[&(2, 3)] - overlap.powi(2)).abs() > 1e-3);
}

/// The seeds of 200 for which speculation changes the text.
fn seeds_that_differ(rule: &Arc<dyn AcceptanceRule>, drafter: MakeDrafter, k: usize) -> Vec<u64> {
    let expert = expert(4);
    let mut plain = engine(&expert, NoDrafter, rule.clone());
    let mut speculative = engine(&expert, drafter(&expert, 4), rule.clone());
    let differs = |seed: &u64| {
        let sampling = SamplingOptions { frequency_penalty: 0.25, min_p: 0.05, ..at(1.0) };
        let options = SessionOptions { seed: *seed, draft_length: Some(k.into()), ..options(sampling, 20) };
        generate(&mut plain, &PROMPT, &options) != generate(&mut speculative, &PROMPT, &options)
    };
    (0..200).filter(differs).collect()
}

/// Exact match and coupled noise promise more than a law: the very same text.
#[test]
fn draws_that_follow_the_position_give_one_text_a_seed() {
    let [lossless, block, exact_match, coupled_noise] = rules();
    for (name, drafter) in DRAFTERS {
        for k in [0, 1, 2, 3, 5, 8] {
            for rule in [&exact_match, &coupled_noise] {
                assert_eq!(seeds_that_differ(rule, *drafter, k), [0; 0], "{}, {name}, k = {k}", rule.name());
            }
        }
    }
    for rule in [lossless, block] {
        assert!(!seeds_that_differ(&rule, DRAFTERS[0].1, 3).is_empty(), "{} promises the law", rule.name());
    }
}

/// Noise that is shared keeps more drafted tokens than draws that know nothing of each other.
#[test]
fn shared_noise_agrees_more_often() {
    let expert = expert(4);
    let accepted = |rule: &Arc<dyn AcceptanceRule>| {
        let mut engine = engine(&expert, ModelDrafter::new(law::other_model(4)), rule.clone());
        let options = |seed| SessionOptions { seed, draft_length: Some(2.into()), ..options(at(1.0), 20) };
        let count = |seed| common::run(engine.session(&PROMPT, &options(seed)).unwrap()).stats.accepted;
        (0..200).map(count).sum::<u64>()
    };
    let [lossless, _, exact_match, coupled_noise] = rules().map(|rule| accepted(&rule));
    assert!(
        exact_match < coupled_noise && coupled_noise < lossless,
        "{exact_match}, {coupled_noise}, {lossless}"
    );
}
