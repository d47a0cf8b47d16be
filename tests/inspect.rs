//! `drafthorse inspect`: the numbers, by other ways to them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse::inspect::{Inspection, Origin, Position};
use serde_json::Value;
use std::process::{Command, Output};

const PROMPT: &str = "Question: Tom has 3 apples and buys 5 more. How many apples does he have?\nAnswer:";

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_drafthorse")).args(arguments).output().unwrap()
}

fn done(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn inspect(prompt: &str, options: &[&str]) -> Inspection {
    let arguments = [&["inspect", "--device", "cpu", "--json", prompt], options].concat();
    serde_json::from_str(&done(&arguments)).unwrap()
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} {b}");
}

/// The same on every position: nothing but closed forms.
fn check(position: &Position, vocabulary: u32) {
    for belief in [&position.expert, &position.drafter].into_iter().flatten() {
        let probabilities: Vec<f64> = belief.candidates.iter().map(|c| c.probability).collect();
        assert!(probabilities.len() == 10 && probabilities.is_sorted_by(|a, b| a >= b));
        assert!(probabilities.iter().sum::<f64>() <= 1.0 + 1e-9);
        near(probabilities[0], belief.max_probability);
        near(belief.log_prob.unwrap(), belief.probability.ln());
        if let Some(own) = belief.candidates.iter().position(|c| c.id == position.id) {
            near(belief.candidates[own].probability, belief.probability);
        }
        assert!(belief.rank > 10 || belief.candidates.iter().any(|c| c.id == position.id));
        let counted = belief.histogram.counts.iter().sum::<u32>() + belief.histogram.excluded as u32;
        assert_eq!((counted, belief.histogram.counts.len()), (vocabulary, 40));
        assert!((0.0..f64::from(vocabulary).ln()).contains(&belief.entropy));
    }
    if let (Some(pair), Some(p), Some(q)) = (&position.pair, &position.expert, &position.drafter) {
        near(pair.raw.acceptance.unwrap(), (p.probability / q.probability).min(1.0));
        near(pair.raw.expected_acceptance, 1.0 - pair.raw.total_variation);
        assert!(pair.raw.total_variation >= (p.probability - q.probability).abs() - 1e-9);
    }
    if let (Some(cell), Some(belief)) = (position.lens.last(), &position.expert) {
        near(cell.probability, belief.max_probability);
        near(cell.token_probability, belief.probability);
        assert_eq!(cell.id, belief.candidates[0].id);
    }
}

#[test]
fn every_number_of_a_text_is_what_it_says() {
    let seen = inspect(PROMPT, &["--temp", "1"]);
    assert_eq!(seen.positions.len(), seen.tokens);
    assert_eq!(seen.positions.iter().map(|p| p.text.as_str()).collect::<String>(), PROMPT);
    assert!(seen.positions[0].expert.is_none(), "nothing comes before the first token");
    for position in &seen.positions {
        check(position, 4096);
    }
    let later = &seen.positions[1..];
    assert!(
        later
            .iter()
            .all(|p| p.lens.len() == 7 && p.pair.as_ref().unwrap().sampled == p.pair.as_ref().unwrap().raw)
    );
    assert!(later.iter().any(|p| p.lens[3].id != p.lens[6].id), "the layers do not all say the same");
    // Another command, another way through the same models.
    let score: Value =
        serde_json::from_str(&done(&["score", "--device", "cpu", "--json", "-p", PROMPT])).unwrap();
    for (position, token) in seen.positions.iter().zip(score["texts"][0]["tokens"].as_array().unwrap()) {
        assert_eq!(position.id, token["id"].as_u64().unwrap() as u32);
        if let Some(belief) = &position.expert {
            near(belief.log_prob.unwrap(), token["log_prob"].as_f64().unwrap());
        }
    }
    near(seen.summary.expert.unwrap().perplexity.unwrap(), score["summary"]["perplexity"].as_f64().unwrap());
}

