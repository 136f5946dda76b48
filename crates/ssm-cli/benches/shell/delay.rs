//! How long a key takes until it shows.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::stack::{Kind, OtherSide};
use crate::table::Samples;
use crate::terminal::{Terminal, peak_rss};
use crate::{Failure, LINE, table};

/// A program that answers each key, as a line editor does, on a quiet terminal.
pub(crate) fn echo(runs: usize) -> Result<(), Failure> {
    const KEYS: usize = 1000;
    let command = "stty raw -echo; printf ready; exec cat";
    let title = "Echo of a key by a program, a key each 3 ms, milliseconds";
    compare(title, command, runs, |terminal| {
        terminal.until(b"ready")?;
        let mut delays = Vec::new();
        for key in (b'a'..=b'z').cycle().take(KEYS) {
            thread::sleep(Duration::from_millis(3));
            let typed = Instant::now();
            terminal.keys(&[key])?;
            while !terminal.read()?.contains(&key) {}
            delays.push(millis(typed.elapsed()));
        }
        Ok(delays)
    })
}

/// The terminal's own echo, between lines that scroll as fast as they can be read.
pub(crate) fn scroll(runs: usize) -> Result<(), Failure> {
    const KEYS: usize = 200;
    let command = format!("stty -icanon; printf ready; exec yes '{LINE}'");
    let title = "Echo of a key between lines at full speed, a key each 20 ms, milliseconds";
    compare(title, &command, runs, |terminal| {
        terminal.until(b"ready")?;
        let mut delays = Vec::new();
        // No line has them.
        for key in (b'A'..=b'Z').cycle().take(KEYS) {
            let pause = Instant::now() + Duration::from_millis(20);
            while Instant::now() < pause {
                terminal.read()?;
            }
            let typed = Instant::now();
            terminal.keys(&[key])?;
            while !terminal.read()?.contains(&key) {}
            delays.push(millis(typed.elapsed()));
        }
        Ok(delays)
    })
}

/// Ctrl-C while lines scroll as fast as they can be read: until what the shell does next is seen.
pub(crate) fn interrupt(runs: usize) -> Result<(), Failure> {
    const KEYS: usize = 10;
    let command =
        format!("trap : INT; printf ready; while :; do yes '{LINE}'; printf 'MA%s' RK; read go; done");
    let title = "Ctrl-C between lines at full speed, until the next command has written, milliseconds";
    compare(title, &command, runs, |terminal| {
        terminal.until(b"ready")?;
        let mut delays = Vec::new();
        for _ in 0..KEYS {
            let pause = Instant::now() + Duration::from_millis(300);
            while Instant::now() < pause {
                terminal.read()?;
            }
            let typed = Instant::now();
            terminal.keys(b"\x03")?;
            terminal.until(b"MARK")?;
            delays.push(millis(typed.elapsed()));
            terminal.keys(b"\r")?;
        }
        Ok(delays)
    })
}

/// Measures on a bare terminal and through `ssm shell`, in turns.
fn compare(
    title: &str,
    command: &str,
    runs: usize,
    measure: impl Fn(&mut Terminal) -> io::Result<Vec<f64>>,
) -> Result<(), Failure> {
    let mut other_side = OtherSide::start(32 * 1024)?;
    let mut delays: [[Samples; 3]; 2] = Default::default();
    let mut memory = Samples::default();
    for _ in 0..runs {
        let mut push = |place: usize, samples: Vec<f64>| {
            let samples: Samples = samples.into_iter().collect();
            for (percent, delays) in [50, 99, 100].into_iter().zip(&mut delays[place]) {
                delays.push(samples.percentile(percent));
            }
        };
        push(0, measure(&mut Terminal::bare(command)?)?);
        let mut shell = Terminal::start(&other_side.shell(Kind::Terminal, command)?)?;
        push(1, measure(&mut shell)?);
        memory.push(peak_rss(&shell.child)?);
    }
    let [bare, shell] = delays.map(|delays| delays.map(|delays| delays.shown(2)));
    let row = |name: &str, cells: [String; 3], memory: String| {
        [vec![name.to_owned()], cells.into(), vec![memory]].concat()
    };
    let rows = [row("bare terminal", bare, String::new()), row("ssm shell", shell, memory.shown(1))];
    table::print(title, &["what", "p50", "p99", "slowest", "client peak RSS MiB"], &rows);
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
