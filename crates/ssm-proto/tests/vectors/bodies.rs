//! Bodies of captured frames.

use std::collections::BTreeMap;

use ssm_proto::body::{
    Acknowledge, ChannelClosed, ClientAction, ControlFlag, EncryptionChallenge, HandshakeComplete,
    HandshakeRequest, HandshakeResponse, KmsResult, OpenDataChannel, SessionState, TerminalSize,
};
use ssm_proto::{BodyError, Message, MessageBuf, MessageType, PayloadType};

use crate::captured::{Frame, Kind, frames};

#[test]
fn item_37_71_a_peers_bodies_are_written_again_to_the_same_bytes() {
    let mut seen = BTreeMap::new();
    for frame in frames().iter().filter(|frame| frame.kind == Kind::Binary && frame.is_a_peers()) {
        let message = frame.message();
        let Some((name, again)) = rewrite(&message) else { continue };
        assert_eq!(again, message.payload, "{name}, {} frame {}", frame.file, frame.n);
        *seen.entry(name).or_insert(0) += 1;
    }
    let expected = [
        ("acknowledge", 100),
        ("challenge", 2),
        ("flag", 7),
        ("handshake complete", 7),
        ("handshake request", 7),
        ("handshake response", 7),
        ("session state", 14),
        ("size", 6),
    ];
    assert_eq!(seen, BTreeMap::from(expected));
}

/// The body of `message` decoded and encoded, or `None` when its payload is opaque.
fn rewrite(message: &Message) -> Option<(&'static str, Vec<u8>)> {
    let payload = &message.payload[..];
    Some(match (message.header.message_type, message.header.payload_type?) {
        (MessageType::Acknowledge, _) => {
            let mut out = MessageBuf::with_capacity(Acknowledge::MAX_LEN);
            Acknowledge::decode(payload).unwrap().encode(&mut out);
            ("acknowledge", out.payload().to_vec())
        }
        (MessageType::AgentSessionState, _) => {
            ("session state", SessionState::decode(payload).unwrap().encode())
        }
        (_, PayloadType::Size) => ("size", TerminalSize::decode(payload).unwrap().encode()),
        (_, PayloadType::Flag) => ("flag", ControlFlag::decode(payload).encode().to_vec()),
        (_, PayloadType::HandshakeRequest) => {
            ("handshake request", HandshakeRequest::decode(payload).unwrap().encode())
        }
        (_, PayloadType::HandshakeResponse) => {
            ("handshake response", HandshakeResponse::decode(payload).unwrap().encode())
        }
        (_, PayloadType::HandshakeComplete) => {
            ("handshake complete", HandshakeComplete::decode(payload).unwrap().encode())
        }
        (_, PayloadType::EncChallengeRequest | PayloadType::EncChallengeResponse) => {
            ("challenge", EncryptionChallenge::decode(payload).unwrap().encode())
        }
        (_, PayloadType::Output | PayloadType::StdErr) => return None,
        (kind, payload_type) => panic!("no body for {kind} with {payload_type:?}"),
    })
}

#[test]
fn item_13_opens_of_clients_and_agents_are_written_again_to_the_same_text() {
    let mut opens = BTreeMap::new();
    for frame in frames().iter().filter(|frame| frame.note.as_deref() == Some("open")) {
        let bytes = frame.bytes();
        let text = str::from_utf8(&bytes).unwrap();
        let open = OpenDataChannel::decode(text).unwrap();
        assert_eq!(open.encode().expose(), text, "{} frame {}", frame.file, frame.n);
        assert_eq!(open.client_version.is_some(), frame.dir == "client->service");
        assert_eq!(open.client_instance_id.is_some(), frame.dir == "agent->service");
        *opens.entry(frame.dir.clone()).or_insert(0) += 1;
    }
    assert_eq!(opens, BTreeMap::from([("agent->service".into(), 10), ("client->service".into(), 10)]));
}

/// The agent asks for its token over HTTP; the bodies of those requests are in the capture too.
#[test]
fn a_request_for_a_token_does_not_pass_for_an_open() {
    for frame in frames().iter().filter(|frame| frame.note.as_deref() == Some("CreateDataChannel")) {
        let bytes = frame.bytes();
        let refused = OpenDataChannel::decode(str::from_utf8(&bytes).unwrap()).err();
        assert_eq!(refused, Some(BodyError::Missing("TokenValue")));
    }
}

#[test]
fn the_result_of_encryption_is_written_again_to_the_same_text() {
    let (requested, processed) = handshake_of("shell-kms.jsonl");
    assert!(matches!(
        &requested.actions[..],
        [
            ClientAction::SessionType { properties: None, .. },
            ClientAction::KmsEncryption { challenge: Some(_), .. }
        ]
    ));
    let raw = processed.processed[1].action_result.as_ref().unwrap();
    let result = KmsResult::from_raw(raw).unwrap();
    assert!(!result.ciphertext_key.is_empty());
    assert_eq!(result.to_raw().get(), raw.get());
}

#[test]
fn properties_of_a_port_session_are_kept_as_written() {
    let (requested, processed) = handshake_of("port-mux.jsonl");
    let [ClientAction::SessionType { session_type, properties: Some(properties) }] = &requested.actions[..]
    else {
        panic!("{:?}", requested.actions)
    };
    assert_eq!(session_type, "Port");
    assert!(properties.get().contains(r#""type":"LocalPortForwarding""#), "{properties}");
    assert!(processed.errors.is_empty());
}

#[test]
fn the_service_stand_ins_bodies_are_readable() {
    let mut closed = 0;
    for frame in frames().iter().filter(|frame| frame.kind == Kind::Binary && !frame.is_a_peers()) {
        let message = frame.message();
        if message.header.message_type == MessageType::ChannelClosed {
            let body = ChannelClosed::decode(&message.payload).unwrap();
            assert_eq!((body.message_type.as_str(), body.schema_version), ("channel_closed", 1));
            assert!(!body.session_id.is_empty() && !body.message_id.is_empty());
            closed += 1;
        }
    }
    assert!(closed > 0);
}

fn handshake_of(file: &str) -> (HandshakeRequest, HandshakeResponse) {
    let frames = frames();
    let find = |kind| {
        let is_it = |frame: &&Frame| {
            frame.file == file
                && frame.kind == Kind::Binary
                && frame.message().header.payload_type == Some(kind)
        };
        frames.iter().find(is_it).unwrap().message().payload
    };
    (
        HandshakeRequest::decode(&find(PayloadType::HandshakeRequest)).unwrap(),
        HandshakeResponse::decode(&find(PayloadType::HandshakeResponse)).unwrap(),
    )
}
