//! Text of the service, the agent and AWS on a terminal: nothing in it does anything, and nothing looks like a line of ours.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use ssm_proto::{Header, MessageId, MessageType, PayloadType};
use tokio::io::AsyncReadExt as _;

use crate::common::fake_aws::{Asked, FakeAws, Home, sts_error};
use crate::common::{Outcome, Program, SSM, ssm};
use crate::gateway::{Gateway, acknowledged, complete, frame, output, request, sent};

const TARGET: &str = "i-0123456789abcdef0";

/// Sets the title, clears the screen, asks the terminal to type, colours with C1, turns the direction, and makes a line of ours.
const HOSTILE: &str =
    "\x1b]0;owned\x07\x1b[2J\x1b[5n\u{9b}31m\u{202e}\u{2066}\u{61c}\u{85}\r\nssm: forged\n\x08\x7f";

/// The same as far as XML can have it.
const HOSTILE_XML: &str = "&#x9b;31m\u{202e}\u{2066}\u{61c}&#x85;&#xd;&#xa;ssm: forged&#xa;&#x7f;";

/// Nothing that was shown does anything, and no line of it is forged.
#[track_caller]
fn harmless(what: &str, outcome: &Outcome) {
    for shown in [&outcome.stdout, &outcome.stderr] {
        harmless_text(what, shown);
    }
}

#[track_caller]
fn harmless_text(what: &str, shown: &str) {
    let hidden = |char: &char| matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    let found = shown.chars().find(|char| (char.is_control() && !"\n\t".contains(*char)) || hidden(char));
    assert_eq!(found, None, "{what}: {shown:?}");
    assert!(!shown.lines().any(|line| line.trim_start().starts_with("ssm: forged")), "{what}: {shown:?}");
    assert!(!shown.contains("panicked"), "{what}: {shown:?}");
}

/// A session of this type that says what it can say, and ends.
fn talking(session_type: &'static str, properties: &'static str) -> Gateway {
    Gateway::web_socket(move |mut socket| async move {
        let hostile = json!(HOSTILE).to_string();
        let handshake = request(session_type, properties);
        sent(&mut socket, output(PayloadType::HandshakeRequest, 0, &handshake)).await;
        sent(&mut socket, output(PayloadType::HandshakeComplete, 1, &complete(&hostile))).await;
        assert!(acknowledged(&mut socket, 1).await, "the client is gone");
        let closed = json!({ "MessageId": "m", "CreatedDate": "", "DestinationId": "", "SessionId": HOSTILE,
            "MessageType": "channel_closed", "SchemaVersion": 1, "Output": HOSTILE });
        let header = Header::service(MessageType::ChannelClosed, MessageId::default(), 1);
        sent(&mut socket, frame(header, closed.to_string().as_bytes())).await;
        let _ = socket.get_mut().read(&mut [0; 1]).await;
    })
}

