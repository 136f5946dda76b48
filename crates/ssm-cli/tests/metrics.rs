//! `ssm forward --metrics`, scraped by curl as Prometheus would.

#![cfg(all(feature = "aws", feature = "demo", feature = "metrics"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use common::{Program, Served, closed_port, echo, port_of};

/// At most this many bytes go into finding out how large messages may be: 2 KiB and each double of it up to 32 KiB.
const PROBES: u64 = 64 * 1024;

#[test]
fn what_is_scraped_is_what_was_sent() {
    let (served, port) = (Served::start(), echo());
    let (program, scrape) = forward(&served, port, "0");
    let local = port_of(&program.stderr()).unwrap();
    let before = scrape();
    assert_eq!(before.counter("ssm_connections_opened_total"), 0);
    assert_eq!(before.counter("ssm_sessions_opened_total"), 1);

    let lengths = [1_234_567, 7, 300_001];
    for len in lengths {
        round_trip(local, len);
    }
    // The last connection ends when the program has read the end, which can be before it is counted.
    let after = until(&scrape, |metrics| metrics.gauge("ssm_connections_open") == 0);
    let sent: u64 = lengths.iter().sum();
    assert_eq!(after.counter("ssm_connection_sent_bytes_total"), sent);
    assert_eq!(after.counter("ssm_connection_received_bytes_total"), sent);
    assert_eq!(after.counter("ssm_connections_opened_total"), 3);
    assert_eq!(after.counter("ssm_connections_refused_total"), 0);
    assert_eq!(after.count("ssm_connection_duration_seconds"), 3);
    assert_eq!((after.gauge("ssm_sessions_open"), after.counter("ssm_session_resumes_total")), (1, 0));
    // The same bytes with the headers of the multiplexer, of which every message has a few.
    let messages = after.counter("ssm_session_sent_messages_total");
    let on_the_wire = after.counter("ssm_session_sent_bytes_total");
    assert!(
        on_the_wire >= sent + 8 * 3 && on_the_wire < sent + 64 * messages + PROBES,
        "{on_the_wire} {messages}"
    );
    assert!(after.counter("ssm_session_received_bytes_total") >= sent);
    for sampled in ["ssm_session_rtt_seconds", "ssm_session_window_bytes", "ssm_session_in_flight_bytes"] {
        assert!(after.count(sampled) >= 1, "{sampled}");
    }
    program.signal(Signal::INT);
    assert_eq!(program.wait().status.code(), Some(0));
}

#[test]
fn a_refused_connection_is_counted() {
    let served = Served::start();
    let (program, scrape) = forward(&served, closed_port(), "127.0.0.1:0");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port_of(&program.stderr()).unwrap())).unwrap();
    let _ = stream.read(&mut [0]);
    let metrics = until(&scrape, |metrics| metrics.counter("ssm_connections_refused_total") == 1);
    assert_eq!(metrics.counter("ssm_connections_opened_total"), 1);
}

#[test]
fn a_port_that_is_taken_is_a_clear_error() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let served = Served::start();
    let args = ["forward", &served.target, "-L", "0:80", "--metrics", &address];
    let outcome = Program::start(&mut served.ssm(&args)).wait();
    assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
    let line = format!("ssm: cannot serve metrics on {address}: Address already in use");
    assert!(outcome.stderr.starts_with(&line) && outcome.stderr.lines().count() == 1, "{}", outcome.stderr);
}

#[test]
fn metrics_that_others_reach_are_warned_of() {
    let (served, port) = (Served::start(), echo());
    let (program, _scrape) = forward(&served, port, "0.0.0.0:0");
    assert!(program.stderr().contains("open to other machines"), "{}", program.stderr());
}

