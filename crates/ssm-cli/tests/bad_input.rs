//! What goes wrong gives one clear line on stderr and the right exit code, and leaves nothing behind.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::Signal;
use ssm_session::StartSession;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use common::{Handed, Outcome, Program, closed_port, ssm};

const USAGE: i32 = 2;
const FAILURE: i32 = 255;
const TOKEN: &str = "do-not-show-this-token";

#[test]
fn what_cannot_be_a_target_is_refused() {
    for args in [
        &["shell", "i-0123"][..],
        &["forward", "tag:web", "-L", "0:80"],
        &["forward", "ecs:web", "-L", "0:80", "--background"],
        &["proxy", "i-0123", "22"],
        &["resolve", "web\u{202e}1"],
        &["shell", "i-0123\x1b[2J"],
    ] {
        let outcome = Program::start(&mut ssm(args)).wait();
        one_line(&outcome, USAGE, "i-0123456789abcdef0");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    for args in
        [&["forward", "i-0123456789abcdef0"][..], &["no-such-command"], &["forward", "i-1", "-L", "x"]]
    {
        let outcome = Program::start(&mut ssm(args)).wait();
        assert_eq!(outcome.status.code(), Some(USAGE), "{outcome:?}");
        assert_eq!(outcome.stdout, "", "{args:?}");
    }
}

#[test]
fn a_fault_that_is_none_names_the_part_that_is_wrong() {
    for (fault, words) in [
        ("lost=5%", "there is no fault \"lost\"; there are loss, "),
        ("loss=5", "loss is SHARE"),
        ("loss=5%,direction=left", "\"direction=left\" is not understood"),
        ("loss=5%,end=agent", "loss has no such option; it has direction, class"),
    ] {
        let outcome = Program::start(&mut ssm(&["loopback", "--fault", fault])).wait();
        assert_eq!(outcome.status.code(), Some(USAGE), "{outcome:?}");
        assert!(outcome.stderr.contains(words), "{outcome:?}");
    }
}

#[test]
fn a_session_that_is_none_is_refused() {
    let mut without = ssm(&["shell", "--attach"]);
    one_line(&Program::start(without.env_remove("SSM_ATTACH")).wait(), USAGE, "SSM_ATTACH");
    for (json, complaint) in [
        (TOKEN.to_owned(), "not JSON"),
        (format!(r#"{{"TokenValue":"{TOKEN}"}}"#), "SessionId is missing"),
        (
            format!(r#"{{"TokenValue":"{TOKEN}","SessionId":"s","StreamUrl":"ws://example.com/"}}"#),
            "loopback",
        ),
    ] {
        let outcome = attach(&["shell"], &json).wait();
        let code = if complaint == "loopback" { FAILURE } else { USAGE };
        one_line(&outcome, code, complaint);
    }
}

#[test]
fn two_forwards_cannot_share_a_session() {
    let outcome = attach(&["forward", "-L", "0:80", "-L", "0:81"], &session_at(1)).wait();
    one_line(&outcome, USAGE, "one -L");
}

#[test]
fn a_taken_local_port_is_named_before_anything_else() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    // The session would not open either: that is not tried.
    let outcome = attach(&["forward", "-L", &format!("{port}:80")], &session_at(closed_port())).wait();
    one_line(&outcome, FAILURE, &format!("cannot listen on localhost:{port}"));
}

#[test]
fn a_gateway_that_is_not_there_is_named() {
    let port = closed_port();
    for args in [&["shell"][..], &["proxy"], &["forward", "-L", "0:80"]] {
        one_line(&attach(args, &session_at(port)).wait(), FAILURE, &format!("127.0.0.1:{port}"));
    }
}

#[test]
fn a_refused_upgrade_is_named_with_its_status() {
    let port = answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    for args in [&["shell"][..], &["proxy"], &["forward", "-L", "0:80"]] {
        one_line(&attach(args, &session_at(port)).wait(), FAILURE, "refused the upgrade: HTTP 403");
    }
}

#[test]
fn a_server_that_is_no_gateway_is_named() {
    for answer in
        [&b"SSH-2.0-OpenSSH_9.2p1\r\n"[..], b"", &[0xff; 70_000], b"HTTP/1.1 101 Switching Protocols\r\n\r\n"]
    {
        let port = answering(answer);
        one_line(
            &attach(&["forward", "-L", "0:80"], &session_at(port)).wait(),
            FAILURE,
            &format!("127.0.0.1:{port}"),
        );
    }
}

#[test]
fn a_gateway_that_sends_garbage_ends_the_session() {
    for garbage in [Garbage::Noise, Garbage::Text, Garbage::BadHandshake] {
        let port = garbage.serve();
        for args in [&["shell"][..], &["proxy"], &["forward", "-L", "0:80"]] {
            one_line(&attach(args, &session_at(port)).wait(), FAILURE, "");
        }
    }
}

#[test]
fn a_wrong_token_does_not_open_a_session() {
    let loopback = Handed::start();
    for args in [&["shell"][..], &["proxy"], &["forward", "-L", "0:80"]] {
        let session = loopback.session(|target| StartSession::port(target, 80));
        let mut session: serde_json::Value = serde_json::from_str(&session).unwrap();
        session["TokenValue"] = TOKEN.into();
        one_line(&attach(args, &session.to_string()).wait(), FAILURE, "token");
    }
}

#[test]
fn a_closed_port_resets_the_connection_and_the_forward_lives_on() {
    let loopback = Handed::start();
    let session = loopback.session(|target| StartSession::port(target, closed_port()));
    let mut program = attach(&["forward", "-L", "0:80"], &session);
    let address = listening(&mut program);
    for number in 1..=2 {
        let mut stream = TcpStream::connect(address).unwrap();
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
        program.until(|text| {
            let complaint = format!("ssm: connection {number}: the target could not connect to ");
            text.lines().any(|line| line.starts_with(&complaint)).then_some(())
        });
    }
    program.signal(Signal::INT);
    let outcome = program.wait();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 4, "{outcome:?}");
    assert!(TcpListener::bind(address).is_ok(), "the port is still taken");
}

#[test]
fn a_proxy_to_a_closed_port_fails() {
    let loopback = Handed::start();
    let session = loopback.session(|target| StartSession::ssh(target, closed_port()));
    let outcome = attach(&["proxy"], &session).wait();
    one_line(&outcome, FAILURE, "");
    assert_eq!(outcome.stdout, "");
}

#[test]
fn a_shell_without_a_terminal_runs_to_its_end() {
    let loopback = Handed::start();
    let session = loopback.session(|target| StartSession::shell(target));
    let outcome = attach(&["shell"], &session).wait();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    assert!(outcome.stderr.starts_with("ssm: stdin is not a terminal"), "{outcome:?}");
}

#[test]
fn a_session_of_another_kind_is_refused() {
    let loopback = Handed::start();
    let port = loopback.session(|target| StartSession::port(target, 80));
    one_line(&attach(&["shell"], &port).wait(), FAILURE, "no shell");
}

#[test]
fn a_signal_ends_a_proxy_as_it_ends_any_program() {
    let loopback = Handed::start();
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let session = loopback.session(|target| StartSession::ssh(target, port));
        let mut command = ssm(&["proxy", "--attach"]);
        command.env("SSM_ATTACH", session);
        let mut program = Program::with_stdin(&mut command, std::process::Stdio::piped());
        let (mut stream, _) = server.accept().unwrap();
        stream.write_all(b"hello").unwrap();
        program.wait_for(|program| (program.stdout() == "hello").then_some(()));
        program.signal(signal);
        let outcome = program.wait();
        assert_eq!(outcome.status.code(), Some(code), "{outcome:?}");
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("hello", ""));
    }
}

