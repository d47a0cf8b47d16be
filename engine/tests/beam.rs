//! Beam search against enumeration, against greedy decoding, and by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_drafter::ModelDrafter;
use drafthorse_engine::{BeamSearch, BeamText, EarlyStopping, Engine, ErrorKind, Finish, SessionOptions};
use drafthorse_logits::{Context, LogitsProcessor, Probs, TokenId};
use drafthorse_model::{TableModel, Vocabulary};
use std::sync::Arc;

const PROMPT: [TokenId; 2] = [0, 1];

fn engine(model: &Arc<TableModel>) -> Engine {
    Engine::builder().expert(model.clone()).build().unwrap()
}

fn search(model: &Arc<TableModel>, options: &BeamSearch) -> Vec<BeamText> {
    engine(model).beam_search(&PROMPT, options).unwrap().texts
}

fn log_probs(model: &TableModel, tokens: &[TokenId]) -> Vec<f64> {
    Probs::softmax(model.row(&[&PROMPT, tokens].concat())).to_vec().into_iter().map(f64::ln).collect()
}

/// Every text up to a length or a stop token, with the sum of its log-probabilities.
fn every_text(model: &TableModel, length: usize, stop: Option<TokenId>) -> Vec<(Vec<TokenId>, f64)> {
    let (mut texts, mut open) = (vec![], vec![(vec![], 0.0)]);
    while let Some((tokens, sum)) = open.pop() {
        if tokens.len() == length || tokens.last().is_some_and(|token| Some(*token) == stop) {
            texts.push((tokens, sum));
            continue;
        }
        let next = log_probs(model, &tokens);
        open.extend((0..).zip(next).map(|(token, p)| ([&tokens[..], &[token]].concat(), sum + p)));
    }
    texts
}

#[test]
fn a_search_as_wide_as_all_texts_finds_the_best_of_them() {
    const VOCAB: usize = 3;
    const LENGTH: usize = 4;
    let mut narrow_misses = 0;
    for seed in 0..30 {
        let model = Arc::new(TableModel::random(VOCAB, 2.0, seed));
        for stop in [None, Some(2)] {
            for length_penalty in [0.0, 1.0, 0.7, -0.5] {
                let score =
                    |(tokens, sum): &(Vec<TokenId>, f64)| sum / (tokens.len() as f64).powf(length_penalty);
                let mut texts = every_text(&model, LENGTH, stop);
                texts.sort_by(|a, b| score(b).total_cmp(&score(a)));
                let (early_stopping, stop_tokens) = (EarlyStopping::Certain, stop.into_iter().collect());
                let wide = BeamSearch {
                    beams: VOCAB.pow(LENGTH as u32),
                    best: 5,
                    length_penalty,
                    early_stopping,
                    max_tokens: LENGTH,
                    stop_tokens,
                    ..Default::default()
                };
                let found = search(&model, &wide);
                for (found, wanted) in found.iter().zip(&texts) {
                    assert_eq!(found.tokens, wanted.0, "seed {seed}, penalty {length_penalty}");
                    assert!((found.log_probability - wanted.1).abs() < 1e-9);
                    assert!((found.score - score(wanted)).abs() < 1e-9);
                }
                let narrow = search(&model, &BeamSearch { beams: 1, best: 1, ..wide });
                narrow_misses += usize::from(narrow[0].tokens != texts[0].0);
            }
        }
    }
    assert!(narrow_misses > 20, "the width matters: {narrow_misses}");
}

#[test]
fn one_beam_is_greedy() {
    for seed in 0..20 {
        let model = Arc::new(TableModel::random(7, 2.0, seed));
        for early_stopping in [EarlyStopping::First, EarlyStopping::Likely] {
            for length_penalty in [0.0, 1.0, -1.0] {
                let (max_tokens, stop_tokens) = (20, vec![3]);
                let beam =
                    BeamSearch { beams: 1, length_penalty, early_stopping, max_tokens, ..Default::default() };
                let beam = BeamSearch { stop_tokens: stop_tokens.clone(), ..beam };
                let found = search(&model, &beam).remove(0);
                let options = SessionOptions { max_tokens, stop_tokens, ..Default::default() };
                let mut engine = engine(&model);
                let steps: Vec<_> = engine.session(&PROMPT, &options).unwrap().map(Result::unwrap).collect();
                let greedy: Vec<_> =
                    steps.iter().flat_map(|step| &step.tokens).map(|token| token.id).collect();
                assert_eq!(
                    (found.tokens, Some(found.finish)),
                    (greedy, steps.last().unwrap().finish.clone())
                );
            }
        }
    }
}

/// Tokens: 0 stops, 1 and 2 go on. After the prompt: .1 .5 .4; after 1: .2 .4 .4; after 2: .7 .2 .1.
fn written_out() -> Arc<TableModel> {
    let row = |law: [f64; 3]| law.iter().map(|p| p.ln() as f32).collect::<Vec<f32>>();
    Arc::new(TableModel::from_fn(3, |context| match *context {
        [0, 1] => row([0.1, 0.5, 0.4]),
        [.., 2] => row([0.7, 0.2, 0.1]),
        _ => row([0.2, 0.4, 0.4]),
    }))
}

