//! The AWS CLI from PyPI: its API calls against the loopback, and this program in place of AWS's plugin.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::process::Command;

use rustix::process::{Signal, kill_process_group};
use serde_json::Value;

use crate::shell;
use crate::support::process::{Process, pid, run};
use crate::support::server::{Server, connect};
use crate::support::system::installed;
use crate::support::tmux::Tmux;
use crate::support::{Loopback, SSM};
use crate::tunnel::exchange;

#[test]
fn a_shell_runs_with_our_plugin() {
    let loopback = Loopback::start();
    let mut aws = aws(&loopback, &["ssm", "start-session", "--target", &loopback.target]);
    let (mut process, mut stdin) = Process::spawn_with_stdin(&mut aws);
    process.until_says("Starting session with SessionId: ");
    stdin.write_all(b"echo answer-$((6 * 7))\nexit\n").unwrap();
    let status = process.wait();
    let (stdout, stderr) = (process.stdout(), process.stderr());
    assert!(status.success(), "{status}: {stdout}{stderr}");
    assert!(stdout.contains("answer-42"), "{stdout}");
    assert!(stdout.contains("Exiting session with sessionId: "), "{stdout}");
    assert!(!stderr.contains("outdated"), "{stderr}");
}

#[test]
fn a_port_is_forwarded_with_our_plugin() {
    let loopback = Loopback::start();
    let server = Server::echo();
    let parameters = format!("portNumber={},localPortNumber=0", server.port());
    let document = "AWS-StartPortForwardingSession";
    let mut aws = aws(
        &loopback,
        &[
            "ssm",
            "start-session",
            "--target",
            &loopback.target,
            "--document-name",
            document,
            "--parameters",
            &parameters,
        ],
    );
    let mut process = Process::spawn(&mut aws);
    let port: u16 = process.until("the port", |text| {
        let (_, rest) = text.split_once("\nPort ")?;
        rest.split_once(" opened for sessionId ")?.0.parse().ok()
    });
    process.until_says("Waiting for connections...");
    let data = vec![7; 200_000];
    assert!(exchange(&mut connect((Ipv4Addr::LOCALHOST, port)), &data) == data);
    process.until_says("Connection accepted for session");
    // What Ctrl-C does: every process of the group gets it, and the AWS CLI ignores it.
    kill_process_group(pid(process.pid()), Signal::INT).unwrap();
    let status = process.wait();
    assert!(status.success(), "{status}: {}{}", process.stdout(), process.stderr());
    let sessions = json(&loopback, &["ssm", "describe-sessions", "--state", "Active"]);
    assert_eq!(sessions["Sessions"], Value::Array(Vec::new()));
}

#[test]
fn ctrl_c_reaches_the_far_side_although_the_cli_ignores_it() {
    let loopback = Loopback::start();
    let command = aws(&loopback, &[]);
    let tmux = Tmux::start(&command, loopback.home(), (100, 30));
    let before = shell::modes(&tmux, loopback.home());
    let program = command.get_program().to_str().unwrap();
    tmux.line(&format!("{program} ssm start-session --target {}; echo code=$?", loopback.target));
    tmux.until("the far prompt", |screen| screen.contains("remote$"));
    tmux.line("stty size; echo be''gun; sleep 1000");
    tmux.until_line("30 100");
    tmux.until_line("begun");
    tmux.key("C-c");
    tmux.until("the interruption", |screen| screen.contains("^C"));
    tmux.line("echo status=$?");
    tmux.until_line("status=130");
    tmux.line("exit");
    tmux.until("the exit code", |screen| screen.contains("code=0"));
    assert_eq!(shell::modes(&tmux, loopback.home()), before);
}

#[test]
fn the_api_answers_as_the_cli_expects() {
    let loopback = Loopback::start();
    let nodes = json(&loopback, &["ssm", "describe-instance-information"]);
    assert_eq!(nodes["InstanceInformationList"][0]["InstanceId"], loopback.target.as_str());
    assert_eq!(nodes["InstanceInformationList"][0]["PingStatus"], "Online");
    let status = json(&loopback, &["ssm", "get-connection-status", "--target", &loopback.target]);
    assert_eq!(status["Status"], "connected");

    let handed = handed(&loopback);
    let id = handed["SessionId"].as_str().unwrap();
    let active = json(&loopback, &["ssm", "describe-sessions", "--state", "Active"]);
    assert_eq!(active["Sessions"][0]["SessionId"], id);
    assert_eq!(active["Sessions"][0]["Target"], loopback.target.as_str());

    let resumed = json(&loopback, &["ssm", "resume-session", "--session-id", id]);
    assert_eq!(resumed["SessionId"], id);
    assert_ne!(resumed["TokenValue"], handed["TokenValue"]);
    assert!(resumed["StreamUrl"].as_str().unwrap().starts_with("ws://127.0.0.1:"));

    let ended = json(&loopback, &["ssm", "terminate-session", "--session-id", id]);
    assert_eq!(ended["SessionId"], id);
    let filter = format!("key=SessionId,value={id}");
    let past = json(&loopback, &["ssm", "describe-sessions", "--state", "History", "--filters", &filter]);
    assert_eq!(past["Sessions"][0]["SessionId"], id);
}

