//! Laws of the expert from the command line: of layers, of several models, away from another prompt; and the
//! log-probabilities of what they say.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::process::{Command, Output};

const LAWS: [&[&str]; 6] = [
    &["--law", "sled"],
    &["--law", "dola:layers=high"],
    &["--ensemble", "demo", "--ensemble-by", "average"],
    &["--ensemble", "demo", "--ensemble-by", "contrast"],
    &["--guidance-scale", "1.5", "--negative-prompt", "Chapter"],
    &["--guidance-scale", "2"],
];

fn run(options: &[&str]) -> Output {
    let fixed = ["generate", "--device", "cpu", "-n", "24", "Question: Tom has 3 apples"];
    Command::new(env!("CARGO_BIN_EXE_drafthorse")).args(fixed).args(options).output().unwrap()
}

fn json(options: &[&str]) -> Value {
    let output = run(&[options, &["--json", "--logprobs", "3"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn numbers(object: &Value, name: &str) -> Vec<f64> {
    object["tokens"].as_array().unwrap().iter().map(|token| token[name].as_f64().unwrap()).collect()
}

/// The same greedy text with drafts and without, and the same log-probabilities to within rounding.
#[test]
fn drafting_changes_neither_text_nor_log_probabilities() {
    let mut texts = vec![json(&["-k", "0"])["text"].clone()];
    for law in [&[][..]].into_iter().chain(LAWS) {
        for mode in ["raw", "processed"] {
            let with = |k: &str| json(&[law, &["-k", k, "--logprobs-mode", mode]].concat());
            let (plain, drafted) = (with("0"), with("4"));
            assert!(drafted["stats"]["accepted"].as_u64().unwrap() > 0, "{law:?}");
            assert_eq!(plain["text"], drafted["text"], "{law:?}");
            for name in ["logprob", "rank"] {
                let pairs = numbers(&plain, name).into_iter().zip(numbers(&drafted, name));
                assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-5), "{law:?}: {pairs:?}");
            }
            assert_eq!(numbers(&plain, "rank"), [1.0; 24], "greedy text is of first tokens");
            let certain = numbers(&plain, "logprob").iter().all(|x| *x == 0.0);
            assert_eq!(certain, mode == "processed", "at temperature 0 what is sampled is certain");
            texts.push(plain["text"].clone());
        }
    }
    texts.dedup();
    assert!(texts.len() > 3, "laws that say something else were among them: {texts:?}");
}

#[test]
fn the_statistics_name_the_law() {
    for law in LAWS {
        let line = String::from_utf8(run(law).stderr).unwrap();
        assert!(line.contains("expert's law: "), "{law:?}: {line}");
    }
    assert!(!String::from_utf8(run(&[]).stderr).unwrap().contains("expert's law"));
}

#[test]
fn laws_that_cannot_be_are_refused() {
    let refuse = |options: &[&str]| {
        let output = run(options);
        assert!(!output.status.success() && output.stdout.is_empty(), "{options:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refuse(&["--law", "slde"]).contains("there is no law `slde`; there are sled and dola"));
    assert!(refuse(&["--law", "sled:layers=9"]).contains("layer 9 was asked for; below 6 is possible"));
    assert!(
        refuse(&["--ensemble", "demo", "--ensemble-weights", "1"])
            .contains("2 models, but their combination is for 1")
    );
    assert!(
        refuse(&["--ensemble", "demo", "--ensemble-by", "contrast", "--ensemble-weights", "1,2"])
            .contains("has no weights")
    );
    assert!(refuse(&["--ensemble", "demo", "--law", "sled"]).contains("cannot be used with"));
    assert!(refuse(&["--guidance-scale", "-1"]).contains("guidance scale -1 is out of range"));
    assert!(refuse(&["--negative-prompt", "x"]).contains("--guidance-scale"));
    assert!(refuse(&["--logprobs", "2"]).contains("--json"));
}
