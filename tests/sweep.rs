//! `drafthorse sweep` as its users meet it. No test asserts a time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use csv_core::{ReadRecordResult, Reader};
use drafthorse::quality::front;
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const LINES: &str = r#"{"question": "Tom has 3 apples and buys 5 more. How many?", "answer": "3 + 5 = 8\n#### 8"}
{"question": "A box holds 12 eggs. How many are in 2 boxes?", "answer": "12 * 2 = 24\n#### 24"}
"#;

/// Two rules with two dials each, and what they are compared with.
const RULES: &str = "lossless,cascade-chow:lenience=0.3,cascade-chow:lenience=0.9,typical:threshold=0.3,alpha=0.4,typical:threshold=0.01,alpha=0.4,drafter,token-cascade:lenience=0.5";

fn sweep(folder: &Path, more: &[&str]) -> Output {
    let file = folder.join("sums.jsonl");
    if !file.exists() {
        fs::write(&file, LINES).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_drafthorse"));
    command.args(["sweep", "--device", "cpu", "-n", "10", "-t", "1", "-k", "3", "--rules", RULES]);
    command.args(["--template", "Question: {question}\\nAnswer:", "--prompts"]).arg(file);
    command.arg("--out").arg(folder.join("out")).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn works(folder: &Path, more: &[&str]) -> String {
    let output = sweep(folder, more);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn refused(folder: &Path, more: &[&str]) -> String {
    let output = sweep(folder, more);
    assert!(!output.status.success() && output.stdout.is_empty(), "{more:?}");
    text(&output.stderr)
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join("out").join(name)).unwrap()
}

fn json(folder: &Path) -> Value {
    serde_json::from_str(&read(folder, "sweep.json")).unwrap()
}

/// The points without what hangs on time.
fn points(folder: &Path) -> Vec<Value> {
    let mut points = json(folder)["tasks"][0]["points"].as_array().unwrap().clone();
    for point in &mut points {
        for field in ["relative_time", "tokens_per_second", "on_front"] {
            assert!(point.as_object_mut().unwrap().remove(field).is_some(), "{field}");
        }
    }
    points
}

fn records(csv: &str) -> Vec<Vec<String>> {
    let (mut reader, mut input) = (Reader::new(), csv.as_bytes());
    let (mut records, mut output, mut ends) = (Vec::new(), vec![0; csv.len() + 1], vec![0; 1000]);
    loop {
        let (result, read, _, fields) = reader.read_record(input, &mut output, &mut ends);
        input = &input[read..];
        match result {
            ReadRecordResult::Record => {
                let starts = [0].into_iter().chain(ends[..fields].iter().copied());
                let field = |(start, end): (usize, &usize)| text(&output[start..*end]);
                records.push(starts.zip(&ends[..fields]).map(field).collect());
            }
            ReadRecordResult::InputEmpty => {}
            ReadRecordResult::End => return records,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_sweep_measures_every_point_and_writes_it_in_all_forms() {
    let folder = tempfile::tempdir().unwrap();
    let table = works(folder.path(), &["--metric", "chrf,log-probability"]);
    let report = json(folder.path());
    let (task, points) = (&report["tasks"][0], report["tasks"][0]["points"].as_array().unwrap());
    assert_eq!(
        (&task["task"], &task["prompts"], &report["complete"]),
        (&"sums".into(), &2.into(), &true.into())
    );
    let names: Vec<_> = points.iter().map(|point| point["point"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names[0]), (8, "expert"));
    for name in &names {
        assert!(table.contains(name), "{name}");
    }
    let expert = &points[0];
    assert_eq!(expert["relative_time"]["mean"], 1.0);
    assert_eq!(expert["relative_compute"]["mean"], 1.0);
    assert_eq!(expert["tokens_per_expert_pass"]["mean"], 1.0);
    let drafter = points.iter().find(|point| point["point"] == "drafter").unwrap();
    assert!(drafter["tokens_per_expert_pass"].is_null() && drafter["counts"]["expert_rows"] == 0);
    let share =
        report["drafter_parameters"].as_f64().unwrap() / report["expert_parameters"].as_f64().unwrap();
    assert!((drafter["relative_compute"]["mean"].as_f64().unwrap() - share).abs() < 1e-9);
    for measure in ["exact-match", "last-number", "chrf", "rouge-1", "rouge-2", "rouge-l", "log-probability"]
    {
        assert!(points.iter().all(|point| point["quality"][measure]["mean"].is_f64()), "{measure}");
    }

    let records = records(&read(folder.path(), "sweep.csv"));
    assert_eq!(records.len(), 1 + names.len());
    assert!(records.iter().all(|record| record.len() == records[0].len()));
    assert!(records[1..].iter().map(|record| record[1].as_str()).eq(names.iter().copied()));

    for picture in ["sums.svg", "sums-log-probability.svg"] {
        let picture = read(folder.path(), picture);
        let document = roxmltree::Document::parse(&picture).unwrap();
        let texts: Vec<_> = document.descendants().filter_map(|node| node.text()).map(str::trim).collect();
        for word in
            ["cascade-chow (lenience: 0.3 to 0.9)", "Pareto front", "time a token / that of the expert alone"]
        {
            assert!(texts.contains(&word), "{word}: {texts:?}");
        }
    }
}

#[test]
fn the_front_in_the_files_is_the_one_of_the_points() {
    let folder = tempfile::tempdir().unwrap();
    works(folder.path(), &["--metric", "log-probability"]);
    let report = json(folder.path());
    let points = report["tasks"][0]["points"].as_array().unwrap();
    let place = |point: &Value, quality: f64| {
        let quality = quality * point["quality"]["log-probability"]["mean"].as_f64().unwrap();
        (point["relative_compute"]["mean"].as_f64().unwrap(), quality)
    };
    let marked: Vec<bool> = points.iter().map(|point| point["on_compute_front"].as_bool().unwrap()).collect();
    assert_eq!(front(&points.iter().map(|point| place(point, 1.0)).collect::<Vec<_>>()), marked);
    assert_ne!(front(&points.iter().map(|point| place(point, -1.0)).collect::<Vec<_>>()), marked);
}

#[test]
fn a_sweep_that_was_stopped_goes_on_and_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    works(folder.path(), &[]);
    let (whole, runs) = (points(folder.path()), read(folder.path(), "runs.jsonl"));
    assert_eq!(runs.lines().count(), 2 * 8);
    // Stopped in the middle of a line of the first prompt.
    let cut = runs.lines().take(5).map(|line| line.len() + 1).sum::<usize>() + 30;
    let path = folder.path().join("out/runs.jsonl");
    fs::write(&path, &runs[..cut]).unwrap();
    let output = sweep(folder.path(), &[]);
    assert!(output.status.success() && text(&output.stderr).contains("the last line broke off"));
    assert_eq!(points(folder.path()), whole);
    let resumed = read(folder.path(), "runs.jsonl");
    assert!(resumed.starts_with(&runs[..cut - 30]), "what was there stays");
    assert_eq!(resumed.lines().count(), 2 * 8 + 1, "the expert once more, to compare times with");

    // Nothing is missing: nothing is measured.
    works(folder.path(), &[]);
    assert_eq!(read(folder.path(), "runs.jsonl"), resumed);
    assert_eq!(points(folder.path()), whole);

    // Another text must show, or the comparison above means nothing.
    let changed = resumed.replacen("\"accepted\":", "\"accepted\":1", 12);
    fs::write(&path, changed).unwrap();
    works(folder.path(), &[]);
    assert_ne!(points(folder.path()), whole);
}

#[test]
fn other_settings_and_damage_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    works(folder.path(), &[]);
    let message = refused(folder.path(), &["--seed", "3"]);
    assert!(message.contains("another `seed`: 0 there, 3 now; name another folder with --out"), "{message}");
    assert!(refused(folder.path(), &["-k", "4"]).contains("another `draft_length`"));
    assert!(refused(folder.path(), &["--limit", "1"]).contains("another `tasks`"));
    let path = folder.path().join("out/runs.jsonl");
    let runs = read(folder.path(), "runs.jsonl");
    fs::write(&path, format!("{{\n{runs}")).unwrap();
    let message = refused(folder.path(), &[]);
    assert!(message.contains("line 1 is damaged") && message.contains("--restart"), "{message}");
    works(folder.path(), &["--seed", "3", "--restart"]);
    assert_eq!(read(folder.path(), "runs.jsonl").lines().count(), 16);
}

#[test]
fn what_cannot_be_measured_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for (more, words) in [
        (&["--rules", "wishful"][..], "there is no rule `wishful` to measure; there are drafter"),
        (&["--rules", "cascade-chow:lenience=7"], "out of range"),
        (&["--drafter", "none"], "a sweep needs a drafter"),
        (&["--template", "{nothing}"], "line 1: no `nothing`, which the template asks for"),
        (&["--max-tokens", "0"], "must be at least 1"),
        (&["--task", "sums=missing.jsonl"], "cannot read missing.jsonl"),
        (&["--task", "a/b=x"], "names files too"),
        (&["--rule", "lossless"], "a similar argument exists: '--rules'"),
        (&["--rules", ""], "a value is required"),
        (&["--drafter", "exit:1"], "those of drafter `exit:1` cannot be counted"),
        (&["--drafter", "ngram+demo"], "those of drafter `ngram+demo` cannot be counted"),
    ] {
        let message = refused(folder.path(), more);
        assert!(message.contains(words), "{more:?}: {message}");
    }
    assert!(!folder.path().join("out").exists(), "nothing is left behind");

    // A drafter that only looks tokens up has no confidence, and cannot write alone.
    let output = sweep(folder.path(), &["--drafter", "ngram"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let notes = text(&output.stderr);
    assert!(notes.contains("left out: drafter: drafter `ngram` is no model"), "{notes}");
    let report = json(folder.path());
    let skipped: Vec<_> =
        report["skipped"].as_array().unwrap().iter().map(|s| s["point"].as_str().unwrap()).collect();
    assert!(
        skipped.contains(&"cascade-chow:lenience=0.3") && skipped.contains(&"token-cascade:lenience=0.5")
    );
    let points = report["tasks"][0]["points"].as_array().unwrap();
    assert!(points.iter().any(|point| point["point"] == "lossless"));
}

#[test]
fn texts_can_be_continued_and_compared_with_how_they_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let novel = "It was late in the evening when the carriage stopped before the old house, and nobody came to the door. The rain had not ceased since noon, and the horses were tired.";
    fs::write(folder.path().join("sums.jsonl"), serde_json::json!({ "text": novel }).to_string()).unwrap();
    works(folder.path(), &["--template", "{text}", "--continue", "20"]);
    let report = json(folder.path());
    assert_eq!(report["tasks"][0]["metric"], "chrf");
    assert!(report["tasks"][0]["points"][0]["quality"]["rouge-l"]["mean"].is_number());
    let message = refused(folder.path(), &["--template", "{text}", "--continue", "500", "--restart"]);
    assert!(message.contains("leave nothing to compare with after --continue 500"), "{message}");
    let message = refused(folder.path(), &["--template", "{text}", "--metric", "rouge-l", "--restart"]);
    assert!(message.contains("--metric rouge-l needs references"), "{message}");
}