#[test]
fn documents_and_the_caller_are_as_the_cli_expects() {
    let loopback = Loopback::start();
    let caller = json(&loopback, &["sts", "get-caller-identity"]);
    assert_eq!(caller["Arn"], "arn:aws:iam::000000000000:user/loopback");
    assert_eq!(caller["Account"], "000000000000");

    let name = ["--name", "AWS-StartPortForwardingSessionToRemoteHost"];
    let document = json(&loopback, &["ssm", "get-document", name[0], name[1]]);
    assert_eq!((&document["DocumentType"], &document["Status"]), (&"Session".into(), &"Active".into()));
    let content: Value = serde_json::from_str(document["Content"].as_str().unwrap()).unwrap();
    assert_eq!((&content["schemaVersion"], &content["sessionType"]), (&"1.0".into(), &"Port".into()));
    assert_eq!(content["properties"]["host"], "{{ host }}");
    let described = &json(&loopback, &["ssm", "describe-document", name[0], name[1]])["Document"];
    assert_eq!((&described["Owner"], &described["DocumentType"]), (&"Amazon".into(), &"Session".into()));
    let parameters = described["Parameters"].as_array().unwrap();
    assert!(parameters.iter().any(|parameter| parameter["Name"] == "host"), "{parameters:?}");

    // An account has this one once somebody has set preferences.
    for missing in ["SSM-SessionManagerRunShell", "AWS-NoSuchDocument"] {
        let mut aws = aws(&loopback, &["ssm", "get-document", "--name", missing]);
        let mut process = Process::spawn(&mut aws);
        assert!(!process.wait().success());
        assert!(process.stderr().contains("(InvalidDocument)"), "{}", process.stderr());
    }
}

#[test]
fn the_cli_is_refused_without_the_keys() {
    let loopback = Loopback::start();
    let mut aws = aws(&loopback, &["ssm", "describe-sessions", "--state", "Active"]);
    let mut process = Process::spawn(aws.env("AWS_SECRET_ACCESS_KEY", "x".repeat(40)));
    assert!(!process.wait().success());
    assert!(process.stderr().contains("InvalidSignatureException"), "{}", process.stderr());
    let mut aws = self::aws(&loopback, &["sts", "get-caller-identity"]);
    let mut process = Process::spawn(aws.env("AWS_SECRET_ACCESS_KEY", "x".repeat(40)));
    assert!(!process.wait().success());
    assert!(process.stderr().contains("(SignatureDoesNotMatch)"), "{}", process.stderr());
    let mut aws = self::aws(&loopback, &["ssm", "start-session", "--target", "i-0fffffffffffffff0"]);
    let mut process = Process::spawn(&mut aws);
    assert!(!process.wait().success());
    assert!(process.stderr().contains("TargetNotConnected"), "{}", process.stderr());
}

/// What StartSession answers, as the AWS CLI hands it to the plugin: here to one that only shows it.
pub(crate) fn handed(loopback: &Loopback) -> Value {
    const VARIABLE: &str = "AWS_SSM_START_SESSION_RESPONSE";
    let programs = loopback.home().join("teller");
    fs::create_dir_all(&programs).unwrap();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 1.2.764.0; else printf '%s' \"${VARIABLE}\"; fi\n"
    );
    let plugin = programs.join("session-manager-plugin");
    fs::write(&plugin, script).unwrap();
    run(Command::new("chmod").arg("755").arg(&plugin));
    let mut command = cli(loopback);
    command.args(["ssm", "start-session", "--target", &loopback.target]);
    command.args(["--endpoint-url", &loopback.endpoint]);
    command.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
    serde_json::from_str(&run(&mut command)).unwrap()
}

/// The AWS CLI with this program as its plugin.
pub(crate) fn aws(loopback: &Loopback, args: &[&str]) -> Command {
    let programs = loopback.home().join("plugin");
    fs::create_dir_all(&programs).unwrap();
    let plugin = programs.join("session-manager-plugin");
    if !plugin.exists() {
        symlink(SSM, &plugin).unwrap();
    }
    let mut command = cli(loopback);
    command.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
    command.args(args);
    if !args.is_empty() {
        command.args(["--endpoint-url", &loopback.endpoint]);
    }
    command
}

fn cli(loopback: &Loopback) -> Command {
    let mut command = loopback.command(installed("SSM_TEST_AWS"));
    // Version 1 of the AWS CLI knows the region by this name only.
    command.env("AWS_DEFAULT_REGION", loopback.variable("AWS_REGION")).env("AWS_PAGER", "");
    command
}

fn json(loopback: &Loopback, args: &[&str]) -> Value {
    serde_json::from_str(&run(aws(loopback, args).args(["--output", "json"]))).unwrap()
}
