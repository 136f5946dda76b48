//! How much may be unacknowledged.

use std::time::{Duration, Instant};

/// The send window: the largest delivery rate of the last round trips times the smallest round-trip time, and a little more, so
/// that the path is full and next to no queue builds up behind it. While the rate still grows it is twice that. A lone
/// loss does not shrink it.
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
    growth: Growth,
}

/// Whether a larger window still gives a larger rate.
#[derive(Debug, Default)]
struct Growth {
    /// The rate when it last grew by a quarter.
    rate: u64,
    /// Round trips without such a growth, in which the window was full.
    rounds: u32,
    /// A round trip is over when what was sent from here on is acknowledged.
    round_end: u64,
    /// Whether the window was full in this round trip, and in this epoch.
    full: [bool; 2],
}

/// What a message that was sent once tells when it is acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Since it was sent.
    pub(crate) rtt: Duration,
    /// What had been [delivered](Window::delivered) when it was sent.
    pub(crate) delivered: u64,
    /// Bytes that were in flight before the acknowledgement.
    pub(crate) in_flight: usize,
}

/// What the window has beyond the path: for the scheduling of both ends, and so that a rate that grows is found out.
const SLACK: Duration = Duration::from_millis(4);

/// The share of the path that comes to that.
const SLACK_PART: u32 = 16;

/// A longer round trip is an outage that ended, and says nothing about how long the path needs.
const RTT_CEILING: Duration = Duration::from_secs(1);

/// A shorter one is no measure for anything.
const RTT_FLOOR: Duration = Duration::from_millis(2);

/// Round trips in an epoch.
const EPOCH: u32 = 10;

/// Round trips with a full window after which the rate has grown enough.
const GROWTH_ROUNDS: u32 = 3;

impl Window {
    /// A window between `min` and `max` bytes, at `min` to begin with.
    pub(crate) fn new(min: usize, max: usize) -> Self {
        Self {
            min,
            max: max.max(min),
            size: min,
            delivered: 0,
            rate: [0; 2],
            rtt: None,
            epoch_end: None,
            growth: Growth::default(),
        }
    }

    /// Bytes that may be unacknowledged.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The smallest round-trip time of this connection, once it is known.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Bytes acknowledged so far: kept with each message that is sent, and given back with its acknowledgement.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// `len` bytes were acknowledged.
    pub(crate) fn acknowledged(&mut self, len: usize) {
        self.delivered += len as u64;
    }

    /// A message that was sent once was acknowledged.
    pub(crate) fn sample(&mut self, now: Instant, sample: Sample) {
        let Sample { rtt, delivered, in_flight } = sample;
        if self.epoch_end.is_none_or(|end| end <= now) {
            self.rate = [0, self.rate[0]];
            self.epoch_end = Some(now + EPOCH * rtt.clamp(RTT_FLOOR, RTT_CEILING));
            self.growth.epoch_is_over();
        }
        let elapsed = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX).max(1_000);
        let bytes = u128::from(self.delivered.saturating_sub(delivered));
        let rate = u64::try_from(bytes * 1_000_000_000 / u128::from(elapsed)).unwrap_or(u64::MAX);
        self.rate[0] = self.rate[0].max(rate);
        self.rtt = Some(self.rtt.map_or(rtt, |smallest| smallest.min(rtt)));
        self.growth.sent(in_flight >= self.size - self.size / 4);
        if delivered >= self.growth.round_end {
            self.growth.round_is_over(self.delivered, self.rate());
        }
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
        self.growth.begin();
    }

    /// A full timeout passed without any acknowledgement.
    pub(crate) fn halve(&mut self) {
        self.rate = self.rate.map(|rate| rate / 2);
        self.size = (self.size / 2).max(self.min);
        self.growth.begin();
    }

    fn rate(&self) -> u64 {
        self.rate[0].max(self.rate[1])
    }

    fn resize(&mut self) {
        let rtt = self.rtt.unwrap_or_default();
        let path = rtt + rtt / SLACK_PART + SLACK;
        let time = if self.growth.rounds < GROWTH_ROUNDS { path.max(2 * rtt) } else { path };
        let bytes = u128::from(self.rate()) * time.as_nanos() / 1_000_000_000;
        self.size = usize::try_from(bytes).unwrap_or(usize::MAX).clamp(self.min, self.max);
    }
}

impl Growth {
    /// Begins to look for the rate of the path again.
    fn begin(&mut self) {
        *self = Self { round_end: self.round_end, ..Self::default() };
    }

    fn sent(&mut self, full: bool) {
        self.full = self.full.map(|before| before || full);
    }

    fn round_is_over(&mut self, delivered: u64, rate: u64) {
        self.round_end = delivered;
        let full = std::mem::take(&mut self.full[0]);
        if self.rounds == GROWTH_ROUNDS {
            return;
        }
        if rate >= self.rate.saturating_add(self.rate / 4) {
            self.rate = rate;
            self.rounds = 0;
        } else if full {
            self.rounds += 1;
        }
    }

    /// An application that sends less than it may tells nothing about the path, which may have another rate by the time it
    /// sends more.
    fn epoch_is_over(&mut self) {
        if !std::mem::take(&mut self.full[1]) {
            self.begin();
        }
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
        window.sample(now, Sample { rtt, delivered: 0, in_flight: 0 });
        for _ in 0..200 {
            let sent = window.size();
            let delivered = window.delivered();
            let transfer = MS * u32::try_from(sent / bytes_per_ms).unwrap();
            window.acknowledged(sent);
            now += rtt.max(transfer);
            window.sample(now, Sample { rtt: rtt.max(transfer), delivered, in_flight: sent });
        }
        window.size()
    }

    #[test]
    fn it_grows_to_what_the_path_holds_and_a_little_more() {
        let path = 100 * 5_000;
        let size = settle(100 * MS, 5_000);
        assert!((path..=path + path / 8).contains(&size), "{size}");
    }

    #[test]
    fn it_doubles_while_the_rate_grows() {
        let mut window = Window::new(64 * 1024, 4 * 1024 * 1024);
        let mut now = origin();
        window.sample(now, Sample { rtt: 100 * MS, delivered: 0, in_flight: 0 });
        for _ in 0..4 {
            let (sent, delivered) = (window.size(), window.delivered());
            window.acknowledged(sent);
            now += 100 * MS;
            window.sample(now, Sample { rtt: 100 * MS, delivered, in_flight: sent });
            assert!(window.size() >= 2 * sent, "{} after {sent}", window.size());
        }
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
        window.sample(origin(), Sample { rtt: 100 * MS, delivered: 0, in_flight: 500_000 });
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
