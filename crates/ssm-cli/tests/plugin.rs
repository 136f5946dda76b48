//! The contract between the AWS CLI and its plugin.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use ssm_loopback::{Config, Direction, Loopback, Verdict};
use ssm_session::{ControlPlane, StartSession};
use tempfile::TempDir;

use common::{Handed, Program, SSM, closed_port, ssm};

const VARIABLE: &str = "AWS_SSM_START_SESSION_RESPONSE_1";

#[test]
fn the_name_makes_the_plugin() {
    let folder = TempDir::new().unwrap();
    let link = folder.path().join("session-manager-plugin");
    symlink(SSM, &link).unwrap();
    let outcome = Program::start(&mut Command::new(&link)).wait();
    assert!(
        outcome.stdout.starts_with("\nThe Session Manager plugin was installed successfully."),
        "{outcome:?}"
    );
    assert_eq!((outcome.status.code(), outcome.stderr.as_str()), (Some(0), ""));
    let outcome = Program::start(Command::new(&link).arg("--version")).wait();
    assert!(is_recent(&outcome.stdout), "{outcome:?}");
    assert_eq!((outcome.status.code(), outcome.stderr.as_str()), (Some(0), ""));
}

#[test]
fn item_9_the_version_is_one_that_the_aws_cli_likes() {
    let outcome = Program::start(&mut ssm(&["plugin", "--version"])).wait();
    assert!(is_recent(&outcome.stdout), "{outcome:?}");
}

#[test]
fn nothing_but_start_session_is_an_operation() {
    let outcome = plugin(&["{}", "eu-west-1", "StopSession", "", "{}", "https://h"]).wait();
    assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(0), "Invalid Operation"));
    let outcome = plugin(&["help"]).wait();
    assert!(outcome.stdout.starts_with("\nUnknown operation help. \n"), "{outcome:?}");
}