#[cfg(feature = "aws")]
#[test]
fn a_machine_that_is_not_there_is_named() {
    let loopback = common::Served::start();
    let nobody = "i-0fffffffffffffff0";
    for args in [&["shell", nobody][..], &["proxy", nobody], &["forward", nobody, "-L", "0:80"]] {
        let outcome = Program::start(&mut loopback.ssm(args)).wait();
        one_line(&outcome, FAILURE, &format!("{nobody} is not connected to Systems Manager"));
    }
    assert_eq!(loopback.stop().status.code(), Some(0));
}

#[cfg(feature = "aws")]
#[test]
fn wrong_keys_are_told_from_other_failures() {
    let loopback = common::Served::start();
    let mut command = loopback.ssm(&["shell", &loopback.target]);
    let outcome = Program::start(command.env("AWS_SECRET_ACCESS_KEY", TOKEN)).wait();
    one_line(&outcome, FAILURE, "credentials are not accepted");
}

#[cfg(feature = "aws")]
#[test]
fn no_region_is_told_with_what_to_do() {
    let outcome = Program::start(&mut ssm(&["shell", "i-0123456789abcdef0"])).wait();
    one_line(&outcome, FAILURE, "give --region");
}

#[cfg(not(feature = "aws"))]
#[test]
fn a_build_without_the_sdk_says_how_to_get_one() {
    for args in [
        &["shell", "i-0123456789abcdef0"][..],
        &["proxy", "i-0123456789abcdef0"],
        &["forward", "i-0123456789abcdef0", "-L", "0:80"],
    ] {
        one_line(&Program::start(&mut ssm(args)).wait(), USAGE, "without the AWS SDK");
    }
}

