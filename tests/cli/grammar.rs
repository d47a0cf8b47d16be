//! Texts that must be something.

use super::*;

/// The demo models write what a grammar lets them, with drafts as without.
#[test]
fn texts_follow_a_grammar() {
    let schema = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":8},"age":{"type":"integer",
        "minimum":0,"maximum":150}},"required":["name","age"],"additionalProperties":false}"#;
    let generate = |more: &[&str]| -> Value {
        let output =
            run(&[&["generate", PROMPT, "-n", "100", "-j", schema, "--compact", "--json"], more].concat());
        assert!(output.status.success(), "{}", err(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let [drafted, plain] = [generate(&["-k", "4"]), generate(&["-k", "0"])];
    assert_eq!(drafted["text"], plain["text"], "greedy");
    assert!(drafted["stats"]["forced"].as_u64().unwrap() > 0);
    for seed in ["1", "2", "3"] {
        let report = generate(&["-t", "1", "--seed", seed]);
        let value: Value = serde_json::from_str(report["text"].as_str().unwrap()).unwrap();
        assert!(
            value["name"].as_str().unwrap().chars().count() <= 8 && value["age"].as_u64().unwrap() <= 150
        );
    }
    let forced = generate(&["-d", "none", "--ignore-eos"]);
    assert_eq!((&forced["text"], &forced["finish"]["reason"]), (&plain["text"], &"grammar".into()));
    assert!(forced["stats"]["forced_accepted"].as_u64().unwrap() > 0);
    assert_eq!((&forced["stats"]["drafted"], &forced["stats"]["accepted"]), (&0.into(), &0.into()));
}

#[test]
fn a_text_that_breaks_off_is_not_complete_by_its_grammar() {
    let inline = "start: \"yes\" | \"no\"";
    let whole = json(&["--grammar", inline]);
    assert_eq!(whole["grammar"]["complete"], true);
    assert!(["yes", "no"].contains(&whole["text"].as_str().unwrap()));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("\u{feff}{inline}")).unwrap();
    assert_eq!(json(&["--grammar", file.path().to_str().unwrap()])["text"], whole["text"]);
    let cut = generate(&["--regex", "[0-9]{50}", "-n", "5"]);
    assert!(err(&cut).contains("stopped at 5 tokens: the text is not complete by its grammar (more -n)"));
    assert_eq!(json(&["--regex", "[0-9]{50}", "-n", "5"])["grammar"]["complete"], false);
    assert_eq!(json(&["--regex", "[0-9]+", "-n", "5"])["grammar"]["complete"], true, "it may end anywhere");
    let digits = generate(&["--regex", "[0-9]{4}", "--min-tokens", "20"]);
    assert!(out(&digits).trim().len() == 4 && err(&digits).contains("(complete by its grammar)"));
    let stopped = |regex| json(&["--regex", regex, "--stop", "b"])["grammar"]["complete"].clone();
    assert_eq!((stopped("aab?"), stopped("a(ab)")), (true.into(), false.into()));
    assert!(err(&generate(&["--regex", "yes|no", "--bad-word", "yes"])).contains("note: --bad-word"));
    assert_eq!(json(&[])["grammar"], Value::Null);
}
