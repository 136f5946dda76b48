//! Spacing of messages.

use std::time::{Duration, Instant};

use crate::Pacing;

/// A token bucket, kept as the time at which the next message would be exactly on schedule.
#[derive(Debug)]
pub(crate) struct Pacer {
    interval: Duration,
    /// How far ahead of schedule a burst may be.
    tolerance: Duration,
    on_schedule: Option<Instant>,
}

impl Pacer {
    pub(crate) fn new(pacing: Pacing) -> Self {
        let interval = Duration::from_secs(1) / pacing.per_second.max(1);
        Self { interval, tolerance: interval * pacing.burst.saturating_sub(1), on_schedule: None }
    }

    /// When the next message may go; `None` for at once.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let earliest = self.on_schedule?.checked_sub(self.tolerance)?;
        (earliest > now).then_some(earliest)
    }

    /// Counts a message that goes out.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.on_schedule = Some(self.on_schedule.map_or(now, |at| at.max(now)) + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
    fn a_burst_goes_at_once_and_the_rest_is_spaced() {
        let mut pacer = Pacer::new(Pacing { per_second: 900, burst: 100 });
        let start = Instant::now();
        let mut now = start;
        let mut sent = 0;
        while now < start + Duration::from_secs(2) {
            match pacer.next(now) {
                Some(at) => now = at,
                None => {
                    pacer.sent(now);
                    sent += 1;
                }
            }
        }
        assert!((1_895..=1_901).contains(&sent), "{sent} messages in 2 s");
    }
}