/// One line of ours that says this, nothing on stdout, no panic and no token.
#[track_caller]
fn one_line(outcome: &Outcome, code: i32, complaint: &str) {
    assert_eq!(outcome.status.code(), Some(code), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    assert!(outcome.stderr.starts_with("ssm: ") && outcome.stderr.contains(complaint), "{outcome:?}");
    assert_eq!(outcome.stdout, "", "{outcome:?}");
    assert!(!outcome.stderr.contains(TOKEN), "{outcome:?}");
    let hostile = |char: char| char.is_control() && char != '\n';
    assert!(!outcome.stderr.contains(hostile), "{outcome:?}");
}

/// `ssm` with a session that was started elsewhere.
fn attach(args: &[&str], session: &str) -> Program {
    Program::start(ssm(args).arg("--attach").env("SSM_ATTACH", session))
}

fn session_at(port: u16) -> String {
    format!(r#"{{"SessionId":"s-1","StreamUrl":"ws://127.0.0.1:{port}/v1","TokenValue":"{TOKEN}"}}"#)
}

fn listening(program: &mut Program) -> SocketAddr {
    program.until(|text| {
        let (_, rest) = text.split_once("listening on ")?;
        rest.split_once([',', ' '])?.0.parse().ok()
    })
}

/// A server that gives every connection this answer and closes it.
fn answering(answer: &[u8]) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = answer.to_vec();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&answer);
        }
    });
    port
}

#[derive(Clone, Copy)]
enum Garbage {
    /// Frames that are no messages.
    Noise,
    /// Text.
    Text,
    /// A handshake request whose body is nonsense.
    BadHandshake,
}

impl Garbage {
    /// A gateway that takes the upgrade and then sends this for as long as anybody listens.
    fn serve(self) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                    while socket.send(self.message()).await.is_ok() {
                        tokio::task::yield_now().await;
                    }
                    while socket.next().await.is_some_and(|message| message.is_ok()) {}
                }
            });
        });
        port
    }

    fn message(self) -> Message {
        match self {
            Self::Noise => Message::binary(vec![0xa5; 300]),
            Self::Text => Message::text("<html>not a data channel</html>"),
            Self::BadHandshake => Message::binary(handshake_request(b"{\"AgentVersion\":7")),
        }
    }
}

/// An output_stream_data message with payload type 5 (protocol of agent and plugin, `clientmessage.go`).
fn handshake_request(payload: &[u8]) -> Bytes {
    use sha2::{Digest as _, Sha256};

    let mut message = 116_u32.to_be_bytes().to_vec();
    message.extend_from_slice(format!("{:<32}", "output_stream_data").as_bytes());
    message.extend_from_slice(&1_u32.to_be_bytes());
    message.extend_from_slice(&0_u64.to_be_bytes());
    message.extend_from_slice(&0_i64.to_be_bytes());
    message.extend_from_slice(&0_u64.to_be_bytes());
    message.extend_from_slice(&[7; 16]);
    message.extend_from_slice(&Sha256::digest(payload));
    message.extend_from_slice(&5_u32.to_be_bytes());
    message.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    message.extend_from_slice(payload);
    message.into()
}
