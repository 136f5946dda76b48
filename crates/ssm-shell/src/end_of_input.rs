//! What the remote terminal is told when the input has ended.

use std::time::{Duration, Instant};

/// What a terminal takes for the end of its input.
const END_OF_TRANSMISSION: u8 = 0x04;

/// How long the remote side has to be quiet before it is told again.
const QUIET_MIN: Duration = Duration::from_millis(250);
const QUIET_MAX: Duration = Duration::from_secs(30);

/// Tells the remote terminal that there is no more input, again and again: the character can be swallowed by a program that
/// changes the terminal's mode while it is queued, and each program that reads needs one of its own.
#[derive(Debug)]
pub(crate) struct EndOfInput {
    /// The line that was begun has to be ended first: within a line the character only means "now".
    line: Line,
    due: Instant,
    quiet: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Begun,
    Ended,
}

impl EndOfInput {
    /// The input ended at `now`, and `last` was its last byte.
    pub(crate) fn new(now: Instant, last: Option<u8>) -> Self {
        let line = if matches!(last, None | Some(b'\n' | b'\r')) { Line::Ended } else { Line::Begun };
        Self { line, due: now, quiet: QUIET_MIN }
    }

    /// The remote side has written something.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.due = self.due.max(now + self.quiet);
    }

    /// When to tell it.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// What to send, if it is time. It counts as sent.
    pub(crate) fn take(&mut self, now: Instant) -> Option<&'static [u8]> {
        if now < self.due {
            return None;
        }
        self.due = now + self.quiet;
        self.quiet = (self.quiet * 2).min(QUIET_MAX);
        match std::mem::replace(&mut self.line, Line::Ended) {
            Line::Begun => Some(&[b'\r', END_OF_TRANSMISSION]),
            Line::Ended => Some(&[END_OF_TRANSMISSION]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_line_is_finished_first() {
        let now = Instant::now();
        assert_eq!(EndOfInput::new(now, Some(b'x')).take(now), Some(&b"\r\x04"[..]));
        assert_eq!(EndOfInput::new(now, Some(b'\n')).take(now), Some(&b"\x04"[..]));
        assert_eq!(EndOfInput::new(now, Some(b'\r')).take(now), Some(&b"\x04"[..]));
        assert_eq!(EndOfInput::new(now, None).take(now), Some(&b"\x04"[..]));
    }

    #[test]
    fn it_is_repeated_ever_more_slowly() {
        let mut now = Instant::now();
        let mut end = EndOfInput::new(now, Some(b'x'));
        end.take(now);
        for wait in [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            let wait = Duration::from_millis(wait);
            assert_eq!(end.take(now + wait - Duration::from_millis(1)), None, "{wait:?}");
            now += wait;
            assert_eq!(end.take(now), Some(&b"\x04"[..]), "{wait:?}");
        }
    }

    #[test]
    fn output_puts_it_off() {
        let start = Instant::now();
        let mut end = EndOfInput::new(start, None);
        end.take(start);
        let later = start + Duration::from_millis(200);
        end.heard(later);
        assert_eq!(end.take(start + Duration::from_millis(300)), None);
        assert_eq!(end.due(), later + end.quiet);
    }

    #[test]
    fn output_does_not_bring_it_forward() {
        let start = Instant::now();
        let mut end = EndOfInput { line: Line::Ended, due: start + QUIET_MAX, quiet: QUIET_MIN };
        end.heard(start);
        assert_eq!(end.due(), start + QUIET_MAX);
    }
}
