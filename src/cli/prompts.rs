//! Prompts for benchmarks.

use super::{
    failure::Failure,
    output::{self, count},
};
use drafthorse::{TokenId, Tokenizer, Transformer, synthetic::random_tokens};
use serde::Deserialize;
use std::path::Path;

/// For a model without a tokenizer: this many prompts of this many random tokens.
const RANDOM_PROMPTS: usize = 12;
const RANDOM_TOKENS: usize = 64;

/// A prompt and the family it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    pub(crate) category: String,
    pub(crate) text: String,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    category: Option<String>,
    turns: Option<Vec<String>>,
    prompt: Option<String>,
    question: Option<String>,
    text: Option<String>,
}

/// Which prompts are wanted.
pub(crate) struct Wanted<'a> {
    /// A JSONL file; without it, prompts inside the program.
    pub(crate) file: Option<&'a Path>,
    /// At most this many.
    pub(crate) limit: Option<usize>,
    /// The expert's name.
    pub(crate) expert: &'a str,
    /// Tokens that must have room after them.
    pub(crate) room: usize,
}

/// The prompts to measure with, and their tokens.
pub(crate) fn encoded(
    wanted: &Wanted<'_>,
    expert: &Transformer,
) -> Result<Vec<(Prompt, Vec<TokenId>)>, Failure> {
    let mut encoded = match expert.tokenizer() {
        Some(tokenizer) => texts(wanted, tokenizer)?,
        None => random(wanted, expert)?,
    };
    // All texts must be equally long, with every setting.
    let context = expert.config().context_len;
    encoded.retain(|(prompt, tokens)| {
        let fits = !tokens.is_empty() && context.saturating_sub(tokens.len()) >= wanted.room;
        if !fits {
            output::note(&format!(
                "left out: the prompt `{}...` has {} and leaves no room for {} in a context of {context}",
                prompt.text.chars().take(30).collect::<String>(),
                count(tokens.len(), "token"),
                wanted.room,
            ));
        }
        fits
    });
    if encoded.is_empty() {
        return Err(Failure::new("no prompts are left to measure with"));
    }
    Ok(encoded)
}

fn texts(wanted: &Wanted<'_>, tokenizer: &Tokenizer) -> Result<Vec<(Prompt, Vec<TokenId>)>, Failure> {
    let all = match wanted.file {
        Some(path) => read(path)?,
        None => built_in(),
    };
    let tokens = |prompt: Prompt| {
        let tokens = tokenizer.encode(&prompt.text)?;
        Ok((prompt, tokens))
    };
    spread(&all, wanted.limit).into_iter().map(tokens).collect()
}

/// Random token ids, as without a tokenizer there are no texts.
fn random(wanted: &Wanted<'_>, expert: &Transformer) -> Result<Vec<(Prompt, Vec<TokenId>)>, Failure> {
    let name = wanted.expert;
    if let Some(path) = wanted.file {
        return Err(Failure::new(format!(
            "{name} has no tokenizer.json, and the prompts in {} are text; without --prompts random token ids are used",
            path.display()
        )));
    }
    let number = wanted.limit.unwrap_or(RANDOM_PROMPTS).min(RANDOM_PROMPTS);
    output::note(&format!(
        "{name} has no tokenizer; measured on {} of {RANDOM_TOKENS} random token ids",
        output::count(number, "prompt")
    ));
    let prompt = |seed: usize| {
        let (category, text) = ("random".to_owned(), format!("random token ids {seed}"));
        (Prompt { category, text }, random_tokens(seed as u64, RANDOM_TOKENS, expert.config().vocab_size))
    };
    Ok((1..=number).map(prompt).collect())
}

/// Reads a JSONL file: the first of `turns`, or `prompt`, `question` or `text`, of every line.
pub(crate) fn read(path: &Path) -> Result<Vec<Prompt>, Failure> {
    let content = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    let mut prompts = Vec::new();
    for (number, line) in (1..).zip(content.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let fail = |what: String| Failure::new(format!("{} line {number}: {what}", path.display()));
        let line: Line = serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
        let turn = line.turns.and_then(|turns| turns.into_iter().next());
        let Some(text) = turn.or(line.prompt).or(line.question).or(line.text) else {
            return Err(fail("none of `turns`, `prompt`, `question` and `text`".into()));
        };
        prompts.push(Prompt { category: line.category.unwrap_or_else(|| "all".into()), text });
    }
    if prompts.is_empty() {
        return Err(Failure::new(format!("{} holds no prompts", path.display())));
    }
    Ok(prompts)
}

/// At most `limit` prompts, spread evenly.
pub(crate) fn spread(prompts: &[Prompt], limit: Option<usize>) -> Vec<Prompt> {
    let (count, all) = (limit.unwrap_or(prompts.len()).min(prompts.len()), prompts.len());
    (0..count).map(|i| prompts[i * all / count].clone()).collect()
}

/// The prompts inside the program as one text, to compare tokenizers by.
pub(crate) fn sample() -> String {
    let texts: Vec<_> = built_in().into_iter().map(|prompt| prompt.text).collect();
    texts.join("\n\n")
}

/// The prompts inside the program: what the demo pair knows.
pub(crate) fn built_in() -> Vec<Prompt> {
    let families: [(&str, &[&str]); 3] = [
        (
            "arithmetic",
            &[
                "Question: Tom has 3 apples and buys 5 more. How many apples does he have?\nAnswer:",
                "Question: A box holds 12 eggs. How many eggs are in 7 boxes?\nAnswer:",
                "Question: Lisa had 40 dollars. She spent 13 dollars on a book and 9 dollars on lunch. How much is left?\nAnswer:",
                "Question: A train travels 60 miles in one hour. How far does it travel in 4 hours?\nAnswer:",
            ],
        ),
        (
            "code",
            &[
                "def is_prime(number: int) -> bool:\n    \"\"\"\n    Check whether a number is prime.\n",
                "class Node:\n    def __init__(self, data):\n        self.data = data\n",
                "fn main() {\n    let mut numbers = vec![",
                "impl<T> Iterator for Stack<T> {\n    type Item = T;\n",
            ],
        ),
        (
            "prose",
            &[
                "It was late in the evening when the carriage stopped before the old house, and",
                "\"I cannot tell you that,\" she said, turning to the window. \"You must ask",
                "The summary of this RFC is to add a new attribute that",
                "In Rust, ownership is a set of rules that",
            ],
        ),
    ];
    let prompts = families.into_iter().flat_map(|(category, texts)| {
        texts.iter().map(move |text| Prompt { category: category.to_owned(), text: (*text).to_owned() })
    });
    prompts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_spreads_over_the_file() {
        let prompts = |n: usize| -> Vec<Prompt> {
            (0..n).map(|i| Prompt { category: String::new(), text: i.to_string() }).collect()
        };
        let texts = |n, limit| spread(&prompts(n), limit).into_iter().map(|p| p.text).collect::<Vec<_>>();
        assert_eq!(texts(9, Some(3)), ["0", "3", "6"]);
        assert_eq!(texts(2, Some(5)).len(), 2);
        assert_eq!(texts(2, None).len(), 2);
        assert!(texts(2, Some(0)).is_empty());
    }
}
