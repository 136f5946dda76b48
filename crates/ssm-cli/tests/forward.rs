//! `ssm forward` in all its forms, against `ssm loopback`, with curl as a foreign client.

#![cfg(all(feature = "aws", feature = "demo"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use common::{Program, Served, closed_port, echo, exchange, port_of, serve};

const BODY: &str = "hello from behind\n";

#[test]
fn one_port_serves_socks_and_connect() {
    let (served, port) = (Served::start(), http());
    let forward = forward(&served, &["-D", "0"]);
    let proxy = forward.port;
    let url = format!("http://localhost:{port}/");
    let socks = format!("127.0.0.1:{proxy}");
    assert_eq!(curl(&["--socks5-hostname", &socks, &url]), BODY);
    assert_eq!(curl(&["--proxytunnel", "-x", &format!("http://127.0.0.1:{proxy}"), &url]), BODY);
    let said = forward.stop();
    assert!(said.contains("ssm: 2 connections, "), "{said}");
}

#[test]
fn a_proxy_on_a_unix_socket_is_for_this_user() {
    let (served, port, folder) = (Served::start(), http(), tempfile::tempdir().unwrap());
    let path = folder.path().join("proxy.sock");
    let path = path.to_str().unwrap();
    let mut program = Program::start(&mut served.ssm(&["forward", &served.target, "-D", path]));
    program.until(|said| said.contains("listening on").then_some(()));
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let (proxy, url) = (format!("socks5h://localhost{path}"), format!("http://localhost:{port}/"));
    assert_eq!(curl(&["-x", &proxy, &url]), BODY);
    program.signal(Signal::INT);
    assert_eq!(program.wait().status.code(), Some(0));
    assert!(!std::fs::exists(path).unwrap());
}

#[test]
fn an_idle_destination_loses_its_session_and_gets_another() {
    let (served, port) = (Served::start(), http());
    let forward = forward(&served, &["-D", "0", "--proxy-idle", "50ms", "--start-rate", "100", "--json"]);
    let (proxy, url) = (format!("127.0.0.1:{}", forward.port), format!("http://localhost:{port}/"));
    let mut program = forward.program;
    for round in 1..=2 {
        assert_eq!(curl(&["--socks5-hostname", &proxy, &url]), BODY);
        program.wait_for(|program| {
            let ended = program.stdout().matches(r#""event":"session_ended""#).count();
            (ended == round).then_some(())
        });
    }
}

#[test]
fn a_unix_socket_leads_to_a_host() {
    let (served, port, folder) = (Served::start(), http(), tempfile::tempdir().unwrap());
    let path = folder.path().join("web.sock");
    let spec = format!("{}:localhost:{port}", path.display());
    let mut program = Program::start(&mut served.ssm(&["forward", &served.target, "-L", &spec]));
    program.until(|said| said.contains("listening on").then_some(()));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let path = path.to_str().unwrap();
    assert_eq!(curl(&["--unix-socket", path, "http://web/"]), BODY);
    program.signal(Signal::INT);
    assert_eq!(program.wait().status.code(), Some(0));
    assert!(!std::fs::exists(path).unwrap());
}

#[test]
fn lanes_are_opened_for_connections_at_a_time() {
    let (served, port) = (Served::start(), echo());
    let forward = forward(&served, &["-L", &format!("0:{port}"), "--lanes", "2", "--json"]);
    let mut streams: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, forward.port)).unwrap();
            exchange(&mut stream, b"x");
            stream
        })
        .collect();
    streams.iter_mut().for_each(|stream| exchange(stream, b"again"));
    drop(streams);
    let mut program = forward.program;
    let closed = |program: &Program| program.stdout().matches(r#""event":"closed""#).count() == 4;
    program.wait_for(|program| closed(program).then_some(()));
    program.signal(Signal::INT);
    let outcome = program.wait();
    let sessions = outcome.stdout.matches(r#""event":"session_ended""#).count();
    assert_eq!(sessions, 2, "{}", outcome.stdout);
}

#[test]
fn stdio_is_carried_until_the_destination_ends() {
    let (served, port) = (Served::start(), http());
    let destination = format!("localhost:{port}");
    let mut command = served.ssm(&["forward", &served.target, "-W", &destination]);
    let mut program = Program::with_stdin(&mut command, Stdio::piped());
    program.write("GET / HTTP/1.0\r\n\r\n");
    let outcome = program.wait();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.ends_with(BODY), "{}", outcome.stdout);
}

