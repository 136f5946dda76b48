//! How many losses are made up for at once. A gateway that says something and cuts, again and again, would otherwise be dialled as
//! fast as it cuts: having been heard makes each loss a first one.

use std::time::{Duration, Instant};

/// Losses in a row that are made up for at once: more than a bad network brings about, and no more calls of ResumeSession than an account bears.
const AT_ONCE: u32 = 64;

/// How long it takes until one more is.
const REFILL: Duration = Duration::from_millis(250);

/// The losses that are left.
#[derive(Debug)]
pub(crate) struct AtOnce {
    left: u32,
    /// Up to when they are counted.
    counted: Instant,
}

impl AtOnce {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: AT_ONCE, counted: now }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let more = now.saturating_duration_since(self.counted).as_millis() / REFILL.as_millis();
        if more > 0 {
            self.left = u32::try_from(more).unwrap_or(AT_ONCE).saturating_add(self.left).min(AT_ONCE);
            self.counted = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
    fn losses_are_made_up_for_at_once_until_there_are_too_many() {
        let begin = Instant::now();
        let mut at_once = AtOnce::new(begin);
        let taken = |at_once: &mut AtOnce, now| (0..2_000).filter(|_| at_once.take(now)).count();
        assert_eq!(taken(&mut at_once, begin), 64);
        assert_eq!(taken(&mut at_once, begin + REFILL), 1);
        assert_eq!(taken(&mut at_once, begin + REFILL * 3), 2);
        assert_eq!(taken(&mut at_once, begin + REFILL * 1_000_000), 64);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
    fn one_more_every_quarter_of_a_second_however_often_losses_are() {
        let mut now = Instant::now();
        let mut at_once = AtOnce::new(now);
        let mut taken = 0;
        for _ in 0..1_000 {
            taken += u32::from(at_once.take(now));
            now += REFILL / 5;
        }
        assert_eq!(taken, 64 + 199);
    }
}
