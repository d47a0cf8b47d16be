//! Experts made of layers and of several models: the law of the text under every kind of rule.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::ModelDrafter;
use drafthorse_engine::{Engine, SessionOptions};
use drafthorse_logits::{
    Combine, Logits, SamplingOptions, TokenId, Weights,
    exact::{distance, outcomes},
};
use drafthorse_model::{
    CachedModel, Ensemble, KvCache, LanguageModel, LawSpec, LayerLogits, LayeredLaw, LayeredModel,
    ModelError, Segment, TableModel, Vocabulary,
};
use drafthorse_verifier::rule;
use std::{collections::HashMap, sync::Arc};

const VOCAB: usize = 3;
const PROMPT: [TokenId; 3] = [0, 1, 0];
const LENGTH: usize = 4;

type Law = HashMap<Vec<TokenId>, f64>;

/// A table for each layer.
struct Layered(Vec<TableModel>);

impl Layered {
    fn new() -> Arc<Self> {
        Arc::new(Self((0..4).map(|layer| TableModel::random(VOCAB, 2.0, 40 + layer)).collect()))
    }

    fn last(&self) -> &TableModel {
        self.0.last().unwrap()
    }
}

impl LanguageModel for Layered {
    type Cache = <TableModel as LanguageModel>::Cache;

    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn context_len(&self) -> usize {
        self.last().context_len()
    }

    fn new_cache(&self) -> Self::Cache {
        self.last().new_cache()
    }

    fn forward(&self, segments: &mut [Segment<'_, Self::Cache>]) -> Result<Vec<Logits>, ModelError> {
        self.last().forward(segments)
    }
}

impl LayeredModel for Layered {
    fn layers(&self) -> usize {
        self.0.len() - 1
    }