#[test]
fn stdio_to_a_closed_port_fails() {
    let served = Served::start();
    let destination = format!("localhost:{}", closed_port());
    let mut command = served.ssm(&["forward", &served.target, "-W", &destination]);
    let outcome = Program::with_stdin(&mut command, Stdio::piped()).wait();
    assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&format!("could not connect to {destination}")), "{}", outcome.stderr);
}

#[test]
fn a_command_gets_the_ports_and_gives_its_exit_code() {
    let (served, port) = (Served::start(), http());
    let (first, second) = (format!("0:{port}"), format!("0:localhost:{port}"));
    let script = "curl -sS http://$1:$2/ && curl -sS http://$1:$3/ \
                  && test $SSM_FORWARD_PORT = $2 && test $SSM_FORWARD_PORT_2 = $3 && exit 7";
    let outcome = Program::start(&mut served.ssm(&[
        "forward",
        &served.target,
        "-L",
        &first,
        "-L",
        &second,
        "--",
        "sh",
        "-c",
        script,
        "sh",
        "{host}",
        "{port}",
        "{port2}",
    ]))
    .wait();
    assert_eq!(outcome.status.code(), Some(7), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, format!("{BODY}{BODY}"));
}

#[test]
fn a_command_gets_the_signals() {
    let (served, port) = (Served::start(), http());
    let script = "trap 'exit 9' TERM; echo started; while :; do sleep 0.05; done";
    let spec = format!("0:{port}");
    let mut program =
        Program::start(&mut served.ssm(&["forward", &served.target, "-L", &spec, "--", "sh", "-c", script]));
    program.wait_for(|program| program.stdout().contains("started").then_some(()));
    program.signal(Signal::TERM);
    assert_eq!(program.wait().status.code(), Some(9));
}

#[test]
fn a_session_that_does_not_start_names_target_document_and_error() {
    let served = Served::start();
    let nobody = "i-00000000000000000";
    let outcome = Program::start(&mut served.ssm(&["forward", nobody, "-L", "0:80"])).wait();
    assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
    for part in [nobody, "AWS-StartPortForwardingSession", "cannot start a session: "] {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
    // Without sessions for them the command must not run.
    let outcome =
        Program::start(&mut served.ssm(&["forward", nobody, "-L", "0:80", "--", "echo", "ran"])).wait();
    assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(255), ""), "{}", outcome.stderr);
}

#[test]
fn a_forward_that_fails_takes_the_others_down_only_when_asked() {
    let served = Served::start();
    let nobody = "i-00000000000000000";
    // The proxy needs no session before somebody connects, so it lives.
    let mut program = Program::start(&mut served.ssm(&["forward", nobody, "-L", "0:80", "-D", "0"]));
    program.until(|said| said.contains("cannot start a session").then_some(()));
    program.signal(Signal::INT);
    assert_eq!(program.wait().status.code(), Some(0));
    let args = ["forward", nobody, "-L", "0:80", "-D", "0", "--exit-on-forward-failure"];
    assert_eq!(Program::start(&mut served.ssm(&args)).wait().status.code(), Some(255));
}

#[test]
fn an_address_that_others_reach_is_warned_of() {
    let (served, port) = (Served::start(), http());
    let spec = format!("*:0:localhost:{port}");
    let mut program = Program::start(&mut served.ssm(&["forward", &served.target, "-L", &spec]));
    program.until(|said| said.contains("is open to other machines").then_some(()));
}

/// A running `ssm forward` and the port it has chosen.
struct Forward {
    program: Program,
    port: u16,
}

impl Forward {
    /// Ends it as Ctrl-C does; returns what it said.
    fn stop(self) -> String {
        self.program.signal(Signal::INT);
        let outcome = self.program.wait();
        assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "stdout belongs to the user");
        assert!(!outcome.stderr.contains('\x1b'), "a status line in a pipe: {}", outcome.stderr);
        outcome.stderr
    }
}

fn forward(served: &Served, args: &[&str]) -> Forward {
    let args = [&["forward", &served.target], args].concat();
    let mut program = Program::start(&mut served.ssm(&args));
    let port = program.until(port_of);
    Forward { program, port }
}

fn curl(args: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--noproxy", "", "--max-time", "30"]).args(args).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A port that answers every request with [`BODY`].
fn http() -> u16 {
    serve(|mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len())
    })
}
