//! How much output gets through.

use std::io::{self, Read};
use std::process::Stdio;
use std::time::Instant;

use crate::stack::{Kind, OtherSide};
use crate::table::Samples;
use crate::terminal::{Terminal, cpu, peak_rss};
use crate::{Failure, LINE, MIB, table};

/// Lines that scroll through a terminal, beside the same on a bare one, and on one that `script` passes to another: another program
/// that is between two terminals, with nothing on the way.
pub(crate) fn flood(runs: usize) -> Result<(), Failure> {
    let command = format!("exec yes '{LINE}'");
    let nested = format!("exec script -qec \"{command}\" /dev/null");
    let mut rows = Vec::new();
    for payload in [32 * 1024, 1024] {
        let mut other_side = OtherSide::start(payload)?;
        let [mut bare, mut script, mut script_share]: [Samples; 3] = Default::default();
        let [mut shell, mut share, mut used, mut memory]: [Samples; 4] = Default::default();
        for _ in 0..runs {
            let before = drain(&mut Terminal::bare(&command)?)?;
            let between = drain(&mut Terminal::bare(&nested)?)?;
            let mut terminal = Terminal::start(&other_side.shell(Kind::Terminal, &command)?)?;
            let through = drain(&mut terminal)?;
            used.push(cpu(&terminal.child)?.as_secs_f64() / (DRAINED / 1024.0));
            memory.push(peak_rss(&terminal.child)?);
            bare.push(before);
            script.push(between);
            script_share.push(between / before * 100.0);
            shell.push(through);
            share.push(through / before * 100.0);
        }
        rows.push(vec![payload.to_string(), "bare terminal".into(), bare.shown(1)]);
        let of_bare = script_share.shown(0) + " %";
        rows.push(vec![String::new(), "script".into(), script.shown(1), of_bare]);
        let [share, used, memory] = [share.shown(0) + " %", used.shown(2), memory.shown(1)];
        rows.push(vec![String::new(), "ssm shell".into(), shell.shown(1), share, used, memory]);
    }
    let head = [
        "bytes a message",
        "what",
        "MiB/s",
        "of the bare terminal",
        "client CPU s/GiB",
        "client peak RSS MiB",
    ];
    for row in &mut rows {
        row.resize(head.len(), String::new());
    }
    table::print("Output flood, profile `fast`", &head, &rows);
    Ok(())
}

/// MiB that are read, behind the first few.
const DRAINED: f64 = 128.0;
const SKIPPED: f64 = 4.0;

/// MiB/s of what a terminal shows.
fn drain(terminal: &mut Terminal) -> io::Result<f64> {
    let mut read = 0;
    while (read as f64) < SKIPPED * MIB {
        read += terminal.read()?.len();
    }
    let began = Instant::now();
    read = 0;
    while (read as f64) < DRAINED * MIB {
        read += terminal.read()?.len();
    }
    Ok(read as f64 / MIB / began.elapsed().as_secs_f64())
}

/// Output of a command without a terminal, into a pipe.
pub(crate) fn piped(runs: usize) -> Result<(), Failure> {
    const LEN: usize = 256 << 20;
    let mut rows = Vec::new();
    for payload in [1024, 32 * 1024] {
        let mut other_side = OtherSide::start(payload)?;
        let [mut rates, mut memory]: [Samples; 2] = Default::default();
        for _ in 0..runs {
            let mut command = other_side.shell(Kind::Pipes, &format!("head -c {LEN} /dev/zero"))?;
            let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
            let mut pipe = child.stdout.take().ok_or("a child without pipes")?;
            let (mut buf, mut read, mut began) = (vec![0; 64 * 1024], 0, None);
            let mut peak = 0.0;
            loop {
                match pipe.read(&mut buf)? {
                    0 => break,
                    len => read += len,
                }
                began.get_or_insert_with(Instant::now);
                if read > LEN / 8 * 7 && peak == 0.0 {
                    peak = peak_rss(&child)?;
                }
            }
            let took = began.ok_or("nothing came")?.elapsed();
            let status = child.wait()?;
            if read != LEN || !status.success() {
                return Err(format!("{read} of {LEN} bytes came; ssm: {status}").into());
            }
            rates.push(LEN as f64 / MIB / took.as_secs_f64());
            memory.push(peak);
        }
        rows.push(vec![payload.to_string(), rates.shown(0), memory.shown(1)]);
    }
    let head = ["bytes a message", "MiB/s", "client peak RSS MiB"];
    table::print("Output of a command without a terminal into a pipe, 256 MiB, profile `fast`", &head, &rows);
    Ok(())
}
