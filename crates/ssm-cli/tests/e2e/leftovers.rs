//! Nothing stays behind: no process, no listening port.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::shell::local;
use crate::support::Loopback;
use crate::support::process::Process;
use crate::support::server::{Server, connect};
use crate::support::system::{Running, listening, tree, until_gone};
use crate::tunnel::exchange;

#[test]
fn a_forward_and_its_loopback_leave_nothing() {
    let loopback = Loopback::start();
    let server = Server::echo();
    let forward = loopback.forward(server.port(), &[]);
    let open = connect(forward.local);
    assert_eq!(exchange(&mut open.try_clone().unwrap(), b"hello"), b"hello");
    let ports = [forward.local.port(), loopback.port()];
    assert!(ports.iter().all(|port| listening().contains(port)), "{ports:?}");
    let running = running(&[forward.process.pid(), loopback.pid()]);
    forward.stop();
    loopback.stop();
    until_gone(&running);
    assert!(!ports.iter().any(|port| listening().contains(port)), "{ports:?}");
}

#[test]
fn a_shell_takes_what_it_started_along() {
    let loopback = Loopback::start();
    let tmux = local(&loopback);
    tmux.line(&format!("ssm shell {}; echo code=$?", loopback.target));
    tmux.until("the far prompt", |screen| screen.contains("remote$"));
    tmux.line("echo be''gun; sleep 1000");
    tmux.until_line("begun");
    let far = tree(loopback.pid());
    assert!(far.iter().any(|process| process.name == "bash"), "{far:?}");
    let ssm: Vec<Running> =
        tree(tmux.pane_pid()).into_iter().filter(|process| process.name == "ssm").collect();
    drop(tmux);
    // The terminal is gone, so the client goes, so the session goes, so the shell goes.
    until_gone(&ssm.into_iter().collect());
    let shells = far.into_iter().filter(|process| process.pid != loopback.pid()).collect();
    until_gone(&shells);
    loopback.stop();
}

#[test]
fn a_loopback_that_ends_takes_its_shells_along() {
    let loopback = Loopback::start();
    let (mut process, stdin) = Process::spawn_with_stdin(&mut loopback.ssm(&["shell", &loopback.target]));
    process.until_says("remote$");
    let running = running(&[loopback.pid()]);
    assert!(running.len() >= 2, "{running:?}");
    loopback.stop();
    until_gone(&running);
    let status = process.wait();
    assert!(status.code().is_some(), "{status}");
    assert!(!process.stderr().contains("panicked"), "{}", process.stderr());
    drop(stdin);
}

#[test]
fn a_second_ctrl_c_does_not_wait() {
    let mut loopback = Loopback::start();
    let server = Server::echo();
    let mut forward = loopback.forward(server.port(), &[]);
    let port = forward.local.port();
    // Nobody answers any more, so an orderly end would have to be given up first.
    loopback.kill();
    forward.process.signal(Signal::INT);
    forward.process.signal(Signal::INT);
    forward.process.wait();
    assert!(!listening().contains(&port));
}

fn running(roots: &[u32]) -> BTreeSet<Running> {
    roots.iter().flat_map(|root| tree(*root)).collect()
}
