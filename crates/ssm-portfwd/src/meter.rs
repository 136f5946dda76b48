//! What connections do, for the `metrics` facade. docs/metrics.md describes what is told.

use std::sync::Arc;
use std::time::Instant;

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};

use crate::Notice;
use crate::lane::now;

/// Tells of the connections of a lane. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Meter(Arc<Handles>);

#[derive(Debug)]
struct Handles {
    opened: Counter,
    open: Gauge,
    refused: Counter,
    overfull: Counter,
    sent: Counter,
    received: Counter,
    duration: Histogram,
}

/// Tells of one connection as long as it lives.
#[derive(Debug)]
pub(crate) struct Life {
    handles: Arc<Handles>,
    since: Instant,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Handles {
            opened: counter!(
                description: "Connections taken into a session.",
                unit: Unit::Count, "ssm_connections_opened_total"
            ),
            open: gauge!(
                description: "Connections that are carried.",
                unit: Unit::Count, "ssm_connections_open"
            ),
            refused: counter!(
                description: "Connections whose destination the far side could not connect to.",
                unit: Unit::Count, "ssm_connections_refused_total"
            ),
            overfull: counter!(
                description: "Connections reset because too much waited for their reader.",
                unit: Unit::Count, "ssm_connections_overfull_total"
            ),
            sent: counter!(
                description: "Bytes taken from local programs.",
                unit: Unit::Bytes, "ssm_connection_sent_bytes_total"
            ),
            received: counter!(
                description: "Bytes received for local programs.",
                unit: Unit::Bytes, "ssm_connection_received_bytes_total"
            ),
            duration: histogram!(
                description: "How long connections were carried.",
                unit: Unit::Seconds, "ssm_connection_duration_seconds"
            ),
        }))
    }

    /// Counts what is told to the user as well.
    pub(crate) fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Refused { .. } => self.0.refused.increment(1),
            Notice::Overfull { .. } => self.0.overfull.increment(1),
            _ => {}
        }
    }

    /// A connection begins.
    pub(crate) fn connection(&self) -> Life {
        self.0.opened.increment(1);
        self.0.open.increment(1);
        Life { handles: Arc::clone(&self.0), since: now() }
    }
}

impl Life {
    pub(crate) fn sent(&self, len: usize) {
        self.handles.sent.increment(len as u64);
    }

    pub(crate) fn received(&self, len: usize) {
        self.handles.received.increment(len as u64);
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.handles.open.decrement(1);
        self.handles.duration.record(now().saturating_duration_since(self.since));
    }
}
