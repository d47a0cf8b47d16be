//! Sessions: where texts end, what steps and statistics say, and what happens when something fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Fixed, Illegible, Run, Sleepy, Unplugged, generate, run, vocabulary};
use drafthorse::{
    AcceptanceRule, Drafter, Engine, ErrorKind, ExactMatch, Finish, LanguageModel, Lossless, ModelDrafter,
    SamplingOptions, SessionOptions, Stats, Step, TableModel, TokenId,
    engine::{EngineBuilder, Provenance},
};
use std::{sync::Arc, thread};

const TEXTS: [&str; 6] = ["a", "b", "ab", "é", "#", "##"];
const PROMPT: [TokenId; 3] = [0, 3, 1];
const LENGTHS: [usize; 6] = [0, 1, 2, 3, 5, 8];
/// Can begin in many texts and ends in none: there is no "c".
const NEVER: &str = "##c";

fn table(seed: u64) -> TableModel {
    TableModel::random(TEXTS.len(), 1.5, seed)
}

/// A drafter that is right about half of the time.
fn drafter() -> ModelDrafter {
    ModelDrafter::new(Arc::new(TableModel::from_fn(TEXTS.len(), |context| {
        table(1).row(context).iter().zip(table(2).row(context)).map(|(a, b)| a + b / 2.0).collect()
    })))
}

fn builder_with(expert: Arc<impl LanguageModel>) -> EngineBuilder {
    Engine::builder().expert(expert).drafter(drafter()).detokenizer(vocabulary(&TEXTS))
}

fn engine_with(expert: u64, drafter: impl Drafter + 'static) -> Engine {
    builder_with(Arc::new(table(expert))).drafter(drafter).build().unwrap()
}

fn engine() -> Engine {
    engine_with(1, drafter())
}

fn options(k: usize, rule: impl AcceptanceRule + 'static, seed: u64) -> SessionOptions {
    SessionOptions {
        sampling: SamplingOptions { temperature: 1.0, ..Default::default() },
        seed,
        max_tokens: 30,
        draft_length: Some(k.into()),
        rule: Some(Arc::new(rule)),
        ..Default::default()
    }
}

/// Every draft length with both rules and some seeds.
fn settings() -> Vec<SessionOptions> {
    let all = LENGTHS.iter().flat_map(|&k| (0..20).map(move |seed| (k, seed)));
    all.flat_map(|(k, seed)| [options(k, Lossless, seed), options(k, ExactMatch, seed)]).collect()
}

fn go(engine: &mut Engine, options: &SessionOptions) -> Run {
    run(engine.session(&PROMPT, options).unwrap())
}

fn text_of(tokens: &[TokenId]) -> String {
    tokens.iter().map(|&token| TEXTS[token as usize]).collect()
}

#[test]
fn a_stop_token_is_the_last_token_and_has_no_text() {
    let mut engine = engine();
    for options in settings() {
        let whole = go(&mut engine, &options).tokens();
        let stopped = go(&mut engine, &SessionOptions { stop_tokens: vec![3, 5], ..options });
        // The draws are the same up to the stop, so the text is.
        let (tokens, finish, spoken) = match whole.iter().position(|token| [3, 5].contains(token)) {
            Some(end) => (&whole[..=end], Finish::StopToken(whole[end]), end),
            None => (&whole[..], Finish::MaxTokens, whole.len()),
        };
        assert_eq!(stopped.tokens(), tokens);
        assert_eq!(stopped.finish(), Some(&finish));
        assert_eq!(stopped.text(), text_of(&whole[..spoken]));
        assert_eq!(stopped.sequence, [&PROMPT, tokens].concat());
    }
}

