//! A tunnel end to end, beside what the machine would allow: rates, processor time, memory, delays.
//!
//! `cargo xtask bench tunnel`, or some of it: `cargo xtask bench tunnel -- transfer echo --runs 3`.
//!
//! The client is the `ssm` binary, in a process of its own. Service, gateway and agent are another process; the local program and
//! the destination are this one.

mod ceiling;
mod load;
mod process;
mod stack;
mod table;

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use load::Way;
use process::{Output, Process};
use stack::{Forward, OtherSide};
use table::Samples;

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
        ["other-side", profile, payload] => stack::serve(profile, payload.parse()?),
        _ => measure(&words),
    }
}

/// Runs the measurements that are named, or all.
fn measure(words: &[&str]) -> Result<(), Failure> {
    let mut runs = 5;
    let mut chosen = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--runs" => runs = words.next().ok_or("--runs needs a number")?.parse()?,
            name if MEASUREMENTS.iter().any(|(known, _)| *known == name) => chosen.push(name),
            name => {
                let known: Vec<&str> = MEASUREMENTS.iter().map(|(name, _)| *name).collect();
                return Err(format!("no measurement {name}; there are: {}", known.join(", ")).into());
            }
        }
    }
    let destination = load::destination()?;
    for (name, measurement) in MEASUREMENTS {
        if chosen.is_empty() || chosen.contains(name) {
            measurement(destination, runs)?;
        }
    }
    Ok(())
}

/// Takes the destination and the number of runs, and prints a table.
type Measurement = fn(SocketAddr, usize) -> Result<(), Failure>;

const MEASUREMENTS: &[(&str, Measurement)] =
    &[("transfer", transfer), ("agent", agent), ("echo", echo), ("start", start)];

/// Two processes that carry connections to the destination.
struct Path {
    client: Process,
    other_side: Process,
    entrance: SocketAddr,
}

impl Path {
    fn ceiling(destination: SocketAddr, payload: usize) -> Result<Self, Failure> {
        let payload = payload.to_string();
        let program = env::current_exe()?;
        let mut server = Command::new(&program);
        server.args(["ceiling-server", &destination.to_string(), &payload]);
        let mut other_side = Process::start(&mut server, Output::Stdout)?;
        let mut client = Command::new(&program);
        client.args(["ceiling-client", &other_side.line()?, &payload]);
        let mut client = Process::start(&mut client, Output::Stdout)?;
        let entrance = client.line()?.parse()?;
        Ok(Self { client, other_side, entrance })
    }

    fn tunnel(
        destination: SocketAddr,
        profile: &str,
        payload: usize,
        pacing: &[&str],
    ) -> Result<Self, Failure> {
        let mut other_side = OtherSide::start(profile, payload)?;
        let size = payload.to_string();
        let options = [&["--payload-size", &size], pacing].concat();
        let session = other_side.session(destination)?;
        let Forward { process, entrance } = Forward::attach(destination, &session, &options)?;
        Ok(Self { client: process, other_side: other_side.process, entrance })
    }

    /// One transfer over a connection of its own.
    fn transfer(&self, way: Way, bytes: u64, results: &mut Results) -> Result<(), Failure> {
        let mut stream = load::connect(self.entrance)?;
        let before = (self.client.cpu()?, self.other_side.cpu()?);
        let took = load::transfer(&mut stream, way, bytes)?;
        let gib = bytes as f64 / MIB / 1024.0;
        results.rate.push(bytes as f64 / MIB / took.as_secs_f64());
        results.client.push((self.client.cpu()? - before.0).as_secs_f64() / gib);
        results.other_side.push((self.other_side.cpu()? - before.1).as_secs_f64() / gib);
        Ok(())
    }

    fn peak_rss(&self) -> Result<String, Failure> {
        Ok(format!("{:.1}", self.client.peak_rss()? as f64 / 1024.0))
    }
}

#[derive(Debug, Default)]
struct Results {
    rate: Samples,
    client: Samples,
    other_side: Samples,
}

