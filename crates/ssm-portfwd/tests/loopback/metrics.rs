//! What is told through the `metrics` facade, whoever records it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use metrics::atomics::AtomicU64;
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};
use ssm_loopback::{Direction, Verdict};
use ssm_portfwd::{Config, Tunnel};
use tokio::io::{AsyncWriteExt, split};

use crate::support::{Server, fast, loopback, pattern, read_exactly, session};

#[tokio::test]
async fn what_a_bad_line_costs_is_told() {
    let recorder = Recorder::default();
    // Of this thread, which has all tasks.
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (loopback, server) = (loopback().await, Server::echo().await);
    let (tunnel, task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    let (mut read, mut write) = split(tunnel.open().await.unwrap());
    let mut count = 0;
    let rule = loopback.rule(move |direction, _| {
        count += usize::from(direction == Direction::ClientToAgent);
        match (direction, count) {
            (Direction::ClientToAgent, 30) => Verdict::Cut,
            (Direction::ClientToAgent, count) if count % 10 == 0 => Verdict::Drop,
            _ => Verdict::Deliver,
        }
    });
    let data = pattern(1, 2_000_000);
    let (written, back) = tokio::join!(write.write_all(&data), read_exactly(&mut read, data.len()));
    written.unwrap();
    assert!(back == data);
    assert_eq!((recorder.value("ssm_sessions_open"), recorder.value("ssm_connections_open")), (1, 1));
    drop((rule, read, write, tunnel));
    task.await.unwrap().unwrap();

    assert_eq!(recorder.value("ssm_connection_sent_bytes_total"), 2_000_000);
    assert_eq!(recorder.value("ssm_connection_received_bytes_total"), 2_000_000);
    assert_eq!(recorder.value("ssm_session_resumes_total"), 1);
    assert!(recorder.value("ssm_session_retransmissions_total") >= 3);
    assert!(recorder.value("ssm_session_sent_messages_total") >= 2_000_000 / (32 * 1024));
    assert_eq!((recorder.value("ssm_sessions_open"), recorder.value("ssm_connections_open")), (0, 0));
    assert_eq!(recorder.value("ssm_session_duration_seconds"), 1);
    assert_eq!(recorder.value("ssm_connection_duration_seconds"), 1);
    assert!(recorder.value("ssm_session_rtt_seconds") >= 1);
}

/// Counters, gauges, and how many values histograms had.
#[derive(Debug, Default)]
struct Recorder(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

struct Count(Arc<AtomicU64>);

impl HistogramFn for Count {
    fn record(&self, value: f64) {
        assert!(value.is_finite() && value >= 0.0);
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Recorder {
    fn register(&self, key: &Key) -> Arc<AtomicU64> {
        assert_eq!(key.labels().len(), 0, "{key}: a label could have any number of values");
        Arc::clone(self.0.lock().unwrap().entry(key.name().into()).or_default())
    }

    fn value(&self, name: &str) -> u64 {
        let value = self.0.lock().unwrap()[name].load(Ordering::Relaxed);
        if name.ends_with("_open") { f64::from_bits(value) as u64 } else { value }
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        assert!(name.as_str().ends_with("_total") && unit.is_some(), "{}", name.as_str());
    }

    fn describe_gauge(&self, _: KeyName, unit: Option<Unit>, _: SharedString) {
        assert!(unit.is_some());
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        let ends = if unit == Some(Unit::Bytes) { "_bytes" } else { "_seconds" };
        assert!(name.as_str().ends_with(ends), "{}", name.as_str());
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Count(self.register(key))))
    }
}
