//! The command line as its users meet it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "cli/grammar.rs"]
mod grammar;
#[path = "cli/refusals.rs"]
mod refusals;

use serde_json::Value;
use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

const PROMPT: &str = "Question: Tom has 3 apples";

fn run(arguments: &[&str]) -> Output {
    with_input(arguments, "")
}

fn with_input(arguments: &[&str], input: &str) -> Output {
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

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn generate(options: &[&str]) -> Output {
    let output = run(&[&["generate", "--device", "cpu", "-n", "24", PROMPT], options].concat());
    assert!(output.status.success(), "{}", err(&output));
    output
}

fn json(options: &[&str]) -> Value {
    serde_json::from_slice(&generate(&[options, &["--json"]].concat()).stdout).unwrap()
}

#[test]
fn text_goes_out_and_statistics_beside_it() {
    let output = generate(&[]);
    assert!(!out(&output).trim().is_empty());
    let line = err(&output);
    for word in
        ["24 tokens", "acceptance rate", "tokens per expert pass", "tokens/s", "drafting", "verifying"]
    {
        assert!(line.contains(word), "{line}");
    }
    assert!(!err(&generate(&["--quiet"])).contains("tokens per expert pass"));
}

#[test]
fn whoever_drafts_the_greedy_text_is_the_same() {
    let plain = out(&generate(&["--drafter", "none"]));
    for options in [&["-k", "1"][..], &["--draft-max", "5"], &["-md", "ngram"], &["--rule", "exact-match"]] {
        assert_eq!(out(&generate(options)), plain, "{options:?}");
    }
}

#[test]
fn json_carries_tokens_provenance_and_counters() {
    let value = json(&["--compare", "--temp", "0.8", "--seed", "3"]);
    let tokens = value["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 24);
    let text: String = tokens.iter().map(|token| token["text"].as_str().unwrap()).collect();
    assert_eq!(value["text"], text);
    assert!(
        tokens
            .iter()
            .all(|t| ["drafted", "replacement", "bonus"].contains(&t["provenance"].as_str().unwrap()))
    );
    assert!(tokens.iter().all(|t| t["id"].is_u64()));
    let stats = &value["stats"];
    assert_eq!(stats["emitted"], 24);
    assert_eq!(stats["metrics"]["spec_decode_num_draft_tokens"], stats["drafted"]);
    assert!(value["compare"]["speedup"].as_f64().unwrap() > 0.0);
    assert_eq!(value["finish"]["reason"], "max_tokens");
    let again = json(&["--temp", "0.8", "--seed", "3"]);
    assert_eq!(again["tokens"], value["tokens"], "the same seed gives the same text");
    assert_ne!(json(&["--temp", "0.8", "--seed", "4"])["tokens"], value["tokens"]);
}

#[test]
fn prompts_come_from_anywhere() {
    let expected = out(&generate(&["-q"]));
    let common = ["generate", "--device", "cpu", "-n", "24", "-q"];
    assert_eq!(out(&with_input(&common, PROMPT)), expected);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), PROMPT).unwrap();
    assert_eq!(out(&run(&[&common[..], &["-f", file.path().to_str().unwrap()]].concat())), expected);
    // As token ids; the answer comes as ids too.
    let value = json(&[]);
    let ids = |tokens: &Value, key: Option<&str>| {
        let id = |token: &Value| key.map_or(token.clone(), |key| token[key].clone()).to_string();
        tokens.as_array().unwrap().iter().map(id).collect::<Vec<_>>()
    };
    let prompt = ids(&value["prompt_tokens"], None).join(",");
    let output = run(&[&common[..], &["--tokens", &prompt]].concat());
    assert_eq!(out(&output).split_whitespace().collect::<Vec<_>>(), ids(&value["tokens"], Some("id")));
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let whole = out(&generate(&["-q"]));
    let (before, _) = whole.split_once("apples").unwrap();
    assert_eq!(out(&generate(&["-q", "--stop", "apples"])), format!("{before}\n"));
}

#[test]
fn a_pair_is_checked() {
    let fit = run(&["check", "demo", "demo"]);
    assert!(fit.status.success() && out(&fit).contains("They fit"));
    let stranger = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parity/llama");
    let unfit = run(&["check", "demo", stranger, "--json"]);
    assert_eq!(unfit.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&unfit.stdout).unwrap();
    assert_eq!(report["fits"], false);
    assert!(report["reason"].as_str().unwrap().contains("draft 320, expert 4096"));
    assert!(report["bridge"].is_null(), "without a tokenizer nothing can be translated");
}

