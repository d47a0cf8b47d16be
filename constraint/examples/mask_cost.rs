//! What a mask costs for each token, by size of the vocabulary.
//!
//! `cargo run --release -p drafthorse-constraint --example mask_cost -- tokenizer.json [VOCABULARY]`
//!
//! With a size, a byte-level vocabulary is cut, or lengthened by words made of two tokens.

use drafthorse_constraint::{Grammar, TokenTable, Whitespace};
use drafthorse_logits::{Constraint, TokenId};
use drafthorse_model::{ByteCoding, TokenBytes, Vocabulary, token_bytes};
use std::{error::Error, time::Instant};

const SCHEMA: &str = r#"{"type":"object","properties":{
    "name":{"type":"string","maxLength":40},"age":{"type":"integer","minimum":0,"maximum":150},
    "email":{"type":"string"},"tags":{"type":"array","items":{"type":"string"}},
    "address":{"type":"object","properties":{"street":{"type":"string"},"zip":{"type":"string","pattern":"^[0-9]{5}$"}},
        "required":["street","zip"],"additionalProperties":false},
    "state":{"enum":["active","inactive","unknown"]}},
    "required":["name","age","email","tags","address","state"],"additionalProperties":false}"#;

const TEXT: &str = r#"{"name": "Ada Lovelace of London", "age": 36, "email": "ada.lovelace@example.org", "tags": ["mathematics", "analytical engine", "first programs", "notes on the sketch"], "address": {"street": "12 St James's Square", "zip": "10115"}, "state": "inactive"}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name a tokenizer.json")?;
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let known = json["model"]["vocab"].as_object().ok_or("a vocabulary that is no table")?;
    let mut texts = vec![None; known.len()];
    for (text, id) in known {
        let id = id.as_u64().ok_or("an id that is no number")? as usize;
        texts.resize(texts.len().max(id + 1), None);
        texts[id] = Some(text.clone());
    }
    let mut tokens = token_bytes(&Vocabulary::new(texts), ByteCoding::ByteLevel, |_| None);
    if let Some(size) = arguments.next() {
        resize(&mut tokens, size.parse()?);
    }
    let start = Instant::now();
    let table = TokenTable::new(&tokens)?;
    println!("{} tokens: table in {:.1} ms", tokens.len(), millis(start));
    let start = Instant::now();
    let schema = Grammar::json_schema(&table, SCHEMA, Whitespace::Any)?;
    println!("schema compiled in {:.2} ms", millis(start));
    walk("schema", &schema, &tokens)?;
    walk("any object", &Grammar::json(&table, Whitespace::Any)?, &tokens)?;
    walk("expression", &Grammar::regex(&table, r"\{[ -~]{10,400}\}")?, &tokens)
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Cuts a vocabulary, or adds words of two tokens to it.
fn resize(tokens: &mut Vec<TokenBytes>, size: usize) {
    let count = tokens.len();
    let mut step = 0;
    while tokens.len() < size {
        step += 1;
        let [left, right] = [step * 7919 % count, step * 104_729 % count];
        let joined = [&tokens[left], &tokens[right]].map(|token| token.text().unwrap_or_default());
        tokens.push(TokenBytes::Text(joined.concat().into()));
    }
    tokens.truncate(size);
}

/// Asks for the mask at every token of the text, written with the longest tokens that are allowed.
fn walk(name: &str, grammar: &Grammar, tokens: &[TokenBytes]) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::new();
    let mut row = vec![0.0f32; tokens.len()];
    for _ in 0..20 {
        let mut matcher = grammar.start(&[])?;
        let (mut written, mut rest) = (Vec::new(), TEXT.as_bytes());
        while !rest.is_empty() {
            let start = Instant::now();
            let allowed = matcher.allowed(&written)?;
            allowed.restrict(&mut row);
            times.push(start.elapsed().as_secs_f64() * 1e6);
            row.fill(0.0);
            let fits =
                |token: &TokenId| tokens[*token as usize].text().is_some_and(|text| rest.starts_with(text));
            let length = |token: &TokenId| tokens[*token as usize].text().map_or(0, <[u8]>::len);
            let token =
                allowed.iter().filter(fits).max_by_key(length).ok_or("the text is not of the grammar")?;
            rest = &rest[length(&token)..];
            written.push(token);
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[(times.len() as f64 * share) as usize];
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    let most = times.last().copied().unwrap_or_default();
    println!(
        "{name}: {} tokens a text; a mask {mean:.1} us in the mean, half {:.1}, 99 % {:.1}, most {most:.1}",
        times.len() / 20,
        at(0.5),
        at(0.99),
    );
    Ok(())
}
