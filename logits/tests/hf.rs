//! Processors against those of Hugging Face transformers: what `tests/fixtures/processors/make.py` wrote down.
//!
//! Which tokens stay is the same, to the token, and logits agree to 1e-6. One difference is on purpose: where several
//! tokens are as probable as the last one that stays, ours all stay, theirs do so for top-k and typical but not for
//! top-p, which cuts among equals by the order of a sort. Of top-p therefore more may stay, all of them equal to one
//! that stays there too.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_logits::{
    Context, LogitsProcessor, TokenId,
    processors::{
        BadWords, Epsilon, Eta, Forced, LogitBias, MinP, MinTokens, NoRepeatNgram, Repetition, Temperature,
        TopK, TopP, Typical,
    },
};
use std::collections::BTreeMap;

#[derive(serde::Deserialize)]
struct Fixture {
    versions: BTreeMap<String, String>,
    rows: Vec<Row>,
}

#[derive(serde::Deserialize)]
struct Row {
    row: Vec<Option<f32>>,
    cases: Vec<Case>,
}

#[derive(Debug, serde::Deserialize)]
struct Case {
    kind: String,
    temperature: Option<f32>,
    k: Option<usize>,
    p: Option<f64>,
    epsilon: Option<f64>,
    penalty: Option<f32>,
    n: Option<usize>,
    words: Option<Vec<Vec<TokenId>>>,
    ends: Option<Vec<TokenId>>,
    bias: Option<Vec<(TokenId, f32)>>,
    token: Option<TokenId>,
    length: Option<usize>,
    tokens: Vec<TokenId>,
    prompt: usize,
    out: Vec<Option<f32>>,
    count: Option<usize>,
    suppressed: Option<Vec<TokenId>>,
}

impl Case {
    fn processor(&self) -> Box<dyn LogitsProcessor> {
        match &self.kind[..] {
            "temperature" => Box::new(Temperature(self.temperature.unwrap())),
            "top_k" => Box::new(TopK(self.k.unwrap())),
            "top_p" => Box::new(TopP(self.p.unwrap())),
            "min_p" => Box::new(MinP(self.p.unwrap())),
            "typical" => Box::new(Typical(self.p.unwrap())),
            "epsilon" => Box::new(Epsilon(self.epsilon.unwrap())),
            "eta" => Box::new(Eta(self.epsilon.unwrap())),
            "repetition" => Box::new(Repetition { penalty: self.penalty.unwrap(), last_n: 0 }),
            "no_repeat_ngram" => Box::new(NoRepeatNgram(self.n.unwrap())),
            "bad_words" => Box::new(BadWords(self.words.clone().unwrap())),
            "min_new_tokens" | "min_length" => {
                Box::new(MinTokens { tokens: self.count.unwrap(), ends: self.ends.clone().unwrap() })
            }
            "bias" => Box::new(LogitBias(self.bias.clone().unwrap())),
            "suppress" => {
                let ban = |token: &TokenId| (*token, f32::NEG_INFINITY);
                Box::new(LogitBias(self.suppressed.iter().flatten().map(ban).collect()))
            }
            "forced_first" => Box::new(Forced { first: self.token, last: None }),
            "forced_last" => {
                Box::new(Forced { first: None, last: Some((self.length.unwrap(), self.token.unwrap())) })
            }
            kind => panic!("no processor for {kind}"),
        }
    }
}

fn row(numbers: &[Option<f32>]) -> Vec<f32> {
    numbers.iter().map(|x| x.unwrap_or(f32::NEG_INFINITY)).collect()
}

fn kept(row: &[f32]) -> Vec<bool> {
    row.iter().map(|x| *x > f32::NEG_INFINITY).collect()
}

/// What stays there, and what is equal to the least of it.
fn with_ties(before: &[f32], theirs: &[f32]) -> Vec<bool> {
    let least = theirs.iter().copied().filter(|x| *x > f32::NEG_INFINITY).fold(f32::INFINITY, f32::min);
    before.iter().map(|x| *x >= least).collect()
}

#[test]
fn processors_do_what_those_of_transformers_do() {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/hf_processors.json")).unwrap();
    assert!(fixture.versions.contains_key("transformers"));
    let mut counts = BTreeMap::new();
    for Row { row: before, cases } in &fixture.rows {
        let before = row(before);
        for case in cases {
            let theirs = row(&case.out);
            // Theirs knows the beginning of a text only after a prompt of one token, ours after any.
            if case.kind == "forced_first" && case.prompt != 1 {
                continue;
            }
            let mut ours = before.clone();
            case.processor().process(&Context::new(&case.tokens, case.prompt), &mut ours);
            let stays = if case.kind == "top_p" { with_ties(&before, &theirs) } else { kept(&theirs) };
            assert_eq!(kept(&ours), stays, "{case:?} of {before:?}");
            // Temperature shifts a row first, which changes nothing of its law.
            let shift = if case.kind == "temperature" {
                let max = |row: &[f32]| row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                max(&theirs)
            } else {
                0.0
            };
            for (ours, theirs) in ours.iter().zip(&theirs).filter(|(_, theirs)| theirs.is_finite()) {
                let difference = (f64::from(*ours) + f64::from(shift) - f64::from(*theirs)).abs();
                let size = f64::from(theirs.abs()).max(f64::from(ours.abs())).max(1.0);
                assert!(difference <= 1e-6 * size, "{case:?}: {ours} {theirs}");
            }
            *counts.entry(case.kind.clone()).or_insert(0) += 1;
        }
    }
    assert_eq!(counts.len(), 16, "{counts:?}");
    assert!(counts.values().all(|n| *n >= 8), "{counts:?}");
}
