//! Every processor at two settings or more, and each order with several of them.

use drafthorse_logits::{
    Order, SamplingOptions,
    processors::{Dry, Mirostat, MirostatVersion},
};

pub(crate) fn on() -> SamplingOptions {
    SamplingOptions { temperature: 1.0, ..Default::default() }
}

fn mirostat(version: MirostatVersion, tau: f64, eta: f64) -> SamplingOptions {
    SamplingOptions { mirostat: Some(Mirostat { version, tau, eta }), ..on() }
}

fn dry(multiplier: f32, allowed_length: usize) -> Dry {
    Dry { multiplier, allowed_length, ..Default::default() }
}

/// Those that choose among tokens, with a name.
pub(crate) fn choices() -> Vec<(&'static str, SamplingOptions)> {
    vec![
        ("temperature .6", SamplingOptions { temperature: 0.6, ..on() }),
        ("temperature 1.7", SamplingOptions { temperature: 1.7, ..on() }),
        ("dynatemp .4", SamplingOptions { dynatemp_range: 0.4, ..on() }),
        ("dynatemp .9 ^2", SamplingOptions { dynatemp_range: 0.9, dynatemp_exponent: 2.0, ..on() }),
        ("top-k 2", SamplingOptions { top_k: 2, ..on() }),
        ("top-k 3", SamplingOptions { top_k: 3, ..on() }),
        ("top-p .6", SamplingOptions { top_p: 0.6, ..on() }),
        ("top-p .85", SamplingOptions { top_p: 0.85, ..on() }),
        ("min-p .2", SamplingOptions { min_p: 0.2, ..on() }),
        ("min-p .5", SamplingOptions { min_p: 0.5, ..on() }),
        ("typical .4", SamplingOptions { typical_p: 0.4, ..on() }),
        ("typical .8", SamplingOptions { typical_p: 0.8, ..on() }),
        ("epsilon .1", SamplingOptions { epsilon: 0.1, ..on() }),
        ("epsilon .3", SamplingOptions { epsilon: 0.3, ..on() }),
        ("eta .2", SamplingOptions { eta: 0.2, ..on() }),
        ("eta .6", SamplingOptions { eta: 0.6, ..on() }),
        ("top-n-sigma .7", SamplingOptions { top_n_sigma: 0.7, ..on() }),
        ("top-n-sigma 1.5", SamplingOptions { top_n_sigma: 1.5, ..on() }),
        ("xtc 1 at .1", SamplingOptions { xtc_probability: 1.0, xtc_threshold: 0.1, ..on() }),
        ("xtc .5 at .2", SamplingOptions { xtc_probability: 0.5, xtc_threshold: 0.2, ..on() }),
        ("mirostat 1, 1.2 bits", mirostat(MirostatVersion::V1, 1.2, 0.5)),
        ("mirostat 1, .8 bits", mirostat(MirostatVersion::V1, 0.8, 1.0)),
        ("mirostat 2, 1 bit", mirostat(MirostatVersion::V2, 1.0, 0.7)),
        ("mirostat 2, .6 bits", mirostat(MirostatVersion::V2, 0.6, 1.0)),
    ]
}

/// Those that look at the context, with a name.
pub(crate) fn of_context() -> Vec<(&'static str, SamplingOptions)> {
    vec![
        ("repetition 1.8", SamplingOptions { repetition_penalty: 1.8, ..on() }),
        ("repetition .6 of 2", SamplingOptions { repetition_penalty: 0.6, penalty_last_n: 2, ..on() }),
        ("presence .9", SamplingOptions { presence_penalty: 0.9, ..on() }),
        ("presence -.9 of 1", SamplingOptions { presence_penalty: -0.9, penalty_last_n: 1, ..on() }),
        ("frequency .5", SamplingOptions { frequency_penalty: 0.5, ..on() }),
        ("frequency -.8", SamplingOptions { frequency_penalty: -0.8, ..on() }),
        ("dry .8", SamplingOptions { dry: dry(0.8, 1), ..on() }),
        ("dry 1.5, broken", SamplingOptions { dry: Dry { breakers: vec![vec![2]], ..dry(1.5, 2) }, ..on() }),
        ("no-repeat-ngram 2", SamplingOptions { no_repeat_ngram: 2, ..on() }),
        ("no-repeat-ngram 3", SamplingOptions { no_repeat_ngram: 3, ..on() }),
        ("bad word", SamplingOptions { bad_words: vec![vec![2]], ..on() }),
        ("bad words", SamplingOptions { bad_words: vec![vec![0, 1], vec![1, 2, 0]], ..on() }),
        ("min tokens 1", SamplingOptions { min_tokens: 1, end_tokens: vec![2], ..on() }),
        ("min tokens 2", SamplingOptions { min_tokens: 2, end_tokens: vec![0, 2], ..on() }),
        ("forced first", SamplingOptions { forced_first: Some(2), ..on() }),
        ("forced last", SamplingOptions { forced_last: Some((3, 0)), ..on() }),
        ("bias", SamplingOptions { logit_bias: vec![(0, 1.5), (1, -0.5)], ..on() }),
        ("ban", SamplingOptions { logit_bias: vec![(1, f32::NEG_INFINITY)], ..on() }),
    ]
}

/// Each order with much of what there is, and mirostat with what goes along with it.
pub(crate) fn together() -> Vec<(&'static str, SamplingOptions)> {
    let law = SamplingOptions {
        logit_bias: vec![(0, 0.3)],
        repetition_penalty: 1.3,
        frequency_penalty: 0.2,
        dry: dry(0.4, 1),
        no_repeat_ngram: 4,
        min_tokens: 1,
        end_tokens: vec![2],
        ..on()
    };
    let with = |order, temperature| SamplingOptions {
        temperature,
        top_k: 3,
        top_p: 0.9,
        min_p: 0.05,
        typical_p: 0.97,
        epsilon: 0.01,
        eta: 0.02,
        top_n_sigma: 1.9,
        xtc_probability: 0.5,
        xtc_threshold: 0.3,
        order,
        ..law.clone()
    };
    let own = "penalties,dry,no-repeat-ngram,min-tokens,logit-bias,xtc,top-p,temperature,typical,top-k,eta,epsilon,min-p,top-n-sigma";
    let mirostat = Some(Mirostat { tau: 0.9, eta: 0.6, ..Default::default() });
    vec![
        ("hf", with(Order::hf(), 1.6)),
        ("llama.cpp", with(Order::llama_cpp(), 1.6)),
        ("vllm", with(Order::vllm(), 1.6)),
        ("an own order", with(own.parse().expect("an order"), 1.6)),
        ("mirostat with penalties", SamplingOptions { temperature: 1.4, mirostat, ..law.clone() }),
        ("penalties, greedy", SamplingOptions { temperature: 0.0, ..law }),
    ]
}

pub(crate) fn all() -> Vec<(&'static str, SamplingOptions)> {
    [choices(), of_context(), together()].concat()
}
