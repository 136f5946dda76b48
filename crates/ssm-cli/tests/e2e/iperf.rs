//! iperf3 through `ssm forward`: four streams up, down, and both at once.

use std::process::Command;

use serde_json::Value;

use crate::support::process::{Process, run};
use crate::support::system::free_port;
use crate::support::{FAST, Forward, Loopback};

/// Bytes in each direction.
const LEN: u64 = 64 * 1024 * 1024;

#[test]
fn iperf_gets_its_bytes_up_down_and_both_ways() {
    let (loopback, iperf) = (Loopback::start(), Iperf::start());
    for lanes in ["1", "4"] {
        let forward = loopback.forward(iperf.port, &[FAST, &["--lanes", lanes]].concat());
        // The test is over once all was sent, so that the receiver of an upload may have less by what is still on its way.
        let up = iperf.client(&forward, &[]);
        assert_eq!(up["sum_sent"]["bytes"], LEN, "{up}");
        assert!((1..=LEN).contains(&up["sum_received"]["bytes"].as_u64().unwrap()), "{up}");
        let down = iperf.client(&forward, &["-R"]);
        assert_eq!(down["sum_sent"]["bytes"], LEN, "{down}");
        assert_eq!(down["sum_received"]["bytes"], LEN, "{down}");
    }
    // It tells the streams of one direction from those of the other by the order in which they arrive, which lanes do not keep.
    let forward = loopback.forward(iperf.port, FAST);
    let both = iperf.client(&forward, &["--bidir"]);
    for direction in ["sum_received", "sum_received_bidir_reverse"] {
        assert!(both[direction]["bytes"].as_u64().unwrap() > 256 * 1024, "{both}");
    }
}

/// A server of our own.
struct Iperf {
    port: u16,
    process: Process,
}

impl Iperf {
    fn start() -> Self {
        let port = free_port();
        let mut server = Command::new("iperf3");
        let process =
            Process::spawn(server.args(["-s", "--forceflush", "-B", "127.0.0.1", "-p", &port.to_string()]));
        process.until_says("Server listening on");
        Self { port, process }
    }

    /// Runs a test; returns its totals.
    fn client(&self, forward: &Forward, args: &[&str]) -> Value {
        let ready = |text: &str| text.matches("Server listening on").count();
        let before = self.process.until("a server that listens", |text| Some(ready(text)));
        let mut client = Command::new("iperf3");
        client.args(["-c", "127.0.0.1", "-p", &forward.local.port().to_string(), "-J", "-P", "4"]);
        let report = run(client.args(["-n", &LEN.to_string()]).args(args));
        let mut report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["error"], Value::Null, "{report}");
        // It refuses the next test until it has put this one away.
        self.process.until("the end of the test", |text| (ready(text) > before).then_some(()));
        report["end"].take()
    }
}
