//! The demo without a terminal.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{Program, ssm};

#[test]
fn everything_matches_and_every_rate_says_what_it_is() {
    let outcome = Program::start(&mut ssm(&["demo"])).wait();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert_eq!(outcome.stderr, "");
    let rates: Vec<_> = outcome.stdout.lines().filter(|line| line.contains("MiB/s on loopback")).collect();
    assert_eq!(rates.len(), 2, "{outcome:?}");
    for rate in rates {
        assert!(rate.contains("SHA-256 equal") && rate.contains("about 0.7 MiB/s"), "{rate}");
    }
    assert!(outcome.stdout.ends_with("everything matched\n"), "{outcome:?}");
}

#[test]
fn the_agent_of_aws_can_be_tried_too() {
    let outcome = Program::start(&mut ssm(&["demo", "--profile", "aws"])).wait();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert!(outcome.stdout.starts_with("service   http://127.0.0.1:"), "{outcome:?}");
    assert!(outcome.stdout.lines().next().unwrap().contains("(profile aws)"), "{outcome:?}");
}

#[test]
fn a_loopback_takes_the_port_it_is_told() {
    let port = common::closed_port().to_string();
    let mut first = Program::start(&mut ssm(&["loopback", "--port", &port]));
    let url = format!("export AWS_ENDPOINT_URL=http://127.0.0.1:{port}\n");
    first.until(|said| said.contains(&url).then_some(()));
    let outcome = Program::start(&mut ssm(&["loopback", "--port", &port])).wait();
    assert_eq!(outcome.status.code(), Some(255));
    assert!(outcome.stderr.contains("cannot start the loopback: the port is in use"), "{}", outcome.stderr);
}