/// How fast one connection is, beside the ceiling in the same run.
fn transfer(destination: SocketAddr, runs: usize) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (payload, bytes) in [(32 * KIB, 512 << 20), (KIB, 128 << 20)] {
        let ceiling = Path::ceiling(destination, payload - FRAME_HEADER)?;
        let tunnel = Path::tunnel(destination, "fast", payload, &["--pacing", "off"])?;
        for way in [Way::Up, Way::Down] {
            let mut results = [Results::default(), Results::default()];
            for _ in 0..runs {
                ceiling.transfer(way, bytes, &mut results[0])?;
                tunnel.transfer(way, bytes, &mut results[1])?;
            }
            let share = results[1].rate.median() / results[0].rate.median();
            let shares = ["".to_owned(), format!("{:.0} %", 100.0 * share)];
            for (((name, path), results), share) in
                [("ceiling", &ceiling), ("tunnel", &tunnel)].into_iter().zip(&results).zip(shares)
            {
                rows.push(vec![
                    payload.to_string(),
                    way.to_string(),
                    name.to_owned(),
                    results.rate.shown(0),
                    share,
                    results.client.shown(2),
                    results.other_side.shown(2),
                    path.peak_rss()?,
                ]);
            }
        }
    }
    let head = [
        "bytes a message",
        "way",
        "what",
        "MiB/s",
        "of the ceiling",
        "client CPU s/GiB",
        "other side CPU s/GiB",
        "client peak RSS MiB",
    ];
    table::print("Transfer, profile `fast`, no pacing: bounded by this machine", &head, &rows);
    Ok(())
}

/// How near the rate is to what pacing and AWS's agent allow.
fn agent(destination: SocketAddr, runs: usize) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let runs = runs.div_ceil(2);
    for (payload, up) in [(KIB, 8 << 20), (8 * KIB, 64 << 20), (32 * KIB, 256 << 20)] {
        let tunnel = Path::tunnel(destination, "aws", payload, &[])?;
        let paced = PACING * (payload - FRAME_HEADER) as f64 / MIB;
        for (way, bytes, limit) in [(Way::Up, up, paced), (Way::Down, 6 << 20, AGENT_LIMIT)] {
            let mut results = Results::default();
            for _ in 0..runs {
                tunnel.transfer(way, bytes, &mut results)?;
            }
            rows.push(vec![
                payload.to_string(),
                way.to_string(),
                results.rate.shown(2),
                format!("{limit:.2}"),
                format!("{:+.1} %", 100.0 * (results.rate.median() / limit - 1.0)),
                results.client.shown(1),
                tunnel.peak_rss()?,
            ]);
        }
    }
    let head =
        ["bytes a message", "way", "MiB/s", "limit", "off by", "client CPU s/GiB", "client peak RSS MiB"];
    table::print(
        "Transfer, profile `aws`: up bounded by pacing, down by the pause of AWS's agent",
        &head,
        &rows,
    );
    Ok(())
}

/// How long one byte takes there and back, beside a connection without a tunnel in the same run.
fn echo(destination: SocketAddr, runs: usize) -> Result<(), Failure> {
    const ROUNDS: u64 = 4000;
    // Thousands of rounds a second are more than pacing lets through; a person types fewer.
    let tunnel = Path::tunnel(destination, "fast", KIB, &["--pacing", "off"])?;
    let mut raw = load::connect(destination)?;
    let mut tunnelled = load::connect(tunnel.entrance)?;
    let mut delays = [[Samples::default(), Samples::default()], [Samples::default(), Samples::default()]];
    for _ in 0..runs {
        for (stream, [middle, slow]) in [&mut raw, &mut tunnelled].into_iter().zip(&mut delays) {
            let rounds: Samples = load::echo(stream, ROUNDS)?.into_iter().map(micros).collect();
            middle.push(rounds.median());
            slow.push(rounds.percentile(99));
        }
    }
    let above = |index: usize| format!("{:.0}", delays[1][index].median() - delays[0][index].median());
    let row = |name: &str, delays: &[Samples]| {
        let mut cells = vec![name.to_owned()];
        cells.extend(delays.iter().map(|delay| delay.shown(0)));
        cells
    };
    let rows = [
        row("raw TCP", &delays[0]),
        row("tunnel", &delays[1]),
        vec!["tunnel above raw".to_owned(), above(0), above(1)],
    ];
    table::print("Echo of one byte, profile `fast`, microseconds", &["what", "p50", "p99"], &rows);
    Ok(())
}

/// How long it takes from the start of the process to the first byte of a connection through it.
fn start(destination: SocketAddr, runs: usize) -> Result<(), Failure> {
    let mut other_side = OtherSide::start("fast", KIB)?;
    let mut rows = Vec::new();
    let runs = 4 * runs;
    let mut attached = Samples::default();
    for _ in 0..runs {
        let session = other_side.session(destination)?;
        let began = Instant::now();
        let forward = Forward::attach(destination, &session, &[])?;
        attached.push(millis(load::first_byte(forward.entrance)? - began));
    }
    rows.push(vec!["--attach".to_owned(), attached.shown(1)]);
    if cfg!(feature = "aws") {
        let mut started = Samples::default();
        for _ in 0..runs {
            let began = Instant::now();
            let forward = other_side.forward(destination)?;
            started.push(millis(load::first_byte(forward.entrance)? - began));
        }
        rows.push(vec!["by the AWS SDK".to_owned(), started.shown(1)]);
    }
    table::print("Process start to first byte, profile `fast`, milliseconds", &["session", "time"], &rows);
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
