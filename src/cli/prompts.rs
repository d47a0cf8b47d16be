//! Prompts for benchmarks.

use super::failure::Failure;
use serde::Deserialize;
use std::path::Path;

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
