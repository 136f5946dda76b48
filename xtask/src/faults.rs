//! `cargo xtask faults`: the faults of the loopback against tunnels and shells, with many seeds, and the table of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::process::{Failure, cargo, run as run_command};
use crate::workspace::Workspace;

/// Package, test program, and the tests in it.
const TRIALS: &[(&str, &str, &str)] = &[("ssm-portfwd", "loopback", "faults::"), ("ssm-shell", "faults", "")];

const USAGE: &str = "usage: cargo xtask faults [--runs N]";

/// `[--runs N]`, 20 without.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<(), Failure> {
    let runs: u32 = match args {
        [] => 20,
        [flag, count] if flag == "--runs" => count.parse().map_err(|_| Failure::new(USAGE))?,
        _ => return Err(Failure::new(USAGE)),
    };
    let report = workspace.target.join("faults.tsv");
    let _ = fs::remove_file(&report);
    let mut outcome = Ok(());
    for (package, test, filter) in TRIALS {
        let mut command = cargo(&workspace.root);
        command.args(["test", "--locked", "--package", package, "--test", test, "--", filter]);
        command.env("SSM_FAULT_RUNS", runs.to_string()).env("SSM_FAULT_REPORT", &report);
        // One that fails does not keep the next one from running.
        let tried = run_command(&mut command);
        outcome = outcome.and(tried);
    }
    println!("{}", table(&report)?);
    outcome
}

/// The lines that the tests have left, in Markdown.
fn table(report: &Path) -> Result<String, Failure> {
    let lines = fs::read_to_string(report)
        .map_err(|error| Failure::new(format!("{}: no trial has run: {error}", report.display())))?;
    let mut rows: Vec<Vec<&str>> = lines.lines().map(|line| line.split('\t').collect()).collect();
    rows.sort_by_key(|row| row.first().map(|who| (*who != "tunnel", *who)));
    let mut text = String::from(
        "| of | what goes wrong | faults | runs | failures | slowest s |\n|---|---|---|---|---|---|\n",
    );
    let (mut runs, mut failures) = (0, 0);
    for row in &rows {
        let [who, what, faults, tried, failed, slowest] = row[..] else {
            return Err(Failure::new(format!("{}: a line is damaged", report.display())));
        };
        let number = |text: &str| text.parse().unwrap_or(0_u64);
        (runs, failures) = (runs + number(tried), failures + number(failed));
        let slowest = Duration::from_millis(number(slowest)).as_secs_f64();
        let faults = if faults.is_empty() { String::new() } else { format!("`{faults}`") };
        text.push_str(&format!("| {who} | {what} | {faults} | {tried} | {failed} | {slowest:.2} |\n"));
    }
    text.push_str(&format!("\n{} trials, {runs} runs, {failures} failures\n", rows.len()));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_adds_up() {
        let path = std::env::temp_dir().join(format!("ssm-faults-{}.tsv", std::process::id()));
        fs::write(&path, "shell\tresets\treset=40\t20\t1\t1500\ntunnel\tnothing\t\t20\t0\t78\n")
            .expect("a file");
        let text = table(&path);
        let _ = fs::remove_file(&path);
        let text = text.expect("a table");
        assert!(
            text.contains(
                "| tunnel | nothing |  | 20 | 0 | 0.08 |\n| shell | resets | `reset=40` | 20 | 1 | 1.50 |"
            ),
            "{text}"
        );
        assert!(text.ends_with("2 trials, 40 runs, 1 failures\n"), "{text}");
        assert!(table(Path::new("/nowhere")).is_err());
    }
}
