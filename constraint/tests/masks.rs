//! Masks against a check that knows the grammar otherwise: every text of a small grammar, written down.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse_constraint::{Grammar, GrammarError, TokenTable, Whitespace};
use drafthorse_logits::{Constraint, ConstraintError, Matcher, TokenId};
use drafthorse_model::TokenBytes;
use proptest::prelude::*;

const TOKENS: [&str; 7] = ["a", "b", "c", "ab", "bc", "a", "<end>"];
const END: TokenId = 6;

/// Whether a text of `(ab|b)*c{0,2}` can begin with `text`, and whether it is one.
fn begins(text: &str) -> (bool, bool) {
    let rest = text.trim_start_matches(['a', 'b']);
    let head = &text[..text.len() - rest.len()];
    let unfinished = head.ends_with('a');
    let fits = !head.contains("aa") && rest.bytes().all(|byte| byte == b'c') && rest.len() <= 2;
    let fits = fits && (rest.is_empty() || !unfinished);
    (fits, fits && !unfinished)
}

fn table() -> TokenTable {
    let token = |text: &&str| match *text {
        "<end>" => TokenBytes::Special("<end>".into()),
        text => TokenBytes::Text(text.as_bytes().into()),
    };
    TokenTable::new(&TOKENS.iter().map(token).collect::<Vec<_>>()).unwrap()
}

fn text(tokens: &[TokenId]) -> String {
    tokens.iter().map(|&token| TOKENS[token as usize]).collect()
}

/// What may follow, by the definition; `None` where the tokens break the grammar.
fn on_paper(tokens: &[TokenId]) -> Option<Vec<TokenId>> {
    if let Some(end) = tokens.iter().position(|&token| token == END) {
        return (end + 1 == tokens.len() && begins(&text(&tokens[..end])).1).then(Vec::new);
    }
    let written = text(tokens);
    let allowed = (0..).zip(TOKENS).filter(|&(token, next)| match token {
        END => begins(&written).1,
        _ => begins(&(written.clone() + next)).0,
    });
    begins(&written).0.then(|| allowed.map(|(token, _)| token).collect())
}

fn allowed(matcher: &mut dyn Matcher, tokens: &[TokenId]) -> Option<Vec<TokenId>> {
    matcher.allowed(tokens).ok().map(|set| set.iter().collect())
}

proptest! {
    /// Asked in any order, also about texts that break the grammar, it says what a fresh one says, and what is on paper.
    #[test]
    fn it_is_a_function_of_the_text(asked in prop::collection::vec(prop::collection::vec(0u32..7, 0..7), 1..30)) {
        let grammar = Grammar::regex(&table(), "(ab|b)*c{0,2}").unwrap();
        let mut matcher = grammar.start(&[END]).unwrap();
        for tokens in asked {
            prop_assert_eq!(allowed(&mut *matcher, &tokens), on_paper(&tokens), "{:?}", text(&tokens));
            if let Some(after) = on_paper(&tokens) {
                prop_assert_eq!(matcher.is_complete(&tokens).unwrap(), after.is_empty() || after.contains(&END));
            }
        }
    }

    /// Rows in the order in which a round asks for them: along a draft, then again from its beginning, then another.
    #[test]
    fn drafts_leave_nothing_behind(rounds in prop::collection::vec((0usize..4, prop::collection::vec(0usize..9, 4)), 1..9)) {
        let grammar = Grammar::regex(&table(), "(ab|b)*c{0,2}").unwrap();
        let mut matcher = grammar.start(&[]).unwrap();
        let mut tokens: Vec<TokenId> = Vec::new();
        for (accepted, choices) in rounds {
            let start = tokens.len();
            for choice in choices {
                let next = allowed(&mut *matcher, &tokens).unwrap();
                prop_assert_eq!(&Some(next.iter().copied().chain([END]).filter(|&t| t != END || begins(&text(&tokens)).1).collect()), &on_paper(&tokens));
                if next.is_empty() { break; }
                tokens.push(next[choice % next.len()]);
            }
            for at in start..=tokens.len() {
                prop_assert!(allowed(&mut *matcher, &tokens[..at]).is_some());
            }
            tokens.truncate(start + accepted);
        }
    }
}

/// Texts that cannot be rolled back in the parser are read anew.
#[test]
fn grammars_without_a_way_back_work_too() {
    let table = TokenTable::of_texts(&["a", "b", "c", "ab"]).unwrap();
    let grammar = Grammar::lark(&table, "start: text \"c\"\ntext[max_tokens=2]: /[ab]*/").unwrap();
    let ask = |matcher: &mut dyn Matcher, tokens: &[TokenId]| allowed(matcher, tokens);
    let texts = [vec![], vec![0], vec![0, 1], vec![0, 3], vec![1], vec![1, 1, 2], vec![0], vec![3, 3]];
    let mut kept = grammar.start(&[]).unwrap();
    for tokens in texts {
        let fresh = ask(&mut *grammar.start(&[]).unwrap(), &tokens);
        assert_eq!(ask(&mut *kept, &tokens), fresh, "{tokens:?}");
    }
    assert_eq!(ask(&mut *kept, &[0, 1]), Some(vec![2]), "two tokens of text, then c");
}

