//! Items of the protocol's checklist that only the whole program can show.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use ssm_loopback::{Config, Document, Loopback};
use ssm_session::{ControlPlane, StartSession};

use common::{Program, echo, ssm};

/// What AWS adds to its answers must not matter, and neither must the order.
#[cfg(feature = "aws")]
#[test]
fn item_1_11_calls_are_signed_json_and_what_is_new_in_answers_does_not_matter() {
    use common::closed_port;
    use common::fake_aws::FakeAws;

    let url = format!("ws://127.0.0.1:{}/v1/data-channel/me-1", closed_port());
    let aws = FakeAws::start(move |asked| {
        let started = format!(
            r#"{{"New":{{"a":[1,null]}},"TokenValue":"t","Other":null,"StreamUrl":"{url}","SessionId":"me-1"}}"#
        );
        (200, if asked.has("StartSession") { started } else { r#"{"SessionId":"me-1","New":7}"#.into() })
    });
    let mut command = ssm(&["forward", "i-0123456789abcdef0", "-L", "0:db.internal:5432"]);
    aws.apply(&mut command);
    command.env("AWS_REGION", "eu-west-1").env("AWS_ACCESS_KEY_ID", "AKID").env("AWS_SECRET_ACCESS_KEY", "s");
    let outcome = Program::start(&mut command).wait();
    assert_ne!(outcome.status.code(), Some(0), "there is no gateway: {outcome:?}");

    let calls = aws.asked("POST /");
    let [start, end] = &calls[..] else { panic!("{calls:?}") };
    let body: serde_json::Value = serde_json::from_str(start.text.lines().last().unwrap()).unwrap();
    assert_eq!(body["Target"], "i-0123456789abcdef0");
    let parameters = body["Parameters"].as_object().unwrap();
    assert_eq!(parameters["host"], serde_json::json!(["db.internal"]));
    assert_eq!(parameters["portNumber"], serde_json::json!(["5432"]));
    for (name, value) in parameters {
        let list = value.as_array().unwrap_or_else(|| panic!("{name} is no list: {value}"));
        assert!(list.iter().all(serde_json::Value::is_string), "{name}: {value}");
    }
    for (call, operation) in [(start, "StartSession"), (end, "TerminateSession")] {
        let head = call.text.to_ascii_lowercase();
        assert!(head.contains("content-type: application/x-amz-json-1.1\r\n"), "{head}");
        assert!(call.has(&format!("AmazonSSM.{operation}")), "{head}");
        assert!(head.contains("/eu-west-1/ssm/aws4_request"), "{head}");
    }
    assert!(end.has(r#""SessionId":"me-1""#), "the answer was read: {end:?}");
}

#[test]
fn item_92_a_session_that_names_a_unix_socket_is_served_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.sock");
    let properties = serde_json::json!({
        "portNumber": echo().to_string(), "type": "LocalPortForwarding",
        "localConnectionType": "unix", "localUnixSocket": path,
    });
    let body = serde_json::json!({"sessionType": "Port", "properties": properties}).to_string();
    let document = Document::from_json("To-Socket", &body).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = Config { documents: vec![document], ..Config::default() };
    let loopback = runtime.block_on(Loopback::start(config)).unwrap();
    let request = StartSession::document(loopback.target(), "To-Socket");
    let endpoint = runtime.block_on(loopback.control().start(&request)).unwrap();
    let (session, request) = (endpoint.to_json(), r#"{"Target":"i-1","DocumentName":"To-Socket"}"#);
    let url = "http://127.0.0.1:1";
    let mut command = ssm(&["plugin", session.expose(), "us-east-1", "StartSession", "", request, url]);
    let mut program = Program::start(&mut command);
    let id = endpoint.session_id.as_str();
    let told = format!("Unix socket {} opened for sessionId {id}.\n", path.display());
    program.wait_for(|program| program.stdout().contains(&told).then_some(()));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
    program.signal(Signal::INT);
    program.wait();
    assert!(!path.exists());
    runtime.block_on(loopback.shutdown());
}
