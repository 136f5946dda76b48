//! How much may be unacknowledged.

use std::time::{Duration, Instant};

/// The send window: twice the largest delivery rate of the last ten round trips times the smallest round-trip time, so
/// that the path is full and no queue builds up behind it. A lone loss does not shrink it.
#[derive(Debug)]
pub(crate) struct Window {
    min: usize,
    max: usize,
    size: usize,
    /// Bytes acknowledged so far.
    delivered: u64,
    /// Largest rates of the running and of the last epoch, in bytes a second.
    rate: [u64; 2],
    /// Smallest round-trip time of this connection. It must not be forgotten while data flows: a queue that builds up would
    /// become the measure of the path.
    rtt: Option<Duration>,
    epoch_end: Option<Instant>,
}

/// Below this the scheduling of both ends, not the path, decides how long a round trip takes.
const RTT_FLOOR: Duration = Duration::from_millis(2);

/// A longer round trip is an outage that ended, and says nothing about how long the path needs.
const RTT_CEILING: Duration = Duration::from_secs(1);

/// Round trips in an epoch.
const EPOCH: u32 = 10;

impl Window {
    /// A window between `min` and `max` bytes, at `min` to begin with.
    pub(crate) fn new(min: usize, max: usize) -> Self {
        let max = max.max(min);
        Self { min, max, size: min, delivered: 0, rate: [0; 2], rtt: None, epoch_end: None }
    }

    /// Bytes that may be unacknowledged.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Bytes acknowledged so far: kept with each message that is sent, and given back with its acknowledgement.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// `len` bytes were acknowledged.
    pub(crate) fn acknowledged(&mut self, len: usize) {
        self.delivered += len as u64;
    }

    /// A message that was sent once was acknowledged after `rtt`; `delivered` is what had been when it was sent.
    pub(crate) fn sample(&mut self, now: Instant, rtt: Duration, delivered: u64) {
        if self.epoch_end.is_none_or(|end| end <= now) {
            self.rate = [0, self.rate[0]];
            self.epoch_end = Some(now + EPOCH * rtt.clamp(RTT_FLOOR, RTT_CEILING));
        }
        let elapsed = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX).max(1_000);
        let bytes = u128::from(self.delivered.saturating_sub(delivered));
        let rate = u64::try_from(bytes * 1_000_000_000 / u128::from(elapsed)).unwrap_or(u64::MAX);
        self.rate[0] = self.rate[0].max(rate);
        self.rtt = Some(self.rtt.map_or(rtt, |smallest| smallest.min(rtt)));
        self.resize();
    }

    /// Messages have become larger.
    pub(crate) fn set_min(&mut self, min: usize) {
        self.min = min.min(self.max);
        self.size = self.size.max(self.min);
    }

    /// The connection was replaced: its round-trip time is to be found again.
    pub(crate) fn reconnected(&mut self) {
        self.rtt = None;
    }

    /// A full timeout passed without any acknowledgement.
    pub(crate) fn halve(&mut self) {
        self.rate = self.rate.map(|rate| rate / 2);
        self.size = (self.size / 2).max(self.min);
    }

    fn resize(&mut self) {
        let rtt = self.rtt.map_or(RTT_FLOOR, |rtt| rtt.max(RTT_FLOOR));
        let rate = u128::from(self.rate[0].max(self.rate[1]));
        let bytes = 2 * rate * rtt.as_nanos() / 1_000_000_000;
        self.size = usize::try_from(bytes).unwrap_or(usize::MAX).clamp(self.min, self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends windows of data over a path with this round trip and rate, and returns the window it settles at.
    fn settle(rtt: Duration, bytes_per_ms: usize) -> usize {
        let mut window = Window::new(64 * 1024, 4 * 1024 * 1024);
        let mut now = origin();
        window.sample(now, rtt, 0);
        for _ in 0..200 {
            let sent = window.size();
            let delivered = window.delivered();
            let transfer = MS * u32::try_from(sent / bytes_per_ms).unwrap();
            window.acknowledged(sent);
            now += rtt.max(transfer);
            window.sample(now, rtt.max(transfer), delivered);
        }
        window.size()
    }

    #[test]
    fn it_grows_to_twice_what_the_path_holds() {
        let path = 100 * 5_000;
        let size = settle(100 * MS, 5_000);
        assert!((path..=5 * path / 2).contains(&size), "{size}");
    }

    #[test]
    fn it_stays_within_its_bounds() {
        assert_eq!(settle(MS, 10), 64 * 1024);
        assert_eq!(settle(1_000 * MS, 100_000), 4 * 1024 * 1024);
    }

    #[test]
    fn a_timeout_halves_it() {
        let mut window = Window::new(1_000, 1_000_000);
        window.acknowledged(500_000);
        window.sample(origin(), 100 * MS, 0);
        assert_eq!(window.size(), 1_000_000);
        window.halve();
        assert_eq!(window.size(), 500_000);
        for _ in 0..20 {
            window.halve();
        }
        assert_eq!(window.size(), 1_000);
    }

    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }
}
