//! What a session records of how sure both sides were, and what can be learned from it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::{DraftRequest, Drafter, ModelDrafter};
use drafthorse_engine::{Engine, SessionOptions, Step};
use drafthorse_logits::{
    Draws, Probs, Proposal, SamplingOptions, TokenId, Verdict,
    calibration::{AcceptanceEstimate, Calibrator, Judged, Reliability},
};
use drafthorse_model::{ModelError, TableModel};
use drafthorse_verifier::rule;
use std::sync::{Arc, Mutex};

const PROMPT: [TokenId; 4] = [0, 1, 0, 1];
const VOCAB: usize = 9;

/// What was asked of a drafter: whether its raw rows are looked at, and how sure it was of each token it proposed.
type Asked = Arc<Mutex<Vec<(bool, Vec<f64>)>>>;

/// Looks over a drafter's shoulder.
struct Spy {
    inner: ModelDrafter,
    asked: Asked,
}

impl Drafter for Spy {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn vocab_size(&self) -> Option<usize> {
        self.inner.vocab_size()
    }

    fn is_calibrated(&self) -> bool {
        true
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let proposal = self.inner.propose(sequence, request, draws)?;
        let both = proposal.tokens.iter().zip(&proposal.scores);
        let confidences = both.map(|(token, scores)| scores.raw_prob(*token)).collect();
        self.asked.lock().unwrap().push((request.raw, confidences));
        Ok(proposal)
    }

    fn observe(&mut self, verdict: &Verdict) {
        self.inner.observe(verdict);
    }
}

fn models() -> [Arc<TableModel>; 2] {
    [3, 7].map(|seed| Arc::new(TableModel::random(VOCAB, 2.0, seed)))
}

fn engine(name: &str) -> (Engine, Asked) {
    let [expert, drafter] = models();
    let asked = Asked::default();
    let spy = Spy { inner: ModelDrafter::new(drafter), asked: asked.clone() };
    let engine = Engine::builder().expert(expert).drafter(spy).rule(rule(name).unwrap()).draft_length(4);
    (engine.build().unwrap(), asked)
}

fn options(temperature: f32, max_tokens: usize) -> SessionOptions {
    let sampling = SamplingOptions { temperature, ..Default::default() };
    SessionOptions { sampling, max_tokens, ..Default::default() }
}

fn steps(engine: &mut Engine, options: &SessionOptions) -> Vec<Step> {
    engine.session(&PROMPT, options).unwrap().map(Result::unwrap).collect()
}

fn text(steps: &[Step]) -> Vec<TokenId> {
    steps.iter().flat_map(|step| &step.tokens).map(|token| token.id).collect()
}

/// What a model says after `sequence`, with `bias` on token 0.
fn law(model: &TableModel, sequence: &[TokenId], bias: f32) -> Probs {
    let mut row = model.row(sequence).to_vec();
    row[0] += bias;
    Probs::softmax(&row)
}

#[test]
fn records_say_how_sure_the_drafter_was_and_whether_it_was_right() {
    let [expert, drafter] = models();
    let (mut right, mut wrong_but_stands) = (0, 0);
    for (temperature, bias) in [(0.0, 0.0), (1.0, 0.0), (1.0, 1.5)] {
        for name in ["lossless", "block", "exact-match", "coupled-noise", "cascade-chow:lenience=0.5"] {
            let (mut engine, asked) = engine(name);
            let mut plain = options(temperature, 40);
            plain.sampling.logit_bias = vec![(0, bias)];
            let unrecorded = steps(&mut engine, &plain);
            let looked = asked.lock().unwrap().iter().any(|(raw, _)| *raw);
            assert_eq!(looked, name.starts_with("cascade"));
            let recorded = steps(&mut engine, &SessionOptions { record: true, ..plain });
            assert_eq!(text(&unrecorded), text(&recorded), "recording changes nothing");
            assert!(unrecorded.iter().all(|step| step.judged.is_empty() && step.agreed.is_empty()));
            let mut sequence = PROMPT.to_vec();
            for step in &recorded {
                assert_eq!((step.judged.len(), step.agreed.len()), (step.examined, step.examined), "{name}");
                assert_eq!(step.judged.iter().filter(|(_, stood)| *stood).count(), step.accepted);
                for (at, token) in step.tokens.iter().enumerate() {
                    let (p, q) = (law(&expert, &sequence, bias), law(&drafter, &sequence, bias));
                    if let Some(agreed) = step.agreed.get(at) {
                        assert_eq!(*agreed, (q.max().1, q.max().0 == p.max().0), "{name} at {temperature}");
                        right += usize::from(agreed.1);
                        wrong_but_stands += usize::from(!agreed.1 && at < step.accepted);
                    }
                    if at < step.accepted {
                        assert_eq!(step.judged[at].0, q.get(token.id), "{name} at {temperature}");
                    }
                    assert_eq!(token.certainty, None, "that was not asked for");
                    sequence.push(token.id);
                }
            }
        }
    }
    // To agree is something else than to stand.
    assert!(right > 20 && wrong_but_stands > 20, "{right} and {wrong_but_stands}");
}

