//! The line that shows on a terminal what the forwards are doing.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use ssm_portfwd::Traffic;

use crate::output::{self, Bytes, CLEAR};

/// The status line, where there is one: on a terminal that nothing else writes to.
#[derive(Debug)]
pub(super) struct Status {
    shown: bool,
    last: Sample,
}

#[derive(Debug)]
struct Sample {
    at: Instant,
    sent: u64,
    received: u64,
}

/// What the line says besides rates.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) connections: usize,
    pub(super) lanes: usize,
    pub(super) resumes: u64,
    /// Bytes in a data message; 0 before the first.
    pub(super) payload_len: usize,
    /// Zero before the first.
    pub(super) rtt: Duration,
}

impl Status {
    /// `None` in a pipe, when only failures are said, and beside a log.
    pub(super) fn new() -> Option<Self> {
        let alone =
            io::stderr().is_terminal() && !output::is_quiet() && !tracing::enabled!(tracing::Level::INFO);
        alone.then(|| Self { shown: false, last: Sample { at: Instant::now(), sent: 0, received: 0 } })
    }

    /// Draws it again.
    pub(super) fn draw(&mut self, counts: Counts, traffic: &Traffic) {
        let sample = Sample { at: Instant::now(), sent: traffic.sent(), received: traffic.received() };
        let passed = sample.at.duration_since(self.last.at);
        let up = rate(sample.sent - self.last.sent, passed);
        let down = rate(sample.received - self.last.received, passed);
        self.last = sample;
        if output::is_asking() {
            self.shown = false;
            return;
        }
        let mut line = line(counts, up, down);
        // A line that wraps could not be taken back.
        line.truncate(width().saturating_sub(1));
        // Nobody is left to tell when stderr is gone.
        let _ = write!(io::stderr().lock(), "{CLEAR}{line}");
        self.shown = true;
    }

    /// Makes room for another line.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr().lock(), "{CLEAR}");
        }
    }
}

fn line(counts: Counts, up: u64, down: u64) -> String {
    let Counts { connections, lanes, resumes, payload_len, rtt } = counts;
    let mut line = format!("{connections} open, up {}/s, down {}/s, lanes {lanes}", Bytes(up), Bytes(down));
    if payload_len > 0 {
        line += &format!(", messages of {}", Bytes(payload_len as u64));
    }
    if !rtt.is_zero() {
        line += &format!(", RTT {:.1} ms", rtt.as_secs_f64() * 1000.0);
    }
    if resumes > 0 {
        line += &format!(", resumed {resumes}");
    }
    line
}

/// Columns of the terminal.
fn width() -> usize {
    match tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => 80,
    }
}

/// Bytes a second.
fn rate(bytes: u64, passed: Duration) -> u64 {
    let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / millis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bytes_a_second() {
        assert_eq!(rate(500, Duration::from_millis(500)), 1000);
        assert_eq!(rate(u64::MAX, Duration::ZERO), u64::MAX);
    }

    #[test]
    fn the_line_says_what_there_is() {
        let mut counts = Counts { connections: 3, lanes: 2, ..Counts::default() };
        let said = line(counts, 1024, 0);
        assert_eq!(said, "3 open, up 1.0 KiB/s, down 0 B/s, lanes 2");
        (counts.resumes, counts.payload_len, counts.rtt) = (1, 8192, Duration::from_micros(52_340));
        assert!(line(counts, 0, 0).ends_with("lanes 2, messages of 8.0 KiB, RTT 52.3 ms, resumed 1"));
    }
}
