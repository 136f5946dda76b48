//! A shell end to end, beside a bare terminal that runs the same program: delays of a key, rates of output, memory.
//!
//! `cargo xtask bench shell`, or some of it: `cargo xtask bench shell -- echo flood --runs 3`. `--ssm PROGRAM` measures a program that is
//! built already.
//!
//! The client is the `ssm` binary on a pseudo terminal, in a process of its own. Service, gateway, agent and the programs of the far
//! side are another process and its children; who types and reads is this one.

mod delay;
#[path = "../tunnel/options.rs"]
mod options;
mod rate;
mod stack;
#[path = "../tunnel/table.rs"]
mod table;
mod terminal;

use std::env;
use std::error::Error;
use std::process::ExitCode;

type Failure = Box<dyn Error + Send + Sync>;

const MIB: f64 = 1024.0 * 1024.0;

/// What programs write that fill the terminal: lines as long as most terminals are wide.
const LINE: &str = "the quick brown fox jumps over the lazy dog, and then again, and then once more";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shell: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    // Cargo adds --bench.
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["other-side", payload] => stack::serve(payload.parse()?),
        _ => measure(&words),
    }
}

/// Runs the measurements that are named, or all.
fn measure(words: &[&str]) -> Result<(), Failure> {
    let mut runs = 5;
    let chosen =
        options::chosen(words.iter().copied(), MEASUREMENTS, &["--runs", "--ssm"], |name, value| {
            match name {
                "--runs" => runs = value.parse()?,
                _ => drop(stack::SSM.set(value.to_owned())),
            }
            Ok(())
        })?;
    for measurement in chosen {
        measurement(runs)?;
    }
    Ok(())
}

/// Takes the number of runs, and prints a table.
type Measurement = fn(usize) -> Result<(), Failure>;

const MEASUREMENTS: &[(&str, Measurement)] = &[
    ("echo", delay::echo),
    ("scroll", delay::scroll),
    ("interrupt", delay::interrupt),
    ("flood", rate::flood),
    ("piped", rate::piped),
];
