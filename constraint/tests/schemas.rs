//! Texts by random JSON schemas, against a check of its own of the keywords that are used.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{end, engine, table, tokens, write};
use drafthorse_constraint::{Grammar, Whitespace};
use drafthorse_engine::{SessionOptions, Stats};
use drafthorse_logits::SamplingOptions;
use drafthorse_verifier::rule;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use serde_json::{Value, json};
use std::sync::Arc;

const SCHEMAS: u64 = 2000;

type Matches = fn(&str) -> bool;

/// Regular expressions of strings, with what they mean.
const PATTERNS: [(&str, Matches); 3] = [
    ("^[a-c]{1,4}$", |s| (1..=4).contains(&s.len()) && s.bytes().all(|b| (b'a'..=b'c').contains(&b))),
    ("^x[0-9]{2}$", |s| s.len() == 3 && s.starts_with('x') && s[1..].bytes().all(|b| b.is_ascii_digit())),
    ("^(ab|na)*$", |s| s.as_bytes().chunks(2).all(|pair| pair == b"ab" || pair == b"na")),
];

struct Generator(ChaCha8Rng);

impl Generator {
    fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    fn schema(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 7 } else { 11 }) {
            0 => json!({ "type": "boolean" }),
            1 => json!({ "type": "null" }),
            2 => self.integer(),
            3 => json!({ "type": "string", "minLength": self.below(3), "maxLength": 3 + self.below(5) }),
            4 => json!({ "type": "string", "pattern": PATTERNS[self.below(PATTERNS.len())].0 }),
            5 => {
                let values =
                    [json!("name"), json!("a b"), json!(10), Value::Null, json!(true), json!(["x1"])];
                json!({ "enum": values[self.below(3)..4 + self.below(3)] })
            }
            6 => json!({ "const": ([json!("id"), json!(-42), json!({ "tag": [] })][self.below(3)]) }),
            7 => json!({ "anyOf": [self.schema(depth - 1), self.schema(depth - 1)] }),
            8 => self.array(depth - 1),
            _ => self.object(depth - 1),
        }
    }

    fn integer(&mut self) -> Value {
        let mut below = |n| self.0.random_range(0..n);
        let low: i64 = below(200) - 100;
        match below(3) {
            0 => json!({ "type": "integer", "minimum": low, "maximum": low + below(150) }),
            1 => {
                json!({ "type": "integer", "exclusiveMinimum": low, "maximum": low + 1 + below(9) })
            }
            _ => {
                json!({ "type": "integer", "minimum": low, "exclusiveMaximum": low + 1 + below(2000) })
            }
        }
    }

    fn array(&mut self, depth: usize) -> Value {
        let least = self.below(3);
        json!({ "type": "array", "items": self.schema(depth), "minItems": least, "maxItems": least + self.below(3) })
    }

    fn object(&mut self, depth: usize) -> Value {
        let mut object = json!({ "type": "object", "additionalProperties": false });
        let names = ["name", "id", "tag", "x1", "a_b"];
        let (from, count) = (self.below(3), self.below(3) + 1);
        let names = &names[from..(from + count).min(5)];
        object["properties"] = names.iter().map(|&name| (name.to_owned(), self.schema(depth))).collect();
        object["required"] = names.iter().filter(|_| self.below(2) == 0).copied().collect();
        object
    }
}

/// Whether `value` satisfies a schema of the generator's.
fn satisfies(value: &Value, schema: &Value) -> bool {
    let any =
        |list: &Value| list.as_array().is_none_or(|all| all.iter().any(|schema| satisfies(value, schema)));
    let member = schema["enum"].as_array().is_none_or(|all| all.contains(value));
    let constant = schema.get("const").is_none_or(|constant| constant == value);
    any(&schema["anyOf"])
        && member
        && constant
        && schema["type"].as_str().is_none_or(|kind| match kind {
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "integer" => integer(value).is_some_and(|value| within(value, schema)),
            "string" => value.as_str().is_some_and(|value| string_satisfies(value, schema)),
            "array" => value.as_array().is_some_and(|items| {
                let bound = |name: &str| schema[name].as_u64().unwrap() as usize;
                (bound("minItems")..=bound("maxItems")).contains(&items.len())
                    && items.iter().all(|item| satisfies(item, &schema["items"]))
            }),
            _ => value.as_object().is_some_and(|object| {
                let required = schema["required"].as_array().unwrap();
                required.iter().all(|name| object.contains_key(name.as_str().unwrap()))
                    && object.iter().all(|(name, value)| {
                        schema["properties"].get(name).is_some_and(|schema| satisfies(value, schema))
                    })
            }),
        })
}

/// -0 is 0, although not for the parser.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().filter(|x| *x == 0.0).map(|_| 0))
}

fn within(value: i64, schema: &Value) -> bool {
    let holds =
        |name: &str, test: fn(i64, i64) -> bool| schema[name].as_i64().is_none_or(|bound| test(value, bound));
    holds("minimum", |value, bound| value >= bound)
        && holds("maximum", |value, bound| value <= bound)
        && holds("exclusiveMinimum", |value, bound| value > bound)
        && holds("exclusiveMaximum", |value, bound| value < bound)
}

fn string_satisfies(value: &str, schema: &Value) -> bool {
    let length = value.chars().count() as u64;
    let pattern = schema["pattern"].as_str().map(|wanted| {
        PATTERNS.iter().find(|(pattern, _)| *pattern == wanted).is_some_and(|(_, matches)| matches(value))
    });
    schema["minLength"].as_u64().is_none_or(|least| length >= least)
        && schema["maxLength"].as_u64().is_none_or(|most| length <= most)
        && pattern.unwrap_or(true)
}

