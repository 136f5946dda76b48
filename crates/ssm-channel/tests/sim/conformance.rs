//! Items of the protocol's checklist that are no story of their own.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use ssm_channel::{
    Channel, CloseReason, Config, DATA_KEY_LEN, Event, HandshakeError, KeyRequest, PortMode, Role, SendError,
    SessionKind, Transmit,
};
use ssm_proto::body::{Acknowledge, ActionStatus, HandshakeResponse, OpenDataChannel};
use ssm_proto::{
    Header, Layout, Message, MessageBuf, MessageId, MessageType, PayloadType, Strictness, Token,
};

use crate::pair::Pair;
use crate::solo::{Solo, acknowledged, frame, numbers};

const MS: Duration = Duration::from_millis(1);

/// Everything the channel puts on the wire now.
fn transmits(channel: &mut Channel, now: std::time::Instant) -> Vec<Transmit> {
    std::iter::from_fn(|| channel.poll_transmit(now)).collect()
}

fn handed(solo: &mut Solo, header: Header, body: &[u8]) -> Vec<Message> {
    solo.channel.handle_binary(solo.now, frame(header, body)).expect("it is no error");
    solo.messages()
}

#[test]
fn item_14_22_the_token_opens_a_connection_in_text_and_all_else_is_binary() {
    let mut client = Solo::running(Config::client());
    client.send(PayloadType::Output, b"x");
    let mut requests = BTreeSet::new();
    for token in ["one", "two", "three"] {
        client.channel.handle_disconnected(client.now);
        assert!(transmits(&mut client.channel, client.now).is_empty(), "nothing without a connection");
        client.channel.handle_connected(client.now, Token::new(token.into()));
        client.stream(0, PayloadType::Output, b"$ ").unwrap();
        let sent = transmits(&mut client.channel, client.now);
        let [Transmit::Text(open), rest @ ..] = &sent[..] else { panic!("{sent:?}") };
        let open = OpenDataChannel::decode(open.expose()).unwrap();
        assert_eq!(open.token.expose(), token);
        assert!(requests.insert(open.request_id), "a request id comes twice");
        assert_eq!(rest.len(), 2, "an acknowledgement and a repetition: {rest:?}");
        for transmit in rest {
            let Transmit::Binary(wire) = transmit else { panic!("{transmit:?}") };
            Message::decode(wire.clone(), Strictness::Strict).expect("one message, to its last byte");
        }
    }
}

/// The plugin takes what is there for the payload (`messageparser.go` `DeserializeClientMessage`).
#[test]
fn item_31_the_declared_length_does_not_cut_the_payload() {
    for declared in [0, 3, 5, u32::MAX] {
        let mut client = Solo::running(Config::client());
        let mut wire = client.stream_frame(1, PayloadType::Output, b"text").to_vec();
        wire[116..120].copy_from_slice(&declared.to_be_bytes());
        client.channel.handle_binary(client.now, wire.into()).unwrap();
        assert_eq!(client.acknowledged(), [1], "{declared}");
        assert!(matches!(&client.events()[..], [Event::Payload { payload, .. }] if payload == "text"));
    }
}

#[test]
fn item_32_36_messages_outside_of_the_stream_are_neither_numbered_nor_acknowledged() {
    let mut client = Solo::running(Config::client());
    let mut unknown = [b' '; 32];
    unknown[..9].copy_from_slice(b"telepathy");
    for message_type in [
        MessageType::Unknown(unknown),
        MessageType::AgentSessionState,
        MessageType::InteractiveShell,
        MessageType::PausePublication,
        MessageType::StartPublication,
        MessageType::InputStreamData,
    ] {
        for layout in [Layout::Standard, Layout::Service] {
            let mut header = Header::service(message_type, MessageId::from_random([8; 16]), 1);
            if layout == Layout::Standard {
                header = Header { layout, payload_type: Some(PayloadType::Unknown(0)), ..header };
            }
            // The number that is due, so that it would be taken for it.
            header.sequence = 1;
            assert!(handed(&mut client, header, b"{}").is_empty(), "{message_type}");
        }
    }
    assert!(client.events().is_empty());
    client.stream(1, PayloadType::Output, b"x").unwrap();
    assert_eq!(client.acknowledged(), [1]);
    let closed = Header::service(MessageType::ChannelClosed, MessageId::from_random([9; 16]), 1);
    assert!(handed(&mut client, closed, b"{}").is_empty());
    assert!(matches!(client.events()[..], [Event::Payload { .. }, Event::Closed(_)]));
}

#[test]
fn item_33_an_empty_payload_is_refused_and_takes_no_number() {
    for kind in [PayloadType::Output, PayloadType::Flag, PayloadType::Size] {
        let mut client = Solo::running(Config::client());
        let refused = client.channel.send(client.now, kind, MessageBuf::with_capacity(8));
        assert!(matches!(refused, Err(SendError::Empty)));
        assert!(client.messages().is_empty());
        client.send(PayloadType::Output, b"x");
        assert_eq!(client.numbers(), [0]);
    }
}

