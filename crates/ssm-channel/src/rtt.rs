//! Round-trip time and retransmission timeout.

use std::time::Duration;

/// The estimator of both AWS programs, with a lower bound (plugin `streaming.go` `CalculateRetransmissionTimeout`; agent
/// `datachannel.go`): alpha 1/8, beta 1/4, clock granularity 10 ms, at most 1 s.
#[derive(Debug)]
pub(crate) struct Rtt {
    smoothed: Duration,
    variation: Duration,
    timeout: Duration,
    /// A lower bound of the timeout until there is a sample.
    floor: Duration,
}

const GRANULARITY: Duration = Duration::from_millis(10);
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
const MAX_TIMEOUT: Duration = Duration::from_secs(1);

impl Rtt {
    pub(crate) fn new() -> Self {
        Self {
            smoothed: Duration::from_millis(100),
            variation: Duration::ZERO,
            timeout: MIN_TIMEOUT,
            floor: Duration::ZERO,
        }
    }

    /// Takes the time between a message that was sent once and its acknowledgement. (A sample of a message that was resent
    /// would be ambiguous: Karn's rule.)
    pub(crate) fn sample(&mut self, sample: Duration) {
        let deviation = self.smoothed.abs_diff(sample);
        self.variation = self.variation * 3 / 4 + deviation / 4;
        self.smoothed = self.smoothed * 7 / 8 + sample / 8;
        self.timeout = (self.smoothed + GRANULARITY.max(self.variation * 4)).clamp(MIN_TIMEOUT, MAX_TIMEOUT);
        self.floor = Duration::ZERO;
    }

    /// A message that was resent was acknowledged this long after its first sending. Its round trip may have taken all of
    /// that, so the next messages wait as long for theirs: a path slower than the timeout would else never give a sample.
    pub(crate) fn ambiguous(&mut self, since_first: Duration) {
        self.floor = self.floor.max((since_first + GRANULARITY).min(MAX_TIMEOUT));
    }

    /// Smoothed round-trip time; 100 ms before the first sample.
    pub(crate) fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// How long to wait for the acknowledgement of a message that was sent `1 + level` times.
    pub(crate) fn timeout(&self, level: usize) -> Duration {
        (self.timeout.max(self.floor) * (1 << level.min(4))).min(MAX_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_43_variation_is_updated_with_the_old_mean() {
        let mut rtt = Rtt::new();
        rtt.sample(Duration::from_millis(500));
        assert_eq!(rtt.variation, Duration::from_millis(100));
        assert_eq!(rtt.smoothed, Duration::from_millis(150));
        assert_eq!(rtt.timeout(0), Duration::from_millis(550));
    }

    #[test]
    fn a_path_slower_than_the_first_timeout_is_measured_in_the_end() {
        let mut rtt = Rtt::new();
        rtt.ambiguous(Duration::from_millis(300));
        assert_eq!(rtt.timeout(0), Duration::from_millis(310));
        assert_eq!(rtt.timeout(1), Duration::from_millis(620));
        rtt.sample(Duration::from_millis(300));
        assert_eq!(rtt.timeout(0), Duration::from_millis(325));
        rtt.ambiguous(Duration::from_secs(20));
        assert_eq!(rtt.timeout(0), MAX_TIMEOUT);
    }

    #[test]
    fn item_43_timeouts_stay_between_200_ms_and_1_s() {
        let mut rtt = Rtt::new();
        for _ in 0..100 {
            rtt.sample(Duration::from_micros(50));
        }
        let seconds = |level| rtt.timeout(level).as_secs_f64();
        assert_eq!([seconds(0), seconds(1), seconds(9)], [0.2, 0.4, 1.0]);
        for _ in 0..100 {
            rtt.sample(Duration::from_secs(20));
        }
        assert_eq!(rtt.timeout(0), Duration::from_secs(1));
    }

    #[test]
    fn item_43_a_quarter_of_the_variation_is_replaced_by_each_sample() {
        let mut rtt = Rtt::new();
        rtt.sample(Duration::from_millis(500));
        rtt.sample(Duration::from_millis(150));
        assert_eq!(rtt.variation, Duration::from_millis(75));
        assert_eq!(rtt.timeout(0), Duration::from_millis(450));
    }
}
