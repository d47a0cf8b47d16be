//! Words and breakers, which are texts on the command line and tokens everywhere else.

use crate::cli::failure::Failure;
use drafthorse::{TokenId, Tokenizer};

/// Over which no repetition reaches, where nothing else is said: as in llama.cpp.
const BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];

/// The tokens of words that shall not come, each with a space before it and without.
pub(super) fn words(words: &[String], tokenizer: Option<&Tokenizer>) -> Result<Vec<Vec<TokenId>>, Failure> {
    let mut sequences = Vec::new();
    for word in words {
        let Some(tokenizer) = tokenizer else {
            return Err(without_tokenizer("--bad-word", word, "ban tokens by --logit-bias ID=-inf"));
        };
        if word.trim().is_empty() {
            return Err(Failure::new("--bad-word is empty; name a text"));
        }
        let word = word.trim_start();
        for text in [word.to_owned(), format!(" {word}")] {
            let tokens = encode(tokenizer, &text)?;
            if !tokens.is_empty() && !sequences.contains(&tokens) {
                sequences.push(tokens);
            }
        }
    }
    Ok(sequences)
}

/// The breakers: every token with one in its text, and the tokens of each.
pub(super) fn breakers(
    texts: &[String],
    tokenizer: Option<&Tokenizer>,
) -> Result<Vec<Vec<TokenId>>, Failure> {
    let given: Vec<_> = texts.iter().map(|text| text.replace("\\n", "\n").replace("\\t", "\t")).collect();
    let texts = match &given[..] {
        [] if tokenizer.is_none() => return Ok(Vec::new()),
        [] => BREAKERS.map(str::to_owned).to_vec(),
        [none] if none == "none" => return Ok(Vec::new()),
        _ => given,
    };
    let Some(tokenizer) = tokenizer else {
        return Err(without_tokenizer("--dry-sequence-breaker", &texts[0], "leave it out"));
    };
    if texts.iter().any(String::is_empty) {
        return Err(Failure::new("--dry-sequence-breaker is empty; write `none` for no breakers"));
    }
    let mut sequences = Vec::new();
    for token in 0..tokenizer.vocabulary().len() as TokenId {
        let says = tokenizer.decode(&[token])?;
        if texts.iter().any(|text| says.contains(text)) {
            sequences.push(vec![token]);
        }
    }
    for text in &texts {
        let tokens = encode(tokenizer, text)?;
        if tokens.len() > 1 {
            sequences.push(tokens);
        }
    }
    Ok(sequences)
}

/// The tokens of a part of a text, without those that the tokenizer puts around a whole one.
fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<TokenId>, Failure> {
    let (around, tokens) = (tokenizer.encode("")?, tokenizer.encode(text)?);
    let before = around.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
    let after = around.len() - before;
    let end = tokens.len().saturating_sub(after).max(before);
    Ok(tokens[before..end].to_vec())
}

fn without_tokenizer(option: &str, text: &str, way_out: &str) -> Failure {
    Failure::new(format!("{option} `{text}` is a text, and this model has no tokenizer; {way_out}"))
}