#[test]
fn item_41_the_reorder_buffer_holds_thousands_and_no_more_than_a_peer_sends() {
    let max = Config::client().reorder_max;
    assert!((1_000..=10_000).contains(&max), "{max}");
    let mut client = Solo::running(Config::client());
    let last = max as i64 + 1;
    for sequence in 2..=last + 1 {
        client.stream(sequence, PayloadType::Output, b"x").unwrap();
    }
    assert_eq!(client.acknowledged(), (2..=last).collect::<Vec<i64>>());
    client.stream(1, PayloadType::Output, b"x").unwrap();
    assert_eq!(client.events().len(), max + 1, "all that was acknowledged is delivered");
}

/// As both of AWS's programs (`ProcessAcknowledgedMessage`).
#[test]
fn item_42_the_number_alone_says_what_is_acknowledged() {
    let mut client = Solo::running(Config::client());
    for sequence in 0..3 {
        client.send(PayloadType::Output, b"x");
        client.messages();
        let message_type = MessageType::OutputStreamData;
        let mut buf = MessageBuf::with_capacity(Acknowledge::MAX_LEN);
        Acknowledge { message_type, message_id: MessageId::from_random([7; 16]), sequence }.encode(&mut buf);
        let header =
            Header { sequence: 99, ..Header::control(MessageType::Acknowledge, MessageId::default(), 1) };
        client.channel.handle_binary(client.now, buf.finish(header)).unwrap();
        assert!(client.channel.is_drained(), "{sequence}");
    }
}

/// Karn's rule: the acknowledgement may be for either sending.
#[test]
fn item_45_a_repeated_message_is_no_round_trip_and_waits_from_its_last_sending() {
    let mut client = Solo::running(Config::client());
    client.send(PayloadType::Output, b"x");
    client.messages();
    assert_eq!(numbers(&client.wait(200 * MS)), [0]);
    assert!(client.wait(399 * MS).is_empty(), "400 ms from the repetition, not from the first sending");
    assert_eq!(numbers(&client.wait(MS)), [0]);
    client.now += MS;
    client.acknowledge(0);
    assert_eq!(client.channel.stats().rtt, 100 * MS, "nothing is known yet");
    client.send(PayloadType::Output, b"x");
    client.messages();
    client.now += 20 * MS;
    client.acknowledge(1);
    assert_eq!(client.channel.stats().rtt, 90 * MS);
}

#[test]
fn item_47_patience_with_a_message_can_be_set() {
    for seconds in [1, 30] {
        let give_up = Duration::from_secs(seconds);
        let mut client = Solo::running(Config { give_up, unanswered: Duration::MAX, ..Config::client() });
        client.send(PayloadType::Output, b"x");
        client.messages();
        client.wait(give_up - MS);
        assert!(client.events().is_empty());
        client.wait(MS);
        let events = client.events();
        let undeliverable = CloseReason::Undeliverable { sequence: 0 };
        assert!(matches!(&events[..], [Event::Closed(reason)] if *reason == undeliverable), "{events:?}");
    }
}