#[test]
fn only_the_metrics_are_there_and_only_to_be_read() {
    let (served, port) = (Served::start(), echo());
    let (program, _scrape) = forward(&served, port, "0");
    let url = metrics_url(&program.stderr()).unwrap();
    let status =
        |args: &[&str]| curl(&[&["-o", "/dev/null", "-w", "%{http_code} %{content_type}"], args].concat());
    assert_eq!(status(&[&url]), "200 text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(status(&["-X", "POST", "-d", "x", &url]).get(..3), Some("405"));
    assert_eq!(status(&[url.strip_suffix("/metrics").unwrap()]).get(..3), Some("404"));
}

/// A forward to `port` that listens, and what is scraped from it.
fn forward(served: &Served, port: u16, metrics: &str) -> (Program, impl Fn() -> Metrics + use<>) {
    let spec = format!("0:{port}");
    let args = ["forward", &served.target, "-L", &spec, "--metrics", metrics];
    let mut program = Program::start(&mut served.ssm(&args));
    let url = program.until(|said| port_of(said).and_then(|_| metrics_url(said)));
    let scrape = move || Metrics::parse(&curl(&[&url]));
    (program, scrape)
}

fn metrics_url(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("metrics are on ")?;
    let url = rest.split_once('\n')?.0;
    // An address that is everybody's is not one to connect to.
    Some(url.replace("0.0.0.0", "127.0.0.1"))
}

fn curl(args: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--noproxy", "*", "--max-time", "30"]).args(args).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Sends this many bytes and reads them back, on a connection of its own.
fn round_trip(port: u16, len: u64) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut write = stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        write.write_all(&vec![0x5a; len.try_into().unwrap()]).unwrap();
        write.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    writer.join().unwrap();
    assert_eq!(back.len() as u64, len);
}

fn until(scrape: impl Fn() -> Metrics, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
    let start = Instant::now();
    loop {
        let metrics = scrape();
        if wanted(&metrics) {
            return metrics;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{metrics:?}");
    }
}

/// A scrape, read as strictly as the exposition format allows.
#[derive(Debug, Default)]
struct Metrics {
    kinds: BTreeMap<String, String>,
    /// By name and labels.
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        assert!(text.ends_with('\n'), "the last line is whole");
        let mut described = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').unwrap();
                assert!(!text.is_empty(), "{line}");
                described = name.into();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, described, "the type follows the help");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(metrics.kinds.insert(name.into(), kind.into()).is_none(), "{name} is there twice");
            } else {
                metrics.sample(line, &described);
            }
        }
        metrics.check_histograms();
        metrics
    }

    /// `name value` or `name{le="bound"} value`, of the family that was described last.
    fn sample(&mut self, line: &str, family: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is not of {family}"));
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(name.bytes().all(valid), "{line}");
        match (self.kinds[family].as_str(), suffix) {
            ("counter" | "gauge", "") | ("histogram", "_sum" | "_count") => assert_eq!(labels, ""),
            ("histogram", "_bucket") => {
                assert!(labels.starts_with("le=\"") && labels.ends_with("\"}"), "{line}")
            }
            other => panic!("{line} as {other:?}"),
        }
        let value: f64 = value.parse().unwrap();
        assert!(value.is_finite() && value >= 0.0, "{line}");
        assert!(self.samples.insert(series.into(), value).is_none(), "{series} is there twice");
    }

    /// Buckets only grow, up to the last, which is the count.
    fn check_histograms(&self) {
        for (family, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let prefix = format!("{family}_bucket{{le=\"");
            let buckets = self.samples.iter().filter_map(|(series, count)| {
                let bound = series.strip_prefix(&prefix)?.strip_suffix("\"}")?;
                Some((if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() }, *count))
            });
            let mut buckets: Vec<(f64, f64)> = buckets.collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{family} {buckets:?}");
            let count = self.samples[&format!("{family}_count")];
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{family}");
            assert!(self.samples.contains_key(&format!("{family}_sum")));
        }
    }

    fn counter(&self, name: &str) -> u64 {
        assert_eq!(self.kinds[name], "counter");
        self.samples[name] as u64
    }

    fn gauge(&self, name: &str) -> u64 {
        assert_eq!(self.kinds[name], "gauge");
        self.samples[name] as u64
    }

    /// How many values a histogram has.
    fn count(&self, name: &str) -> u64 {
        self.samples[&format!("{name}_count")] as u64
    }
}
