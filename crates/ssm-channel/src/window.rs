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
    /// The last acknowledgement on this connection, or the sending behind it that nothing was in flight before.
    last: Option<Delivered>,
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

/// What had been acknowledged when a message was sent: where the rate that it tells of is measured from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivered {
    bytes: u64,
    /// When the last of it was acknowledged, and when that had been sent. Both are the time of the sending itself, if nothing was in
    /// flight.
    at: Instant,
    sent: Instant,
}

/// What a message that was sent once tells when it is acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// When it was sent.
    pub(crate) sent: Instant,
    /// The [mark](Window::mark) of when it was sent.
    pub(crate) delivered: Delivered,
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
            last: None,
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

    /// A message is sent: to be kept with it, and given back with its acknowledgement. `idle` when nothing is in flight before it.
    pub(crate) fn mark(&mut self, now: Instant, idle: bool) -> Delivered {
        let begin = Delivered { bytes: self.delivered, at: now, sent: now };
        *self.last.insert(self.last.filter(|_| !idle).unwrap_or(begin))
    }

    /// `len` bytes were acknowledged, which were sent last at `sent`, if that was on this connection.
    pub(crate) fn acknowledged(&mut self, now: Instant, len: usize, sent: Option<Instant>) {
        self.delivered += len as u64;
        if let Some(sent) = sent {
            self.last = Some(Delivered { bytes: self.delivered, at: now, sent });
        }
    }

    /// A message that was sent once was acknowledged.
    pub(crate) fn sample(&mut self, now: Instant, sample: Sample) {
        let Sample { sent, delivered, in_flight } = sample;
        let rtt = now.saturating_duration_since(sent);
        if self.epoch_end.is_none_or(|end| end <= now) {
            self.rate = [0, self.rate[0]];
            self.epoch_end = Some(now + EPOCH * rtt.clamp(RTT_FLOOR, RTT_CEILING));
            self.growth.epoch_is_over();
        }
        // Acknowledgements that come together were not earned in the moment in which they came. What was sent over a longer time
        // than it was acknowledged in tells how fast it was sent.
        let elapsed =
            now.saturating_duration_since(delivered.at).max(sent.saturating_duration_since(delivered.sent));
        let bytes = u128::from(self.delivered.saturating_sub(delivered.bytes));
        let rate = u64::try_from(bytes * 1_000_000_000 / elapsed.as_nanos().max(1_000)).unwrap_or(u64::MAX);
        self.rate[0] = self.rate[0].max(rate);
        self.rtt = Some(self.rtt.map_or(rtt, |smallest| smallest.min(rtt)));
        self.growth.sent(in_flight >= self.size - self.size / 4);
        if delivered.bytes >= self.growth.round_end {
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
        self.last = None;
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
        let (sent, delivered) = (now, window.mark(now, true));
        now += rtt;
        window.sample(now, Sample { sent, delivered, in_flight: 0 });
        for _ in 0..200 {
            let (sent, len) = (now, window.size());
            let delivered = window.mark(now, false);
            let transfer = MS * u32::try_from(len / bytes_per_ms).unwrap();
            now += rtt.max(transfer);
            window.acknowledged(now, len, Some(sent));
            window.sample(now, Sample { sent, delivered, in_flight: len });
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
        for _ in 0..4 {
            let len = window.size();
            round(&mut window, &mut now, len, len);
            assert!(window.size() >= 2 * len, "{} after {len}", window.size());
        }
    }

    /// A round trip of 100 ms in which so much is acknowledged and the window was filled so far.
    fn round(window: &mut Window, now: &mut Instant, bytes: usize, in_flight: usize) -> usize {
        let (sent, delivered) = (*now, window.mark(*now, false));
        *now += 100 * MS;
        window.acknowledged(*now, bytes, Some(sent));
        window.sample(*now, Sample { sent, delivered, in_flight });
        window.size()
    }

    /// What is on a path of 100 ms at 5 MB/s, twice that, and that with a sixteenth and 4 ms more.
    const ON_THE_WAY: usize = 500_000;
    const GROWING: usize = 2 * ON_THE_WAY;
    const GROWN: usize = 551_250;

    /// A window of any size that has found the rate of the path.
    fn grown(now: &mut Instant) -> Window {
        let mut window = Window::new(1, usize::MAX);
        for expected in [GROWING, GROWING, GROWING, GROWN] {
            let full = window.size();
            assert_eq!(round(&mut window, now, ON_THE_WAY, full), expected);
        }
        window
    }

    #[test]
    fn three_full_round_trips_without_a_larger_rate_end_its_growth() {
        let mut now = origin();
        let mut window = grown(&mut now);
        assert_eq!(window.rtt(), Some(100 * MS));
        for _ in 0..40 {
            assert_eq!(round(&mut window, &mut now, ON_THE_WAY, GROWN), GROWN);
        }
    }

    #[test]
    fn a_window_of_which_three_quarters_were_in_flight_was_full() {
        for (in_flight, expected) in [(GROWING - GROWING / 4, GROWN), (GROWING - GROWING / 4 - 1, GROWING)] {
            let mut window = Window::new(1, usize::MAX);
            let mut now = origin();
            for _ in 0..4 {
                round(&mut window, &mut now, ON_THE_WAY, in_flight);
            }
            assert_eq!(window.size(), expected, "{in_flight}");
        }
    }

    #[test]
    fn a_rate_that_is_larger_by_a_quarter_is_growth() {
        let mut window = Window::new(1, usize::MAX);
        let (mut now, mut bytes) = (origin(), 4 * 64 * 1024);
        for _ in 0..8 {
            let full = window.size();
            assert_eq!(round(&mut window, &mut now, bytes, full), 2 * bytes);
            bytes += bytes / 4;
        }
    }

    #[test]
    fn what_was_sent_before_the_last_round_trip_ended_does_not_end_the_next() {
        let mut now = origin();
        let mut window = grown(&mut now);
        window.halve();
        let (sent, mark) = (now - 100 * MS, window.mark(now, false));
        let delivered = Delivered { bytes: mark.bytes - ON_THE_WAY as u64, at: sent, ..mark };
        window.sample(now, Sample { sent, delivered, in_flight: usize::MAX });
        assert_eq!(window.size(), GROWING);
        for expected in [GROWING, GROWING, GROWING, GROWN] {
            assert_eq!(round(&mut window, &mut now, ON_THE_WAY, GROWING), expected);
        }
    }

    #[test]
    fn a_rate_is_forgotten_after_ten_to_twenty_round_trips() {
        let mut now = origin();
        let start = now;
        let mut window = grown(&mut now);
        while now < start + 2_000 * MS {
            assert_eq!(round(&mut window, &mut now, ON_THE_WAY / 2, GROWN), GROWN);
        }
        assert_eq!(round(&mut window, &mut now, ON_THE_WAY / 2, GROWN), GROWN / 2);
    }

    /// The path may have another rate by the time there is more to send.
    #[test]
    fn after_ten_round_trips_with_little_to_send_the_rate_is_looked_for_again() {
        let mut now = origin();
        let start = now;
        let mut window = grown(&mut now);
        while now < start + 2_000 * MS {
            assert_eq!(round(&mut window, &mut now, ON_THE_WAY, 0), GROWN);
        }
        assert_eq!(round(&mut window, &mut now, ON_THE_WAY, 0), GROWING);
    }

    #[test]
    fn a_new_connection_may_have_a_longer_way() {
        let mut now = origin();
        let mut window = grown(&mut now);
        window.reconnected();
        assert_eq!(window.rtt(), None);
        // An outage is no part of a rate.
        now += 1_000 * MS;
        let (sent, delivered) = (now, window.mark(now, false));
        now += 200 * MS;
        window.acknowledged(now, 2 * ON_THE_WAY, Some(sent));
        window.sample(now, Sample { sent, delivered, in_flight: 0 });
        assert_eq!((window.rtt(), window.size()), (Some(200 * MS), 2 * GROWING));
    }

    #[test]
    fn larger_messages_have_a_larger_window_at_least_and_never_more_than_the_most() {
        let mut window = Window::new(1_000, 5_000);
        window.set_min(4_000);
        assert_eq!(window.size(), 4_000);
        window.set_min(9_000);
        assert_eq!(window.size(), 5_000);
        window.set_min(2_000);
        assert_eq!(window.size(), 5_000, "it is for what is to come");
    }

    /// Acknowledgements for 50 ms that come in one moment, of messages sent over that time. The last of them was sent 1 ms before.
    #[test]
    fn acknowledgements_that_come_together_do_not_make_the_path_faster() {
        let mut now = origin();
        let mut window = grown(&mut now);
        let marks: Vec<_> = (0..50)
            .map(|_| {
                now += MS;
                (now, window.mark(now, false))
            })
            .collect();
        now += MS;
        for (sent, delivered) in marks {
            window.acknowledged(now, 5_000, Some(sent));
            window.sample(now, Sample { sent, delivered, in_flight: 250_000 });
            assert_eq!(window.rate(), 5_000_000);
        }
    }

    /// Two messages, 50 ms apart. The first is acknowledged after 60 ms, and a third that is sent then after 2 ms.
    #[test]
    fn what_was_sent_slowly_does_not_make_the_path_faster() {
        let mut window = Window::new(1, usize::MAX);
        let start = origin();
        let send = |window: &mut Window, at: u32, idle| {
            let sent = start + at * MS;
            Sample { sent, delivered: window.mark(sent, idle), in_flight: 0 }
        };
        let arrive = |window: &mut Window, at: u32, sample: Sample| {
            window.acknowledged(start + at * MS, 1_000, Some(sample.sent));
            window.sample(start + at * MS, sample);
        };
        let first = send(&mut window, 0, true);
        let second = send(&mut window, 50, false);
        assert_eq!(second.delivered, first.delivered, "nothing was acknowledged between them");
        arrive(&mut window, 60, first);
        let third = send(&mut window, 60, false);
        arrive(&mut window, 61, second);
        assert_eq!(window.rate(), 2_000_000 / 61);
        arrive(&mut window, 62, third);
        assert_eq!(window.rate(), 2_000_000 / 60, "2,000 bytes, which took 60 ms to be sent");
    }

    #[test]
    fn a_rest_is_no_part_of_a_rate() {
        let mut now = origin();
        let mut window = grown(&mut now);
        now += 1_000 * MS;
        let idle = window.mark(now, true);
        assert_eq!((idle.at, idle.sent), (now, now));
        assert_eq!(window.mark(now + MS, false).at, now, "the others of the same flight");
    }

    #[test]
    fn it_stays_within_its_bounds() {
        assert_eq!(settle(MS, 10), 64 * 1024);
        assert_eq!(settle(1_000 * MS, 100_000), 4 * 1024 * 1024);
    }

    #[test]
    fn a_timeout_halves_it() {
        let mut window = Window::new(1_000, 1_000_000);
        let mut now = origin();
        round(&mut window, &mut now, 500_000, 500_000);
        assert_eq!(window.size(), 1_000_000);
        window.halve();
        assert_eq!(window.size(), 500_000);
        for _ in 0..20 {
            window.halve();
        }
        assert_eq!(window.size(), 1_000);
    }

    #[test]
    fn a_timeout_halves_what_the_rate_is_taken_for() {
        let mut now = origin();
        let mut window = grown(&mut now);
        window.halve();
        assert_eq!(window.size(), GROWN / 2);
        assert_eq!(round(&mut window, &mut now, 0, 0), GROWING / 2);
    }

    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }
}