#[test]
fn what_the_agent_has_to_say_is_shown_and_does_nothing() {
    const PORT: &str = r#"{"portNumber":"80","type":"LocalPortForwarding"}"#;
    for (args, session_type, properties) in [
        (&["shell"][..], "Standard_Stream", "null"),
        (&["shell", "-vv"], "Standard_Stream", "null"),
        (&["forward", "-L", "0:80"], "Port", PORT),
        (&["forward", "-L", "0:80", "-vv"], "Port", PORT),
        (&["forward", "-L", "0:80", "--json"], "Port", PORT),
    ] {
        let gateway = talking(session_type, properties);
        let mut command = ssm(args);
        command.arg("--attach").env("SSM_ATTACH", gateway.session());
        let outcome = Program::with_stdin(&mut command, Stdio::piped()).wait();
        harmless(&args.join(" "), &outcome);
        let all = outcome.stdout + &outcome.stderr;
        assert!(all.matches("owned").count() >= 2, "{args:?}: {all}");
    }
    let gateway = talking("Standard_Stream", "null");
    let mut command = ssm(&["plugin", &gateway.session(), "eu-west-1", "StartSession", ""]);
    command.args([r#"{"Target":"i-0123456789abcdef0"}"#, "https://ssm.eu-west-1.amazonaws.com"]);
    let outcome = Program::with_stdin(&mut command, Stdio::piped()).wait();
    let lines = outcome.stdout.replace("ssm: forged", "");
    harmless_text("the plugin, whose text has lines of its own", &lines.replace('\r', ""));
    assert!(lines.matches("owned").count() >= 2, "{outcome:?}");
}

#[test]
fn a_handshake_that_is_refused_is_told_without_harm() {
    for (session_type, action) in [("Hostile", "SessionType"), ("Standard_Stream", "Hostile")] {
        let hostile = json!(format!("x{HOSTILE}")).to_string();
        let handshake = format!(
            r#"{{"AgentVersion":{hostile},"RequestedClientActions":[{{"ActionType":"{action}","ActionParameters":{{"SessionType":"{session_type}"}}}}]}}"#
        );
        let handshake = handshake.replace(r#""Hostile""#, &hostile);
        let gateway = Gateway::web_socket(move |mut socket| {
            let handshake = handshake.clone();
            async move {
                sent(&mut socket, output(PayloadType::HandshakeRequest, 0, handshake.as_bytes())).await;
                let _ =
                    tokio::time::timeout(Duration::from_secs(1), socket.get_mut().read(&mut [0; 1])).await;
            }
        });
        let mut command = ssm(&["shell", "--attach", "-vv"]);
        let outcome =
            Program::with_stdin(command.env("SSM_ATTACH", gateway.session()), Stdio::piped()).wait();
        assert_eq!(outcome.status.code(), Some(255), "{outcome:?}");
        harmless(session_type, &outcome);
    }
}

/// Everybody who asks AWS.
const ASKING: &[&[&str]] = &[
    &["shell", TARGET],
    &["shell", "web"],
    &["exec", TARGET, "--", "true"],
    &["exec", "--via", "run-command", "--targets", TARGET, "--", "true"],
    &["cp", "/etc/hostname", "i-0123456789abcdef0:/tmp/x"],
    &["forward", TARGET, "-L", "0:80"],
    &["proxy", TARGET, "22"],
    &["resolve", "web"],
    &["resolve", "web", "--json"],
    &["resolve", "tag:Name=web"],
    &["list"],
    &["list", "--json"],
    &["sessions"],
    &["sessions", "--json"],
    &["sessions", "terminate", "s-1"],
    &["doctor", TARGET],
    &["doctor", TARGET, "--json"],
    &["ecs", "list"],
    &["ecs", "list", "--json"],
    &["ecs", "exec", "web"],
    &["ecs", "check", "web"],
    &["db", "list"],
    &["db", "list", "--json"],
    &["db", "orders", "--bastion", TARGET],
];

fn asking(args: &[&str], fake: &FakeAws) -> Outcome {
    let mut command = ssm(args);
    fake.apply(&mut command);
    command.env("AWS_REGION", "eu-west-1").env("AWS_ACCESS_KEY_ID", "AKIDKEY").env("AWS_MAX_ATTEMPTS", "1");
    command.env("AWS_SECRET_ACCESS_KEY", "secret");
    let cache = tempfile::tempdir().unwrap();
    Program::start(command.env("XDG_CACHE_HOME", cache.path()).env("XDG_STATE_HOME", cache.path())).wait()
}

#[test]
fn errors_of_aws_are_told_without_harm() {
    let text =
        json!({ "__type": format!("Oops{HOSTILE}"), "message": HOSTILE, "Message": HOSTILE }).to_string();
    let xml = sts_error("Oops", HOSTILE_XML);
    let ec2 = format!(
        "<Response><Errors><Error><Code>Oops</Code><Message>{HOSTILE_XML}</Message></Error></Errors></Response>"
    );
    let fake = FakeAws::start(move |asked| match () {
        () if asked.has("Action=DescribeInstances") => (400, ec2.clone()),
        () if asked.has("Action=") => xml.clone(),
        () => (400, text.clone()),
    });
    for args in ASKING {
        let outcome = asking(args, &fake);
        harmless(&args.join(" "), &outcome);
        if args[0] == "doctor" {
            // It has words of its own.
            continue;
        }
        assert!(!outcome.status.success(), "{args:?} {outcome:?}");
        assert!(format!("{outcome:?}").contains("forged"), "{args:?} {outcome:?}");
    }
}

/// A proxy on the way, for one. What it says is nothing that a user is helped by, and may be anything.
#[test]
fn answers_that_are_none_of_aws_are_not_shown() {
    for status in [200, 403] {
        let fake = FakeAws::start(move |_| (status, format!("<html>{HOSTILE} tokenvalue")));
        for args in ASKING {
            let outcome = asking(args, &fake);
            harmless(&args.join(" "), &outcome);
            assert!(!(outcome.stdout + &outcome.stderr).contains("tokenvalue"), "{args:?}");
        }
    }
}

/// An account in which everything is called like this.
fn account(asked: &Asked) -> (u16, String) {
    let xml = |action: &str, content: &str| {
        (200, format!("<{action}Response><{action}Result>{content}</{action}Result></{action}Response>"))
    };
    match asked.operation() {
        Some("DescribeInstanceInformation") => (200, json!({ "InstanceInformationList": [
            { "InstanceId": TARGET, "PingStatus": "Online", "PlatformName": HOSTILE, "PlatformVersion": HOSTILE,
              "AgentVersion": HOSTILE, "ComputerName": HOSTILE, "IPAddress": HOSTILE, "Name": HOSTILE,
              "PlatformType": "Linux", "ResourceType": "EC2Instance" },
        ] }).to_string()),
        Some("DescribeSessions") => (200, json!({ "Sessions": [
            { "SessionId": HOSTILE, "Target": HOSTILE, "Status": "Connected", "Owner": HOSTILE, "Reason": HOSTILE,
              "StartDate": 1.7e9, "Details": HOSTILE },
        ] }).to_string()),
        Some("ListClusters") => (200, json!({ "clusterArns": [format!("arn:aws:ecs:r:1:cluster/{HOSTILE}")] }).to_string()),
        Some("ListTasks") => (200, json!({ "taskArns": ["arn:aws:ecs:r:1:task/c/0123456789abcdef"] }).to_string()),
        Some("DescribeTasks") => (200, json!({ "tasks": [
            { "taskArn": "arn:aws:ecs:r:1:task/c/0123456789abcdef", "clusterArn": format!("arn:aws:ecs:r:1:cluster/{HOSTILE}"),
              "group": format!("service:{HOSTILE}"), "lastStatus": HOSTILE, "enableExecuteCommand": true,
              "stoppedReason": HOSTILE, "containers": [{ "name": HOSTILE, "lastStatus": HOSTILE, "runtimeId": "x-1" }] },
        ] }).to_string()),
        Some("StartSession") => (200, json!({ "SessionId": HOSTILE, "StreamUrl": format!("ws://127.0.0.1:1/{HOSTILE}"), "TokenValue": "t" }).to_string()),
        Some(_) => (200, json!({}).to_string()),
        None if asked.has("Action=DescribeInstances") => (200, format!(
            "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><reservationSet><item><instancesSet>{}{}</instancesSet></item></reservationSet></DescribeInstancesResponse>",
            instance("i-0123456789abcdef0"),
            instance("i-0123456789abcdef1"),
        )),
        None if asked.has("Action=GetCallerIdentity") => xml("GetCallerIdentity", &format!("<Arn>{HOSTILE_XML}</Arn><UserId>{HOSTILE_XML}</UserId><Account>1</Account>")),
        None if asked.has("Action=DescribeDBInstances") => xml("DescribeDBInstances", &format!(
            "<DBInstances><DBInstance><DBInstanceIdentifier>orders{HOSTILE_XML}</DBInstanceIdentifier><Engine>postgres</Engine>\
             <DBInstanceStatus>{HOSTILE_XML}</DBInstanceStatus><MasterUsername>{HOSTILE_XML}</MasterUsername><DBName>{HOSTILE_XML}</DBName>\
             <Endpoint><Address>{HOSTILE_XML}</Address><Port>5432</Port></Endpoint></DBInstance></DBInstances>"
        )),
        None if asked.has("Action=DescribeDBClusters") => xml("DescribeDBClusters", "<DBClusters/>"),
        None => (200, String::new()),
    }
}

fn instance(id: &str) -> String {
    format!(
        "<item><instanceId>{id}</instanceId><instanceState><code>16</code><name>{HOSTILE_XML}</name></instanceState>\
         <tagSet><item><key>Name</key><value>web{HOSTILE_XML}</value></item></tagSet></item>"
    )
}

#[test]
fn names_of_aws_are_shown_and_do_nothing() {
    let fake = FakeAws::start(account);
    for args in ASKING {
        let outcome = asking(args, &fake);
        harmless(&args.join(" "), &outcome);
        let verbose = asking(&[args, &["-vv"][..]].concat(), &fake);
        if !args.contains(&"--") {
            harmless(&args.join(" "), &verbose);
        }
        match *args {
            ["list" | "sessions" | "db" | "ecs", ..] if args.contains(&"--json") => {
                assert!(outcome.status.success(), "{args:?} {outcome:?}");
                let lines: Vec<Value> =
                    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                assert!(!lines.is_empty() && lines[0].to_string().contains("forged"), "{args:?} {outcome:?}");
            }
            ["list"] | ["sessions"] | ["ecs" | "db", "list"] => {
                assert_eq!(outcome.stdout.lines().count(), 2, "{args:?} {outcome:?}");
                assert!(outcome.stdout.contains("forged"), "{args:?} {outcome:?}");
            }
            ["resolve", ..] => assert!((outcome.stdout + &outcome.stderr).contains("forged"), "{args:?}"),
            _ => {}
        }
    }
}

#[test]
fn the_page_and_the_code_of_a_sign_on_do_nothing() {
    let home = Home::new(
        "[profile corp]\nsso_session=corp\nsso_account_id=1\nsso_role_name=R\n\
         [sso-session corp]\nsso_region=eu-west-1\nsso_start_url=https://corp.example/start\n",
    );
    let fake = FakeAws::start(|asked| match asked.line.as_str() {
        "POST /client/register" => (
            200,
            json!({ "clientId": HOSTILE, "clientSecret": "c", "clientSecretExpiresAt": 32_472_144_000_u64 })
                .to_string(),
        ),
        "POST /device_authorization" => (
            200,
            json!({ "deviceCode": "d", "userCode": HOSTILE, "interval": 1,
            "expiresIn": 600, "verificationUri": HOSTILE, "verificationUriComplete": HOSTILE })
            .to_string(),
        ),
        _ => (400, json!({ "error": HOSTILE, "error_description": HOSTILE, "message": HOSTILE }).to_string()),
    });
    let mut command = ssm(&["login", "--profile", "corp", "-vv"]);
    home.apply(&mut command);
    fake.apply(&mut command);
    // No page of this kind is opened, whatever there is to open it with.
    let outcome = Program::start(command.env("DISPLAY", ":0").env("PATH", "/nowhere")).wait();
    assert!(outcome.stderr.matches("owned").count() >= 2 && !outcome.status.success(), "{outcome:?}");
    harmless("login", &outcome);
}

/// Whoever writes a file for the user to look at is somebody else, too.
#[test]
fn files_from_elsewhere_are_shown_without_harm() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    for text in [
        format!("[defaults]\nprofil{HOSTILE} = 1"),
        format!("[alias.\"{}\"]\ntarget = 'i-1'", HOSTILE.escape_default()),
        format!(
            "[defaults]\nregion = \"{}\"",
            HOSTILE.escape_default().to_string().replace("\\u{", "\\u00").replace('}', "")
        ),
        json!({ "n": 0, "t": 0.0, "dir": HOSTILE, "kind": "text", "text": HOSTILE }).to_string(),
        format!("{{\"dir\":\"{HOSTILE}"),
    ] {
        std::fs::write(&file, text).unwrap();
        let path = file.to_str().unwrap();
        harmless("config", &Program::start(&mut ssm(&["--config", path, "config"])).wait());
        harmless("decode", &Program::start(&mut ssm(&["decode", path])).wait());
        harmless("decode", &Program::start(&mut ssm(&["decode", "--full", path])).wait());
    }
}

/// What the user types is not to be trusted either: scripts put names there.
#[test]
fn arguments_are_shown_without_harm() {
    for args in
        [&["shell", HOSTILE][..], &["forward", "x", "-L", HOSTILE], &["tunnels", "stop", HOSTILE], &[HOSTILE]]
    {
        let outcome = Program::start(&mut ssm(args)).wait();
        assert!(!outcome.status.success(), "{outcome:?}");
        harmless(SSM, &outcome);
    }
}