/// Neither what the sampler does nor drafting changes how sure the expert is.
#[test]
fn certainties_are_those_of_the_experts_own_rows() {
    let [expert, _] = models();
    let sampling = SamplingOptions {
        temperature: 0.7,
        logit_bias: vec![(0, 1.5)],
        repetition_penalty: 1.3,
        top_k: 4,
        ..Default::default()
    };
    for name in ["lossless", "block", "coupled-noise"] {
        let (mut engine, asked) = engine(name);
        let plain = SessionOptions { sampling: sampling.clone(), ..options(0.7, 60) };
        let seen = steps(&mut engine, &SessionOptions { certainties: true, ..plain.clone() });
        assert!(asked.lock().unwrap().iter().all(|(raw, _)| !raw), "the drafter's rows are not needed");
        assert_eq!(text(&steps(&mut engine, &plain)), text(&seen));
        let (mut sequence, mut biased) = (PROMPT.to_vec(), 0);
        for step in &seen {
            assert!(step.judged.is_empty() && step.agreed.is_empty());
            for token in &step.tokens {
                let (p, found) = (law(&expert, &sequence, 0.0), token.certainty.unwrap());
                assert!((found.entropy - p.entropy()).abs() < 1e-12);
                assert_eq!(found.max_probability, p.max().1);
                biased += usize::from((law(&expert, &sequence, 1.5).max().1 - p.max().1).abs() > 0.01);
                sequence.push(token.id);
            }
        }
        assert!(biased > 20, "the bias would be seen at {biased} positions");
    }
}

/// Pairs of some texts, with how sure the drafter was of each token of each draft and how many were accepted.
fn record(seeds: std::ops::Range<u64>) -> (Vec<Judged>, Vec<(Vec<f64>, usize)>) {
    let (mut engine, asked) = engine("lossless");
    let (mut pairs, mut drafts) = (vec![], vec![]);
    for seed in seeds {
        let options =
            SessionOptions { record: true, seed, draft_length: Some(3.into()), ..options(1.0, 600) };
        // The last token of a text may come without a draft.
        let steps = steps(&mut engine, &options).into_iter().filter(|step| step.drafted > 0);
        let proposals = std::mem::take(&mut *asked.lock().unwrap());
        for (step, (_, confidences)) in steps.zip(proposals) {
            assert_eq!(step.drafted, confidences.len());
            drafts.push((confidences, step.accepted));
            pairs.extend(step.judged);
        }
    }
    (pairs, drafts)
}

/// What some texts taught says of others how often tokens and how many of a draft are accepted, which the drafter's own
/// confidence does not say.
#[test]
fn recorded_pairs_fit_an_estimate_of_acceptance() {
    let (pairs, _) = record(0..12);
    let (others, drafts) = record(12..24);
    let estimate = AcceptanceEstimate::fit(&pairs).unwrap();
    let as_it_is = AcceptanceEstimate::new(Calibrator::parse("platt:1,0").unwrap());
    let error = |estimate: &AcceptanceEstimate| {
        let read: Vec<Judged> = others.iter().map(|&(c, stood)| (estimate.acceptance(c), stood)).collect();
        Reliability::equal_width(&read, 10).unwrap().ece()
    };
    assert!(others.len() > 5000 && error(&estimate) < 0.02 && error(&as_it_is) > 0.2);
    let accepted: usize = drafts.iter().map(|(_, accepted)| accepted).sum();
    let share = |expected: &dyn Fn(&[f64]) -> f64| {
        drafts.iter().map(|(confidences, _)| expected(confidences)).sum::<f64>() / accepted as f64
    };
    let learned = share(&|confidences| estimate.expected_accepted(confidences));
    assert!((learned - 1.0).abs() < 0.05, "{learned} of what was accepted was expected");
    // Neither the drafter's own confidences nor acceptances that are only added up would do.
    assert!(share(&|confidences| as_it_is.expected_accepted(confidences)) < 0.5);
    assert!(share(&|confidences| confidences.iter().map(|c| estimate.acceptance(*c)).sum()) > 1.4);
}