#[test]
fn the_check_itself_refuses() {
    let schema = json!({ "type": "object", "properties": { "id": { "type": "integer", "minimum": 3, "maximum": 5 } },
        "required": ["id"], "additionalProperties": false });
    assert!(satisfies(&json!({ "id": 4 }), &schema));
    for wrong in [json!({}), json!({ "id": 6 }), json!({ "id": "4" }), json!({ "id": 4, "x": 1 }), json!([4])]
    {
        assert!(!satisfies(&wrong, &schema), "{wrong}");
    }
    let strings = json!({ "type": "string", "pattern": "^[a-c]{1,4}$", "minLength": 2, "maxLength": 3 });
    assert!(satisfies(&json!("abc"), &strings));
    assert!(["a", "abca", "abd"].iter().all(|wrong| !satisfies(&json!(wrong), &strings)));
    let either = json!({ "anyOf": [{ "const": 1 }, { "enum": [2, null] }] });
    assert!(satisfies(&Value::Null, &either) && !satisfies(&json!(3), &either));
    let list = json!({ "type": "array", "items": { "type": "boolean" }, "minItems": 1, "maxItems": 2 });
    assert!(
        satisfies(&json!([true]), &list) && !satisfies(&json!([]), &list) && !satisfies(&json!([1]), &list)
    );
}

#[test]
fn every_text_satisfies_its_schema() {
    let tokens = tokens();
    let (table, mut engine) = (table(&tokens), engine(&tokens));
    let rules =
        ["lossless", "block", "cascade-token-v3", "lenience:lenience=0.5"].map(|spec| rule(spec).unwrap());
    let (mut sums, mut whole, mut without) = (Stats::default(), 0, 0);
    for seed in 0..SCHEMAS {
        let mut generator = Generator(ChaCha8Rng::seed_from_u64(seed));
        let schema = generator.schema(3);
        let whitespace = [Whitespace::Some, Whitespace::Any, Whitespace::None][seed as usize % 3];
        let grammar = Grammar::json_schema(&table, &schema.to_string(), whitespace).unwrap();
        let mut options = SessionOptions {
            sampling: SamplingOptions { temperature: 1.0, ..Default::default() },
            seed,
            max_tokens: 300,
            stop_tokens: if seed % 3 == 0 { vec![] } else { vec![end(&tokens)] },
            rule: Some(rules[generator.below(rules.len())].clone()),
            constraint: Some(Arc::new(grammar)),
            ..Default::default()
        };
        let text = write(&mut engine, &tokens, &options);
        if text.is_whole() {
            let value: Value = serde_json::from_str(&text.text)
                .unwrap_or_else(|error| panic!("seed {seed}: {error} in {:?} by {schema}", text.text));
            assert!(satisfies(&value, &schema), "seed {seed}: {:?} by {schema}", text.text);
            whole += 1;
        }
        sums.merge(&text.stats);
        options.constraint = None;
        options.max_tokens = 50;
        let free = write(&mut engine, &tokens, &options);
        without += u64::from(serde_json::from_str(&free.text).is_ok_and(|value| satisfies(&value, &schema)));
    }
    println!(
        "{whole} of {SCHEMAS} texts whole and valid; {:.2} accepted, {} drafted, {} of {} forced accepted, {:.2} tokens a pass; without constraint {without} valid",
        sums.acceptance_rate().unwrap(),
        sums.drafted,
        sums.forced_accepted,
        sums.forced,
        sums.tokens_per_expert_pass().unwrap(),
    );
    assert!(whole > SCHEMAS * 9 / 10, "most texts end: {whole}");
    assert!(without * 50 < SCHEMAS, "without a constraint nearly none satisfies its schema: {without}");
    assert!(sums.forced > 0);
}

/// What is certain is read in one pass however long it is, and not k tokens a pass.
#[test]
fn the_skeleton_of_four_fields_costs_few_passes() {
    let tokens = tokens();
    let (table, mut engine) = (table(&tokens), engine(&tokens));
    let field = || json!({ "type": "boolean" });
    let schema = json!({
        "type": "object", "additionalProperties": false,
        "properties": { "customer_number": field(), "delivery_address": field(), "invoice_total": field(),
            "payment_received": field() },
        "required": ["customer_number", "delivery_address", "invoice_total", "payment_received"],
    });
    let grammar = Arc::new(Grammar::json_schema(&table, &schema.to_string(), Whitespace::None).unwrap());
    let mut passes = |k: usize| {
        let mut sums = Stats::default();
        for seed in 0..20 {
            let options = SessionOptions {
                sampling: SamplingOptions { temperature: 1.0, ..Default::default() },
                constraint: Some(grammar.clone()),
                draft_length: Some(k.into()),
                seed,
                ..Default::default()
            };
            let text = write(&mut engine, &tokens, &options);
            assert!(text.is_whole() && satisfies(&serde_json::from_str(&text.text).unwrap(), &schema));
            sums.merge(&text.stats);
        }
        println!("k = {k}: {:.2} tokens a pass of {}", sums.tokens_per_expert_pass().unwrap(), sums.emitted);
        sums.tokens_per_expert_pass().unwrap()
    };
    let found = [0, 1, 2, 4].map(&mut passes);
    assert_eq!(found[0], 1.0);
    assert!(found[1] > 5.0, "about twenty tokens are forced between two that are not");
}
