//! Shells and commands.

use std::time::Duration;

use serde_json::json;
use ssm_channel::CloseReason;
use ssm_loopback::{Config, Direction, Document, Profile, Verdict};
use ssm_proto::body::TerminalSize;
use ssm_proto::{MessageType, PayloadType};

use crate::api::Api;
use crate::client::Client;

const SHELL: &str = "SSM-SessionManagerRunShell";
const ENDED: CloseReason = CloseReason::AgentClosed { exit_code: None, detail: None };

#[tokio::test]
async fn a_shell_runs_commands_and_ends_with_exit() {
    for profile in [Profile::Fast, Profile::Aws] {
        let api = Api::start(Config { profile, ..sh() }).await;
        let mut client = Client::start(&api, SHELL, json!({})).await;
        client.until_ready(&api).await;
        client.send(&api, PayloadType::Output, b"echo $((6*7))-$TERM\r").await;
        client.until_text(&api, "42-xterm-256color").await;
        client.send(&api, PayloadType::Output, b"exit 3\r").await;
        assert_eq!(client.until_closed(&api).await, ENDED);
        api.until_history(&client.session_id).await;
    }
}

#[tokio::test]
async fn the_terminal_has_the_size_it_is_told() {
    let api = Api::start(sh()).await;
    let mut client = Client::start(&api, SHELL, json!({})).await;
    client.until_ready(&api).await;
    for (cols, rows) in [(101, 33), (80, 24)] {
        client.send(&api, PayloadType::Size, &TerminalSize { cols, rows }.encode()).await;
        client.send(&api, PayloadType::Output, b"stty size\r").await;
        client.until_text(&api, &format!("{rows} {cols}\r\n")).await;
    }
}

#[tokio::test]
async fn ctrl_c_interrupts_what_runs() {
    let api = Api::start(sh()).await;
    let mut client = Client::start(&api, SHELL, json!({})).await;
    client.until_ready(&api).await;
    client.send(&api, PayloadType::Output, b"sh -c 'echo be\"\"gin; exec sleep 1000'\r").await;
    client.until_text(&api, "begin").await;
    client.send(&api, PayloadType::Output, &[3]).await;
    client.send(&api, PayloadType::Output, b"echo al''ive\r").await;
    client.until_text(&api, "alive").await;
}

#[tokio::test]
async fn an_interactive_command_ends_with_its_output() {
    let api = Api::start(sh()).await;
    let command = "test -t 0 && printf '%s' done; seq 1 20000";
    let mut client = Client::start(&api, "AWS-StartInteractiveCommand", json!({"command": [command]})).await;
    assert_eq!(client.until_closed(&api).await, ENDED);
    let text = client.text();
    assert!(text.starts_with("done1\r\n2\r\n"), "{text}");
    assert!(text.ends_with("\r\n20000\r\n"), "{}", text.len());
}

/// A terminal that nobody has open any more, and that is full, is ready for ever and takes nothing.
#[tokio::test]
async fn a_command_that_read_nothing_ends_the_session_too() {
    let api = Api::start(sh()).await;
    let command = json!({"command": ["stty raw -echo; echo go; sleep 0.3; echo over"]});
    let mut client = Client::start(&api, "AWS-StartInteractiveCommand", command).await;
    client.until_text(&api, "go").await;
    for _ in 0..100 {
        client.send(&api, PayloadType::Output, &[b'x'; 1000]).await;
    }
    assert_eq!(client.until_closed(&api).await, ENDED);
    assert!(client.text().ends_with("over\n"), "{:?}", client.text());
}

#[tokio::test]
async fn terminating_a_session_ends_its_processes() {
    let api = Api::start(sh()).await;
    let mut client = Client::start(&api, SHELL, json!({})).await;
    client.until_ready(&api).await;
    client.send(&api, PayloadType::Output, b"echo pid-$$-; sleep 1000\r").await;
    client.until(&api, "the pid", |client| pid(&client.text()).is_some()).await;
    let pid = pid(&client.text()).unwrap();
    assert!(is_running(&pid));
    api.ok("TerminateSession", json!({"SessionId": client.session_id})).await;
    assert_eq!(client.until_closed(&api).await, ENDED);
    api.loopback.shutdown().await;
    assert!(!is_running(&pid));
}

#[tokio::test]
async fn output_survives_loss_and_duplication() {
    let api = Api::start(sh()).await;
    let odds = ssm_loopback::fault::Odds {
        drop: 50,
        duplicate: 50,
        delay: 50,
        max_delay: Duration::from_millis(5),
        corrupt: 0,
    };
    let _guard = api.loopback.rule(ssm_loopback::fault::random(42, odds));
    let command = json!({"command": ["seq 1 30000"]});
    let mut client = Client::start(&api, "AWS-StartInteractiveCommand", command).await;
    assert_eq!(client.until_closed(&api).await, ENDED);
    let expected: String = (1..=30_000).map(|n| format!("{n}\r\n")).collect();
    assert!(client.text() == expected, "{} bytes instead of {}", client.text().len(), expected.len());
}

