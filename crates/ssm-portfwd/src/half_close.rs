//! How long a half-closed connection is kept.
//!
//! AWS's agent closes the whole destination when it sees the end of a stream (agent `port_mux.go` `handleDataTransfer`), so the
//! end of the local direction is held back until the far side has ended, or has been quiet for a while.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most connections whose end is held back; the oldest is let go first.
const HELD_MAX: usize = 256;

/// How long to wait after the far side sent something and then nothing more.
const QUIET: Duration = Duration::from_millis(250);

/// Connections whose program has ended its direction while the far side has not.
#[derive(Debug)]
pub(crate) struct HalfClosed {
    /// How long to wait for an answer to what was sent last.
    grace: Duration,
    /// Key and deadline, oldest first.
    held: VecDeque<(u64, Instant)>,
}

/// Which way the last bytes of a connection went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastBytes {
    /// To the destination, or none at all: an answer is awaited.
    Outward,
    /// To the program.
    Inward,
}

impl HalfClosed {
    pub(crate) fn new(grace: Duration) -> Self {
        Self { grace, held: VecDeque::new() }
    }

    /// Holds back the end of connection `key`. Returns a connection that has to be let go for it.
    pub(crate) fn hold(&mut self, now: Instant, key: u64, last: LastBytes) -> Option<u64> {
        let wait = match last {
            LastBytes::Outward => self.grace,
            LastBytes::Inward => QUIET.min(self.grace),
        };
        self.held.push_back((key, now + wait));
        (self.held.len() > HELD_MAX).then(|| self.held.pop_front().map(|(key, _)| key))?
    }

    /// Bytes came for connection `key`.
    pub(crate) fn heard(&mut self, now: Instant, key: u64) {
        if self.held.is_empty() {
            return;
        }
        if let Some((_, deadline)) = self.held.iter_mut().find(|(held, _)| *held == key) {
            *deadline = now + QUIET.min(self.grace);
        }
    }

    /// Whether connection `key` waits here.
    pub(crate) fn holds(&self, key: u64) -> bool {
        self.held.iter().any(|(held, _)| *held == key)
    }

    /// Connection `key` is gone.
    pub(crate) fn forget(&mut self, key: u64) {
        self.held.retain(|(held, _)| *held != key);
    }

    /// A connection whose time is up.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<u64> {
        let index = self.held.iter().position(|(_, deadline)| *deadline <= now)?;
        self.held.remove(index).map(|(key, _)| key)
    }

    /// When the next connection's time is up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.held.iter().map(|(_, deadline)| *deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_awaited_answer_gets_more_time_than_silence_after_one() {
        let start = Instant::now();
        let mut half_closed = HalfClosed::new(Duration::from_secs(5));
        half_closed.hold(start, 1, LastBytes::Outward);
        half_closed.hold(start, 2, LastBytes::Inward);
        assert_eq!(half_closed.deadline(), Some(start + QUIET));
        assert_eq!(half_closed.expire(start + QUIET), Some(2));
        assert_eq!(half_closed.expire(start + QUIET), None);
        half_closed.heard(start + QUIET, 1);
        assert_eq!(half_closed.deadline(), Some(start + 2 * QUIET));
        half_closed.forget(1);
        assert_eq!(half_closed.deadline(), None);
    }

    #[test]
    fn the_oldest_is_let_go_when_there_are_too_many() {
        let start = Instant::now();
        let mut half_closed = HalfClosed::new(Duration::from_secs(5));
        for key in 0..HELD_MAX as u64 {
            assert_eq!(half_closed.hold(start, key, LastBytes::Outward), None);
        }
        assert_eq!(half_closed.hold(start, 999, LastBytes::Outward), Some(0));
    }
}
