//! Spacing of messages.

use std::time::{Duration, Instant};

use crate::Pacing;

/// A token bucket, kept as the time at which the next message would be exactly on schedule. It slows down when the gateway
/// pauses this side, and comes back to its rate while the gateway does not.
#[derive(Debug)]
pub(crate) struct Pacer {
    pacing: Pacing,
    /// Messages a second as of now.
    rate: u32,
    on_schedule: Option<Instant>,
    /// Nothing goes before this: the messages that become due until then go together.
    resumes: Option<Instant>,
    /// When the rate was last changed.
    changed: Option<Instant>,
}

/// The rate never falls below this share of what is configured.
const SLOWEST: u32 = 8;

/// How long messages gather that are due one by one. At 900 a second each would wake the process for itself.
const GATHER: Duration = Duration::from_millis(4);

/// How long without a pause before the rate grows by a step.
const RECOVERY: Duration = Duration::from_secs(10);

impl Pacer {
    pub(crate) fn new(pacing: Pacing) -> Self {
        let pacing = Pacing { per_second: pacing.per_second.max(1), ..pacing };
        Self { pacing, rate: pacing.per_second, on_schedule: None, resumes: None, changed: None }
    }

    /// When the next message may go; `None` for at once.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Instant> {
        let interval = self.interval();
        let burst = self.pacing.burst.saturating_sub(1);
        let earliest = self.on_schedule?.checked_sub(interval * burst)?;
        if earliest > now {
            // What gathers must fit the bucket, or the rate would not be reached.
            let gathered = GATHER.as_nanos() / interval.as_nanos().max(1);
            let gathered = u32::try_from(gathered).unwrap_or(u32::MAX).min(burst / 2);
            self.resumes = Some(earliest + interval * gathered);
        }
        self.resumes = self.resumes.filter(|at| *at > now);
        self.resumes
    }

    /// Counts a message that goes out.
    pub(crate) fn sent(&mut self, now: Instant) {
        if self.rate < self.pacing.per_second
            && self.changed.is_none_or(|at| now.saturating_duration_since(at) >= RECOVERY)
        {
            self.rate = (self.rate + self.pacing.per_second.div_ceil(20)).min(self.pacing.per_second);
            self.changed = Some(now);
        }
        self.on_schedule = Some(self.on_schedule.map_or(now, |at| at.max(now)) + self.interval());
    }

    /// The gateway has paused this side: a quarter less from here on.
    pub(crate) fn slow_down(&mut self, now: Instant) {
        self.rate = (self.rate - self.rate / 4).max(self.pacing.per_second.div_ceil(SLOWEST));
        self.changed = Some(now);
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many messages go out of a queue that is never empty.
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
    fn sent_in_2_s(pacing: Pacing) -> u32 {
        let mut pacer = Pacer::new(pacing);
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
        sent
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_is_spaced() {
        let sent = sent_in_2_s(Pacing { per_second: 900, burst: 100 });
        assert!((1_895..=1_901).contains(&sent), "{sent} messages in 2 s");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
    fn messages_that_become_due_soon_go_together() {
        let mut pacer = Pacer::new(Pacing { per_second: 1000, burst: 10 });
        let mut now = Instant::now();
        (0..10).for_each(|_| pacer.sent(now));
        for _ in 0..5 {
            now = pacer.next(now).unwrap();
            let mut together = 0;
            while pacer.next(now).is_none() {
                pacer.sent(now);
                together += 1;
            }
            assert_eq!(together, 5);
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
    fn pauses_slow_it_down_and_time_without_them_brings_it_back() {
        let mut pacer = Pacer::new(Pacing { per_second: 800, burst: 1 });
        let mut now = Instant::now();
        pacer.slow_down(now);
        assert_eq!(pacer.rate, 600);
        for _ in 0..20 {
            pacer.slow_down(now);
        }
        assert_eq!(pacer.rate, 100);
        pacer.sent(now);
        assert_eq!(pacer.rate, 100, "not at once");
        for _ in 0..20 {
            now += RECOVERY;
            pacer.sent(now);
        }
        assert_eq!(pacer.rate, 800);
    }

    #[test]
    fn a_small_bucket_does_not_cost_any_of_the_rate() {
        let sent = sent_in_2_s(Pacing { per_second: 5_000, burst: 10 });
        assert!((9_980..=10_010).contains(&sent), "{sent} messages in 2 s");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
    fn it_comes_back_by_a_twentieth_of_its_rate_every_ten_seconds() {
        let mut pacer = Pacer::new(Pacing { per_second: 800, burst: 1 });
        let mut now = Instant::now();
        pacer.slow_down(now);
        for expected in [640, 680, 720, 760, 800, 800] {
            now += RECOVERY;
            pacer.sent(now);
            pacer.sent(now);
            assert_eq!(pacer.rate, expected);
        }
    }
}
