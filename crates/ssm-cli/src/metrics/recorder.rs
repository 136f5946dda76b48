//! What was counted, and its text for Prometheus.
//!
//! Prometheus exposition format 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};

/// The names that are ours. What else may be in this process is not for this endpoint.
const PREFIX: &str = "ssm_";

/// Upper ends of the buckets for what takes milliseconds, in seconds.
const LATENCIES: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Upper ends of the buckets for what takes up to days, in seconds.
const LIVES: &[f64] = &[0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 14_400.0, 86_400.0];

/// Upper ends of the buckets for sizes, in bytes.
const SIZES: &[f64] = &[
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    131_072.0,
    262_144.0,
    524_288.0,
    1_048_576.0,
    2_097_152.0,
    4_194_304.0,
];

/// Keeps everything that is counted under our names, without labels. Cloning is cheap and gives the same numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<BTreeMap<String, Family>>>);

#[derive(Debug, Default)]
struct Family {
    help: String,
    value: Option<Value>,
}

#[derive(Debug, Clone)]
enum Value {
    Counter(Arc<AtomicU64>),
    /// The bits of a float.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

/// A histogram: how many values were at most each bound, and above the one before.
#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64],
    /// One for each bound, and one for what is above the last.
    counts: Vec<AtomicU64>,
    /// The bits of a float.
    sum: AtomicU64,
}

impl Recorder {
    /// The text of everything.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &*self.families() {
            let written = family.write(name, &mut text);
            written.expect("writing to a string does not fail");
        }
        text
    }

    fn describe(&self, name: &KeyName, help: &SharedString) {
        if is_ours(name.as_str()) {
            self.families().entry(name.as_str().into()).or_default().help = help.as_ref().into();
        }
    }

    /// The value of this name: the one there is, or the new one. None for what is not ours.
    fn register(&self, key: &Key, new: impl FnOnce(&str) -> Value) -> Option<Value> {
        let name = key.name();
        if !is_ours(name) || key.labels().len() > 0 {
            return None;
        }
        let mut families = self.families();
        let family = families.entry(name.into()).or_default();
        Some(family.value.get_or_insert_with(|| new(name)).clone())
    }

    fn families(&self) -> MutexGuard<'_, BTreeMap<String, Family>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.register(key, |_| Value::Counter(Arc::default())) {
            Some(Value::Counter(value)) => Counter::from_arc(value),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.register(key, |_| Value::Gauge(Arc::default())) {
            Some(Value::Gauge(value)) => Gauge::from_arc(value),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.register(key, |name| Value::Histogram(Arc::new(Buckets::new(bounds(name))))) {
            Some(Value::Histogram(value)) => Histogram::from_arc(value),
            _ => Histogram::noop(),
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn bounds(name: &str) -> &'static [f64] {
    if name.ends_with("_bytes") {
        SIZES
    } else if name.ends_with("_duration_seconds") {
        LIVES
    } else {
        LATENCIES
    }
}

impl Family {
    fn write(&self, name: &str, text: &mut String) -> fmt::Result {
        let Some(value) = &self.value else { return Ok(()) };
        writeln!(text, "# HELP {name} {}", self.help.replace('\\', "\\\\").replace('\n', "\\n"))?;
        match value {
            Value::Counter(value) => {
                writeln!(text, "# TYPE {name} counter\n{name} {}", value.load(Ordering::Acquire))
            }
            Value::Gauge(value) => {
                let value = f64::from_bits(value.load(Ordering::Acquire));
                writeln!(text, "# TYPE {name} gauge\n{name} {value}")
            }
            Value::Histogram(buckets) => buckets.write(name, text),
        }
    }
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Self { bounds, counts, sum: AtomicU64::default() }
    }

    fn write(&self, name: &str, text: &mut String) -> fmt::Result {
        writeln!(text, "# TYPE {name} histogram")?;
        let mut count = 0;
        for (index, bucket) in self.counts.iter().enumerate() {
            count += bucket.load(Ordering::Acquire);
            match self.bounds.get(index) {
                Some(bound) => writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}")?,
                None => writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}")?,
            }
        }
        let sum = f64::from_bits(self.sum.load(Ordering::Acquire));
        writeln!(text, "{name}_sum {sum}\n{name}_count {count}")
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::AcqRel);
        metrics::GaugeFn::increment(&self.sum, value);
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, gauge, histogram, with_local_recorder};

    use super::*;

    fn rendered(act: impl FnOnce()) -> String {
        let recorder = Recorder::default();
        with_local_recorder(&recorder, act);
        recorder.render()
    }

    #[test]
    fn every_kind_has_its_text() {
        let text = rendered(|| {
            counter!(description: "Things\nand \\.", "ssm_things_total").increment(3);
            gauge!(description: "Open.", "ssm_open").increment(2);
            gauge!("ssm_open").decrement(1);
            counter!("ssm_things_total").increment(4);
        });
        assert_eq!(
            text,
            "# HELP ssm_open Open.\n# TYPE ssm_open gauge\nssm_open 1\n\
             # HELP ssm_things_total Things\\nand \\\\.\n# TYPE ssm_things_total counter\nssm_things_total 7\n"
        );
    }

    #[test]
    fn a_bucket_holds_what_is_at_most_its_bound() {
        let text = rendered(|| {
            for value in [0.001, 0.0011, 1.0, 7.5, f64::NAN] {
                histogram!("ssm_rtt_seconds").record(value);
            }
        });
        for line in [
            "ssm_rtt_seconds_bucket{le=\"0.0005\"} 0",
            "ssm_rtt_seconds_bucket{le=\"0.001\"} 1",
            "ssm_rtt_seconds_bucket{le=\"0.0025\"} 2",
            "ssm_rtt_seconds_bucket{le=\"1\"} 3",
            "ssm_rtt_seconds_bucket{le=\"5\"} 3",
            "ssm_rtt_seconds_bucket{le=\"+Inf\"} 4",
            "ssm_rtt_seconds_count 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        let sum = text.lines().find_map(|line| line.strip_prefix("ssm_rtt_seconds_sum ")).unwrap();
        assert!((sum.parse::<f64>().unwrap() - 8.5021).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn what_is_not_ours_or_has_labels_is_left_out() {
        let text = rendered(|| {
            counter!("http_requests_total").increment(1);
            counter!("ssm_by_target_total", "target" => "i-1").increment(1);
            counter!("ssm_a{b=\"c\"}").increment(1);
            counter!("ssm_twice").increment(1);
            gauge!("ssm_twice").set(5);
        });
        assert_eq!(text, "# HELP ssm_twice \n# TYPE ssm_twice counter\nssm_twice 1\n");
    }
}
