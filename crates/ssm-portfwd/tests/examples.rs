//! The examples do what they say. That of PostgreSQL is run where PostgreSQL is: in `ssm-cli/tests/e2e`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::process::{Command, Output};

#[test]
fn hyper_speaks_http_through_a_tunnel() {
    let output = run("http");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "200 OK: /index of wiki.internal\n\
         200 OK: /about of wiki.internal\n\
         the session was ended from here\n"
    );
}

#[test]
fn a_session_is_used_by_another_process_than_the_one_that_started_it() {
    let output = run("handed_over");
    let said = String::from_utf8(output.stdout).unwrap();
    let (process, greeting) = said.strip_prefix("process ").and_then(|said| said.split_once(": ")).unwrap();
    assert_eq!(greeting, "hello from the instance\n");
    assert!(process.parse::<u32>().is_ok(), "{said}");
}

/// Runs an example, which must succeed and have nothing to complain about.
fn run(name: &str) -> Output {
    // Cargo builds examples beside the folder of the tests, when it builds all tests of a package.
    let tests = env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is missing: run cargo test -p ssm-portfwd", program.display());
    let output = Command::new(program).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{name}: {} {complaint}", output.status);
    output
}