/// Models with different tokenizers work together by a bridge, which is named with what it costs.
#[test]
fn a_bridge_between_tokenizers_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let assets = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    std::fs::copy(assets.join("drafter/config.json"), folder.path().join("config.json")).unwrap();
    // The demo's tokenizer with its mark as a text.
    let tokenizer = std::fs::read_to_string(assets.join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&tokenizer).unwrap();
    tokenizer["added_tokens"] = Value::Array(Vec::new());
    let path = folder.path().join("tokenizer.json");
    std::fs::write(path, tokenizer.to_string().replace("<|endoftext|>", "<|end|>")).unwrap();
    let name = folder.path().to_str().unwrap();
    let text = run(&["check", "demo", name]);
    assert!(text.status.success() && out(&text).contains("a bridge works: tli"), "{}", out(&text));
    let report: Value = serde_json::from_slice(&run(&["check", "demo", name, "--json"]).stdout).unwrap();
    assert_eq!((&report["fits"], &report["bridge"]["name"]), (&false.into(), &"tli".into()));
    assert_eq!(report["bridge"]["shared_tokens"], 4095);
    assert_eq!(report["bridge"]["drafter_steps_per_token"], 1.0);
}

#[test]
fn a_benchmark_has_its_baseline_and_every_value() {
    let output =
        run(&["bench", "--device", "cpu", "-n", "8", "-r", "2", "--limit", "2", "-k", "1,2", "--json"]);
    assert!(output.status.success(), "{}", err(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let summary = report["summary"].as_array().unwrap();
    assert_eq!((summary.len(), &summary[0]["drafter"], &summary[0]["k"]), (5, &"none".into(), &0.into()));
    assert!(
        summary.iter().all(|setting| setting["same_text"] == setting["runs"]),
        "greedy text is the expert's"
    );
    // Two prompts, two repetitions, plain and two drafters with two lengths.
    assert_eq!(report["runs"].as_array().unwrap().len(), 2 * 2 * 5);
    assert!(report["runs"].as_array().unwrap().iter().all(|run| run["stats"]["emitted"] == 8));
}

/// With exact match a seed has one text, however much is drafted: every processor sees what was drafted before it, and
/// what is refused leaves nothing behind.
#[test]
fn processors_give_a_seed_one_text_with_any_draft() {
    let mut texts = std::collections::BTreeSet::new();
    for options in [
        "--mirostat 1 --mirostat-ent 3 --mirostat-lr 0.5",
        "--mirostat 2 --mirostat-tau 2 --mirostat-eta 0.5",
        "--xtc-probability 0.5 --xtc-threshold 0.05",
        "--dry-multiplier 2 --dry-allowed-length 1 --dry-sequence-breaker none",
        "--repeat-penalty 1.3 --repeat-last-n 8 --presence-penalty 0.5 --frequency-penalty 0.2",
        "--no-repeat-ngram-size 2 --bad-word apples --min-tokens 24",
        "--typical 0.7 --top-n-sigma 2 --epsilon-cutoff 0.01 --eta-cutoff 0.02 --dynatemp-range 0.5",
        "--sampler-preset llama.cpp --top-k 40 --top-p 0.9 --min-p 0.05 --repeat-penalty 1.1",
        "--samplers penalties,top-p,temperature,top-k --top-k 20 --top-p 0.95",
    ] {
        let options: Vec<_> = options.split(' ').collect();
        let text = |k| {
            out(&generate(&[&options[..], &["-q", "-t", "0.9", "--rule", "exact-match", "-k", k]].concat()))
        };
        let plain = text("0");
        assert_eq!(text("4"), plain, "{options:?}");
        assert!(texts.insert(plain), "{options:?} changes nothing");
    }
    assert!(!out(&generate(&["-q", "-t", "1", "--bad-word", "apples"])).contains(" apples"));
    let value = json(&["-t", "1", "--mirostat", "2", "--sampler-preset", "vllm"]);
    assert_eq!(value["sampling"]["mirostat"]["version"], 2);
    assert!(value["sampling"]["order"].as_str().unwrap().starts_with("no-repeat-ngram,bad-words"));
}

#[test]
fn spellings_of_other_engines_are_understood() {
    let plain = out(&generate(&["-q"]));
    for options in [&["--top-k", "-1"][..], &["--sampler-preset", "llama_cpp"], &["-d", "demo-drafter"]] {
        assert_eq!(out(&generate(&[&["-q"], options].concat())), plain, "{options:?}");
    }
    let option = run(&["generate", "--device", "cpu", "-n", "24", "-q", "-p", PROMPT]);
    assert_eq!(out(&option), plain);
    let drawn = [json(&["-t", "1", "-s", "-1"]), json(&["-t", "1", "-s", "-1"])];
    assert_ne!(drawn[0]["seed"], drawn[1]["seed"]);
    let seed = drawn[0]["seed"].to_string();
    assert_eq!(json(&["-t", "1", "-s", &seed])["text"], drawn[0]["text"], "it can be said again");
    assert!(err(&generate(&["-t", "1", "-s", "-1"])).contains("| seed "));
    let tokens = json(&["--logprobs", "2"])["tokens"].clone();
    let top = &tokens[0]["top_logprobs"];
    assert_eq!((&top[0]["id"], &top[0]["text"]), (&tokens[0]["id"], &tokens[0]["text"]));
    // Until the context is full, unless something ends it before.
    let all = run(&["generate", "--device", "cpu", "-n", "-1", "--stop", "apples", "--json", PROMPT]);
    assert_eq!(serde_json::from_slice::<Value>(&all.stdout).unwrap()["finish"]["reason"], "stop_string");
}

#[test]
fn a_model_without_texts_prints_ids() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parity/qwen3");
    let beam = |more: &[&str]| run(&[&["beam", "--tokens", "1 2 3", "-n", "4", "-m", model], more].concat());
    assert_eq!(out(&beam(&[])).split_whitespace().count(), 4);
    assert!(out(&beam(&["--json"])).contains(r#""text":null"#));
}

/// A lossy rule is called so wherever its text is, with what it did; a lossless one has nothing to confess.
#[test]
fn lossy_rules_are_labelled_and_priced() {
    let generate = |rule: &str, more: &[&str]| {
        let arguments =
            [&["generate", PROMPT, "-n", "24", "-t", "1", "-k", "3", "--rule", rule], more].concat();
        let output = run(&arguments);
        assert!(output.status.success(), "{}", err(&output));
        output
    };
    let json = |rule: &str| -> serde_json::Value {
        serde_json::from_str(&out(&generate(rule, &["--json"]))).unwrap()
    };
    let cascade = json("cascade-token-v3:lenience=0.5");
    assert_eq!(cascade["rule"]["promise"], "lossy: speculative cascade");
    assert_eq!(cascade["rule"]["dials"]["lenience"], 0.5);
    let (stats, price) = (&cascade["stats"], &cascade["stats"]["price"]);
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    assert_eq!(number(&stats["accepted"]) + number(&stats["replaced"]), number(&stats["examined"]));
    assert_eq!(number(&price["deferred"]) + number(&price["draft_decided"]), number(&stats["examined"]));
    assert!(price["mean_total_variation"].as_f64().unwrap() > 0.0);
    let lossless = json("block");
    assert_eq!((&lossless["rule"]["promise"], &lossless["stats"]["price"]), (&"lossless".into(), &().into()));
    let line = err(&generate("typical", &[]));
    assert!(line.contains("rule typical, threshold 0.09, alpha 0.3 [lossy]: deferral rate"), "{line}");
    assert!(err(&generate("block", &[])).contains("rule block |"));
    let rules = out(&run(&["rules"]));
    assert!(["coupled-noise", "cascade-opt-log", "truncate-top-p"].iter().all(|rule| rules.contains(rule)));
}

#[test]
fn what_the_drafter_was_sure_of_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pairs.jsonl");
    let path = file.to_str().unwrap();
    let recorded = generate(&["--record", path, "-t", "1", "-s", "0"]);
    let content = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = content.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty());
    assert!(err(&recorded).contains(&format!("added {} pairs of the drafter to {path}", lines.len())));
    for line in &lines {
        assert!((0.0..=1.0).contains(&line["confidence"].as_f64().unwrap()));
        assert!(line["correct"].is_boolean() && line["of"] == "drafter", "{line}");
    }
    assert_eq!(out(&recorded), out(&generate(&["-t", "1", "-s", "0"])), "recording changes nothing");
}

#[test]
fn pairs_are_calibrated() {
    let lines = |of: &str| {
        let line =
            |at: u32| serde_json::json!({ "confidence": 0.9, "correct": at.is_multiple_of(3), "of": of });
        (0..300).map(|at| line(at).to_string()).collect::<Vec<_>>().join("\n") + "\n"
    };
    let calibrate = |input: &str, bins| with_input(&["calibrate", "-", "--bins", bins], input);
    let one = calibrate(&lines("drafter"), "1000");
    assert!(
        out(&one).contains("300 pairs, 100 right; numbers of every second block of 64 pairs"),
        "{}",
        out(&one)
    );
    assert!(err(&one).is_empty(), "{}", err(&one));
    let mixed = calibrate(&(lines("drafter") + &lines("expert")), "10");
    assert!(mixed.status.success());
    assert!(
        err(&mixed).contains("mixes 300 pairs of the drafter and 300 pairs of the expert"),
        "{}",
        err(&mixed)
    );
    for bins in ["0", "1001", "18446744073709551616"] {
        assert!(!calibrate(&lines("drafter"), bins).status.success(), "{bins}");
    }
}

#[test]
fn too_few_positions_for_drift_are_no_silence() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "entropy 30<=1,30; max-probability 30<=0.5,30\n").unwrap();
    let said = err(&generate(&["--drift", file.path().to_str().unwrap()]));
    assert!(said.contains("--drift: 24 positions, at least 100 are needed to say anything"), "{said}");
}