#[test]
fn what_cannot_be_read_is_no_reason_to_panic() {
    let request = r#"{"Target":"i-0123456789abcdef0"}"#;
    for args in [
        ["", "r", "StartSession", "", request, "https://h"],
        ["{}", "r", "StartSession", "", "{}", "https://h"],
        ["[]", "", "StartSession", "", "", ""],
        ["AWS_SSM_START_SESSION_RESPONSE_not_set", "r", "StartSession", "", "nonsense", "\u{fffd}"],
        [r#"{"SessionId":"s","StreamUrl":"x","TokenValue":"t"}"#, "r", "StartSession", "", "{}", "https://h"],
    ] {
        let outcome = plugin(&args).wait();
        assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
        assert!(outcome.stdout.contains("Cannot perform start session: "), "{outcome:?}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
    }
}

#[test]
fn a_shell_runs_between_the_banners() {
    let loopback = Handed::start();
    for form in [Form::Variable, Form::Inline, Form::Ecs, Form::Legacy] {
        let session = loopback.session(|target| StartSession::shell(target));
        let mut command = form.command(&session, r#"{"Target":"i-0123456789abcdef0"}"#);
        let mut program = Program::with_stdin(&mut command, Stdio::piped());
        program.write("echo $((6*7)); exit 3\n");
        let outcome = program.wait();
        let id = session_id(&session);
        assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
        assert!(
            outcome.stdout.starts_with(&format!("\nStarting session with SessionId: {id}\n")),
            "{outcome:?}"
        );
        assert!(outcome.stdout.contains("42\r\n"), "{outcome:?}");
        assert!(
            outcome.stdout.ends_with(&format!("\n\nExiting session with sessionId: {id}.\n\n")),
            "{outcome:?}"
        );
        assert_eq!(outcome.stderr, "");
    }
}

#[test]
fn a_variable_has_the_frames_of_the_plugin_captured() {
    let loopback = Handed::start();
    let folder = tempfile::tempdir().unwrap();
    let (link, capture) = (folder.path().join("session-manager-plugin"), folder.path().join("frames"));
    symlink(env!("CARGO_BIN_EXE_ssm"), &link).unwrap();
    let session = loopback.session(|target| StartSession::shell(target));
    let mut command = Command::new(&link);
    command.args([session.as_str(), "us-east-1", "StartSession", "", "{}", "http://127.0.0.1:1"]);
    let mut program = Program::with_stdin(command.env("SSM_PLUGIN_CAPTURE", &capture), Stdio::piped());
    program.write("echo $((6*7)); exit\n");
    let outcome = program.wait();
    assert!(outcome.status.success() && outcome.stdout.contains("42\r\n"), "{outcome:?}");
    let session: serde_json::Value = serde_json::from_str(&session).unwrap();
    let frames = fs::read_to_string(&capture).unwrap();
    assert!(
        frames.contains("REDACTED") && !frames.contains(session["TokenValue"].as_str().unwrap()),
        "{frames}"
    );
    assert!(frames.lines().count() > 4, "{frames}");
    let refused = Command::new(&link).env("SSM_PLUGIN_CAPTURE", &capture).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("exists already"), "what was captured is not written over: {said}");
}

#[test]
fn item_89_91_a_port_is_opened_and_ctrl_c_closes_it() {
    let loopback = Handed::start();
    let echo = echo_server();
    let session = loopback.session(|target| StartSession::port(target, echo));
    let id = session_id(&session);
    // As a plugin that is started by a child of another one has it.
    let mut command = Form::Variable.command(&session, PORT_REQUEST);
    let mut program = Program::start(command.env("SSM_PLUGIN_RESPONSE_PIPE", "1:0"));
    let port: u16 = program.wait_for(|program| {
        let text = program.stdout();
        let (_, rest) = text.split_once("\nPort ")?;
        rest.split_once(&format!(" opened for sessionId {id}.\nWaiting for connections...\n"))?.0.parse().ok()
    });
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
    program.wait_for(|program| {
        program.stdout().contains(&format!("\nConnection accepted for session [{id}]\n")).then_some(())
    });
    program.signal(Signal::INT);
    let outcome = program.wait();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert!(
        outcome.stdout.ends_with(&format!(
            "Terminate signal received, exiting.\n\n\nExiting session with sessionId: {id}.\n\n"
        )),
        "{outcome:?}"
    );
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok(), "the port is still taken");
}

#[test]
fn a_refused_connection_is_told_as_wrappers_know_it() {
    let loopback = Handed::start();
    let session = loopback.session(|target| StartSession::port(target, closed_port()));
    let mut program = Program::start(&mut Form::Inline.command(&session, PORT_REQUEST));
    let port: u16 = program.wait_for(|program| {
        let text = program.stdout();
        text.split_once("\nPort ")?.1.split_once(' ')?.0.parse().ok()
    });
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let _ = stream.read(&mut [0]);
    program.wait_for(|program| {
        program
            .stdout()
            .contains("\nConnection to destination port failed, check SSM Agent logs.\n")
            .then_some(())
    });
}

#[test]
fn ssh_gets_its_bytes_between_the_banners() {
    let loopback = Handed::start();
    let echo = echo_server();
    let session = loopback.session(|target| StartSession::ssh(target, echo));
    let id = session_id(&session);
    let request = r#"{"Target":"i-0123456789abcdef0","DocumentName":"AWS-StartSSHSession"}"#;
    let mut program = Program::with_stdin(&mut Form::Variable.command(&session, request), Stdio::piped());
    program.write("SSH-2.0-x\r\n");
    let expected = format!("\nStarting session with SessionId: {id}\nSSH-2.0-x\r\n");
    program.wait_for(|program| (program.stdout() == expected).then_some(()));
}

#[test]
fn the_end_of_stdin_is_told_to_nobody() {
    let loopback = Handed::start();
    let session = loopback.session(|target| StartSession::ssh(target, echo_server()));
    let id = session_id(&session);
    let request = r#"{"Target":"i-0123456789abcdef0","DocumentName":"AWS-StartSSHSession"}"#;
    let mut command = Form::Variable.command(&session, request);
    let outcome = Program::start(&mut command).wait();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert_eq!(outcome.stdout, format!("\nStarting session with SessionId: {id}\n"));
}

/// The agent sees nothing of the loss, so that what is typed after it shows that the session was resumed.
#[cfg(feature = "aws")]
#[test]
fn item_7_a_lost_connection_is_resumed_through_what_the_cli_has_said() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let loopback = runtime.block_on(Loopback::start(Config::default())).unwrap();
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("config");
    let keys = format!(
        "[profile here]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        loopback.access_key(),
        loopback.secret_key().expose()
    );
    fs::write(&config, keys).unwrap();
    let api = loopback.endpoint_url();
    for (ecs, url, variable) in [(false, api, None), (true, "http://127.0.0.1:1", Some(api))] {
        let endpoint =
            runtime.block_on(loopback.control().start(&StartSession::shell(loopback.target()))).unwrap();
        let mut session = endpoint.to_json().expose().clone();
        if ecs {
            for (theirs, of_ecs) in
                [("SessionId", "sessionId"), ("StreamUrl", "streamUrl"), ("TokenValue", "tokenValue")]
            {
                session = session.replace(theirs, of_ecs);
            }
        }
        let mut command = ssm(&["plugin", &session, loopback.region(), "StartSession", "here", "{}", url]);
        command.env("AWS_CONFIG_FILE", &config);
        if let Some(variable) = variable {
            command.env("AWS_ENDPOINT_URL_SSM", variable);
        }
        let mut program = Program::with_stdin(&mut command, Stdio::piped());
        program.write("echo before-$((6*7))\n");
        program.wait_for(|program| program.stdout().contains("before-42").then_some(()));
        let armed = AtomicBool::new(true);
        let _cut = loopback.rule(move |direction, _| {
            let cuts = direction == Direction::ClientToAgent && armed.swap(false, Ordering::SeqCst);
            if cuts { Verdict::Cut } else { Verdict::Deliver }
        });
        program.write("echo behind-$((6*7)); exit\n");
        let outcome = program.wait();
        assert!(outcome.stdout.contains("behind-42"), "{outcome:?}");
        assert!(outcome.stderr.contains("the connection was lost"), "{outcome:?}");
        assert!(outcome.stdout.contains("\n\nExiting session with sessionId: "), "{outcome:?}");
    }
    runtime.block_on(loopback.shutdown());
}