/// A model that likes white space gets on with its text. Where any is allowed, it need not.
#[test]
fn white_space_between_parts_has_an_end() {
    let table = TokenTable::of_texts(&["{", "}", "\"a\"", ":", "\n", " ", "1"]).unwrap();
    for schema in [r#"{"type":"object"}"#, "true"] {
        let longest = |whitespace, token| {
            let grammar = Grammar::json_schema(&table, schema, whitespace).unwrap();
            let mut matcher = grammar.start(&[]).unwrap();
            let text = |count| [&[0], &vec![token; count][..]].concat();
            (1..100).find(|&count| !matcher.allowed(&text(count)).unwrap().contains(token))
        };
        assert_eq!((longest(Whitespace::Some, 4), longest(Whitespace::Some, 5)), (Some(1), Some(16)));
        assert_eq!((longest(Whitespace::Any, 4), longest(Whitespace::Any, 5)), (None, None));
        let none = Grammar::json_schema(&table, schema, Whitespace::None).unwrap();
        let allowed = none.start(&[]).unwrap().allowed(&[0]).unwrap();
        assert!(!allowed.contains(4) && !allowed.contains(5) && allowed.contains(1));
    }
}

#[test]
fn forced_tokens_are_the_only_ones() {
    let table =
        TokenTable::of_texts(&["{", "\"", "name", "\":", ":", "na", "me", "1", "2", "}", "\"na"]).unwrap();
    let schema = r#"{"type":"object","properties":{"name":{"enum":[1,2]}},"required":["name"],
        "additionalProperties":false}"#;
    let grammar = Grammar::json_schema(&table, schema, Whitespace::None).unwrap();
    let mut matcher = grammar.start(&[]).unwrap();
    assert_eq!(matcher.forced(&[], 9, false).unwrap(), [0], "then there is more than one way to write it");
    let guessed = matcher.forced(&[], 9, true).unwrap();
    assert_eq!(guessed, [0, 10, 6, 3], "the longest tokens along what is certain");
    assert_eq!(matcher.forced(&[0, 10, 6, 3, 7], 9, false).unwrap(), [9]);
    assert!(matcher.allowed(&[0, 10, 6, 3, 7, 9]).unwrap().is_empty());
    // A tokenizer that likes short tokens.
    let words = |text: &str| -> Option<Vec<TokenId>> {
        let (mut tokens, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let words = [("{", 0), ("\"", 1), (":", 4), ("na", 5), ("me", 6)];
            let (word, token) = words.into_iter().find(|(word, _)| rest.starts_with(word))?;
            tokens.push(token);
            rest = &rest[word.len()..];
        }
        Some(tokens)
    };
    let encoded = Grammar::json_schema(&table.clone().with_encoder(words), schema, Whitespace::None).unwrap();
    let mut matcher = encoded.start(&[]).unwrap();
    assert_eq!(matcher.forced(&[], 9, true).unwrap(), [0, 1, 5, 6, 1, 4], "as the tokenizer writes it");
    assert_eq!(matcher.forced(&[], 9, false).unwrap(), [0], "what is allowed does not depend on it");
    // What may end is not certain.
    let maybe = Grammar::regex(&table, "1(2)?").unwrap();
    assert!(maybe.start(&[3]).unwrap().forced(&[7], 9, true).unwrap().is_empty());
    assert_eq!(maybe.start(&[3]).unwrap().forced(&[7, 8], 9, false).unwrap(), [3], "nothing but the end");
}

#[test]
fn end_tokens_stand_where_the_end_is_and_nowhere_else() {
    let grammar = Grammar::regex(&table(), "a+c").unwrap();
    // "c" ends the text, so it cannot be a part of it.
    let mut matcher = grammar.start(&[2]).unwrap();
    assert_eq!(allowed(&mut *matcher, &[0]), Some(vec![0, 5]));
    let mut either = Grammar::regex(&table(), "a+").unwrap().start(&[2]).unwrap();
    assert_eq!(allowed(&mut *either, &[0]), Some(vec![0, 2, 5]));
    assert_eq!(allowed(&mut *either, &[0, 2]), Some(vec![]));
    assert_eq!(either.allowed(&[2]).unwrap_err(), ConstraintError::Broken { position: 0, token: 2 });
    assert_eq!(either.allowed(&[0, 2, 0]).unwrap_err(), ConstraintError::Broken { position: 2, token: 0 });
}