/// With two beams: step 1 keeps 1 (.5) and 2 (.4); the stop (.1) is third of the four candidates and does not end. Step 2:
/// 2 0 (.28) ends, 1 1 (.2) and 1 2 (.2) go on, 1 0 (.1) is fourth. Step 3: 1 2 0 (.14) ends; 1 1 1 and 1 1 2 (.08) go on.
#[test]
fn a_search_by_hand() {
    let run = |early_stopping, length_penalty, max_tokens| {
        let stop_tokens = vec![0];
        let options = BeamSearch {
            beams: 2,
            best: 2,
            early_stopping,
            length_penalty,
            max_tokens,
            stop_tokens,
            ..Default::default()
        };
        engine(&written_out()).beam_search(&PROMPT, &options).unwrap()
    };
    let texts = |found: &[BeamText]| found.iter().map(|text| text.tokens.clone()).collect::<Vec<_>>();
    let found = run(EarlyStopping::First, 0.0, 9);
    assert_eq!(texts(&found.texts), [vec![2, 0], vec![1, 2, 0]]);
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
    near(found.texts[0].score, 0.28f64.ln());
    near(found.texts[1].score, 0.14f64.ln());
    assert!(found.texts.iter().all(|text| text.finish == Finish::StopToken(0)));
    // One pass for the prompt, then two a step; each step reads two tokens anew at least.
    assert_eq!(found.passes, 5);
    // The prompt 2; 1 and 2 after it, 1 each; then 1 1 (from the prompt on: 2) and 1 2 (its last token: 1).
    assert_eq!(found.rows, 2 + 2 + 3);
    // Without a penalty nothing that grows can come to be better, so that all three ways of stopping agree.
    assert_eq!(run(EarlyStopping::Likely, 0.0, 9).texts, found.texts);
    assert_eq!(run(EarlyStopping::Certain, 0.0, 9).texts, found.texts);
    // The mean: 2 0 has ln .28 / 2 = -.636, 1 2 0 has ln .14 / 3 = -.655; the beams 1 1 1 and 1 1 2 with ln .08 / 3 = -.842
    // could still come to ln .08 / 9 = -.281.
    let mean = run(EarlyStopping::Likely, 1.0, 9);
    assert_eq!((texts(&mean.texts), mean.passes), (texts(&found.texts), 5));
    near(mean.texts[1].score, 0.14f64.ln() / 3.0);
    assert!(run(EarlyStopping::Certain, 1.0, 9).passes > 5);
    // At most two tokens: of the candidates 2 0 (.28), 1 1 (.2), 1 2 (.2), 1 0 (.1) the first two are texts.
    let short = run(EarlyStopping::Likely, 0.0, 2);
    assert_eq!(texts(&short.texts), [vec![2, 0], vec![1, 1]]);
    assert_eq!(short.texts[1].finish, Finish::MaxTokens);
}

/// The searches of `fixtures/hf_beams.txt`, which transformers made: `tests/fixtures/beam/make.py` says how to read it.
#[test]
fn searches_find_what_those_of_transformers_find() {
    let (mut model, mut found) = (written_out(), Vec::new().into_iter());
    let (mut searches, mut others) = (0, 0);
    for line in include_str!("fixtures/hf_beams.txt").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let numbers = |from: usize| words[from..].iter().map(|word| word.parse::<f64>().unwrap());
        let tokens = |from: usize| numbers(from).map(|token| token as TokenId).collect::<Vec<_>>();
        match words[0] {
            "table" => {
                let (vocab, rows) =
                    (tokens(1)[0], numbers(2).map(|x| x as f32 / 1000.0).collect::<Vec<f32>>());
                model = Arc::new(TableModel::from_fn(vocab as usize, |context| match *context {
                    [.., a, b] => rows[((a * vocab + b) * vocab) as usize..][..vocab as usize].to_vec(),
                    _ => vec![0.0; vocab as usize],
                }));
            }
            "search" => {
                assert!(found.next().is_none(), "no more texts than transformers finds");
                let early_stopping = match words[3] {
                    "first" => EarlyStopping::First,
                    "likely" => EarlyStopping::Likely,
                    _ => EarlyStopping::Certain,
                };
                let (beams, max_tokens) = (words[1].parse().unwrap(), tokens(4)[0] as usize);
                let options = BeamSearch {
                    beams,
                    best: beams,
                    length_penalty: words[2].parse().unwrap(),
                    early_stopping,
                    max_tokens,
                    stop_tokens: tokens(5),
                    processors: vec![],
                };
                found = search(&model, &options).into_iter();
                searches += 1;
            }
            "text" => {
                let text = found.next().unwrap();
                // Texts of the same steps in another order are equally likely.
                let steps = |at: usize| log_probs(&model, &tokens(2)[..at])[tokens(2)[at] as usize];
                let sum: f64 = (0..tokens(2).len()).map(steps).sum();
                assert!((sum - text.log_probability).abs() < 1e-12, "search {searches}: {:?}", text.tokens);
                others += usize::from(text.tokens != tokens(2));
                assert!((text.score - words[1].parse::<f64>().unwrap()).abs() < 1e-5, "search {searches}");
            }
            _ => assert!(line.starts_with('#'), "{line}"),
        }
    }
    assert!(searches == 144 && others <= 10, "{others} others in {searches}");
}

