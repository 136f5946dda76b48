//! Spreading a window over its round trip.

use std::time::{Duration, Instant};

/// Spaces messages so that a window leaves over the better part of a round trip. What leaves in one go stays together on its
/// way, and everything else waits behind it at every hop.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// When the next message would be exactly on schedule.
    on_schedule: Option<Instant>,
}

/// A round trip shorter than this is not worth a wake-up.
const SHORT: Duration = Duration::from_millis(10);

/// What may leave in one go, as time: timers are late by about as much.
const BURST: Duration = Duration::from_millis(2);

impl Spread {
    /// When the next message may go; `None` for at once.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        self.on_schedule.filter(|at| *at > now)
    }

    /// A message of `len` bytes goes out, of a window of so many that takes `rtt` there and back.
    pub(crate) fn sent(&mut self, now: Instant, len: usize, window: usize, rtt: Option<Duration>) {
        let Some(rtt) = rtt.filter(|rtt| *rtt >= SHORT) else {
            self.on_schedule = None;
            return;
        };
        // Four fifths of the round trip, so that the window and not the spacing is the limit.
        let share = len as f64 / window.max(len) as f64;
        let spacing = rtt.mul_f64(share * 0.8);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        self.on_schedule = Some(self.on_schedule.map_or(earliest, |at| at.max(earliest)) + spacing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const WINDOW: usize = 100_000;

    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    /// How long a window takes to leave in messages of a hundredth.
    fn leaves_within(rtt: Duration) -> Duration {
        let mut spread = Spread::default();
        let start = origin();
        let mut now = start;
        for _ in 0..100 {
            now = spread.next(now).unwrap_or(now);
            spread.sent(now, WINDOW / 100, WINDOW, Some(rtt));
        }
        now - start
    }

    #[test]
    fn a_window_leaves_over_most_of_a_round_trip() {
        let time = leaves_within(100 * MS);
        assert!((75 * MS..80 * MS).contains(&time), "{time:?}");
    }

    #[test]
    fn where_the_way_is_short_it_leaves_at_once() {
        assert_eq!(leaves_within(MS), Duration::ZERO);
    }

    #[test]
    fn a_message_after_a_quiet_time_goes_at_once_and_few_follow_it() {
        let mut spread = Spread::default();
        let now = origin() + 1000 * MS;
        let mut together = 0;
        while spread.next(now).is_none() {
            spread.sent(now, WINDOW / 100, WINDOW, Some(100 * MS));
            together += 1;
        }
        assert_eq!(together, 3, "2 ms of 0.8 ms each");
    }
}