#[test]
fn item_55_an_action_nobody_knows_is_unsupported_and_the_end_names_it() {
    let mut client = Solo::client(Config::client());
    let request = br#"{"AgentVersion":"3.3.987.0","RequestedClientActions":[
        {"ActionType":"SessionType","ActionParameters":{"SessionType":"Standard_Stream","Properties":null}},
        {"ActionType":"Dance","ActionParameters":{"Steps":3}}]}"#;
    client.stream(0, PayloadType::HandshakeRequest, request).unwrap();
    let sent = client.messages();
    assert_eq!((acknowledged(&sent), numbers(&sent)), (vec![0], vec![0]));
    let response = HandshakeResponse::decode(&sent[1].payload).unwrap();
    let of_dance = &response.processed[1];
    assert_eq!((&*of_dance.action_type, of_dance.action_status), ("Dance", ActionStatus::Unsupported));
    assert!(String::from_utf8_lossy(&sent[1].payload).contains(r#""ActionStatus":3,"ActionResult":null"#));
    // The agent cancels, and the service tells both ends.
    let closed = Header::service(MessageType::ChannelClosed, MessageId::default(), 1);
    assert!(handed(&mut client, closed, b"{}").is_empty());
    let events = client.events();
    let unsupported = CloseReason::HandshakeFailed(HandshakeError::UnsupportedAction("Dance".into()));
    assert!(matches!(&events[..], [Event::Closed(reason)] if *reason == unsupported), "{events:?}");
    assert_eq!(client.channel.poll_timeout(), None);
}

/// Agents keep an idle tunnel of a client up to 1.2.331.0 open for a minute only (agent `port.go`).
#[test]
fn item_60_the_clients_version_has_four_numbers_above_what_needs_keep_alives() {
    let version = Config::client().version;
    let numbers: Vec<u32> = version.split('.').map(|part| part.parse().expect("a number")).collect();
    assert!(numbers.len() == 4 && numbers > vec![1, 2, 331, 0], "{version}");
    let mut client = Channel::new(Role::Client, Config::client().into(), [3; 32], crate::origin(), MS);
    client.handle_connected(crate::origin(), Token::new("t".into()));
    let Some(Transmit::Text(open)) = client.poll_transmit(crate::origin()) else { panic!("it opens") };
    assert_eq!(OpenDataChannel::decode(open.expose()).unwrap().client_version, Some(version.clone()));
    let pair = Pair::port().started();
    assert_eq!(pair.agent.ready[0].peer_version, version, "both frames name one version");
    assert_eq!(pair.agent.ready[0].kind, SessionKind::Port(PortMode::Mux { keep_alive: false }));
}

/// Plugin `kmsservice.go`; agent `blockcipher.go`.
#[test]
fn item_64_a_key_of_64_bytes_is_asked_for_with_these_names() {
    assert_eq!(DATA_KEY_LEN, 64);
    let mut request = KeyRequest { key_id: "key".into(), challenge: None, ciphertext: Vec::new() };
    let expected = [("aws:ssm:SessionId", "me-1".to_owned()), ("aws:ssm:TargetId", "ecs:a_b_c".to_owned())];
    let sorted = |request: &KeyRequest| {
        let mut context = request.context("me-1", "ecs:a_b_c");
        context.sort();
        context
    };
    assert_eq!(sorted(&request), expected);
    request.challenge = Some("abc".into());
    let with_challenge = [&[("aws:ssm:RandomChallenge", "abc".to_owned())], &expected[..]].concat();
    assert_eq!(sorted(&request), with_challenge);
}

/// AWS's plugin makes a carriage return of it, also in port sessions.
#[test]
fn item_79_a_newline_alone_goes_out_as_it_is() {
    let mut pair = Pair::port().started();
    for payload in [&b"\n"[..], b"\r", b"\r\n", b"\n\n"] {
        pair.output(Role::Client, payload);
        pair.settle();
        let sent = pair.client.sent.iter().rev();
        let mut data = sent.filter(|(_, message)| message.header.payload_type == Some(PayloadType::Output));
        assert_eq!(data.next().unwrap().1.payload, payload);
    }
}

#[test]
fn item_80_payloads_of_any_length_are_taken() {
    for len in [1, 1024, 1025, 1027, 4096, 65_535, 65_536, 1024 * 1024] {
        let mut client = Solo::running(Config::client());
        let payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        // What comes too early takes another way.
        client.stream(2, PayloadType::Output, &payload).unwrap();
        client.stream(1, PayloadType::Output, &payload).unwrap();
        assert_eq!(client.acknowledged(), [2, 1]);
        let events = client.events();
        assert_eq!(events.len(), 2);
        for event in events {
            assert!(matches!(event, Event::Payload { payload: found, .. } if found == payload), "{len}");
        }
    }
}

#[test]
fn item_86_flags_go_out_as_four_bytes_big_endian() {
    let mut pair = Pair::port().started();
    let now = pair.now;
    pair.client.channel.terminate(now);
    pair.drive(Role::Client);
    let sent = pair.client.sent.iter().map(|(_, message)| message);
    let flags: Vec<Bytes> = sent
        .filter(|message| message.header.payload_type == Some(PayloadType::Flag))
        .map(|message| message.payload.clone())
        .collect();
    assert_eq!(flags, [Bytes::from_static(&[0, 0, 0, 0]), Bytes::from_static(&[0, 0, 0, 2])]);
}

/// Plugin `config.go` `TerminateSessionFlagSupportedAfterThisAgentVersion`: older agents are ended by API, which is for who
/// reads the reason.
#[test]
fn item_89_agents_that_know_no_flag_get_none() {
    for (agent, flags) in [("2.3.722.0", 0), ("2.3.722.1", 1), ("3.3.987.0", 1)] {
        let mut client = Solo::client(Config { assume_ready: None, ..Config::client() });
        let request = format!(
            r#"{{"AgentVersion":"{agent}","RequestedClientActions":[{{"ActionType":"SessionType","ActionParameters":
            {{"SessionType":"Port","Properties":{{"portNumber":"80","type":"LocalPortForwarding"}}}}}}]}}"#
        );
        client.stream(0, PayloadType::HandshakeRequest, request.as_bytes()).unwrap();
        let complete = br#"{"HandshakeTimeToComplete":1,"CustomerMessage":""}"#;
        client.stream(1, PayloadType::HandshakeComplete, complete).unwrap();
        client.messages();
        client.acknowledge(1);
        client.events();
        client.channel.terminate(client.now);
        assert_eq!(client.numbers().len(), flags, "{agent}");
        let closed = matches!(client.events()[..], [Event::Closed(CloseReason::Terminated)]);
        assert_eq!(closed, flags == 0, "{agent}");
    }
}