#[test]
fn a_stop_string_is_found_across_tokens_and_steps() {
    let mut engine = engine();
    let stops = ["ba#", "éa", "##a"].map(String::from);
    let (mut missed, mut across) = (0, 0);
    for options in settings() {
        let whole = go(&mut engine, &options);
        let stopped = go(&mut engine, &SessionOptions { stop_strings: stops.to_vec(), ..options });
        let text = whole.text();
        assert_eq!(text, text_of(&whole.tokens()));
        let Some((at, stop)) = stops.iter().filter_map(|stop| Some((text.find(stop)?, stop))).min() else {
            missed += 1;
            assert_eq!((stopped.text(), stopped.finish()), (text, Some(&Finish::MaxTokens)));
            continue;
        };
        assert_eq!(stopped.text(), text[..at]);
        assert_eq!(stopped.finish(), Some(&Finish::StopString(stop.clone())));
        let tokens = stopped.tokens();
        let (last, before) = tokens.split_last().unwrap();
        assert!(!text_of(before).contains(stop) && text_of(&tokens).contains(stop), "ends with token {last}");
        let in_last_step = stopped.steps.last().unwrap().tokens.len();
        across += usize::from(text_of(&tokens[..tokens.len() - in_last_step]).len() > at);
    }
    assert!(missed > 0 && across > 0, "both must happen: {missed} without, {across} across steps");
}

#[test]
fn text_that_only_begins_like_a_stop_string_comes_late_but_comes() {
    let mut engine = engine();
    let (mut late, mut last) = (0, 0);
    for options in settings() {
        let run = go(&mut engine, &SessionOptions { stop_strings: vec![NEVER.into()], ..options });
        assert_eq!(run.text(), text_of(&run.tokens()));
        for step in &run.steps {
            let (own, ids): (String, Vec<_>) = step.tokens.iter().map(|t| (t.text.as_str(), t.id)).unzip();
            late += usize::from(step.text != text_of(&ids));
            let rest = step.text.strip_prefix(&own).unwrap();
            assert!(rest.is_empty() || (step.finish.is_some() && NEVER.starts_with(rest)));
            last += usize::from(!rest.is_empty());
        }
    }
    assert!(late > 0 && last > 0, "both must happen: {late} steps changed, {last} texts end late");
}

/// Says token 0, 1, 2, ... in turn, whose texts these are.
fn recite(texts: &[&str], stops: [&str; 2]) -> (String, Option<Finish>) {
    let vocab = texts.len();
    let next = |context: &[TokenId]| context.last().map_or(0, |&token| (token as usize + 1) % vocab);
    let row = |context: &[TokenId]| (0..vocab).map(|v| f32::from(u8::from(v == next(context)))).collect();
    let expert = Arc::new(TableModel::from_fn(vocab, row));
    let mut engine = Engine::builder().expert(expert).detokenizer(vocabulary(texts)).build().unwrap();
    let stop_strings = stops.map(String::from).to_vec();
    let options = SessionOptions { stop_strings, max_tokens: vocab, ..Default::default() };
    let run = run(engine.session(&[vocab as TokenId - 1], &options).unwrap());
    (run.text(), run.finish().cloned())
}

#[test]
fn the_stop_string_that_comes_first_wins() {
    let stop = |text: &str, stop: &str| (text.to_owned(), Some(Finish::StopString(stop.into())));
    assert_eq!(recite(&["say ", "yes", " or no"], ["no", "yes"]), stop("say ", "yes"));
    assert_eq!(recite(&["say yes or no"], ["no", "yes"]), stop("say ", "yes"));
}

/// One stop string within another: the borders of tokens must not decide which is found.
#[test]
fn borders_of_tokens_do_not_choose_between_stop_strings() {
    let stops = ["abcd", "bc"];
    assert_eq!(recite(&["a", "bc", "d"], stops), recite(&["a", "bcd"], stops));
}

#[test]
fn max_tokens_is_kept_to_the_token() {
    let mut engine = engine();
    let longest = go(&mut engine, &options(0, ExactMatch, 5)).tokens();
    for k in LENGTHS.into_iter().chain([29, 30, 100]) {
        for max_tokens in 1..=12 {
            let lossless = go(&mut engine, &SessionOptions { max_tokens, ..options(k, Lossless, 5) });
            let run = go(&mut engine, &SessionOptions { max_tokens, ..options(k, ExactMatch, 5) });
            assert_eq!(run.tokens(), longest[..max_tokens], "k = {k}");
            assert_eq!(lossless.tokens().len(), max_tokens, "k = {k}");
            for run in [run, lossless] {
                assert_eq!(run.finish(), Some(&Finish::MaxTokens));
                assert!(run.steps.iter().all(|step| step.drafted <= k.min(max_tokens - 1)));
            }
        }
    }
}

