//! What `ssm forward` shows on a terminal, and what it does not write into a pipe.

#![cfg(all(feature = "aws", feature = "demo"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use ssm_loopback::{Direction, Verdict};

use common::{Here, OnTerminal, Outcome, Program, echo, exchange, port_of, screen};

/// Of the status line, and of nothing else.
const STATUS: &str = " open, up ";

#[test]
fn the_status_line_shows_what_happens_and_goes_at_the_end() {
    let here = Here::start();
    let mut terminal = forward(&here, &[], 120);
    let port = terminal.until(port_of);
    terminal.until(|written| written.contains("0 open, up 0 B/s, down 0 B/s, lanes 1").then_some(()));
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    exchange(&mut stream, b"hello");
    terminal.until(|written| {
        let line = written.rsplit("\r\x1b[K").next()?;
        let complete = line.starts_with("1 open, up ") && line.contains(", messages of 1.0 KiB, RTT ");
        complete.then_some(())
    });
    let armed = Arc::new(AtomicBool::new(true));
    let _rule = here.loopback().rule(move |direction, _| {
        let cuts = direction == Direction::ClientToAgent && armed.swap(false, Ordering::SeqCst);
        if cuts { Verdict::Cut } else { Verdict::Deliver }
    });
    exchange(&mut stream, b"again");
    terminal.until(|written| written.contains(", resumed 1").then_some(()));
    terminal.keys("\x03");
    let outcome = terminal.wait();
    assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(0), ""), "{}", outcome.stderr);
    let lines = screen(&outcome.stderr);
    assert!(!lines.iter().any(|line| line.contains(STATUS)), "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "");
    let summary = &lines[lines.len() - 2];
    assert!(summary.contains("ssm: 1 connections, ") && summary.contains("resumed 1 times"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("ssm: listening on 127.0.0.1:")), "{lines:#?}");
}

#[test]
fn a_narrow_terminal_gets_a_line_that_fits() {
    let here = Here::start();
    let terminal = forward(&here, &[], 30);
    terminal.until(port_of);
    terminal.until(|written| written.contains("0 open, up 0 B/s, down 0 B/").then_some(()));
    terminal.signal(Signal::TERM);
    let outcome = terminal.wait();
    let shown = outcome.stderr.split("\r\x1b[K").filter(|line| line.contains(STATUS));
    assert!(shown.clone().count() > 0);
    shown.for_each(|line| assert!(line.len() < 30, "{line:?}"));
}

#[test]
fn there_is_no_status_line_beside_a_log_or_when_told_to_be_quiet() {
    let here = Here::start();
    for (flag, says) in [("-v", true), ("-q", false)] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let spec = format!("{}:{}", socket.display(), echo());
        let command = here.ssm(&[flag, "forward", here.loopback().target(), "-L", &spec]);
        let mut terminal = OnTerminal::start(&command, 120);
        let connected = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
        terminal.until(|_| connected().then_some(()));
        // Two rounds of the clock that draws it.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        terminal.keys("\x03");
        let outcome = terminal.wait();
        assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains('\x1b'), "{:?}", outcome.stderr);
        // What is left without words is the key as the terminal shows it.
        assert_eq!(!outcome.stderr.replace("^C", "").is_empty(), says, "{:?}", outcome.stderr);
    }
}

#[test]
fn pipes_get_lines_and_nothing_else() {
    let here = Here::start();
    let spec = format!("0:{}", echo());
    let mut program = Program::start(&mut here.ssm(&["forward", here.loopback().target(), "-L", &spec]));
    let port = program.until(port_of);
    exchange(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), b"hello");
    // Two rounds of the clock that draws the status line.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    program.signal(Signal::INT);
    let Outcome { stdout, stderr, .. } = program.wait();
    assert_eq!(stdout, "");
    assert!(stderr.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()), "{stderr:?}");
    assert!(stderr.lines().all(|line| line.starts_with("ssm: ")) && stderr.ends_with('\n'), "{stderr:?}");
    assert_eq!(stderr.lines().count(), 2, "where it listens, and what there was in all: {stderr:?}");
}

#[test]
fn a_command_has_the_terminal_to_itself() {
    let here = Here::start();
    let script = "sleep 1.2; test -t 0 && test -t 2 && exit 5";
    let spec = format!("0:{}", echo());
    let command = here.ssm(&["forward", here.loopback().target(), "-L", &spec, "--", "sh", "-c", script]);
    let outcome = OnTerminal::start(&command, 120).wait();
    assert_eq!(outcome.status.code(), Some(5), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains('\x1b'), "{:?}", outcome.stderr);
}

#[test]
fn a_shell_that_is_ended_from_outside_leaves_the_line_of_its_prompt() {
    let here = Here::start();
    let mut command = here.ssm(&["shell", here.loopback().target()]);
    command.env("SHELL", "/bin/sh");
    let mut terminal = OnTerminal::with_stdout(&command, 80);
    terminal.keys("PS1='far''prompt> '\r");
    terminal.until(|written| written.contains("farprompt> ").then_some(()));
    terminal.signal(Signal::TERM);
    let outcome = terminal.wait();
    assert_eq!(outcome.status.code(), Some(143), "{}", outcome.stderr);
    // The marks around a paste, which its shell had asked for, are switched off.
    let end = "farprompt> \x1b[?2004l\x1b[m\r\nssm: ended by SIGTERM\r\n";
    assert!(outcome.stderr.ends_with(end), "{:?}", outcome.stderr);
}

fn forward(here: &Here, args: &[&str], columns: u16) -> OnTerminal {
    let spec = format!("0:{}", echo());
    let args = [&["forward", here.loopback().target(), "-L", &spec], args].concat();
    OnTerminal::start(&here.ssm(&args), columns)
}
