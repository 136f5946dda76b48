//! `ssm exec`: a command that does nothing, and one that writes.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::stack::{OtherSide, clean, drain, watch};
use crate::table::{self, Samples};
use crate::{Failure, MIB, Options};

/// The whole of it, from the start of the process to its end: account, StartSession, WebSocket, handshake, wrapper, command.
pub(crate) fn exec(other_side: &OtherSide, options: &Options) -> Result<(), Failure> {
    let target = other_side.target();
    let mut rows = Vec::new();
    let mut measured: [Samples; 3] = Default::default();
    for _ in 0..options.runs * 20 {
        let ways = [
            clean("true", other_side.folder.path()),
            other_side.ssm(&["--version"]),
            other_side.ssm(&["exec", target, "--", "true"]),
        ];
        for (mut command, samples) in ways.into_iter().zip(&mut measured) {
            samples.push(took(&mut command)?);
        }
    }
    for (name, samples) in ["true", "ssm --version", "ssm exec TARGET -- true"].into_iter().zip(&measured) {
        let [median, slow] = [50, 95].map(|percent| format!("{:.1}", samples.percentile(percent)));
        rows.push(vec![name.to_owned(), median, slow, format!("{:.1}", samples.percentile(100))]);
    }
    table::print(
        "A command that does nothing, as a process, milliseconds",
        &["what", "p50", "p95", "slowest"],
        &rows,
    );
    Ok(())
}

/// Milliseconds from start to end.
fn took(command: &mut Command) -> Result<f64, Failure> {
    let began = Instant::now();
    let status = command.stdout(Stdio::null()).status()?;
    let took = began.elapsed();
    if !status.success() {
        return Err(format!("{command:?}: {status}").into());
    }
    Ok(took.as_secs_f64() * 1e3)
}

/// Output of a command into a pipe.
pub(crate) fn output(other_side: &OtherSide, options: &Options) -> Result<(), Failure> {
    const LEN: u64 = 100_000_000;
    let [mut rates, mut cpu, mut memory]: [Samples; 3] = Default::default();
    for _ in 0..options.runs {
        let line = format!("head -c {LEN} /dev/zero");
        let began = Instant::now();
        let (mut child, pipe) = other_side.piped(&["exec", "-n", other_side.target(), "--", &line])?;
        let read = thread::spawn(move || drain(pipe));
        let (status, used) = watch(&mut child)?;
        let read = read.join().map_err(|_| "the reader panicked")??;
        if read != LEN || !status.success() {
            return Err(format!("{read} of {LEN} bytes came; ssm: {status}").into());
        }
        rates.push(LEN as f64 / MIB / began.elapsed().as_secs_f64());
        cpu.push(used.cpu.as_secs_f64() * 1024.0 * MIB / LEN as f64);
        memory.push(used.peak_rss);
    }
    let row = vec![rates.shown(1), cpu.shown(2), memory.shown(1)];
    let head = ["MiB/s", "client CPU s/GiB", "client peak RSS MiB"];
    table::print("`ssm exec`: 100 MB of output into a pipe", &head, &[row]);
    Ok(())
}
