//! A foreign client against our loopback: npm's ssm-session.

use std::io::Write as _;
use std::path::Path;

use crate::aws_cli::handed;
use crate::support::Loopback;
use crate::support::process::Process;
use crate::support::system::installed;

#[test]
fn a_client_in_javascript_opens_a_shell() {
    let loopback = Loopback::start();
    let session = handed(&loopback);
    let mut node = loopback.command("node");
    node.env("NODE_PATH", installed("SSM_TEST_NODE_MODULES")).env("SESSION", session.to_string());
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/client.js"));
    let (mut process, mut stdin) = Process::spawn_with_stdin(&mut node);
    process.until_says("remote$");
    stdin.write_all(b"stty size; echo answer-$((6 * 7))\r").unwrap();
    process.until_says("34 197\r\nanswer-42\r\n");
    // Enough for many messages each way.
    stdin.write_all(b"seq 1 3000 | tail -n 2000; echo do''ne\r").unwrap();
    process.until_says("\ndone\r\n");
    let expected: String = (1001..=3000).map(|number| format!("{number}\r\n")).collect();
    assert!(process.stdout().contains(&expected), "{}", process.stdout());
    stdin.write_all(b"exit\r").unwrap();
    let status = process.wait();
    assert!(status.success(), "{status}: {}", process.stderr());
}
