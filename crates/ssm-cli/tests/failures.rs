//! Forwards that cannot be set up, and commands that end as they should not.

#![cfg(all(feature = "aws", feature = "demo"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;

use rustix::process::Signal;
use ssm_loopback::{Config, Document};

use common::{Here, Outcome, Program, echo, exchange, port_of};

#[test]
fn a_forward_without_a_session_leaves_the_others_alone() {
    let here = without_hosts();
    let (first, second) = (echo(), echo());
    let hopeless = format!("0:localhost:{first}");
    let (before, behind) = (format!("0:{first}"), format!("0:{second}"));
    let args = ["-L", &before, "-L", &hopeless, "-L", &behind];
    let mut program = Program::start(&mut forward(&here, &args));
    let said = program.until(|said| {
        let listening = said.matches("listening on 127.0.0.1:").count();
        (listening == 2 && said.contains("cannot start a session")).then(|| said.to_owned())
    });
    names_everything(&here, &said, first);
    for line in said.split("listening on 127.0.0.1:").skip(1) {
        let port: u16 = line.split(' ').next().unwrap().parse().unwrap();
        exchange(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), b"hello");
    }
    program.signal(Signal::INT);
    assert_eq!(program.wait().status.code(), Some(0));
}

#[test]
fn a_forward_without_a_session_takes_the_others_down_when_asked() {
    let here = without_hosts();
    let port = echo();
    let (working, hopeless) = (format!("0:{port}"), format!("0:localhost:{port}"));
    for flag in [&["--exit-on-forward-failure"][..], &["--", "sleep", "60"]] {
        let args = [&["-L", &working, "-L", &hopeless], flag].concat();
        let outcome = Program::start(&mut forward(&here, &args)).wait();
        assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
        names_everything(&here, &outcome.stderr, port);
        if let Some(port) = port_of(&outcome.stderr) {
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
        }
    }
}

#[test]
fn a_port_in_use_leaves_the_others_alone_unless_asked() {
    let here = Here::start();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (taken, free) = (format!("{}:80", taken.local_addr().unwrap().port()), format!("0:{}", echo()));
    let in_use =
        format!("cannot listen on localhost:{}: the port is in use by ", taken.trim_end_matches(":80"));
    let owner = format!(" (process {}); end it", std::process::id());
    let told = |stderr: &str| stderr.contains(&in_use) && stderr.contains(&owner);
    let mut program = Program::start(&mut forward(&here, &["-L", &taken, "-L", &free]));
    let port = program.until(port_of);
    assert!(told(&program.stderr()), "{}", program.stderr());
    exchange(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), b"hello");
    let args = ["-L", &free, "-L", &taken, "--exit-on-forward-failure"];
    let outcome = Program::start(&mut forward(&here, &args)).wait();
    assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
    assert!(told(&outcome.stderr) && !outcome.stderr.contains("listening"), "{}", outcome.stderr);
}

#[test]
fn a_socket_that_cannot_be_made_comes_with_advice() {
    let here = Here::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("file"), "mine").unwrap();
    let _listener = UnixListener::bind(path("socket")).unwrap();
    for (path, advice) in [
        (path("no/socket"), "there is no such folder"),
        (path("file"), "a file is in the way"),
        (path("socket"), "another program listens there"),
        (path(&"x".repeat(120)), "the path is too long"),
        (path("file/socket"), "there is no such folder"),
    ] {
        let outcome = Program::start(&mut forward(&here, &["-L", &format!("{path}:80")])).wait();
        assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
        let told = format!("ssm: cannot listen on {path}: {advice}");
        assert!(outcome.stderr.starts_with(&told), "{told}: {}", outcome.stderr);
    }
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "mine");
}

#[test]
fn an_address_of_another_machine_cannot_be_listened_on() {
    let here = Here::start();
    let outcome = Program::start(&mut forward(&here, &["-L", "192.0.2.1:0:localhost:80"])).wait();
    assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("this machine does not have that address"), "{}", outcome.stderr);
}

#[test]
fn a_command_that_is_killed_is_reported_and_everything_closed() {
    let here = Here::start();
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("HUP", 129)] {
        let outcome = command(&here, &["sh", "-c", "echo $1; kill -$2 $$", "sh", "{port}", signal]);
        assert_eq!(outcome.status.code(), Some(code), "{}", outcome.stderr);
        closed_after(&outcome);
    }
}

#[test]
fn a_command_that_fails_is_reported_and_everything_closed() {
    let here = Here::start();
    let outcome = command(&here, &["sh", "-c", "echo $1; exit 9", "sh", "{port}"]);
    assert_eq!(outcome.status.code(), Some(9), "{}", outcome.stderr);
    closed_after(&outcome);
}

#[test]
fn a_command_that_cannot_be_run_is_told_as_by_a_shell() {
    let here = Here::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for (name, code) in [("/no/such/command", 127), (file.to_str().unwrap(), 126)] {
        let outcome = command(&here, &[name]);
        assert_eq!(outcome.status.code(), Some(code), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(&format!("ssm: cannot run {name}: ")), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("the session was ended from here"), "{}", outcome.stderr);
    }
}

/// A loopback whose service refuses sessions that lead to a host: their document takes no parameters.
fn without_hosts() -> Here {
    let body = r#"{"sessionType":"Port","properties":{}}"#;
    let document = Document::from_json(REMOTE_HOST, body).unwrap();
    Here::with(Config { documents: vec![document], ..Config::default() })
}

const REMOTE_HOST: &str = "AWS-StartPortForwardingSessionToRemoteHost";

/// Whether it is said what was wanted and what the service says to it.
fn names_everything(here: &Here, said: &str, port: u16) {
    let target = here.loopback().target();
    let told = format!(
        "ssm: forward to localhost:{port} through {target} ({REMOTE_HOST}): cannot start a session: "
    );
    let line = said.lines().find(|line| line.starts_with(&told));
    assert!(line.is_some_and(|line| line.contains("InvalidParameters")), "{told}: {said}");
}

fn forward(here: &Here, args: &[&str]) -> std::process::Command {
    here.ssm(&[&["forward", here.loopback().target()], args].concat())
}

/// Runs a command behind a forward, with every event explained.
fn command(here: &Here, words: &[&str]) -> Outcome {
    let spec = format!("0:{}", echo());
    Program::start(&mut forward(here, &[&["-v", "-L", &spec, "--"], words].concat())).wait()
}

/// Sees to it that neither port nor session is left of a forward whose command wrote the port.
fn closed_after(outcome: &Outcome) {
    let port: u16 = outcome.stdout.trim().parse().unwrap();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    assert!(outcome.stderr.contains("the session was ended from here"), "{}", outcome.stderr);
}
