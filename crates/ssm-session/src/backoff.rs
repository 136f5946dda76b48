//! How long to wait before another try.

use std::time::Duration;

const BASE: Duration = Duration::from_millis(250);
const MAX: Duration = Duration::from_secs(15);

/// How long to wait after this many failures of something that the API did: at random up to a bound that doubles from 500 ms on and
/// ends at 15 s (full jitter). The redials of a session have delays of their own, of its channel.
pub fn backoff(failures: u32) -> Duration {
    let bound = (BASE * (1 << failures.min(10))).min(MAX);
    let mut random = [0; 4];
    // Without randomness there is no jitter, and the longest wait.
    match getrandom::fill(&mut random) {
        Ok(()) => bound.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)),
        Err(_) => bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_random_up_to_a_bound_that_doubles() {
        for (failures, bound) in [(1, 500), (2, 1000), (5, 8000), (6, 15_000), (u32::MAX, 15_000)] {
            let delays: Vec<_> = (0..100).map(|_| backoff(failures)).collect();
            let longest = delays.iter().max().unwrap();
            assert!(*longest <= Duration::from_millis(bound) && *longest > Duration::from_millis(bound / 2));
            assert!(delays.iter().any(|delay| *delay < Duration::from_millis(bound / 2)));
        }
    }
}
