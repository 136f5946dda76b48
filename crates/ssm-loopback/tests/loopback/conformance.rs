//! Items of the protocol's checklist that describe the service and the agent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use ssm_channel::{CloseReason, SessionKind};
use ssm_loopback::{Config, Direction, Kms, KmsChallenge, Profile, Upgrade, Verdict};
use ssm_proto::{Flags, Header, Layout, PayloadType};
use tokio::net::{TcpListener, TcpStream};

use crate::api::{Api, Keys, unsigned_upgrade, upgrade};
use crate::client::Client;

const COMMAND: &str = "AWS-StartInteractiveCommand";
const ENDED: CloseReason = CloseReason::AgentClosed { exit_code: None, detail: None };

/// Headers of the stream messages of one direction.
fn headers(api: &Api, of: Direction) -> (Arc<Mutex<Vec<Header>>>, ssm_loopback::RuleGuard) {
    let headers = Arc::<Mutex<Vec<Header>>>::default();
    let note = Arc::clone(&headers);
    let guard = api.loopback.rule(move |direction, header| {
        if direction == of && header.message_type.is_stream() {
            note.lock().unwrap().push(*header);
        }
        Verdict::Deliver
    });
    (headers, guard)
}

fn sh() -> Config {
    Config { shell: Some("/bin/sh".into()), ..Config::default() }
}

/// As captured: 1,024 bytes at a time, and SYN on number 0 alone.
#[tokio::test]
async fn item_108_an_agent_as_slow_as_awss_sends_short_messages_and_one_syn() {
    let api = Api::start(Config { profile: Profile::Aws, ..sh() }).await;
    let (headers, _guard) = headers(&api, Direction::AgentToClient);
    let mut client = Client::start(&api, COMMAND, json!({"command": ["seq 1 3000"]})).await;
    assert_eq!(client.until_closed(&api).await, ENDED);
    let expected: String = (1..=3000).map(|n| format!("{n}\r\n")).collect();
    assert!(client.text() == expected, "{} bytes", client.text().len());
    let headers = headers.lock().unwrap();
    assert!(headers.len() >= expected.len() / 1024);
    for header in headers.iter() {
        assert!((1..=1024).contains(&header.payload_len), "{header:?}");
        assert_eq!(header.flags, if header.sequence == 0 { Flags::SYN } else { Flags::NONE });
    }
}

#[tokio::test]
async fn item_70_a_port_is_not_encrypted_though_the_account_has_a_key() {
    let kms = Kms { key_id: "key".into(), challenge: KmsChallenge::Offered, authority: None };
    let api = Api::start(Config { kms: Some(kms), ..sh() }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = json!({"portNumber": [listener.local_addr().unwrap().port().to_string()]});
    for document in ["AWS-StartPortForwardingSession", "AWS-StartSSHSession"] {
        let mut client = Client::start(&api, document, port.clone()).await;
        let ready = client.until_ready(&api).await;
        assert!(matches!(ready.kind, SessionKind::Port(_)) && !ready.encrypted, "{ready:?}");
    }
}

/// Only who has the keys of the account signs as the service wants it.
#[tokio::test]
async fn item_15_an_upgrade_signed_for_another_service_is_refused() {
    let api = Api::start(Config { upgrade: Upgrade::SignedOnly, ..Config::default() }).await;
    let url = api.stream_url().await;
    assert_eq!(upgrade(&api.signed_upgrade(&api.keys(), &url)).await, 101);
    let stranger = Keys { access: "AKIAIOSFODNN7EXAMPLE".into(), ..api.keys() };
    assert_eq!(upgrade(&api.signed_upgrade(&stranger, &url)).await, 403);
    assert_eq!(upgrade(&unsigned_upgrade(&url)).await, 403);
}

/// What the service says itself, in either form, is understood by the client at the other end.
#[tokio::test]
async fn item_104_sessions_end_as_they_should_with_either_header() {
    for service_layout in [Layout::Service, Layout::Standard] {
        let config = Config { service_layout, max_duration: Some(Duration::from_secs(2)), ..sh() };
        let api = Api::start(config).await;
        let mut client = Client::start(&api, COMMAND, json!({"command": ["sleep 1000"]})).await;
        let CloseReason::AgentClosed { detail: Some(detail), .. } = client.until_closed(&api).await else {
            panic!("{:?}", client.closed)
        };
        assert!(detail.contains("maximum duration"), "{detail}");
    }
}

/// The default is what the real service sends.
#[tokio::test]
async fn item_104_the_old_header_is_the_default() {
    assert_eq!(Config::default().service_layout, Layout::Service);
}

/// In basic mode the destination is dialled before anything is taken; what came before that comes again. Nothing of it is
/// acknowledged before (agent `port.go`, `ErrHandlerNotReady`).
#[tokio::test]
async fn item_106_input_before_the_destination_is_reached_is_taken_later_and_once() {
    let api = Api::start(Config::default()).await;
    let _late = api.loopback.fault("dial=1s").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = json!({"portNumber": [listener.local_addr().unwrap().port().to_string()]});
    let config = ssm_channel::Config { version: "1.0.0.0".into(), ..crate::client::config() };
    let mut client = Client::start_with(&api, "AWS-StartPortForwardingSession", port, config).await;
    client.until_ready(&api).await;
    for word in ["one ", "two ", "three"] {
        client.send(&api, PayloadType::Output, word.as_bytes()).await;
    }
    client.until_drained(&api).await;
    let (stream, _) = listener.accept().expect("it was reached before anything was acknowledged");
    stream.set_nonblocking(true).unwrap();
    let mut stream = TcpStream::from_std(stream).unwrap();
    let mut all = [0; 13];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut all).await.unwrap();
    assert_eq!(&all, b"one two three");
}

/// The agent waits for one response, and a second one would block it for ever (agent `datachannel.go`).
#[tokio::test]
async fn item_56_109_a_handshake_can_be_late_and_come_twice_and_is_answered_once() {
    for verdict in [Verdict::Duplicate, Verdict::Delay(Duration::from_millis(200))] {
        let api = Api::start(sh()).await;
        let mut first = true;
        let _guard = api.loopback.rule(move |_, header| {
            let is_it = header.payload_type == Some(PayloadType::HandshakeRequest);
            if is_it && std::mem::take(&mut first) { verdict } else { Verdict::Deliver }
        });
        let (answers, _noting) = headers(&api, Direction::ClientToAgent);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = json!({"portNumber": [listener.local_addr().unwrap().port().to_string()]});
        let mut client = Client::start(&api, "AWS-StartPortForwardingSession", port).await;
        client.until_ready(&api).await;
        client.until_drained(&api).await;
        let answers = answers.lock().unwrap();
        let is_answer = |header: &&Header| header.payload_type == Some(PayloadType::HandshakeResponse);
        let mut numbers: Vec<i64> = answers.iter().filter(is_answer).map(|header| header.sequence).collect();
        numbers.dedup();
        assert_eq!(numbers, [0], "{verdict:?}");
    }
}
