//! What the counters count.

use std::time::Duration;

use ssm_channel::{Config, Event, Handshake, Role, Stats};
use ssm_proto::body::{EncryptionChallenge, HandshakeComplete, HandshakeResponse};
use ssm_proto::{Header, MessageId, MessageType, PayloadType, Token};

use crate::pair::{Pair, encrypted, shell};
use crate::solo::{Solo, frame};

const MS: Duration = Duration::from_millis(1);

#[test]
fn messages_and_bytes_are_counted_once_and_repetitions_apart() {
    let mut client = Solo::running(Config::client());
    for _ in 0..3 {
        client.send(PayloadType::Output, b"12345");
        client.messages();
    }
    client.wait(250 * MS);
    (0..3).for_each(|sequence| client.acknowledge(sequence));
    client.acknowledge(0);
    client.stream(2, PayloadType::Output, b"early").unwrap();
    client.stream(3, PayloadType::Output, b"early").unwrap();
    assert_eq!(client.channel.stats().parked, 2);
    client.stream(1, PayloadType::Output, b"late").unwrap();
    client.stream(1, PayloadType::Output, b"late").unwrap();
    client.stream(1, PayloadType::Output, b"late").unwrap();
    client.messages();
    let stats = client.channel.stats();
    let expected = Stats {
        messages_sent: 3,
        bytes_sent: 15,
        retransmissions: 3,
        messages_received: 4,
        bytes_received: 2 + 4 + 5 + 5,
        duplicates_received: 2,
        out_of_order_received: 2,
        // One for the prompt, one for each of the other five.
        acknowledgements_sent: 6,
        acknowledgements_received: 4,
        payload_len: 1024,
        window: stats.window,
        rtt: stats.rtt,
        ..Stats::default()
    };
    assert_eq!(stats, expected);
}

#[test]
fn what_is_in_flight_and_how_long_it_takes_is_as_of_now() {
    let mut client = Solo::running(Config::client());
    assert_eq!((client.channel.stats().rtt, client.channel.stats().window), (100 * MS, 64 * 1024));
    client.send(PayloadType::Output, &[0; 100]);
    client.messages();
    assert_eq!(client.channel.stats().in_flight, 100 + ssm_proto::HEADER_LEN);
    client.wait(20 * MS);
    client.acknowledge(0);
    assert_eq!((client.channel.stats().in_flight, client.channel.stats().rtt), (0, 90 * MS));
}

#[test]
fn what_a_client_has_no_use_for_is_counted() {
    let mut client = Solo::running(Config::client());
    let id = MessageId::default();
    let unknown = |client: &Solo| client.channel.stats().unknown_messages;
    let challenge = EncryptionChallenge { challenge: vec![0; 92] }.encode();
    let complete =
        HandshakeComplete { time_to_complete: Duration::ZERO, customer_message: String::new() }.encode();
    let request = br#"{"AgentVersion":"3.3.987.0","RequestedClientActions":[{"ActionType":"SessionType",
        "ActionParameters":{"SessionType":"Standard_Stream","Properties":null}}]}"#;
    client.stream(1, PayloadType::EncChallengeRequest, &challenge).unwrap();
    client.stream(2, PayloadType::HandshakeComplete, &complete).unwrap();
    client.stream(3, PayloadType::Unknown(77), b"?").unwrap();
    assert_eq!(unknown(&client), 3);
    client.stream(4, PayloadType::HandshakeRequest, request).unwrap();
    assert_eq!(unknown(&client), 3);
    client.stream(5, PayloadType::HandshakeRequest, request).unwrap();
    assert_eq!(unknown(&client), 4);
    for kind in [MessageType::AgentSessionState, MessageType::InputStreamData] {
        let header = Header::stream(kind, PayloadType::Output, 0, id, 1);
        client.channel.handle_binary(client.now, frame(header, b"x")).unwrap();
    }
    assert_eq!((unknown(&client), client.channel.stats().messages_received), (6, 6));
}

#[test]
fn what_an_agent_has_no_use_for_is_counted() {
    let mut agent = Solo::agent(Config::agent("i-0", shell(Handshake::Skipped)));
    let header =
        Header::stream(MessageType::OutputStreamData, PayloadType::Output, 0, MessageId::default(), 1);
    agent.channel.handle_binary(agent.now, frame(header, b"x")).unwrap();
    let response =
        HandshakeResponse { client_version: "1.2.764.0".into(), processed: Vec::new(), errors: Vec::new() };
    agent.stream(0, PayloadType::HandshakeResponse, &response.encode()).unwrap();
    let proof = EncryptionChallenge { challenge: vec![0; 92] }.encode();
    agent.stream(1, PayloadType::EncChallengeResponse, &proof).unwrap();
    assert_eq!(agent.channel.stats().unknown_messages, 3);
    assert!(matches!(agent.events()[..], [Event::Ready(_)]));
}

/// Each is answered once: a second answer could hold the key of somebody else.
#[test]
fn a_second_response_and_a_wrong_proof_change_nothing_while_an_agent_waits() {
    let mut pair = Pair::connected(Config::client(), Config::agent("i-0", encrypted()));
    let response = std::rc::Rc::new(std::cell::RefCell::new(None));
    let seen = std::rc::Rc::clone(&response);
    pair.rule = Some(Box::new(move |_, message| {
        if message.header.payload_type == Some(PayloadType::HandshakeResponse) {
            *seen.borrow_mut() = Some(message.payload.clone());
        }
        crate::pair::Fate::Pass
    }));
    pair.run_until(|pair| !pair.agent.keys.is_empty());
    let again = response.borrow().clone().expect("the client has answered");
    let proof = EncryptionChallenge { challenge: vec![0; 92] }.encode();
    let stray = |sequence, kind| {
        Header::stream(MessageType::InputStreamData, kind, sequence, MessageId::from_random([5; 16]), 1)
    };
    pair.stray(Role::Agent, stray(1, PayloadType::HandshakeResponse), &again);
    pair.stray(Role::Agent, stray(2, PayloadType::EncChallengeResponse), &proof);
    assert_eq!(pair.agent.channel.stats().unknown_messages, 2);
    assert_eq!((pair.agent.keys.len(), pair.agent.ready.len()), (1, 0));
    assert_eq!(pair.agent.closed, None);
}

#[test]
fn pauses_resumes_and_garbage_are_counted() {
    let mut client = Solo::running(Config::client());
    for _ in 0..2 {
        let header = Header::service(MessageType::PausePublication, MessageId::default(), 1);
        client.channel.handle_binary(client.now, frame(header, b"")).unwrap();
        client.channel.handle_binary(client.now, b"garbage"[..].into()).unwrap();
        client.channel.handle_disconnected(client.now);
        client.channel.handle_connected(client.now, Token::new("again".into()));
    }
    let stats = client.channel.stats();
    assert_eq!((stats.pauses, stats.resumes, stats.undecodable_frames), (2, 2, 2));
}

#[test]
fn what_is_refused_is_counted() {
    let mut client = Solo::running(Config { reorder_max: 10, ..Config::client() });
    client.stream(50, PayloadType::Output, b"too far ahead").unwrap();
    assert_eq!(client.channel.stats().refused, 1);
    for _ in 0..16_384 + 2 {
        client.stream(0, PayloadType::Output, b"$ ").unwrap();
    }
    assert_eq!(client.channel.stats().refused, 3);
}
