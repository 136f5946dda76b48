//! What a session does, for the `metrics` facade. docs/metrics.md describes what is told.

use std::time::Instant;

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use ssm_channel::Stats;

use super::session::{CLOCK_INTERVAL, now};

/// Tells of one session as long as it lives. The channel counts; this passes on what was added.
pub(crate) struct Meter {
    counters: [Counted; 9],
    open: Gauge,
    duration: Histogram,
    rtt: Histogram,
    window: Histogram,
    in_flight: Histogram,
    told: Stats,
    opened: Instant,
    /// When times and sizes were sampled last.
    sampled: Option<Instant>,
}

struct Counted {
    counter: Counter,
    of: fn(&Stats) -> u64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        counter!(description: "Sessions opened.", unit: Unit::Count, "ssm_sessions_opened_total")
            .increment(1);
        let open = gauge!(description: "Sessions that are open.", unit: Unit::Count, "ssm_sessions_open");
        open.increment(1);
        Self {
            counters: counters(),
            open,
            duration: histogram!(
                description: "How long sessions were open.",
                unit: Unit::Seconds, "ssm_session_duration_seconds"
            ),
            rtt: histogram!(
                description: "Smoothed round-trip time, sampled at most once a second.",
                unit: Unit::Seconds, "ssm_session_rtt_seconds"
            ),
            window: histogram!(
                description: "Bytes of messages that may be unacknowledged, sampled at most once a second.",
                unit: Unit::Bytes, "ssm_session_window_bytes"
            ),
            in_flight: histogram!(
                description: "Bytes of messages that are unacknowledged, sampled at most once a second.",
                unit: Unit::Bytes, "ssm_session_in_flight_bytes"
            ),
            told: Stats::default(),
            opened: now(),
            sampled: None,
        }
    }

    /// Passes on what was added.
    pub(crate) fn tell(&mut self, stats: Stats) {
        if stats == self.told {
            return;
        }
        for Counted { counter, of } in &self.counters {
            match of(&stats).saturating_sub(of(&self.told)) {
                0 => {}
                added => counter.increment(added),
            }
        }
        if stats.acknowledgements_received > self.told.acknowledgements_received {
            self.sample(&stats);
        }
        self.told = stats;
    }

    /// An idle session adds nothing, and a busy one no more than the others.
    fn sample(&mut self, stats: &Stats) {
        let now = now();
        if self.sampled.is_some_and(|last| now.saturating_duration_since(last) < CLOCK_INTERVAL) {
            return;
        }
        self.sampled = Some(now);
        self.rtt.record(stats.rtt);
        self.window.record(bytes(stats.window));
        self.in_flight.record(bytes(stats.in_flight));
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.open.decrement(1);
        self.duration.record(now().saturating_duration_since(self.opened));
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meter")
    }
}

fn counters() -> [Counted; 9] {
    let sent = counter!(
        description: "Payload bytes sent for the first time.",
        unit: Unit::Bytes, "ssm_session_sent_bytes_total"
    );
    let received = counter!(
        description: "Payload bytes received in order.",
        unit: Unit::Bytes, "ssm_session_received_bytes_total"
    );
    let messages_sent = counter!(
        description: "Stream messages sent for the first time.",
        unit: Unit::Count, "ssm_session_sent_messages_total"
    );
    let messages_received = counter!(
        description: "Stream messages received in order.",
        unit: Unit::Count, "ssm_session_received_messages_total"
    );
    let retransmissions = counter!(
        description: "Stream messages sent again.",
        unit: Unit::Count, "ssm_session_retransmissions_total"
    );
    let duplicates = counter!(
        description: "Stream messages received again.",
        unit: Unit::Count, "ssm_session_duplicates_total"
    );
    let out_of_order = counter!(
        description: "Stream messages that arrived ahead of their turn.",
        unit: Unit::Count, "ssm_session_out_of_order_total"
    );
    let pauses = counter!(
        description: "Times the gateway asked to pause.",
        unit: Unit::Count, "ssm_session_pauses_total"
    );
    let resumes = counter!(
        description: "Lost connections that were made again.",
        unit: Unit::Count, "ssm_session_resumes_total"
    );
    [
        Counted { counter: sent, of: |stats| stats.bytes_sent },
        Counted { counter: received, of: |stats| stats.bytes_received },
        Counted { counter: messages_sent, of: |stats| stats.messages_sent },
        Counted { counter: messages_received, of: |stats| stats.messages_received },
        Counted { counter: retransmissions, of: |stats| stats.retransmissions },
        Counted { counter: duplicates, of: |stats| stats.duplicates_received },
        Counted { counter: out_of_order, of: |stats| stats.out_of_order_received },
        Counted { counter: pauses, of: |stats| stats.pauses },
        Counted { counter: resumes, of: |stats| stats.resumes },
    ]
}

/// Every size of a channel is far below 2^52, where a float is exact.
fn bytes(len: usize) -> f64 {
    len as f64
}