#[test]
fn a_text_ends_with_the_context() {
    let context = 12;
    let mut engine = builder_with(Arc::new(table(1).with_context(context))).build().unwrap();
    let short = ModelDrafter::new(Arc::new(table(2).with_context(7)));
    let mut short = builder_with(Arc::new(table(1).with_context(context))).drafter(short).build().unwrap();
    for options in settings() {
        for engine in [&mut engine, &mut short] {
            let run = go(engine, &options);
            assert_eq!((run.sequence.len(), run.finish()), (context, Some(&Finish::ContextEnd)));
            // What just fits was not cut by the context.
            let max_tokens = context - PROMPT.len();
            let fits = go(engine, &SessionOptions { max_tokens, ..options.clone() });
            assert_eq!((fits.tokens(), fits.finish()), (run.tokens(), Some(&Finish::MaxTokens)));
            let last = common::run(engine.session(&vec![1; context - 1], &options).unwrap());
            assert_eq!((last.tokens().len(), last.finish()), (1, Some(&Finish::ContextEnd)));
        }
    }
}

#[test]
fn what_an_engine_did_before_changes_nothing() {
    let mut used = engine();
    for (index, options) in settings().into_iter().enumerate() {
        let broken_off = used.session(&[2, 2, 5, 1], &options).unwrap().take(index % 4);
        assert!(broken_off.map(Result::unwrap).all(|step| !step.tokens.is_empty()));
        let first = generate(&mut used, &PROMPT, &options);
        assert_eq!(first, generate(&mut engine(), &PROMPT, &options));
        assert_eq!(first, generate(&mut used, &PROMPT, &options), "the same seed, the same text");
        // The next turn of a conversation begins with all of the last.
        let turn = [&PROMPT, &first[..], &[4, 0]].concat();
        assert_eq!(generate(&mut used, &turn, &options), generate(&mut engine(), &turn, &options));
    }
    let [a, b] = [1, 2].map(|seed| generate(&mut used, &PROMPT, &options(3, Lossless, seed)));
    assert_ne!(a, b, "another seed, another text");
}

#[test]
fn steps_and_statistics_agree() {
    let (mut engine, mut merged, mut added) = (engine(), Stats::default(), Stats::default());
    for options in settings() {
        let k = options.draft_length.as_ref().unwrap().max();
        let run = go(&mut engine, &SessionOptions { stop_tokens: vec![5], ..options });
        run.steps.iter().for_each(|step| check_step(step, k));
        check_sums(&run);
        merged.merge(&run.stats);
        run.steps.iter().for_each(|step| added.add(step));
        added.prompt_time += run.stats.prompt_time;
    }
    assert_eq!(merged, added);
    assert!(merged.replaced > 0 && merged.bonus > 0 && merged.accepted > 0, "{merged:?}");
}

/// The statistics of a session are its steps, added up.
fn check_sums(Run { steps, stats, .. }: &Run) {
    let sum = |of: fn(&Step) -> usize| steps.iter().map(of).sum::<usize>() as u64;
    assert_eq!((stats.rounds, stats.rounds_with_draft), (sum(|_| 1), sum(|s| usize::from(s.drafted > 0))));
    assert_eq!((stats.drafted, stats.examined), (sum(|s| s.drafted), sum(|s| s.examined)));
    assert_eq!((stats.accepted, stats.emitted), (sum(|s| s.accepted), sum(|s| s.tokens.len())));
    assert_eq!(stats.accepted_at.iter().sum::<u64>(), stats.accepted);
    assert!(stats.accepted_at.is_sorted_by(|a, b| a >= b), "a token stands only if those before it do");
    assert_eq!(stats.accepted_at.len(), steps.iter().map(|step| step.drafted).max().unwrap());
    let rate = |a: u64, b: u64| (b > 0).then(|| a as f64 / b as f64);
    assert_eq!(stats.acceptance_rate(), rate(stats.accepted, stats.examined));
    assert_eq!(stats.draft_yield(), rate(stats.accepted, stats.drafted));
    assert_eq!(stats.tokens_per_expert_pass(), rate(stats.emitted, stats.rounds));
}

