//! All deadlines of a channel that are not derived from its queues.

use std::time::{Duration, Instant};

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Send a ping.
    KeepAlive,
    /// Send a message so that the service does not take the session for idle.
    KeepActive,
    /// The connection counts as dead.
    Silence,
    /// Messages of ours are unacknowledged and nothing comes: ask for a sign of life.
    Unanswered,
    /// The session counts as a shell without handshake.
    AssumeReady,
    /// The handshake has failed; after an assumed start, it will not come.
    Handshake,
    /// Connect again.
    Redial,
    /// Stop trying to connect again.
    Reconnect,
    /// The oldest message counts as undeliverable.
    GiveUp,
    /// The payload size under test counts as not taken.
    Probe,
    /// The terminate flag counts as heard.
    Terminate,
}

impl Timer {
    /// Every timer, in the order in which those due together are served.
    pub(crate) const ALL: [Self; 11] = [
        Self::KeepAlive,
        Self::KeepActive,
        Self::Silence,
        Self::Unanswered,
        Self::AssumeReady,
        Self::Handshake,
        Self::Redial,
        Self::Reconnect,
        Self::GiveUp,
        Self::Probe,
        Self::Terminate,
    ];
}

/// One optional deadline for each timer.
#[derive(Debug, Default)]
pub(crate) struct TimerTable([Option<Instant>; Timer::ALL.len()]);

impl TimerTable {
    /// Sets `timer`, in place of what it was set to. A time too far away for the clock never comes.
    pub(crate) fn set_after(&mut self, timer: Timer, now: Instant, after: Duration) {
        self.0[timer as usize] = now.checked_add(after);
    }

    /// The same, unless it is set to something sooner.
    pub(crate) fn set_within(&mut self, timer: Timer, now: Instant, within: Duration) {
        let earlier = self.0[timer as usize];
        self.set_after(timer, now, within);
        self.0[timer as usize] = self.0[timer as usize].into_iter().chain(earlier).min();
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Stops `timer` and returns true if it is due.
    pub(crate) fn expire(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.0[timer as usize].is_some_and(|at| at <= now);
        if due {
            self.stop(timer);
        }
        due
    }
}
