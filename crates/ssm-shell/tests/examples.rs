//! The example does what it says.

use std::env;
use std::process::Command;

#[test]
fn a_session_is_automated_as_with_expect() {
    // Cargo builds examples beside the folder of the tests, when it builds all tests of a package.
    let tests = env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/expect");
    assert!(program.exists(), "{} is missing: run cargo test -p ssm-shell", program.display());
    let output = Command::new(program).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{} {complaint}", output.status);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "the terminal is 40 132\nan interrupted program ends with 130\nthe session was ended by the service\n"
    );
}
