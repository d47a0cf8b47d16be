//! `drafthorse bench` as its users meet it. No test asserts a time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse::{
    DeviceChoice, Engine, ExactMatch, Lossless, NoDrafter, SessionOptions, Stats, SyntheticDrafter, TokenId,
    Transformer, WeightType, demo, open_device, verifier::AcceptanceRule,
};
use serde_json::Value;
use std::{
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

/// A model without a tokenizer.
const STRANGER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parity/llama");

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drafthorse"));
    command.args(["bench", "--device", "cpu"]).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn table(arguments: &[&str]) -> String {
    let output = bench(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&table(&[arguments, &["--json"]].concat())).unwrap()
}

fn refused(arguments: &[&str]) -> String {
    let output = bench(arguments);
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
    text(&output.stderr)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * b.abs(), "{a} is not {b}");
}

fn array(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

const SHORT: [&str; 6] = ["-n", "12", "-r", "2", "--limit", "2"];

#[test]
fn forwards_are_measured_and_speedups_predicted() {
    let report = json(&["--verify-cost", "--acceptance", ".5,.95"]);
    let forwards = array(&report["costs"]["forwards"]);
    assert!(forwards.iter().map(|forward| forward["rows"].as_u64().unwrap()).eq(1..=16));
    assert_eq!((&report["costs"]["cache_length"], number(&forwards[0]["cost"])), (&128.into(), 1.0));
    let names: Vec<_> = array(&report["drafters"]).iter().map(|drafter| &drafter["drafter"]).collect();
    assert_eq!(names, ["demo", "ngram"]);
    for drafter in array(&report["drafters"]) {
        let (draft, verify) = (array(&drafter["draft_cost"]), array(&drafter["verify_cost"]));
        let predictions = array(&drafter["predictions"]);
        assert_eq!(predictions.len(), 2);
        for (prediction, rate) in predictions.iter().zip([0.5f64, 0.95]) {
            let speedups = array(&prediction["speedup"]);
            assert_eq!((number(&prediction["acceptance"]), speedups.len()), (rate, 8));
            for (k, speedup) in (1..).zip(speedups) {
                let tokens = (1.0 - rate.powi(k + 1)) / (1.0 - rate);
                let k = k as usize;
                close(number(speedup), tokens / (k as f64 * number(&draft[k - 1]) + number(&verify[k])));
            }
            let best = &speedups[prediction["best_k"].as_u64().unwrap() as usize - 1];
            assert!(speedups.iter().all(|speedup| number(speedup) <= number(best)));
        }
    }
    let ngram = &report["drafters"][1];
    assert!(array(&ngram["draft_cost"]).iter().all(|cost| number(cost) == 0.0));
}

#[test]
fn the_table_of_costs_defines_its_numbers() {
    let table = table(&["--verify-cost", "-m", STRANGER]);
    for word in [
        "forwards after 128 tokens",
        "c(m)",
        "rows/s",
        "with drafter ngram",
        "k = 8",
        "Theorem 3.8",
        ".50",
        "*",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    assert_eq!(table.matches('*').count(), 5 + 2, "one for each rate, and two in the sentences");
}

#[test]
fn efficiency_is_the_speedup_over_the_predicted_one() {
    let report = json(&[&SHORT[..], &["-k", "1,3", "-d", "demo,ngram", "--synthetic", "0.7:0.1"]].concat());
    let (summary, runs) = (array(&report["summary"]), array(&report["runs"]));
    assert_eq!(summary.len(), 7);
    assert!(summary[0]["predicted_speedup"].is_null() && summary[0]["engine_efficiency"].is_null());
    let costs = &report["costs"];
    assert_eq!(costs["with_drafters"][0]["drafter"], "demo");
    let points = |setting: usize| match setting {
        1 | 2 => array(&costs["with_drafters"][0]["rounds"]).clone(),
        _ => array(&costs["forwards"]).clone(),
    };
    for (index, setting) in summary.iter().enumerate().skip(1) {
        close(
            number(&setting["engine_efficiency"]),
            number(&setting["speedup"]) / number(&setting["predicted_speedup"]),
        );
        // Every round weighs what one of its length costs.
        let (mut rounds, mut emitted, mut cost) = (0.0, 0.0, 0.0);
        for run in runs.iter().filter(|run| run["setting"] == index) {
            emitted += number(&run["stats"]["emitted"]);
            for (drafted, count) in array(&run["rounds_by_drafted"]).iter().enumerate() {
                let point = &points(index)[drafted];
                assert_eq!(point["rows"], drafted + 1);
                let (draft, verify) = match index {
                    1 | 2 => (number(&point["draft"]), number(&point["verify"])),
                    3 | 4 => (0.0, number(&point["cost"])),
                    _ => (0.1 * drafted as f64, number(&point["cost"])),
                };
                rounds += number(count);
                cost += number(count) * (draft + verify);
            }
        }
        close(number(&setting["tokens_per_expert_pass"]), emitted / rounds);
        close(number(&setting["predicted_speedup"]), emitted / cost);
    }
}

#[test]
fn a_synthetic_drafter_is_measured_and_labelled() {
    let options = [&SHORT[..], &["-k", "2", "--synthetic", "1,0.5:0,0,0"]].concat();
    let report = json(&options);
    let summary = array(&report["summary"]);
    let names: Vec<_> = summary.iter().map(|setting| setting["drafter"].as_str().unwrap()).collect();
    assert_eq!(names, ["none", "synthetic 1.00", "synthetic .50:.00", "synthetic .00"]);
    assert!(summary.iter().all(|setting| setting["same_text"] == setting["runs"]));
    assert_eq!((number(&summary[1]["acceptance_rate"]), number(&summary[3]["acceptance_rate"])), (1.0, 0.0));
    assert!(array(&report["runs"]).iter().any(|run| run["drafter"] == "synthetic .50:.00"));
    let table = table(&options);
    for word in ["synthetic .50:.00", "efficiency", "is no drafter but a way to measure the engine"] {
        assert!(table.contains(word), "{word}: {table}");
    }
}

#[test]
fn without_a_tokenizer_prompts_are_random_tokens() {
    let arguments = ["-m", STRANGER, "-n", "8", "-r", "1", "-k", "2"];
    let output = bench(&[&arguments[..], &["--json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("measured on 12 prompts of 64 random token ids"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["prompts"], array(&report["runs"]).len()), (&12.into(), 12 * 2));
    assert!(array(&report["runs"]).iter().all(|run| run["prompt_tokens"] == 64));
    assert_eq!(json(&[&arguments[..], &["--limit", "3"]].concat())["prompts"], 3);
    let message = refused(&[&arguments[..], &["--prompts", "questions.jsonl"]].concat());
    assert!(message.contains("the prompts in questions.jsonl are text; without --prompts"), "{message}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let cases: [(&[&str], &str); 8] = [
        (&["--verify-cost", "-m", STRANGER, "-d", "demo"], "vocabulary sizes differ: draft 4096, expert 320"),
        (&["--synthetic", "1.5"], "'1.5' for '--synthetic"),
        (&["--synthetic", "0.8:-1"], "write ACCEPTANCE or ACCEPTANCE:COST"),
        (&["--synthetic", "0.8", "--temperature", "0.7"], "--temperature is 0.7; use --temperature 0"),
        (&["--acceptance", "0.5"], "--verify-cost"),
        (&["--verify-cost", "--acceptance", "50"], "a number from 0 to 1"),
        (&["--verify-cost", "--synthetic", "0.8"], "cannot be used with"),
        (&["--verify-cost", "-k", "3"], "cannot be used with"),
    ];
    for (arguments, expected) in cases {
        let message = refused(arguments);
        assert!(message.contains(expected) && !message.contains("panicked"), "{arguments:?}: {message}");
    }
}

/// The text of the demo expert and what it took.
fn generate(
    expert: &Arc<Transformer>,
    prompt: &[TokenId],
    drafter: Option<SyntheticDrafter>,
    rule: Arc<dyn AcceptanceRule>,
) -> (Vec<TokenId>, Stats) {
    let k = if drafter.is_some() { 4 } else { 0 };
    let builder = Engine::builder().expert(expert.clone()).draft_length(k);
    let builder = match drafter {
        Some(drafter) => builder.drafter(drafter),
        None => builder.drafter(NoDrafter),
    };
    let mut engine = builder.build().unwrap();
    let options = SessionOptions { max_tokens: 150, rule: Some(rule), ..Default::default() };
    let mut session = engine.session(prompt, &options).unwrap();
    session.by_ref().for_each(|step| drop(step.unwrap()));
    (session.generated().to_vec(), session.stats().clone())
}

#[test]
fn a_synthetic_drafter_changes_no_token() {
    let expert = demo::expert(&open_device(DeviceChoice::Cpu).unwrap(), WeightType::F32).unwrap();
    let prompt = expert.tokenizer().unwrap().encode("Question: Tom has 3 apples").unwrap();
    let rules: [Arc<dyn AcceptanceRule>; 2] = [Arc::new(Lossless), Arc::new(ExactMatch)];
    for rule in rules {
        let (plain, _) = generate(&expert, &prompt, None, rule.clone());
        for acceptance in [0.0, 0.6, 1.0] {
            let known = [&prompt[..], &plain].concat();
            let drafter = SyntheticDrafter::new(known, acceptance).unwrap();
            let drafter = drafter.with_seed(5).with_step(Duration::from_micros(10));
            let (tokens, stats) = generate(&expert, &prompt, Some(drafter.clone()), rule.clone());
            assert_eq!(tokens, plain, "{acceptance}");
            // Every examined position was decided by the drafter's own rate.
            let rate = stats.acceptance_rate().unwrap();
            let deviation = (acceptance * (1.0 - acceptance) / stats.examined as f64).sqrt();
            assert!((rate - acceptance).abs() <= 4.0 * deviation, "{acceptance}: {rate}");
        }
    }
}

/// Rules that need a drafter's probabilities are measured against the expert alone too.
#[test]
fn every_kind_of_rule_can_be_measured() {
    let short = ["--limit", "1", "-n", "6", "-r", "1", "-k", "2", "-t", "1"];
    for rule in ["block", "cascade-chow:lenience=0.2", "typical", "contrastive"] {
        let report = json(&[&short[..], &["--rule", rule]].concat());
        let summary = report["summary"].as_array().unwrap();
        assert_eq!(
            (&summary[0]["k"], &summary[0]["tokens_per_expert_pass"]),
            (&0.into(), &1.0.into()),
            "{rule}"
        );
        assert!(summary.iter().any(|line| line["drafter"] == "demo"), "{rule}");
        let needs_probabilities = rule.starts_with("cascade-chow") || rule == "contrastive";
        assert_eq!(summary.iter().any(|line| line["drafter"] == "ngram"), !needs_probabilities, "{rule}");
    }
    let ngram = refused(&[&short[..], &["--rule", "cascade-chow", "-d", "ngram"]].concat());
    assert!(ngram.contains("needs the drafter's own probabilities, and drafter `ngram` has none"), "{ngram}");
}