/// What must hold for every round of drafts of up to `k`.
fn check_step(step: &Step, k: usize) {
    let replaced = step.examined - step.accepted;
    assert!(step.examined <= step.drafted && step.drafted <= k && replaced <= 1);
    let from: Vec<_> = step.tokens.iter().map(|token| token.provenance).collect();
    let own = if replaced == 1 { Provenance::Replacement } else { Provenance::Bonus };
    let uncut: Vec<_> = std::iter::repeat_n(Provenance::Drafted, step.accepted).chain([own]).collect();
    if matches!(step.finish, None | Some(Finish::MaxTokens)) {
        assert_eq!(from, uncut);
    } else {
        assert!(!from.is_empty() && uncut.starts_with(&from), "{from:?} is cut from {uncut:?}");
    }
}

#[test]
fn provenance_follows_the_drafter() {
    let run = |drafter: Box<dyn Drafter>| go(&mut engine_with(1, drafter), &options(3, Lossless, 1));
    // Who drafts what the expert says is never corrected.
    let same = run(Box::new(ModelDrafter::new(Arc::new(table(1)))));
    assert_eq!((same.stats.replaced, same.stats.drafted), (0, same.stats.accepted));
    // A point mass stands exactly where its token comes out.
    let fixed = run(Box::new(Fixed(2)));
    assert!(fixed.stats.accepted > 0 && fixed.stats.replaced > 0);
    for token in fixed.steps.iter().flat_map(|step| &step.tokens) {
        assert!(match token.provenance {
            Provenance::Drafted => token.id == 2,
            Provenance::Forced | Provenance::Deferred => false, // nothing is forced, lossless decides nothing so
            Provenance::Replacement => token.id != 2,
            Provenance::Bonus => true,
        });
    }
}

#[test]
fn a_session_may_have_its_own_rule_and_draft_length() {
    let build = |k, rule: Arc<dyn AcceptanceRule>| {
        builder_with(Arc::new(table(1))).draft_length(k).rule(rule).build()
    };
    let mut engine = build(4, Arc::new(Lossless)).unwrap();
    for seed in 0..20 {
        let own = SessionOptions { draft_length: None, rule: None, ..options(0, Lossless, seed) };
        let mut compare = |options: &SessionOptions, k, rule| {
            let (here, there) = (go(&mut engine, options), go(&mut build(k, rule).unwrap(), &own));
            assert_eq!((here.tokens(), here.stats.drafted), (there.tokens(), there.stats.drafted));
        };
        compare(&own, 4, Arc::new(Lossless));
        compare(&SessionOptions { draft_length: Some(0.into()), ..own.clone() }, 0, Arc::new(Lossless));
        compare(&SessionOptions { draft_length: Some(9.into()), ..own.clone() }, 9, Arc::new(Lossless));
        compare(&SessionOptions { rule: Some(Arc::new(ExactMatch)), ..own.clone() }, 4, Arc::new(ExactMatch));
    }
    assert_eq!(engine.rule().name(), "lossless", "the engine keeps its own");
}

#[test]
fn parts_can_be_replaced_and_survive_what_does_not_fit() {
    let other = || ModelDrafter::new(Arc::new(table(3))).named("other");
    let wide = || Arc::new(TableModel::random(TEXTS.len() + 1, 1.0, 1));
    let mut engine = engine();
    let same = |engine: &mut Engine, mut fresh: Engine| {
        for options in (0..5).map(|seed| options(3, Lossless, seed)) {
            assert_eq!(go(engine, &options).text(), go(&mut fresh, &options).text());
        }
    };
    same(&mut engine, engine_with(1, drafter()));
    let refused = engine.replace_drafter(ModelDrafter::new(wide())).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Vocabulary);
    let refused = engine.replace_expert(wide(), None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Vocabulary);
    same(&mut engine, engine_with(1, drafter()));
    assert_eq!(engine.replace_drafter(other()).unwrap().name(), "model", "the old one comes back");
    assert_eq!(engine.drafter().name(), "other");
    same(&mut engine, engine_with(1, other()));
    engine.replace_expert(Arc::new(table(4)), None).unwrap();
    same(&mut engine, engine_with(4, other()));
    let loud = TEXTS.map(str::to_uppercase);
    let detokenizer = vocabulary(&loud.each_ref().map(String::as_str));
    engine.replace_expert(Arc::new(table(4)), Some(Arc::new(detokenizer))).unwrap();
    let run = go(&mut engine, &options(3, Lossless, 1));
    assert_eq!(run.text(), text_of(&run.tokens()).to_uppercase());
}

