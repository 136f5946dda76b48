//! `ssm exec` and `ssm cp` end to end: how long a command that does nothing takes, and how fast files and output travel beside a bare
//! pseudo terminal that carries the same base64.
//!
//! `cargo xtask bench command`, or some of it: `cargo xtask bench command -- exec --runs 3`. `--ssm PROGRAM` measures a program that
//! is built already, `--mib N` says how large the file is (1,024 unless said).
//!
//! Everything is the `ssm` binary, in processes of its own: `ssm loopback` is the other side, with sessions that are started through
//! its API.

mod copy;
#[path = "../../tests/common/example.rs"]
mod example;
mod process;
mod stack;
#[path = "../tunnel/table.rs"]
mod table;
#[path = "../shell/terminal.rs"]
mod terminal;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use crate::stack::OtherSide;

type Failure = Box<dyn Error + Send + Sync>;

const MIB: f64 = 1024.0 * 1024.0;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("command: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the measurements that are named, or all.
fn run() -> Result<(), Failure> {
    let mut options = Options { runs: 5, mib: 1024, ssm: env!("CARGO_BIN_EXE_ssm").into() };
    let mut chosen = Vec::new();
    // Cargo adds --bench.
    let mut words = env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--runs" => options.runs = value()?.parse()?,
            "--mib" => options.mib = value()?.parse()?,
            "--ssm" => options.ssm = value()?,
            name if MEASUREMENTS.iter().any(|(known, _)| *known == name) => chosen.push(word),
            name => {
                let known: Vec<&str> = MEASUREMENTS.iter().map(|(name, _)| *name).collect();
                return Err(format!("no measurement {name}; there are: {}", known.join(", ")).into());
            }
        }
    }
    let other_side = OtherSide::start(&options.ssm)?;
    for (name, measurement) in MEASUREMENTS {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            measurement(&other_side, &options)?;
        }
    }
    Ok(())
}

struct Options {
    runs: usize,
    mib: usize,
    ssm: String,
}

/// Prints a table.
type Measurement = fn(&OtherSide, &Options) -> Result<(), Failure>;

const MEASUREMENTS: &[(&str, Measurement)] =
    &[("exec", process::exec), ("output", process::output), ("cp", copy::both_ways)];
