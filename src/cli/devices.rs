//! `drafthorse devices`

use super::{Outcome, output::table};
use drafthorse::{DeviceChoice, model::adapters, open_device};
use std::{io::Write, process::ExitCode};

pub(crate) fn run() -> Outcome {
    let found = adapters();
    let automatic = open_device(DeviceChoice::Auto)?;
    let mut rows = Vec::new();
    let mark = |choice| if choice == automatic.choice { "auto" } else { "" };
    if let Ok(cpu) = open_device(DeviceChoice::Cpu) {
        rows.push(["cpu".to_owned(), "CPU".to_owned(), cpu.name, String::new(), mark(cpu.choice).to_owned()]);
    }
    for adapter in &found {
        rows.push([
            adapter.choice.to_string(),
            adapter.kind.to_string(),
            adapter.name.clone(),
            adapter.driver.clone(),
            mark(adapter.choice).to_owned(),
        ]);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", table(["device", "kind", "name", "driver", ""], rows))?;
    if !found.iter().any(|adapter| adapter.kind.is_gpu()) {
        writeln!(out, "No GPU was found; `auto` means the CPU.")?;
    }
    Ok(ExitCode::SUCCESS)
}