struct Never(TokenId);

impl LogitsProcessor for Never {
    fn process(&self, _context: &Context<'_>, row: &mut [f32]) {
        row[self.0 as usize] = f32::NEG_INFINITY;
    }
}

#[test]
fn processors_texts_and_the_context_are_heeded() {
    let names = Vocabulary::new(["stop", "a", "b"].map(|text| Some(text.to_owned())).to_vec());
    let model = Arc::new(TableModel::clone(&written_out()).with_context(5));
    let builder = Engine::builder().expert(model).detokenizer(names).draft_length(0);
    let mut engine = builder.build().unwrap();
    let options = BeamSearch { beams: 2, stop_tokens: vec![0], length_penalty: 0.0, ..Default::default() };
    let found = engine.beam_search(&PROMPT, &options).unwrap().texts.remove(0);
    assert_eq!((found.tokens, found.text.as_str()), (vec![2, 0], "b"));
    let processors: Vec<Arc<dyn LogitsProcessor>> = vec![Arc::new(Never(2))];
    let found =
        engine.beam_search(&PROMPT, &BeamSearch { processors, ..options.clone() }).unwrap().texts.remove(0);
    assert!(!found.tokens.contains(&2));
    let whole =
        engine.beam_search(&PROMPT, &BeamSearch { stop_tokens: vec![], ..options }).unwrap().texts.remove(0);
    assert_eq!((whole.tokens.len(), whole.finish), (3, Finish::ContextEnd));
}

/// A drafter and a session before or after are neither asked nor disturbed.
#[test]
fn sessions_and_searches_do_not_disturb_each_other() {
    let model = Arc::new(TableModel::random(6, 2.0, 1));
    let drafter = ModelDrafter::new(Arc::new(TableModel::random(6, 2.0, 2)));
    let mut engine = Engine::builder().expert(model.clone()).drafter(drafter).build().unwrap();
    let options = BeamSearch { max_tokens: 12, best: 3, ..Default::default() };
    let session = SessionOptions { max_tokens: 12, ..Default::default() };
    let text = |engine: &mut Engine| {
        let session = engine.session(&PROMPT, &session).unwrap();
        session.flat_map(|step| step.unwrap().tokens).map(|token| token.id).collect::<Vec<_>>()
    };
    let first = (text(&mut engine), engine.beam_search(&PROMPT, &options).unwrap().texts);
    let again = (text(&mut engine), engine.beam_search(&PROMPT, &options).unwrap().texts);
    assert_eq!(first, again);
    assert_eq!(first.1, search(&model, &options));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut engine = engine(&written_out());
    let mut error = |prompt: &[TokenId], options: BeamSearch| {
        let error = engine.beam_search(prompt, &options).unwrap_err();
        (error.kind(), error.to_string())
    };
    let base = BeamSearch::default;
    assert_eq!(error(&[], base()).0, ErrorKind::Prompt);
    for (options, message) in [
        (BeamSearch { beams: 0, ..base() }, "a search with 0 beams; 1 to 4096 are possible"),
        (BeamSearch { beams: 4097, ..base() }, "a search with 4097 beams; 1 to 4096 are possible"),
        (
            BeamSearch { best: 5, ..base() },
            "5 best texts of 4 beams; ask for 1 to 4, or search with more beams",
        ),
        (
            BeamSearch { best: 0, ..base() },
            "0 best texts of 4 beams; ask for 1 to 4, or search with more beams",
        ),
        (
            BeamSearch { length_penalty: f64::NAN, ..base() },
            "length penalty NaN is out of range: a finite number (0 is off)",
        ),
        (BeamSearch { max_tokens: 0, ..base() }, "max tokens is 0; at least 1 is needed"),
    ] {
        assert_eq!(error(&PROMPT, options), (ErrorKind::Option, message.to_owned()));
    }
    assert_eq!(error(&PROMPT, BeamSearch { stop_tokens: vec![3], ..base() }).0, ErrorKind::Option);
    let processors: Vec<Arc<dyn LogitsProcessor>> = (0..3).map(|token| Arc::new(Never(token)) as _).collect();
    assert_eq!(error(&PROMPT, BeamSearch { processors, ..base() }).0, ErrorKind::Logits);
}
