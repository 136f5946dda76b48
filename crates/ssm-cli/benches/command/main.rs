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
#[path = "../tunnel/options.rs"]
mod options;
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
    // Cargo adds --bench.
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words = args.iter().map(String::as_str);
    let chosen = options::chosen(words, MEASUREMENTS, &["--runs", "--mib", "--ssm"], |name, value| {
        match name {
            "--runs" => options.runs = value.parse()?,
            "--mib" => options.mib = value.parse()?,
            _ => options.ssm = value.into(),
        }
        Ok(())
    })?;
    let other_side = OtherSide::start(&options.ssm)?;
    for measurement in chosen {
        measurement(&other_side, &options)?;
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