#[test]
fn threads_do_not_change_texts() {
    let expert = Arc::new(table(1));
    let texts = |drafter: Box<dyn Drafter>| {
        let mut engine = builder_with(expert.clone()).drafter(drafter).build().unwrap();
        let options = (0..10).flat_map(|seed| [options(3, Lossless, seed), options(3, ExactMatch, seed)]);
        options.map(|options| generate(&mut engine, &PROMPT, &options)).collect::<Vec<_>>()
    };
    let alone = texts(Box::new(drafter()));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| texts(Box::new(Sleepy(drafter()))))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), alone);
        }
    });
}

/// A text that broke off is the beginning of the whole, with nothing lost that was held back.
/// Returns whether something was.
fn broke_off(failed: &Run, whole: &Run, kind: ErrorKind) -> bool {
    assert_eq!(failed.error.as_ref().unwrap().kind(), kind);
    let rounds = failed.stats.rounds as usize;
    let tokens: Vec<_> =
        whole.steps[..rounds].iter().flat_map(|step| &step.tokens).map(|token| token.id).collect();
    assert_eq!((failed.tokens(), failed.text()), (tokens.clone(), text_of(&tokens)));
    assert_eq!(failed.sequence, [&PROMPT, &tokens[..]].concat());
    assert!(failed.finish().is_none() && failed.steps[rounds..].iter().all(|step| step.tokens.is_empty()));
    failed.steps.len() > rounds
}

#[test]
fn a_failure_costs_nothing_that_was_generated() {
    let mut held = 0;
    for options in settings() {
        let options = SessionOptions { stop_strings: vec![NEVER.into()], ..options };
        let whole = go(&mut engine(), &options);
        for forwards in 0..10 {
            let expert = Arc::new(Unplugged::after(forwards, table(1)));
            let mut engine = builder_with(expert.clone()).build().unwrap();
            let failed = go(&mut engine, &options);
            if failed.error.is_none() {
                continue; // It was done before.
            }
            held += usize::from(broke_off(&failed, &whole, ErrorKind::Model));
            // The prompt takes the first forward, every round one more.
            assert_eq!(failed.stats.rounds as usize, forwards.saturating_sub(1));
            expert.plug_in();
            assert_eq!(go(&mut engine, &options).tokens(), whole.tokens(), "the engine recovers");
        }
    }
    assert!(held > 0, "text was held back somewhere");
}

#[test]
fn a_failing_drafter_costs_nothing_that_was_generated() {
    let mut held = 0;
    for seed in 0..20 {
        let options = SessionOptions { stop_strings: vec![NEVER.into()], ..options(3, Lossless, seed) };
        let draft = |forwards| ModelDrafter::new(Arc::new(Unplugged::after(forwards, table(2))));
        let run = |forwards| go(&mut engine_with(1, draft(forwards)), &options);
        let whole = run(usize::MAX);
        for forwards in 0..12 {
            held += usize::from(broke_off(&run(forwards), &whole, ErrorKind::Drafter));
        }
    }
    assert!(held > 0, "text was held back somewhere");
}

/// However tokens are bundled into rounds, what comes before one that cannot be read is given out.
fn check_illegible(stop_strings: &[String]) {
    for options in settings() {
        let options = SessionOptions { stop_strings: stop_strings.to_vec(), ..options };
        let whole = go(&mut engine(), &options).tokens();
        let Some(end) = whole.iter().position(|&token| token == 3) else { continue };
        let detokenizer = Illegible::new(3, &TEXTS);
        let mut engine = builder_with(Arc::new(table(1))).detokenizer(detokenizer).build().unwrap();
        let failed = go(&mut engine, &options);
        assert_eq!(failed.text(), text_of(&whole[..end]), "k = {:?}", options.draft_length);
        assert_eq!(failed.error.unwrap().kind(), ErrorKind::Text);
    }
}

#[test]
fn an_illegible_token_costs_nothing_that_was_generated() {
    check_illegible(&[]);
}

#[test]
fn an_illegible_token_costs_nothing_that_was_held_back() {
    check_illegible(&[NEVER.into()]);
}