/// A `credential_process` is a child that the SDK starts.
#[cfg(feature = "aws")]
#[test]
fn item_8_no_child_inherits_the_session() {
    let loopback = Handed::start();
    let folder = TempDir::new().unwrap();
    let (seen, script) = (folder.path().join("seen"), folder.path().join("script"));
    fs::write(&script, format!("env >'{}'; exec echo no credentials\n", seen.display())).unwrap();
    let config = folder.path().join("config");
    fs::write(&config, format!("[profile asked]\ncredential_process = sh {}\n", script.display())).unwrap();
    for form in [Form::Variable, Form::Inline] {
        let session = loopback.session(|target| StartSession::shell(target));
        let token = serde_json::from_str::<serde_json::Value>(&session).unwrap()["TokenValue"].clone();
        let mut command = form.command(&session, "{}");
        command.env("AWS_CONFIG_FILE", &config).env("AWS_PROFILE", "asked").env("HOME", folder.path());
        let mut program = Program::with_stdin(&mut command, Stdio::piped());
        program.write("echo $((6*7)); exit\n");
        let outcome = program.wait();
        assert!(outcome.stdout.contains("42\r\n"), "{outcome:?}");
        let environment = fs::read_to_string(&seen).unwrap();
        assert!(environment.contains("AWS_PROFILE=asked"), "{environment}");
        assert!(
            !environment.contains(token.as_str().unwrap()) && !environment.contains(VARIABLE),
            "{environment}"
        );
    }
}

#[test]
fn a_session_in_no_variable_is_told_as_by_the_plugin() {
    let outcome = plugin(&[VARIABLE, "r", "StartSession", "", "{}", "https://h"]).wait();
    assert_eq!(outcome.stdout, "Cannot perform start session: unexpected end of JSON input\n");
    assert_eq!(outcome.status.code(), Some(0));
}

#[test]
fn a_large_session_is_read_from_the_variable_all_the_same() {
    for len in [5_000, 50_000, 100_000] {
        let session = serde_json::json!({
            "SessionId": "s-1",
            "StreamUrl": format!("ws://127.0.0.1:{}/{}", closed_port(), "x".repeat(len)),
            "TokenValue": "t",
        });
        let outcome = Program::start(&mut Form::Variable.command(&session.to_string(), "{}")).wait();
        assert!(outcome.stdout.starts_with("\nStarting session with SessionId: s-1\n"), "{outcome:?}");
    }
}

#[test]
fn exit_codes_tell_what_happened_when_asked() {
    let session =
        format!(r#"{{"SessionId":"s","StreamUrl":"ws://127.0.0.1:{}/","TokenValue":"t"}}"#, closed_port());
    for (asked, code) in [("1", 255), ("0", 0)] {
        let mut command = Form::Inline.command(&session, "{}");
        let outcome = Program::start(command.env("SSM_PLUGIN_EXIT_CODES", asked)).wait();
        assert_eq!(outcome.status.code(), Some(code), "{outcome:?}");
        assert!(outcome.stdout.contains("Cannot perform start session: "), "{outcome:?}");
    }
}

const PORT_REQUEST: &str =
    r#"{"Target":"i-0123456789abcdef0","DocumentName":"AWS-StartPortForwardingSession"}"#;

/// How the session is handed over.
#[derive(Clone, Copy)]
enum Form {
    /// In the environment.
    Variable,
    /// In the first argument.
    Inline,
    /// As `aws ecs execute-command` does: other keys, another endpoint.
    Ecs,
    /// As the AWS CLI did before 1.16.12.
    Legacy,
}

impl Form {
    fn command(self, session: &str, request: &str) -> Command {
        let last = |url| ["us-east-1", "StartSession", "", request, url];
        let mut command = ssm(&["plugin"]);
        match self {
            Self::Variable => command.env(VARIABLE, session).arg(VARIABLE).args(last("http://127.0.0.1:1")),
            Self::Inline => command.arg(session).args(last("http://127.0.0.1:1")),
            Self::Ecs => {
                let session = session
                    .replace("SessionId", "sessionId")
                    .replace("StreamUrl", "streamUrl")
                    .replace("TokenValue", "tokenValue");
                command.arg(session).args(last("https://ecs.us-east-1.amazonaws.com"))
            }
            Self::Legacy => command.arg(session).args(["us-east-1", "StartSession"]),
        };
        command
    }
}

fn plugin(args: &[&str]) -> Program {
    Program::start(ssm(&["plugin"]).args(args))
}

fn session_id(session: &str) -> String {
    let session: serde_json::Value = serde_json::from_str(session).unwrap();
    session["SessionId"].as_str().unwrap().to_owned()
}

/// Whether the AWS CLI takes this version for a number (`sessionmanager.py`) that is at least what AWS supports.
fn is_recent(output: &str) -> bool {
    let parts: Vec<u32> = output.trim_end().split('.').map(|part| part.parse().unwrap()).collect();
    parts.len() == 4 && parts >= vec![1, 2, 764, 0]
}

fn echo_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    port
}
