//! How much is carried, as it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ssm_session::Stats;

use crate::Notice;

/// Counts the bytes of everything that shares it. Cloning is cheap and gives the same counters.
///
/// They are those of the data channels: the bytes of connections and the eight of each frame of the multiplexer.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    rtt_micros: AtomicU64,
    payload_len: AtomicUsize,
}

impl Traffic {
    /// Bytes that went to destinations.
    pub fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Bytes that came back.
    pub fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// The smoothed round-trip time of the session that was busy last; zero before the first.
    pub fn rtt(&self) -> Duration {
        Duration::from_micros(self.0.rtt_micros.load(Ordering::Relaxed))
    }

    /// Bytes of payload in a data message of the session that was busy last; zero before the first.
    pub fn payload_len(&self) -> usize {
        self.0.payload_len.load(Ordering::Relaxed)
    }

    /// Adds what a session has carried since it had carried `counted`.
    pub(crate) fn count(&self, counted: &mut Counted, stats: &Stats) {
        if (counted.sent, counted.received) == (stats.bytes_sent, stats.bytes_received) {
            return;
        }
        self.0.sent.fetch_add(stats.bytes_sent.saturating_sub(counted.sent), Ordering::Relaxed);
        self.0.received.fetch_add(stats.bytes_received.saturating_sub(counted.received), Ordering::Relaxed);
        let micros = u64::try_from(stats.rtt.as_micros()).unwrap_or(u64::MAX);
        self.0.rtt_micros.store(micros, Ordering::Relaxed);
        self.0.payload_len.store(stats.payload_len, Ordering::Relaxed);
        (counted.sent, counted.received) = (stats.bytes_sent, stats.bytes_received);
    }
}

/// How much of a session is in the counters, and what was told of it.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    sent: u64,
    received: u64,
    payload_len: usize,
    pauses: u64,
}

impl Counted {
    /// Tells what has changed for a session since it was told last. The size it starts with is no change.
    pub(crate) fn changes(&mut self, stats: &Stats, mut notice: impl FnMut(Notice)) {
        let before = std::mem::replace(&mut self.payload_len, stats.payload_len);
        if before != 0 && before != stats.payload_len {
            notice(Notice::PayloadSize { bytes: stats.payload_len });
        }
        if std::mem::replace(&mut self.pauses, stats.pauses) < stats.pauses {
            notice(Notice::Paused);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_told_once() {
        let mut counted = Counted::default();
        let mut told = |stats: Stats| {
            let mut notices = Vec::new();
            counted.changes(&stats, |notice| notices.push(format!("{notice:?}")));
            notices
        };
        let mut stats = Stats { payload_len: 1024, ..Stats::default() };
        assert!(told(stats).is_empty());
        stats.payload_len = 8192;
        assert_eq!(told(stats), ["PayloadSize { bytes: 8192 }"]);
        stats.pauses = 2;
        assert_eq!(told(stats), ["Paused"]);
        assert!(told(stats).is_empty());
    }

    #[test]
    fn everything_that_shares_it_is_counted_together() {
        let traffic = Traffic::default();
        let (mut first, mut second) = (Counted::default(), Counted::default());
        let stats = |sent, received| Stats {
            bytes_sent: sent,
            bytes_received: received,
            payload_len: 2048,
            ..Stats::default()
        };
        traffic.count(&mut first, &stats(10, 1));
        traffic.clone().count(&mut second, &stats(5, 0));
        traffic.count(&mut first, &stats(11, 1));
        assert_eq!((traffic.sent(), traffic.received(), traffic.payload_len()), (16, 1, 2048));
    }
}
