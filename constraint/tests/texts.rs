//! Texts by regular expressions and a Lark grammar, against what they mean, written down.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{end, engine, table, tokens, write};
use drafthorse_constraint::{Grammar, Whitespace};
use drafthorse_engine::SessionOptions;
use drafthorse_logits::SamplingOptions;
use std::sync::Arc;

const SEEDS: u64 = 60;

/// Texts by a grammar, most of them whole, each of which must pass `check`.
fn all_pass(grammar: &Grammar, check: impl Fn(&str) -> bool) {
    let tokens = tokens();
    let mut engine = engine(&tokens);
    let (mut whole, mut free) = (0, 0);
    for seed in 0..SEEDS {
        let mut options = SessionOptions {
            sampling: SamplingOptions { temperature: 1.0, ..Default::default() },
            seed,
            max_tokens: 200,
            stop_tokens: vec![end(&tokens)],
            draft_length: Some((seed as usize % 5).into()),
            constraint: Some(Arc::new(grammar.clone())),
            ..Default::default()
        };
        let text = write(&mut engine, &tokens, &options);
        assert!(!text.is_whole() || check(&text.text), "{grammar:?}, seed {seed}: {:?}", text.text);
        whole += u64::from(text.is_whole());
        options.constraint = None;
        free += u64::from(check(&write(&mut engine, &tokens, &options).text));
    }
    assert!(whole * 4 > SEEDS, "{grammar:?}: {whole} of {SEEDS} end");
    assert!(free * 10 < SEEDS, "{grammar:?}: {free} pass without it");
}

#[test]
fn regular_expressions() {
    let table = table(&tokens());
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    all_pass(&Grammar::regex(&table, r"\d{4}-\d{2}-\d{2}").unwrap(), |text| {
        let parts: Vec<_> = text.split('-').collect();
        parts.len() == 3 && digits(parts[0], 4) && digits(parts[1], 2) && digits(parts[2], 2)
    });
    all_pass(&Grammar::regex(&table, r"[a-z]{1,8}@[a-z]{1,8}\.(na|id)").unwrap(), |text| {
        let Some((name, (host, top))) =
            text.split_once('@').and_then(|(name, rest)| Some((name, rest.rsplit_once('.')?)))
        else {
            return false;
        };
        let word =
            |text: &str| (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase());
        word(name) && word(host) && ["na", "id"].contains(&top)
    });
    all_pass(&Grammar::regex(&table, "(é|漢){2,5}").unwrap(), |text| {
        (2..=5).contains(&text.chars().count()) && text.chars().all(|letter| "é漢".contains(letter))
    });
}

/// Sums of numbers and brackets; the rest of the text behind one.
fn sum(text: &str) -> Option<&str> {
    let mut rest = term(text)?;
    while let Some(next) = rest.strip_prefix(['+', '-']) {
        rest = term(next)?;
    }
    Some(rest)
}

fn term(text: &str) -> Option<&str> {
    if let Some(inner) = text.strip_prefix('(') {
        return sum(inner)?.strip_prefix(')');
    }
    let rest = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    (1..=3).contains(&(text.len() - rest.len())).then_some(rest)
}

#[test]
fn a_lark_grammar() {
    let grammar = r#"
        start: sum
        sum: term (("+" | "-") term)*
        term: NUMBER | "(" sum ")"
        NUMBER: /[0-9]{1,3}/
    "#;
    assert_eq!((sum("1+(2-34)"), sum("1+"), sum("(1")), (Some(""), None, None));
    all_pass(&Grammar::lark(&table(&tokens()), grammar).unwrap(), |text| sum(text) == Some(""));
}

#[test]
fn any_json_object() {
    for whitespace in [Whitespace::Some, Whitespace::Any, Whitespace::None] {
        all_pass(&Grammar::json(&table(&tokens()), whitespace).unwrap(), |text| {
            match serde_json::from_str::<serde_json::Value>(text) {
                Ok(value) => value.is_object(),
                // 1e999 is JSON, although no parser has a place for it.
                Err(error) => error.to_string().starts_with("number out of range"),
            }
        });
    }
}

/// Special tokens come where a grammar names them.
#[test]
fn special_tokens_have_a_place_in_lark_grammars() {
    use drafthorse_logits::Constraint;
    use drafthorse_model::TokenBytes;
    let special = |name: &str| TokenBytes::Special(name.into());
    let tokens = [TokenBytes::Text(b"a"[..].into()), special("<call>"), special("</call>")];
    let table = drafthorse_constraint::TokenTable::new(&tokens).unwrap();
    let grammar = Grammar::lark(&table, "start: <call> \"a\" </call>").unwrap();
    assert_eq!(grammar.start(&[]).unwrap().forced(&[], 9, false).unwrap(), [1, 0, 2]);
    let text = Grammar::regex(&table, "<call>").unwrap_err();
    assert!(text.to_string().contains("can be begun"), "a special token has no text: {text}");
}
