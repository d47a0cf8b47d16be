//! The folder of a sweep: what was measured stays measured.

use super::run::Run;
use crate::cli::{failure::Failure, output};
use serde_json::Value;
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// The file every finished text is added to, and what is in it.
pub(super) struct Store {
    file: File,
    path: PathBuf,
    runs: Vec<Run>,
    session: usize,
}

impl Store {
    /// Opens a folder, a new one or that of a sweep with the same settings.
    pub(super) fn open(folder: &Path, settings: &Value, restart: bool) -> Result<Self, Failure> {
        let io = |what: &str, path: &Path, error: std::io::Error| {
            Failure::new(format!("cannot {what} {}: {error}", path.display()))
        };
        fs::create_dir_all(folder).map_err(|error| io("make the folder", folder, error))?;
        let (known, path) = (folder.join("settings.json"), folder.join("runs.jsonl"));
        if restart {
            for path in [&known, &path].into_iter().filter(|path| path.exists()) {
                fs::remove_file(path).map_err(|error| io("remove", path, error))?;
            }
        }
        // An empty file is that of a sweep which was stopped before its first text.
        if fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
            let text = fs::read_to_string(&known).map_err(|error| io("read", &known, error))?;
            compare(&known, &text, settings)?;
        } else {
            let text = serde_json::to_string_pretty(settings)? + "\n";
            fs::write(&known, text).map_err(|error| io("write", &known, error))?;
        }
        let bytes = if path.exists() { fs::read(&path) } else { Ok(Vec::new()) };
        let (runs, whole) = parse(&bytes.map_err(|error| io("read", &path, error))?, &path)?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|error| io("write", &path, error))?;
        file.set_len(whole as u64).map_err(|error| io("write", &path, error))?;
        let session = runs.iter().map(|run| run.session).max().unwrap_or(0) + 1;
        Ok(Self { file, path, runs, session })
    }

    /// What was measured in this folder.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The number of this start of the program.
    pub(super) fn session(&self) -> usize {
        self.session
    }

    /// Keeps a text.
    pub(super) fn add(&mut self, run: &Run) -> Result<(), Failure> {
        let line = serde_json::to_string(run)? + "\n";
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.flush());
        let path = self.path.display();
        written.map_err(|error| Failure::new(format!("cannot write {path}: {error}")))?;
        // As it stands in the file, so that a sweep that goes on computes with the same numbers.
        self.runs.push(serde_json::from_str(&line)?);
        Ok(())
    }
}

/// The runs in a file, and how much of it is whole: a last line that broke off is left out.
fn parse(bytes: &[u8], path: &Path) -> Result<(Vec<Run>, usize), Failure> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        output::note(&format!("{}: the last line broke off and is measured again", path.display()));
    }
    let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let parse = |(number, line): (usize, &[u8])| {
        serde_json::from_slice(line).map_err(|error| {
            let path = path.display();
            Failure::new(format!(
                "{path} line {number} is damaged: {error}; remove the line, or begin anew with --restart"
            ))
        })
    };
    Ok(((1..).zip(lines).map(parse).collect::<Result<_, _>>()?, whole))
}

/// Whether the folder's sweep had these settings.
fn compare(path: &Path, text: &str, settings: &Value) -> Result<(), Failure> {
    const WAY_OUT: &str = "name another folder with --out, or begin anew with --restart";
    let path = path.display();
    let before: Value = serde_json::from_str(text)
        .map_err(|error| Failure::new(format!("{path} is damaged: {error}; {WAY_OUT}")))?;
    let keys = [&before, settings].into_iter().filter_map(Value::as_object).flat_map(|object| object.keys());
    for key in keys {
        let (then, now) = (&before[key], &settings[key]);
        if then != now {
            return Err(Failure::new(format!(
                "this folder holds a sweep with another `{key}`: {then} there, {now} now; {WAY_OUT}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_that_broke_off_is_left_out_and_a_damaged_one_refused() {
        let run = Run { prompt: 3, text: "a\nb".into(), ..Run::default() };
        let line = serde_json::to_string(&run).unwrap() + "\n";
        let read = |text: &str| parse(text.as_bytes(), Path::new("runs.jsonl")).map_err(|_| ());
        let torn = format!("{line}{}", &line[..20]);
        assert_eq!(read(&torn), Ok((vec![run.clone()], line.len())));
        assert_eq!(read(&line[..20]), Ok((vec![], 0)));
        assert_eq!(read(""), Ok((vec![], 0)));
        assert!(read(&format!("{}\n{line}", &line[..20])).is_err());
    }

    #[test]
    fn settings_are_compared_by_value() {
        let same = |a: &Value, b: &Value| compare(Path::new("s"), &a.to_string(), b).is_ok();
        let (a, b) = (json!({"k": 5, "n": 3}), json!({"k": 5, "n": 4}));
        assert!(same(&a, &a) && !same(&a, &b) && !same(&a, &json!({"k": 5})) && !same(&json!({"k": 5}), &a));
    }
}
