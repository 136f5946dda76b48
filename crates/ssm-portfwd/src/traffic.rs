//! How much is carried, as it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ssm_session::Stats;

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

    /// Adds what a session has carried since it had carried `counted`.
    pub(crate) fn count(&self, counted: &mut Counted, stats: &Stats) {
        if (counted.sent, counted.received) == (stats.bytes_sent, stats.bytes_received) {
            return;
        }
        self.0.sent.fetch_add(stats.bytes_sent.saturating_sub(counted.sent), Ordering::Relaxed);
        self.0.received.fetch_add(stats.bytes_received.saturating_sub(counted.received), Ordering::Relaxed);
        let micros = u64::try_from(stats.rtt.as_micros()).unwrap_or(u64::MAX);
        self.0.rtt_micros.store(micros, Ordering::Relaxed);
        *counted = Counted { sent: stats.bytes_sent, received: stats.bytes_received };
    }
}

/// How much of a session is in the counters.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    sent: u64,
    received: u64,
}
