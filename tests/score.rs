//! `drafthorse score` and `drafthorse classify`, against sums by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse::{
    DeviceChoice, TableModel, TokenId, Transformer,
    classify::{Question, classify},
    cost::Counted,
    demo,
    model::CachedModel,
    open_device,
};
use serde_json::Value;
use std::{
    io::Write,
    process::{Command, Output, Stdio},
    sync::Arc,
};

const TEXT: &str =
    "Question: Tom has 3 apples and buys 5 more. How many apples does he have?\nAnswer: 3 + 5 = 8.";

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_drafthorse"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--json", "--device", "cpu"]].concat(), "");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn expert() -> Arc<Transformer> {
    demo::expert(&open_device(DeviceChoice::Cpu).unwrap(), drafthorse::WeightType::F32).unwrap()
}

/// The definition: the log-softmax of the row after `before`, summed in order.
fn by_hand(model: &Arc<Transformer>, before: &[TokenId], token: TokenId) -> f64 {
    let logits = CachedModel::new(model.clone()).logits(before, 1).unwrap();
    let row: Vec<f64> = logits.row(0).iter().map(|&logit| f64::from(logit)).collect();
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row[token as usize] - most - row.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln()
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-6, "{a} {b}");
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn a_score_is_the_sum_by_hand() {
    let (model, report) = (expert(), json(&["score", "-p", TEXT]));
    let tokens = model.tokenizer().unwrap().encode(TEXT).unwrap();
    let text = &report["texts"][0]["tokens"];
    assert_eq!(text.as_array().unwrap().len(), tokens.len());
    assert!(text[0]["log_prob"].is_null(), "nothing comes before the first token");
    let mut sum = 0.0;
    for (at, &token) in tokens.iter().enumerate().skip(1) {
        let log_prob = by_hand(&model, &tokens[..at], token);
        assert_eq!(
            (text[at]["id"].as_u64(), text[at]["before"].as_u64()),
            (Some(token.into()), Some(at as u64))
        );
        near(number(&text[at]["log_prob"]), log_prob);
        sum += log_prob;
    }
    let (summary, scored) = (&report["summary"], (tokens.len() - 1) as f64);
    near(number(&summary["mean_log_prob"]), sum / scored);
    near(number(&summary["perplexity"]), (-sum / scored).exp());
    near(number(&summary["bits_per_byte"]), -sum / 2f64.ln() / TEXT.len() as f64);
    let pieces: String =
        text.as_array().unwrap().iter().map(|token| token["text"].as_str().unwrap()).collect();
    assert_eq!(pieces, TEXT);
}

#[test]
fn what_is_recorded_is_how_sure_the_model_was_and_whether_it_was_right() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let (model, plain) = (expert(), json(&["score", "-p", TEXT]));
    for texts in 1..=2 {
        assert_eq!(json(&["score", "-p", TEXT, "--record", path]), plain);
        let content = std::fs::read_to_string(path).unwrap();
        let lines: Vec<Value> = content.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let tokens = model.tokenizer().unwrap().encode(TEXT).unwrap();
        assert_eq!(lines.len(), texts * (tokens.len() - 1), "lines are added");
        for (at, line) in (1..tokens.len()).zip(&lines) {
            let logits = CachedModel::new(model.clone()).logits(&tokens[..at], 1).unwrap();
            let best = drafthorse::logits::argmax(logits.row(0));
            near(number(&line["confidence"]), by_hand(&model, &tokens[..at], best).exp());
            assert_eq!((&line["correct"], &line["of"]), (&(best == tokens[at]).into(), &"expert".into()));
        }
    }
}

#[test]
fn a_long_text_is_read_in_windows() {
    let (model, report) = (expert(), json(&["score", "-p", TEXT, "-c", "8", "--stride", "3"]));
    let tokens = model.tokenizer().unwrap().encode(TEXT).unwrap();
    assert_eq!((&report["context"], &report["stride"]), (&8.into(), &3.into()));
    let mut shortened = 0;
    for (at, &token) in tokens.iter().enumerate().skip(1) {
        let found = &report["texts"][0]["tokens"][at];
        let before = found["before"].as_u64().unwrap() as usize;
        assert!(if at <= 8 { before == at } else { (6..=8).contains(&before) }, "{before} before {at}");
        near(number(&found["log_prob"]), by_hand(&model, &tokens[at - before..at], token));
        shortened +=
            usize::from((by_hand(&model, &tokens[..at], token) - number(&found["log_prob"])).abs() > 1e-3);
    }
    assert!(shortened > 0, "what lies before the window makes a difference");
}