    fn forward_layers(
        &self,
        segments: &mut [Segment<'_, Self::Cache>],
        layers: &[usize],
    ) -> Result<Vec<LayerLogits>, ModelError> {
        let before: Vec<_> = segments.iter().map(|segment| segment.cache.len()).collect();
        let mut read = |table: &TableModel| {
            segments.iter_mut().zip(&before).for_each(|(segment, &len)| segment.cache.truncate(len));
            table.forward(segments)
        };
        let early = layers.iter().map(|&layer| read(&self.0[layer])).collect::<Result<Vec<_>, _>>()?;
        let last = read(self.last())?;
        let of = |(segment, last): (usize, Logits)| LayerLogits {
            last,
            early: early.iter().map(|layer| layer[segment].clone()).collect(),
        };
        Ok(last.into_iter().enumerate().map(of).collect())
    }
}

fn softmax(row: &[f32]) -> Vec<f64> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = row.iter().map(|x| (f64::from(*x) - f64::from(max)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|x| x / sum).collect()
}

fn on_paper(next: impl Fn(&[TokenId]) -> Vec<f64>) -> Law {
    let mut law = Law::from([(vec![], 1.0)]);
    for _ in 0..LENGTH {
        let mut longer = Law::new();
        for (text, probability) in law {
            for (token, p) in (0..).zip(next(&[&PROMPT, &text[..]].concat())) {
                longer.insert([&text[..], &[token]].concat(), probability * p);
            }
        }
        law = longer;
    }
    law
}

fn drafter() -> TableModel {
    TableModel::random(VOCAB, 2.0, 7)
}

/// The law of the text under a rule, for draft lengths up to 2, which must agree.
fn of_engine<M: LanguageModel>(expert: &Arc<M>, rule_name: &str) -> Law {
    let builder = Engine::builder().expert(expert.clone()).drafter(ModelDrafter::new(Arc::new(drafter())));
    let mut engine = builder.rule(rule(rule_name).unwrap()).build().unwrap();
    let mut law = |k: usize| {
        let sampling = SamplingOptions { temperature: 1.0, ..Default::default() };
        let options = SessionOptions {
            sampling,
            max_tokens: LENGTH,
            draft_length: Some(k.into()),
            ..Default::default()
        };
        outcomes(|draws| {
            let session = engine.session_with(&PROMPT, &options, draws).unwrap();
            session.flat_map(|step| step.unwrap().tokens).map(|token| token.id).collect::<Vec<_>>()
        })
    };
    // Plain decoding asks no drafter, and so knows no cascade.
    let first = usize::from(rule_name.starts_with("cascade"));
    let plain = law(first);
    (first + 1..3).for_each(|k| assert!(distance(&law(k), &plain) < 1e-9, "{rule_name}, k = {k}"));
    plain
}

#[test]
fn laws_of_layers_hold_under_every_rule() {
    let model = Layered::new();
    for spec in [
        "sled:scale=2,rate=1.5",
        "sled:layers=1,scale=3,steps=4,rate=0.5",
        "dola:layers=all",
        "dola:layers=0+2,relative-top=0.3",
    ] {
        let spec: LawSpec = spec.parse().unwrap();
        let expert = Arc::new(LayeredLaw::new(model.clone(), &spec).unwrap());
        // The row of a law has its own tests; here the layers of each position come from their tables.
        let row = |sequence: &[TokenId]| {
            let early: Vec<_> = expert.layers().iter().map(|&layer| model.0[layer].row(sequence)).collect();
            match &spec.law {
                drafthorse_model::LayerLaw::Sled(sled) => sled.logits(model.last().row(sequence), &early),
                drafthorse_model::LayerLaw::Dola(dola) => dola.logits(model.last().row(sequence), &early),
            }
        };
        let paper = on_paper(|sequence| softmax(&row(sequence)));
        for name in ["lossless", "block", "exact-match", "coupled-noise"] {
            assert!(distance(&of_engine(&expert, name), &paper) < 1e-9, "{name}, {spec:?}");
        }
        let plain = on_paper(|sequence| softmax(model.last().row(sequence)));
        assert!(distance(&plain, &paper) > 1e-3, "the control: {spec:?} changes the law");
        // A cascade between the drafter and the expert that the law makes.
        let cascade = on_paper(|sequence| {
            let (q, p) = (softmax(drafter().row(sequence)), softmax(&row(sequence)));
            let max = p.iter().copied().fold(0.0, f64::max);
            let kept: Vec<bool> = p.iter().map(|p| *p >= 0.6 * max).collect();
            let deferred: f64 = q.iter().zip(&kept).filter(|(_, kept)| !**kept).map(|(q, _)| q).sum();
            (0..VOCAB).map(|v| if kept[v] { q[v] } else { 0.0 } + deferred * p[v]).collect()
        });
        assert!(distance(&of_engine(&expert, "cascade-token-v3:lenience=0.4"), &cascade) < 1e-9, "{spec:?}");
    }
}

#[test]
fn layers_that_are_not_there_are_refused() {
    let refuse =
        |spec: &str| LayeredLaw::new(Layered::new(), &spec.parse().unwrap()).unwrap_err().to_string();
    assert_eq!(refuse("sled:layers=1+3"), "layer 3 was asked for; below 3 is possible");
}

#[test]
fn an_ensemble_follows_its_combined_law() {
    let members: Vec<_> = (0..3).map(|seed| Arc::new(TableModel::random(VOCAB, 2.0, 60 + seed))).collect();
    let weights = [0.5, 0.3, 0.2];
    let mixture = Combine::Mixture(Weights::new(weights.to_vec()).unwrap());
    let expert = Arc::new(Ensemble::new(members.clone(), mixture).unwrap());
    let mixed = |sequence: &[TokenId]| {
        let laws: Vec<_> = members.iter().map(|member| softmax(member.row(sequence))).collect();
        (0..VOCAB).map(|v| laws.iter().zip(weights).map(|(law, w)| w * law[v]).sum()).collect()
    };
    let paper = on_paper(mixed);
    for name in ["lossless", "block"] {
        assert!(distance(&of_engine(&expert, name), &paper) < 1e-6, "{name}");
    }
    let first = on_paper(|sequence| softmax(members[0].row(sequence)));
    assert!(distance(&of_engine(&expert, "lossless"), &first) > 1e-3, "the control must fail");
}

#[test]
fn an_ensemble_reads_as_its_members_do() {
    let members: Vec<_> = (0..2).map(|seed| Arc::new(TableModel::random(VOCAB, 2.0, seed))).collect();
    let combine = Combine::Mixture(Weights::equal(2).unwrap());
    let ensemble = Arc::new(Ensemble::new(members, combine).unwrap());
    let sequence: Vec<TokenId> = (0..700).map(|i| (i * i / 3) % 3).collect();
    let mut cached = CachedModel::new(ensemble.clone());
    let whole = cached.logits(&sequence, 4).unwrap();
    let again = cached.logits(&sequence[..698], 2).unwrap();
    assert_eq!((whole.row(0), whole.row(1)), (again.row(0), again.row(1)));
    assert_eq!(CachedModel::new(ensemble).logits(&sequence, 4).unwrap(), whole);
}

#[test]
fn models_that_cannot_be_combined_are_refused() {
    let table = |vocab| TableModel::random(vocab, 1.0, 1);
    let named = |texts: [&str; 2]| Vocabulary::new(texts.map(|text| Some(text.to_owned())));
    let refuse = |members: Vec<TableModel>| {
        let combine = Combine::Mixture(Weights::equal(members.len().max(1)).unwrap());
        Ensemble::new(members.into_iter().map(Arc::new).collect(), combine).unwrap_err().to_string()
    };
    assert!(refuse(vec![]).starts_with("the ensemble has no members"));
    assert!(refuse(vec![table(2)]).contains("at least two"));
    assert!(refuse(vec![table(2), table(3)]).contains("member 1 has 2 tokens, member 2 has 3"));
    let [one, two] = [["a", "b"], ["a", "c"]].map(|texts| table(2).with_vocabulary(named(texts)));
    assert!(refuse(vec![one, two]).contains("token 1 is `b` for member 1 and `c` for member 2"));
    let weights = Combine::Mixture(Weights::equal(3).unwrap());
    assert!(Ensemble::new(vec![Arc::new(table(2)), Arc::new(table(2))], weights).is_err());
}