#[test]
fn dead_ends_are_named() {
    let table = TokenTable::of_texts(&["a", "b"]).unwrap();
    let none = Grammar::regex(&table, "xa").unwrap_err();
    assert!(matches!(
        none,
        GrammarError::Vocabulary { source: ConstraintError::DeadEnd { position: 0 }, .. }
    ));
    assert!(none.to_string().starts_with("no text of the regular expression can be begun"), "{none}");
    let later = Grammar::regex(&table, "a(b|x)x").unwrap();
    let mut matcher = later.start(&[]).unwrap();
    assert_eq!(matcher.allowed(&[0, 1]).unwrap_err(), ConstraintError::DeadEnd { position: 2 });
    assert_eq!(allowed(&mut *matcher, &[0]), Some(vec![1]), "it goes on after a failure");
}

#[test]
fn what_does_not_compile_is_named() {
    let table = TokenTable::of_texts(&["a", "{", "}"]).unwrap();
    let schema = |text| Grammar::json_schema(&table, text, Whitespace::Any);
    let refused = [
        Grammar::regex(&table, "a("),
        Grammar::regex(&table, "a$a"),
        Grammar::lark(&table, "start: missing"),
        Grammar::lark(&table, "begin: \"a\""),
        schema("{"),
        schema("[1]"),
        schema(r#"{"type":"integer","minimum":3,"maximum":1}"#),
        schema(r#"{"oneOf":[{"minimum":1},{"maximum":3}]}"#),
        schema(r#"{"type":"strin"}"#),
        schema(r##"{"$ref":"#"}"##),
        schema(r##"{"$ref":"#/nowhere"}"##),
        schema(r#"{"$ref":"https://example.org/schema.json"}"#),
        schema(&r#"{"items":"#.repeat(5000)),
        Grammar::regex(&table, &"(".repeat(5000)),
        Grammar::lark(&table, &format!("start: {}\"a\"{}", "(".repeat(5000), ")".repeat(5000))),
        Grammar::lark(&table, "start: start"),
        schema(r#"{"type":"string","pattern":"a("}"#),
    ];
    for (index, result) in refused.into_iter().enumerate() {
        let text = result.expect_err(&format!("number {index}")).to_string();
        println!("{text}");
        assert!(!text.contains('\n') && !text.contains("state>") && !text.ends_with('.'), "{text}");
    }
    // Large numbers cost nothing until they are reached.
    assert!(Grammar::regex(&table, "((a{1000}){1000}){1000}").is_ok());
    assert!(Grammar::regex(&table, "^a$").is_ok(), "anchors around the whole change nothing");
    let keywords =
        Grammar::json_schema(&table, r#"{"type":"object","not":{},"uniqueItems":true}"#, Whitespace::Any);
    assert_eq!(keywords.unwrap_err(), GrammarError::Keywords { keywords: "`not`, `uniqueItems`".into() });
}

/// The parser's limits are errors, and end nothing but the text that reaches them.
#[test]
fn limits_are_errors() {
    let long = "a".repeat(200);
    let table = TokenTable::of_texts(&["a", &long, "b"]).unwrap();
    let grammar = Grammar::lark(&table, "start: s\ns: \"a\" | s s").unwrap();
    let mut matcher = grammar.start(&[]).unwrap();
    let error = (1..40).find_map(|tokens| matcher.allowed(&vec![1; tokens]).err()).expect("too much at last");
    println!("{error}");
    assert!(matches!(error, ConstraintError::Limit { .. }), "{error:?}");
    assert_eq!(allowed(&mut *matcher, &[0]), Some(vec![0, 1]));
}

/// As the schema has them, whatever their alphabet.
#[test]
fn properties_come_in_the_order_of_the_schema() {
    let table = TokenTable::of_texts(&["{", "}", "\"", "b", "a", ":", ",", "null"]).unwrap();
    let schema = r#"{"type":"object","properties":{"b":{"type":"null"},"a":{"type":"null"}},"required":["a","b"],
        "additionalProperties":false}"#;
    let grammar = Grammar::json_schema(&table, schema, Whitespace::None).unwrap();
    let forced = grammar.start(&[]).unwrap().forced(&[], 99, false).unwrap();
    assert_eq!(forced, [0, 2, 3, 2, 5, 7, 6, 2, 4, 2, 5, 7, 1]);
}

/// Two places that look alike to the lexer, and go on otherwise: what was said of one is not said of the other.
#[test]
fn a_way_back_forgets_what_was_ahead() {
    let table = TokenTable::of_texts(&["a", "c", "b", "x", "y", "bx", "by"]).unwrap();
    let grammar = Grammar::lark(&table, "start: \"a\" \"b\" \"x\" | \"c\" \"b\" \"y\"").unwrap();
    let mut matcher = grammar.start(&[]).unwrap();
    for _ in 0..3 {
        assert_eq!(allowed(&mut *matcher, &[0]), Some(vec![2, 5]));
        assert_eq!(allowed(&mut *matcher, &[1]), Some(vec![2, 6]));
    }
}
