//! How long things take.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::load::{self, Upload};
use crate::path::Path;
use crate::stack::{Forward, OtherSide, Setting};
use crate::table::Samples;
use crate::{Failure, KIB, table};

/// How long one byte takes there and back, beside a connection without a tunnel in the same run.
pub(crate) fn echo(destination: SocketAddr, runs: usize) -> Result<(), Failure> {
    const ROUNDS: u64 = 4000;
    // Thousands of rounds a second are more than pacing lets through; a person types fewer.
    let tunnel =
        Path::tunnel(destination, Setting::fast(KIB), &["--payload-size", "1024", "--pacing", "off"])?;
    let mut delays = [Delays::default(), Delays::default()];
    let mut raw = load::connect(destination)?;
    let mut tunnelled = load::connect(tunnel.entrance)?;
    for _ in 0..runs {
        for (stream, delays) in [&mut raw, &mut tunnelled].into_iter().zip(&mut delays) {
            delays.push(load::echo(stream, ROUNDS)?, micros);
        }
    }
    let [raw, tunnelled] = &delays;
    let above = |of: fn(&Delays) -> &Samples| format!("{:.0}", of(tunnelled).median() - of(raw).median());
    let rows = [
        raw.row("raw TCP", 0),
        tunnelled.row("tunnel", 0),
        vec!["tunnel above raw".to_owned(), above(|delays| &delays.middle), above(|delays| &delays.slow)],
    ];
    table::print("Echo of one byte, profile `fast`, microseconds", &["what", "p50", "p99"], &rows);
    Ok(())
}

/// How long one byte takes beside an upload through the same session.
pub(crate) fn beside(destination: SocketAddr, runs: usize) -> Result<(), Failure> {
    let far = Setting { delay: Duration::from_millis(25), ..Setting::fast(32 * KIB) };
    let mut rows = Vec::new();
    for (name, setting, rate, rounds) in [
        ("at once, 100 MiB/s", Setting::fast(32 * KIB), Some(100), 4000),
        ("50 ms away, as fast as it goes", far, None, 200),
    ] {
        let tunnel = Path::tunnel(destination, setting, &["--pacing", "off"])?;
        let mut idle = Delays::default();
        let mut busy = Delays::default();
        let mut rates = Samples::default();
        let mut echo = load::connect(tunnel.entrance)?;
        for _ in 0..runs {
            idle.push(load::echo(&mut echo, rounds)?, millis);
            let upload = Upload::start(tunnel.entrance, rate)?;
            // The first rounds see the upload grow; they count.
            busy.push(load::echo(&mut echo, rounds)?, millis);
            rates.push(upload.stop()?);
        }
        rows.push([vec![name.to_owned()], idle.row("idle", 2), vec![String::new()]].concat());
        rows.push([vec![String::new()], busy.row("upload", 2), vec![rates.shown(0)]].concat());
    }
    let head = ["destination", "beside", "p50", "p99", "MiB/s of the upload"];
    table::print("Echo of one byte beside an upload, profile `fast`, milliseconds", &head, &rows);
    Ok(())
}

/// How long it takes from the start of the process to the first byte of a connection through it.
pub(crate) fn start(destination: SocketAddr, runs: usize) -> Result<(), Failure> {
    let mut other_side = OtherSide::start(Setting::fast(KIB))?;
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
            let forward = other_side.forward(destination, &[])?;
            started.push(millis(load::first_byte(forward.entrance)? - began));
        }
        rows.push(vec!["by the AWS SDK".to_owned(), started.shown(1)]);
    }
    table::print("Process start to first byte, profile `fast`, milliseconds", &["session", "time"], &rows);
    Ok(())
}

/// Of several runs, the median and the 99th percentile of each.
#[derive(Debug, Default)]
struct Delays {
    middle: Samples,
    slow: Samples,
}

impl Delays {
    fn push(&mut self, rounds: Vec<Duration>, unit: fn(Duration) -> f64) {
        let rounds: Samples = rounds.into_iter().map(unit).collect();
        self.middle.push(rounds.median());
        self.slow.push(rounds.percentile(99));
    }

    fn row(&self, name: &str, digits: usize) -> Vec<String> {
        vec![name.to_owned(), self.middle.shown(digits), self.slow.shown(digits)]
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