#[tokio::test]
async fn a_session_goes_on_after_either_end_was_cut() {
    let api = Api::start(sh()).await;
    let mut client = Client::start(&api, SHELL, json!({})).await;
    client.until_ready(&api).await;
    let (mut from_client, mut from_agent) = (0, 0);
    let _guard = api.loopback.rule(move |direction, header| {
        let count = match direction {
            _ if !header.message_type.is_stream() => return Verdict::Deliver,
            Direction::ClientToAgent => &mut from_client,
            Direction::AgentToClient => &mut from_agent,
        };
        *count += 1;
        if *count == 2 { Verdict::Cut } else { Verdict::Deliver }
    });
    for n in 0..5 {
        client.send(&api, PayloadType::Output, format!("echo n-$(({n}+100))\r").as_bytes()).await;
        client.until_text(&api, &format!("n-{}", n + 100)).await;
    }
    assert!(client.resumes >= 1);
}

#[tokio::test]
async fn a_terminal_starts_at_the_home_that_is_said() {
    let home = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).canonicalize().unwrap();
    let api = Api::start(Config { home: Some(home.clone()), ..sh() }).await;
    let command = json!({"command": ["echo \"$HOME|$(pwd -P)|\""]});
    let mut client = Client::start(&api, "AWS-StartInteractiveCommand", command).await;
    assert_eq!(client.until_closed(&api).await, ENDED);
    assert_eq!(client.text(), format!("{0}|{0}|\r\n", home.display()));
}

#[tokio::test]
async fn the_agents_state_never_reaches_the_client() {
    let api = Api::start(sh()).await;
    let _guard = api.loopback.rule(|_, header| {
        assert_ne!(header.message_type, MessageType::AgentSessionState);
        Verdict::Deliver
    });
    let mut client = Client::start(&api, "AWS-StartInteractiveCommand", json!({"command": ["true"]})).await;
    assert_eq!(client.until_closed(&api).await, ENDED);
}

#[tokio::test]
async fn a_command_without_separate_streams_is_heard_at_its_end() {
    let api = Api::start(sh()).await;
    let command = json!({"command": ["sh -c 'test -t 1 || echo out; echo err >&2; seq 1 1000; exit 3'"]});
    let mut client = Client::start(&api, "AWS-StartNonInteractiveCommand", command).await;
    assert_eq!(client.until_closed(&api).await, ENDED);
    let expected: String = (1..=1000).map(|n| format!("{n}\n")).collect();
    assert_eq!(client.text(), format!("out\nerr\n{expected}"));
}

#[tokio::test]
async fn a_command_with_separate_streams_reports_its_code() {
    let api = Api::start(separate()).await;
    for (command, out, err, code) in [
        ("sh -c 'echo out; echo err >&2; exit 3'", "o: out\n", "err\n", 3),
        ("/no/such/program", "", "fork/exec /no/such/program: no such file or directory", 1),
        ("sh -c 'kill -9 $$'", "", "", -1),
    ] {
        let mut client = Client::start(&api, "Separate", json!({"command": [command]})).await;
        let end = client.until_closed(&api).await;
        assert_eq!(end, CloseReason::AgentClosed { exit_code: Some(code), detail: None }, "{command}");
        assert_eq!(client.text(), out);
        assert_eq!(String::from_utf8(client.bytes(PayloadType::StdErr)).unwrap(), err);
    }
}

#[tokio::test]
async fn a_signal_through_the_session_ends_a_command_with_code_1() {
    let api = Api::start(separate()).await;
    let command = json!({"command": ["sh -c 'echo here; exec sleep 1000'"]});
    let mut client = Client::start(&api, "Separate", command).await;
    client.until_text(&api, "here").await;
    client.send(&api, PayloadType::Output, b"a\x03b").await;
    let end = client.until_closed(&api).await;
    assert_eq!(end, CloseReason::AgentClosed { exit_code: Some(1), detail: None });
}

#[tokio::test]
async fn a_client_that_refuses_the_session_is_told_why() {
    let body = r#"{"sessionType":"Port","properties":{"portNumber":"1"}}"#;
    let odd = Document::from_json("Odd", body).unwrap();
    let api = Api::start(Config { documents: vec![odd], agent_version: "x".into(), ..sh() }).await;
    let mut client = Client::start(&api, "Odd", json!({})).await;
    let CloseReason::AgentClosed { detail: Some(detail), .. } = client.until_closed(&api).await else {
        panic!("{:?}", client.closed)
    };
    assert!(detail.starts_with("document process failed unexpectedly"), "{detail}");
}

/// A plain shell, whose prompt says nothing surprising.
fn sh() -> Config {
    Config { shell: Some("/bin/sh".into()), ..Config::default() }
}

fn separate() -> Config {
    let body = r#"{"sessionType":"NonInteractiveCommands","parameters":{"command":{"type":"String"}},
        "properties":{"linux":{"commands":"{{command}}","separateOutputStream":true,"stdOutSeparatorPrefix":"o: "}}}"#;
    Config { documents: vec![Document::from_json("Separate", body).unwrap()], ..sh() }
}

fn pid(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("\npid-")?;
    Some(rest.split_once('-')?.0.to_owned())
}

fn is_running(pid: &str) -> bool {
    std::path::Path::new("/proc").join(pid).exists()
}