#[test]
fn texts_come_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, lines) = (folder.path().join("text.txt"), folder.path().join("texts.jsonl"));
    std::fs::write(&plain, TEXT).unwrap();
    let line = |text: &str| serde_json::json!({ "text": text }).to_string();
    std::fs::write(&lines, [line(TEXT), line(""), line("Once upon a time.")].join("\n")).unwrap();
    let of = |arguments: &[&str]| json(&[&["score"], arguments].concat())["summary"].clone();
    let expected = of(&["-p", TEXT]);
    assert_eq!(of(&[plain.to_str().unwrap()]), expected);
    let piped = run(&["score", "-", "--json", "--device", "cpu"], TEXT);
    assert_eq!(serde_json::from_slice::<Value>(&piped.stdout).unwrap()["summary"], expected);
    let ids = expert().tokenizer().unwrap().encode(TEXT).unwrap();
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(of(&["--tokens", &ids.join(",")]), expected);
    let both = json(&["score", lines.to_str().unwrap()]);
    let sum: f64 =
        both["texts"].as_array().unwrap().iter().map(|text| number(&text["summary"]["log_prob"])).sum();
    assert_eq!(both["texts"].as_array().unwrap().len(), 2, "an empty text has no score");
    near(number(&both["summary"]["log_prob"]), sum);
    // The opening token that the tokenizer puts first is not put there twice.
    assert_eq!(of(&["-p", TEXT, "--bos"]), expected);
    let opened = json(&["score", "--tokens", &ids[1..].join(","), "--bos"]);
    near(number(&opened["summary"]["log_prob"]), number(&expected["log_prob"]));
    let table = run(&["score", lines.to_str().unwrap(), "--device", "cpu", "-c", "8"], "");
    let (out, err) = (String::from_utf8(table.stdout).unwrap(), String::from_utf8(table.stderr).unwrap());
    assert!(out.contains("bits per byte") && out.contains("all"), "{out}");
    assert!(err.contains("windows of 8 tokens, each 4 later") && err.contains("line 2 has 1 token"), "{err}");
}

#[test]
fn labels_are_sums_by_hand() {
    let model = expert();
    let tokenizer = model.tokenizer().unwrap();
    let (prompt, labels) = ("Question: What is 3 + 5?\nAnswer:", ["8", "twelve", "15 apples"]);
    let report = json(&["classify", prompt, "--labels", &labels.join(",")]);
    let before = tokenizer.encode(prompt).unwrap().len();
    let sums = labels.map(|label| {
        let tokens = tokenizer.encode(&format!("{prompt} {label}")).unwrap();
        (before..tokens.len()).map(|at| by_hand(&model, &tokens[..at], tokens[at])).sum::<f64>()
    });
    let whole: f64 = sums.iter().map(|sum| sum.exp()).sum();
    for (found, sum) in report["labels"].as_array().unwrap().iter().zip(sums) {
        near(number(&found["log_prob"]), sum);
        near(number(&found["probability"]), sum.exp() / whole);
    }
    assert_eq!((&report["shared_tokens"], &report["merged_tokens"]), (&before.into(), &0.into()));
}

/// `Answ` and `er` are tokens of their own, together they are others.
#[test]
fn a_token_across_the_border_is_scored_for_all() {
    let model = expert();
    let tokenizer = model.tokenizer().unwrap();
    let (prompt, labels) = ("Question: 1\nAnsw", ["er", " no"]);
    let of = |text: &str| tokenizer.encode(text).unwrap();
    let own = of(prompt);
    let shared = labels
        .map(|label| of(&format!("{prompt}{label}")).iter().zip(&own).take_while(|(a, b)| a == b).count());
    assert!(shared[0] < shared[1], "the first label swallows the end of the prompt: {shared:?}");
    let report = json(&["classify", prompt, "--labels", &labels.join(","), "--separator", ""]);
    assert_eq!(report["merged_tokens"], own.len() - shared[0]);
    for (found, label) in report["labels"].as_array().unwrap().iter().zip(labels) {
        let tokens = of(&format!("{prompt}{label}"));
        near(
            number(&found["log_prob"]),
            (shared[0]..tokens.len()).map(|at| by_hand(&model, &tokens[..at], tokens[at])).sum(),
        );
    }
}

#[test]
fn the_prompt_is_read_once() {
    let counted = Arc::new(Counted::new(Arc::new(TableModel::random(128, 1.0, 3))));
    let labels = ["yes".to_owned(), "no".to_owned(), "perhaps".to_owned()];
    let prompt = "x".repeat(500);
    let question = Question { separator: "", ..Question::new(&prompt, &labels) };
    let encode = |text: &str| Ok(text.bytes().map(u32::from).collect());
    classify(&mut CachedModel::new(counted.clone()), &encode, &question).unwrap();
    // For each label its tokens but the last, and the last of the prompt, whose row is wanted again.
    assert_eq!(counted.rows(), 499 + (1 + 2) + (1 + 1) + (1 + 6));
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("texts.jsonl");
    std::fs::write(&lines, "{\"text\": \"fine\"}\n\n{\"prompt\": \"other\"}").unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["score", "no-such-file"], "cannot read no-such-file"),
        (&["score", lines.to_str().unwrap()], "line 3: missing field `text`"),
        (&["score", "-p", ""], "nothing is left to score: a text needs at least two tokens"),
        (&["score", "-p", TEXT, "-c", "4096"], "--context 4096 is more than the model's context of 2048"),
        (
            &["score", "-p", TEXT, "-c", "8", "--stride", "9"],
            "windows of 8 tokens with a stride of 9: 1 <= stride <= context",
        ),
        (&["score", "-p", TEXT, "-c", "0"], "windows of 0 tokens with a stride of 0"),
        (&["score", "--tokens", "1,9999"], "token 9999 is outside the vocabulary of 4096 tokens"),
        (&["classify", "a", "--labels", "b"], "the number of labels is 1; at least 2 are needed"),
        (&["classify", "a", "--labels", "b,,c"], "label 2 of 3 is empty"),
        (&["classify", "a", "--labels", "b,c,b"], "label `b` is given more than once"),
        (&["classify", "a", "-l", "b,c", "--premise", "x"], "--premise is for --normalize pmi"),
        (&["classify", "--tokens", "1", "-l", "b,c"], "unexpected argument"),
    ];
    for (arguments, says) in cases {
        let output = run(arguments, "");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        assert!(error.contains(says) && !error.contains("panicked"), "{arguments:?}: {error}");
    }
}