#[test]
fn devices_and_completions_are_printed() {
    let devices = run(&["devices"]);
    assert!(devices.status.success() && out(&devices).contains("cpu"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(out(&run(&["completions", shell])).contains("draft-max"), "{shell}");
    }
}

#[test]
fn what_is_tuned_is_used_and_can_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tuned.toml");
    let path = file.to_str().unwrap();
    let tune = ["tune", "demo", "--device", "cpu", "--seconds", "0.2", "-k", "2", "--config", path];
    let found = run(&[&tune[..], &["-d", "demo", "--draft-chain", "ngram", "--json"]].concat());
    let report: Value = serde_json::from_str(&out(&found)).unwrap();
    assert_eq!(report["trials"][0]["drafter"], "ngram>demo", "{report}");
    assert!(report["trials"][0]["predicted_speedup"].as_f64().unwrap() > 0.0);
    assert_eq!(report["written"], path);
    let written = std::fs::read_to_string(&file).unwrap();
    // Whatever was the fastest here: what stands in the file is used.
    let choice = |drafter: &str, rule: &str| {
        let device = report["device"].as_str().unwrap();
        let text = format!(
            "[[choice]]\nexpert = \"demo\"\ndevice = \"{device}\"\nweights = \"f32\"\nsampled = false\ndrafter = \"{drafter}\"\ndraft_length = \"3\"\nrule = \"{rule}\"\nspeedup = 1.5\nversion = \"0\"\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    assert!(written.contains("expert = \"demo\""), "{written}");
    let plain = out(&generate(&["-d", "none"]));
    choice("suffix+demo", "lossless");
    let used = generate(&["--config", path]);
    assert_eq!(out(&used), plain);
    assert!(err(&used).contains("tuned: drafter suffix+demo, -k 3"), "{}", err(&used));
    assert!(err(&used).contains("drafter suffix+demo: acceptance"), "{}", err(&used));
    for other in
        [&["--no-tuned"][..], &["-d", "ngram"], &["-k", "2"], &["--rule", "lossless"], &["--tree", "2"]]
    {
        assert!(!err(&generate(&[&["--config", path], other].concat())).contains("tuned:"), "{other:?}");
    }
    // A law that is not the expert's is never used without a word.
    choice("demo", "cascade-token-v3:lenience=0.9");
    assert!(err(&generate(&["--config", path, "-q"])).contains("[lossy]"));
    choice("no/such", "lossless");
    let broken = run(&["generate", PROMPT, "--device", "cpu", "--config", path]);
    assert!(!broken.status.success() && err(&broken).contains("--no-tuned"), "{}", err(&broken));
}

#[test]
fn what_drafters_remember_is_kept_between_runs() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let path = store.to_str().unwrap();
    for drafter in [&["-d", "suffix+demo"][..], &["-d", "memory"], &["-d", "demo", "--draft-chain", "suffix"]]
    {
        let _ = std::fs::remove_dir_all(&store);
        let options = [drafter, &["-k", "3", "--draft-store", path]].concat();
        let (first, second) = (generate(&options), generate(&options));
        assert_eq!(out(&first), out(&second));
        let remembered = |output: &std::process::Output| {
            let line = err(output).lines().find(|line| line.contains(" remembers ")).unwrap().to_owned();
            line.split_whitespace().find_map(|word| word.parse::<usize>().ok()).unwrap()
        };
        assert!(remembered(&first) > 10, "{}", err(&first));
        assert!(remembered(&second) > remembered(&first) || drafter[1] == "memory", "{}", err(&second));
    }
    let file = store.join("suffix.store");
    std::fs::write(&file, "not a store").unwrap();
    let damaged = run(&["generate", PROMPT, "--device", "cpu", "-d", "suffix", "--draft-store", path]);
    assert!(!damaged.status.success() && err(&damaged).contains("suffix.store"), "{}", err(&damaged));
}