#[test]
fn a_generated_text_carries_where_it_comes_from() {
    let generate = |options: &[&str]| -> Value {
        let arguments = [&["generate", "--device", "cpu", "-n", "40", "--json", PROMPT], options].concat();
        serde_json::from_str(&done(&arguments)).unwrap()
    };
    for options in [
        &["-k", "3"][..],
        &["-t", "0.9", "--top-k", "40", "-k", "3"],
        &["-t", "1", "--mirostat", "2", "--mirostat-ent", "2", "-k", "3"],
        &["-d", "ngram", "-k", "4"],
        &["-d", "none"],
    ] {
        let (text, seen) = (generate(options), inspect(PROMPT, &[options, &["--generate", "40"]].concat()));
        let generated = &seen.positions[seen.prompt_tokens..];
        let expected: Vec<_> = text["tokens"].as_array().unwrap().iter().collect();
        assert_eq!(generated.len(), expected.len(), "{options:?}");
        for (position, token) in generated.iter().zip(expected) {
            assert_eq!(u64::from(position.id), token["id"].as_u64().unwrap());
            assert_eq!(position.origin.name(), token["provenance"]);
        }
        let possible = |p: &Position| p.expert.as_ref().is_some_and(|b| b.sampled_probability > 0.0);
        assert!(generated.iter().all(possible), "{options:?}: what came could be sampled");
        let generation = seen.generation.unwrap();
        assert_eq!(Value::from(generation.accepted), text["stats"]["accepted"]);
        assert_eq!(generation.rounds.iter().map(|round| round.emitted).sum::<usize>(), generated.len());
        assert!(
            seen.positions[..seen.prompt_tokens]
                .iter()
                .all(|p| p.origin == Origin::Prompt && p.round.is_none())
        );
        let best = |positions: &[Position]| {
            positions.iter().filter(|p| p.expert.as_ref().is_some_and(|b| b.rank == 1)).count()
        };
        let greedy = !options.contains(&"-t");
        assert_eq!(
            best(generated) == generated.len(),
            greedy,
            "{options:?}: greedy text is the most probable"
        );
        assert!(best(&seen.positions[..seen.prompt_tokens]) < seen.prompt_tokens - 1, "a prompt is not");
        let model = !options.contains(&"-d");
        assert_eq!(generated.iter().all(|p| p.drafter.is_some()), model, "{options:?}");
        assert_eq!(seen.notes.iter().any(|note| note.contains("is left out")), !model);
    }
}

#[test]
fn what_is_sampled_is_what_the_options_say() {
    let seen = inspect(PROMPT, &["-t", "0.7", "--top-k", "5", "--rule", "exact-match"]);
    assert_eq!(seen.facts.sampling, "temperature 0.7, top-k 5");
    for position in &seen.positions[1..] {
        let (expert, laws) = (position.expert.as_ref().unwrap(), &position.pair.as_ref().unwrap().sampled);
        assert_eq!(expert.sampled_probability > 0.0, expert.rank <= 5, "top-k");
        match laws.acceptance {
            Some(acceptance) => near(acceptance, expert.sampled_probability),
            None => assert_eq!(position.drafter.as_ref().unwrap().sampled_probability, 0.0),
        }
        assert!(
            laws.expected_acceptance <= 1.0 - laws.total_variation + 1e-9,
            "the same draw is the harder test"
        );
    }
}

#[test]
fn a_part_of_a_long_text_is_the_same_as_in_the_whole() {
    let long = [PROMPT; 30].join("\n");
    let whole = inspect(&long, &["--last", "100000"]);
    assert!(whole.positions.len() > 600, "more than is read at a time");
    let part = inspect(&long, &["--last", "50", "--no-layers"]);
    assert_eq!((part.positions.len(), part.tokens), (50, whole.tokens));
    assert!(part.notes.iter().any(|note| note.contains("the last 50 are shown")));
    for (a, b) in part.positions.iter().zip(&whole.positions[whole.tokens - 50..]) {
        assert_eq!(
            (a.index, &a.text, &a.expert, &a.drafter, &a.pair),
            (b.index, &b.text, &b.expert, &b.drafter, &b.pair)
        );
        assert!(a.lens.is_empty() && b.lens.len() == 7);
    }
}

