//! Tasks: prompts, and references where there are some.

use super::{args::SweepArgs, metric::ends_with_number};
use crate::cli::{failure::Failure, output, prompts};
use drafthorse::{TokenId, Tokenizer, Transformer};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, path::Path};

const PROMPTS: [&str; 3] = ["prompt", "question", "text"];
const REFERENCES: [&str; 4] = ["answer", "reference", "target", "completion"];

/// Prompts of one kind.
pub(super) struct Task {
    pub(super) name: String,
    pub(super) file: Option<String>,
    pub(super) items: Vec<Item>,
}

/// A prompt and the text that would be right after it.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) tokens: Vec<TokenId>,
    pub(super) reference: Option<String>,
}

impl Task {
    /// Whether every prompt has a reference, and whether all of those end with a number.
    pub(super) fn references(&self) -> (bool, bool) {
        let references = || self.items.iter().map(|item| item.reference.as_deref());
        (references().all(|r| r.is_some()), references().all(|r| r.is_some_and(ends_with_number)))
    }

    /// A number that changes with prompts and references (FNV-1a).
    pub(super) fn digest(&self) -> String {
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let item = |hash: u64, item: &Item| {
            let tokens = item.tokens.iter().flat_map(|token| token.to_le_bytes());
            let reference = item.reference.as_deref().unwrap_or_default().bytes();
            tokens.chain([255]).chain(reference).fold(hash, fold)
        };
        format!("{:016x}", self.items.iter().fold(0xcbf2_9ce4_8422_2325, item))
    }
}

/// The tasks that were asked for.
pub(super) fn tasks(args: &SweepArgs, expert: &Transformer) -> Result<Vec<Task>, Failure> {
    let Some(tokenizer) = expert.tokenizer() else {
        let name = &args.expert;
        return Err(Failure::new(format!("{name} has no tokenizer.json, and a sweep's prompts are text")));
    };
    let mut tasks = Vec::new();
    for path in &args.prompts {
        let name = path.file_stem().map_or("prompts".into(), |name| name.to_string_lossy().into_owned());
        tasks.push(read(&name, path, args, tokenizer)?);
    }
    for (name, path) in &args.task {
        tasks.push(read(name, path, args, tokenizer)?);
    }
    if tasks.is_empty() {
        tasks.push(built_in(args, tokenizer)?);
    }
    let mut names = BTreeSet::new();
    if let Some(task) = tasks.iter().find(|task| !names.insert(task.name.clone())) {
        let name = &task.name;
        return Err(Failure::new(format!("two tasks are called `{name}`; name them with --task NAME=FILE")));
    }
    let room = expert.config().context_len.saturating_sub(args.max_tokens);
    tasks.iter_mut().try_for_each(|task| keep_what_fits(task, room, args.max_tokens))?;
    Ok(tasks)
}

fn built_in(args: &SweepArgs, tokenizer: &Tokenizer) -> Result<Task, Failure> {
    let item = |prompt: prompts::Prompt| {
        Ok::<_, Failure>(Item { tokens: tokenizer.encode(&prompt.text)?, reference: None })
    };
    let prompts = prompts::spread(&prompts::built_in(), args.limit);
    let items = prompts.into_iter().map(item).collect::<Result<_, _>>()?;
    Ok(Task { name: "built-in".into(), file: None, items })
}

fn read(name: &str, path: &Path, args: &SweepArgs, tokenizer: &Tokenizer) -> Result<Task, Failure> {
    let content = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    let lines: Vec<_> = (1..).zip(content.lines()).filter(|(_, line)| !line.trim().is_empty()).collect();
    let count = args.limit.unwrap_or(lines.len()).min(lines.len());
    let mut items = Vec::with_capacity(count);
    for at in 0..count {
        let (number, line) = lines[at * lines.len() / count];
        let fail = |what: String| Failure::new(format!("{} line {number}: {what}", path.display()));
        let line: Map<String, Value> = serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
        items.push(item(&line, args, tokenizer)?.map_err(fail)?);
    }
    Ok(Task { name: name.to_owned(), file: Some(path.display().to_string()), items })
}

/// A line as a prompt and a reference; what is wrong with it stands inside.
fn item(
    line: &Map<String, Value>,
    args: &SweepArgs,
    tokenizer: &Tokenizer,
) -> Result<Result<Item, String>, Failure> {
    let field = |names: &[&str]| names.iter().find_map(|name| line.get(*name)?.as_str());
    let turn = || line.get("turns")?.get(0)?.as_str();
    let text = match &args.template {
        Some(template) => fill(template, line),
        None => field(&PROMPTS)
            .or_else(turn)
            .map(str::to_owned)
            .ok_or_else(|| "none of `prompt`, `question`, `text` and `turns`; see --template".into()),
    };
    let text = match text {
        Ok(text) => text,
        Err(problem) => return Ok(Err(problem)),
    };
    let (mut tokens, mut reference) = (tokenizer.encode(&text)?, field(&REFERENCES).map(str::to_owned));
    if let (None, Some(cut)) = (&reference, args.continue_after) {
        if tokens.len() <= cut {
            let length = tokens.len();
            return Ok(Err(format!("{length} tokens leave nothing to compare with after --continue {cut}")));
        }
        let end = tokens.len().min(cut + args.max_tokens);
        reference = Some(tokenizer.decode(&tokens[cut..end])?);
        tokens.truncate(cut);
    }
    Ok(Ok(Item { tokens, reference }))
}

/// The template with the fields of a line in their places.
fn fill(template: &str, line: &Map<String, Value>) -> Result<String, String> {
    let (mut text, mut rest) = (String::new(), template);
    while let Some(at) = rest.find(['{', '\\']) {
        text += &rest[..at];
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("\\n") {
            text.push('\n');
            rest = after;
        } else if let Some((name, after)) = rest[1..].split_once('}').filter(|_| rest.starts_with('{')) {
            let value = line.get(name).ok_or_else(|| format!("no `{name}`, which the template asks for"))?;
            text += &value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            rest = after;
        } else {
            text.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    Ok(text + rest)
}

fn keep_what_fits(task: &mut Task, room: usize, max_tokens: usize) -> Result<(), Failure> {
    let all = task.items.len();
    task.items.retain(|item| !item.tokens.is_empty() && item.tokens.len() <= room);
    let (left_out, name) = (all - task.items.len(), &task.name);
    if task.items.is_empty() {
        let message = format!("task {name} has no prompt that leaves room for {max_tokens} tokens");
        return Err(Failure::new(message));
    }
    if left_out > 0 {
        let prompts = output::count(left_out, "prompt");
        output::note(&format!(
            "task {name}: left out {prompts} of {all}, empty or too long for {max_tokens} more tokens in the context"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled() {
        let line = serde_json::from_str(r#"{"question": "How {many}?", "n": 3}"#).unwrap();
        let fill = |template: &str| fill(template, &line);
        assert_eq!(fill("Question: {question}\\nAnswer:").unwrap(), "Question: How {many}?\nAnswer:");
        assert_eq!(fill("{n}{n} \\t { plain").unwrap(), "33 \\t { plain");
        assert_eq!(fill("{answer}").unwrap_err(), "no `answer`, which the template asks for");
    }
}
