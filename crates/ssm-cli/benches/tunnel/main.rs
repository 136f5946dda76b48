//! A tunnel end to end, beside what the machine would allow: rates, processor time, memory, delays.
//!
//! `cargo xtask bench tunnel`, or some of it: `cargo xtask bench tunnel -- transfer echo --runs 3`.
//!
//! The client is the `ssm` binary, in a process of its own. Service, gateway and agent are another process; the local program and
//! the destination are this one.

mod ceiling;
mod crowd;
mod delay;
mod load;
mod many;
mod options;
mod path;
mod process;
mod rate;
mod stack;
mod table;

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;

type Failure = Box<dyn Error + Send + Sync>;

const KIB: usize = 1024;
const MIB: f64 = 1024.0 * 1024.0;

/// Bytes that the multiplexer puts in front of the data in a payload.
const FRAME_HEADER: usize = 8;

/// Data messages a second that a client sends unless it is told otherwise.
const PACING: f64 = 900.0;

/// What AWS's agent sends at most in one session, whatever the client: it pauses after each read of 1,024 bytes.
const AGENT_LIMIT: f64 = 0.72;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tunnel: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    // Cargo adds --bench.
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["ceiling-client", gateway, payload] => ceiling::client(gateway.parse()?, payload.parse()?),
        ["ceiling-server", destination, payload] => ceiling::server(destination.parse()?, payload.parse()?),
        ["other-side", ref setting @ ..] => stack::serve(setting),
        _ => measure(&words),
    }
}

/// Runs the measurements that are named, or all.
fn measure(words: &[&str]) -> Result<(), Failure> {
    let mut runs = 5;
    let chosen = options::chosen(words.iter().copied(), MEASUREMENTS, &["--runs"], |_, count| {
        runs = count.parse()?;
        Ok(())
    })?;
    let destination = load::destination()?;
    for measurement in chosen {
        measurement(destination, runs)?;
    }
    Ok(())
}

/// Takes the destination and the number of runs, and prints a table.
type Measurement = fn(SocketAddr, usize) -> Result<(), Failure>;

const MEASUREMENTS: &[(&str, Measurement)] = &[
    ("transfer", rate::transfer),
    ("agent", rate::agent),
    ("loss", rate::loss),
    ("echo", delay::echo),
    ("beside", delay::beside),
    ("start", delay::start),
    ("connections", many::connections),
    ("streams", many::streams),
    ("lanes", many::lanes),
];