#[test]
fn confidence_is_compared_with_what_is_given() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines: Vec<_> = [(0.95, true), (0.95, false), (0.25, false)]
        .map(|(confidence, correct)| format!(r#"{{"confidence": {confidence}, "correct": {correct}}}"#))
        .into();
    std::fs::write(file.path(), lines.join("\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let reliability = inspect(PROMPT, &["--calibration", path]).reliability.unwrap();
    near(reliability.ece, (2.0 * 0.45 + 0.25) / 3.0);
    assert_eq!(reliability.bins.iter().map(|bin| bin.count).collect::<Vec<_>>(), [1, 2]);
    // Without a file: the prompt's own tokens, and it is said.
    let seen = inspect(PROMPT, &["--generate", "8"]);
    let reliability = seen.reliability.unwrap();
    assert_eq!(reliability.count, seen.prompt_tokens - 1);
    assert!(reliability.source.contains("no calibration data were given"));
    for (line, says) in [
        (r#"{"confidence": 1.5, "correct": true}"#, "line 1: confidence 1.5 is out of range: 0 to 1"),
        (r#"{"confidence": 0.5}"#, "line 1: missing field `correct`"),
        ("", "no pairs of confidence and outcome"),
    ] {
        std::fs::write(file.path(), line).unwrap();
        refused(&["inspect", PROMPT, "--calibration", path], says);
    }
}

fn refused(arguments: &[&str], says: &str) {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
    assert!(error.contains(says) && !error.contains("panicked"), "{arguments:?}: {error}");
}

#[test]
fn what_cannot_be_looked_at_is_refused() {
    let long = "word ".repeat(3000);
    refused(&["inspect", &long], "is longer than the expert's context of 2048; shorten it");
    let cases: &[(&[&str], &str)] = &[
        (&["inspect", PROMPT, "--generate", "0"], "max tokens is 0"),
        (&["inspect", PROMPT, "--last", "0"], "0 is not in 1.."),
        (&["inspect", PROMPT, "--temperature", "-1"], "temperature -1 is out of range"),
        (&["inspect", PROMPT, "--calibration", "no-such-file"], "cannot read no-such-file"),
        (&["inspect", PROMPT, "--html", "no/such/folder/page.html"], "cannot write no/such/folder/page.html"),
        (&["inspect", "--tokens", "4096,1"], "token 4096 is outside the vocabulary of 4096"),
        (&["inspect", "--tokens", ""], "the sequence is empty"),
    ];
    for (arguments, says) in cases {
        refused(arguments, says);
    }
}

#[test]
fn the_page_holds_the_numbers_and_nothing_can_leave_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    let prompt = "</script><b>bold</b> & \"quotes\" <!-- é \u{2028} 日";
    let seen = inspect(prompt, &["--html", file.to_str().unwrap()]);
    let page = std::fs::read_to_string(&file).unwrap();
    let (_, rest) = page.split_once(r#"id="data">"#).unwrap();
    let (json, _) = rest.split_once("</script>").unwrap();
    assert_eq!(serde_json::from_str::<Inspection>(json).unwrap(), seen);
    assert_eq!(seen.positions.iter().map(|p| p.text.as_str()).collect::<String>(), prompt);
    assert!(!json.contains('<') && !page.contains("<b>bold"));
    // The one address in it is the name of SVG, which nobody loads.
    assert!(page.matches("http://").count() == 1 && !page.contains("https://") && !page.contains("src="));
    let table = done(&["inspect", "--device", "cpu", PROMPT, "-n", "4"]);
    assert!(
        ["expert would say", "perplexity", "note: greedy decoding"].iter().all(|word| table.contains(word))
    );
}
