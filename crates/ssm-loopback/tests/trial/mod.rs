//! The same trial again and again with another seed each time, and a line of what came of it.
//!
//! `cargo xtask faults` asks for many runs and reads the lines; a test by itself makes one.

use std::fs::OpenOptions;
use std::future::Future;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// How often each trial is run.
const RUNS: &str = "SSM_FAULT_RUNS";
/// The file that lines are added to: who was tried, the trial, its faults, runs, failures, milliseconds of the slowest.
const REPORT: &str = "SSM_FAULT_REPORT";

/// Runs a trial with the seeds from 1 on, each time with these faults and the seed; returns when none has failed.
pub(crate) async fn repeated<R>(who: &str, name: &str, faults: &[&str], run: impl Fn(Vec<String>) -> R)
where
    R: Future<Output = ()> + Send + 'static,
{
    let runs = std::env::var(RUNS).ok().map_or(1, |runs| runs.parse().expect("a number of runs"));
    let (mut failures, mut slowest) = (Vec::new(), Duration::ZERO);
    for seed in 1..=runs {
        let mut faults: Vec<String> = faults.iter().map(|fault| (*fault).to_owned()).collect();
        faults.push(format!("seed={seed}"));
        let start = Instant::now();
        if tokio::spawn(run(faults)).await.is_err() {
            failures.push(seed);
        }
        slowest = slowest.max(start.elapsed());
    }
    if let Some(path) = std::env::var_os(REPORT) {
        let (faults, failed) = (faults.join(" "), failures.len());
        let line = format!("{who}\t{name}\t{faults}\t{runs}\t{failed}\t{}\n", slowest.as_millis());
        // One write, so that lines of tests that run at the same time do not mix.
        let mut report = OpenOptions::new().append(true).create(true).open(path).expect("a report");
        report.write_all(line.as_bytes()).expect("a line of the report");
    }
    assert!(failures.is_empty(), "{who}, {name}: failed with the seeds {failures:?} of {runs} runs");
}
