//! The pause that AWS's agent makes after every read.

use std::time::{Duration, Instant};

use crate::config::Profile;

/// Time per read of up to 1,024 bytes at which AWS's agent moves 0.72 MiB/s: its `time.Sleep(1 ms)` and what else it does.
const PER_READ: Duration = Duration::from_nanos(1_356_000);

/// How far behind its schedule a pump may catch up: timers of this runtime fire up to a millisecond or two late.
const SLACK: Duration = Duration::from_micros(2_500);

/// Spaces the reads of one pump. Deadlines follow a schedule rather than a sleep each, so late timers do not slow it down.
#[derive(Debug)]
pub(super) struct Pace {
    profile: Profile,
    next: Option<Instant>,
}

impl Pace {
    pub(super) fn new(profile: Profile) -> Self {
        Self { profile, next: None }
    }

    /// When the pump may read again, if it has to wait.
    pub(super) fn wait(&self, now: Instant) -> Option<Instant> {
        self.next.filter(|next| *next > now)
    }

    /// A read was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        if self.profile == Profile::Aws {
            let earliest = now.checked_sub(SLACK).unwrap_or(now);
            self.next = Some(self.next.unwrap_or(now).max(earliest) + PER_READ);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_wake_ups_do_not_lower_the_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(Profile::Aws);
        let (mut now, mut reads) = (start, 0_u32);
        while now < start + Duration::from_secs(10) {
            while pace.wait(now).is_none() {
                pace.sent(now);
                reads += 1;
            }
            // A timer with a resolution of a millisecond, and one more of lateness.
            let due = pace.wait(now).unwrap() - start;
            now = start + Duration::from_millis(due.as_millis() as u64 + 2);
        }
        let rate = f64::from(reads) * 1024.0 / 10.0 / 1_048_576.0;
        assert!((0.71..0.73).contains(&rate), "{rate} MiB/s");
    }

    #[test]
    fn the_fast_profile_never_waits() {
        let now = Instant::now();
        let mut pace = Pace::new(Profile::Fast);
        pace.sent(now);
        assert_eq!(pace.wait(now), None);
    }
}
