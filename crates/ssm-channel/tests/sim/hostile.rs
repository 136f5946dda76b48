//! Peers that want to do harm.

use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use ssm_channel::{ChannelError, CloseReason, Config, Event, Handshake, Input};
use ssm_proto::{Header, Layout, MessageId, MessageType, PayloadType};

use crate::pair::shell;
use crate::solo::{Solo, frame};

#[test]
fn item_42_acknowledgements_of_what_was_never_sent_are_ignored() {
    let mut client = Solo::running(Config::client());
    client.send(PayloadType::Output, b"x");
    for sequence in [0, 1, -1, i64::MIN, i64::MAX] {
        client.acknowledge(sequence);
        assert!(!client.channel.is_drained(), "{sequence}: it has not left yet");
    }
    client.messages();
    for sequence in [1, -1, i64::MIN, i64::MAX] {
        client.acknowledge(sequence);
        assert!(!client.channel.is_drained(), "{sequence}");
    }
    client.acknowledge(0);
    assert!(client.channel.is_drained());
}

#[test]
fn acknowledgements_that_cannot_be_read_are_counted() {
    let mut client = Solo::running(Config::client());
    for body in [&b""[..], b"{", b"[]", b"{}", br#"{"AcknowledgedMessageSequenceNumber":1e99}"#] {
        let header = Header::control(MessageType::Acknowledge, MessageId::default(), 1);
        client.channel.handle_binary(client.now, frame(header, body)).unwrap();
    }
    assert_eq!(client.channel.stats().undecodable_frames, 5);
}

#[test]
fn giant_gaps_and_negative_numbers_take_no_memory() {
    let mut client = Solo::running(Config::client());
    for sequence in [i64::MAX, i64::MAX - 1, 1 << 40, 8_194] {
        client.stream(sequence, PayloadType::Output, &[0; 1000]).unwrap();
    }
    client.stream(-1, PayloadType::Output, b"x").unwrap();
    client.stream(i64::MIN, PayloadType::Output, b"x").unwrap();
    assert!(client.messages().is_empty());
    let stats = client.channel.stats();
    assert_eq!((stats.parked, stats.refused, stats.undecodable_frames), (0, 4, 2));
}

#[test]
fn item_41_a_reorder_buffer_is_bounded_by_messages_and_by_bytes() {
    let mut client = Solo::running(Config::client());
    for sequence in 2..20_000 {
        client.stream(sequence, PayloadType::Output, &[0; 4096]).unwrap();
        client.messages();
    }
    assert_eq!(client.channel.stats().parked, 8 * 1024 * 1024 / 4096);
}

#[test]
fn a_flood_of_duplicates_is_answered_within_bounds() {
    let mut client = Solo::running(Config::client());
    for _ in 0..100_000 {
        client.stream(0, PayloadType::Output, b"$ ").unwrap();
    }
    assert_eq!(client.messages().len(), 16_384, "while the socket was blocked");
    client.stream(1, PayloadType::Output, b"x").unwrap();
    assert_eq!(client.acknowledged(), [1]);
}

/// What cannot be acknowledged must not be taken.
#[test]
fn item_40_a_message_beyond_the_waiting_acknowledgements_comes_again() {
    let mut client = Solo::running(Config::client());
    for _ in 0..16_384 {
        client.stream(0, PayloadType::Output, b"$ ").unwrap();
    }
    client.stream(1, PayloadType::Output, b"x").unwrap();
    assert!(client.events().is_empty());
    client.messages();
    client.stream(1, PayloadType::Output, b"x").unwrap();
    assert!(matches!(client.events()[..], [Event::Payload { .. }]));
}

#[test]
fn sixteen_frames_of_garbage_in_a_row_are_too_many() {
    let mut client = Solo::running(Config::client());
    let garbage = Bytes::from_static(b"HTTP/1.1 400 Bad Request");
    for _ in 0..15 {
        client.channel.handle_binary(client.now, garbage.clone()).unwrap();
    }
    client.stream(1, PayloadType::Output, b"fine").unwrap();
    client.events();
    for _ in 0..15 {
        client.channel.handle_binary(client.now, garbage.clone()).unwrap();
    }
    let error = client.channel.handle_binary(client.now, garbage).unwrap_err();
    assert!(matches!(error, ChannelError::Garbage(_)));
    let events = client.events();
    assert!(matches!(events[..], [Event::Closed(CloseReason::PeerMisbehaved(_))]));
}

#[test]
fn an_unusable_handshake_is_an_error_and_no_panic() {
    let deep = "[".repeat(100_000);
    let actions = r#"{"ActionType":"Dance"},"#.repeat(40_000);
    for body in [
        "",
        "null",
        "7",
        r#"{"RequestedClientActions":7}"#,
        &deep,
        &format!(r#"{{"RequestedClientActions":[{}]}}"#, actions.trim_end_matches(',')),
    ] {
        let mut client = Solo::client(Config::client());
        let error = client.stream(0, PayloadType::HandshakeRequest, body.as_bytes()).unwrap_err();
        assert!(matches!(error, ChannelError::Handshake(_)), "{error}");
        assert!(client.channel.is_closed());
        assert_eq!(client.channel.poll_timeout(), None);
    }
}

#[test]
fn a_flood_of_pauses_and_starts_costs_nothing() {
    let mut client = Solo::running(Config::client());
    for number in 0..10_000 {
        let kind =
            if number % 2 == 0 { MessageType::PausePublication } else { MessageType::StartPublication };
        client
            .channel
            .handle_binary(client.now, frame(Header::service(kind, MessageId::default(), 1), b""))
            .unwrap();
    }
    assert!(client.events().is_empty() && client.messages().is_empty());
}

/// Each of these losses is a first one, as the peer was heard.
#[test]
fn a_peer_that_talks_and_cuts_is_not_dialled_all_the_time() {
    let mut client = Solo::running(Config::client());
    let until = client.now + Duration::from_secs(60);
    let (mut dialled, mut at_once) = (0, 0);
    while client.now < until {
        let lost = client.now;
        client.channel.handle_disconnected(client.now);
        while !client.events().iter().any(|event| matches!(event, Event::Redial { attempt: 0 })) {
            client.wait(Duration::from_millis(1));
        }
        at_once += usize::from(client.now - lost <= Duration::from_millis(1));
        client.channel.handle_connected(client.now, ssm_proto::Token::new("t".into()));
        client.stream(0, PayloadType::Output, b"$ ").unwrap();
        client.messages();
        dialled += 1;
    }
    assert!((64..1_500).contains(&dialled), "{dialled} in a minute");
    assert!((64..400).contains(&at_once), "{at_once} of them at once");
}

/// Any frame, at any time, to either side, with deadlines and connections in between.
#[test]
fn no_sequence_of_frames_panics() {
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut solo = if seed % 2 == 0 {
            Solo::client(Config::client())
        } else {
            Solo::agent(Config::agent("i-0", shell(Handshake::Required)))
        };
        for _ in 0..200 {
            let wire = random_frame(&mut rng);
            if solo.channel.handle_binary(solo.now, wire).is_err() {
                assert!(solo.channel.is_closed());
            }
            match rng.next_u32() % 8 {
                0 => drop(solo.wait(Duration::from_millis(u64::from(rng.next_u32() % 5_000)))),
                1 => solo.channel.handle_disconnected(solo.now),
                2 => solo.channel.handle_connected(solo.now, ssm_proto::Token::new("t".into())),
                3 => solo.channel.set_input(if rng.next_u32() % 2 == 0 {
                    Input::Refused
                } else {
                    Input::Accepted
                }),
                4 if solo.channel.can_send() => solo.send(PayloadType::Output, b"data"),
                _ => {}
            }
            while solo.channel.poll_transmit(solo.now).is_some() {}
            solo.events();
        }
    }
}

fn random_frame(rng: &mut ChaCha8Rng) -> Bytes {
    let types = [
        MessageType::InputStreamData,
        MessageType::OutputStreamData,
        MessageType::OutputStreamData,
        MessageType::InputStreamData,
        MessageType::Acknowledge,
        MessageType::PausePublication,
        MessageType::StartPublication,
        MessageType::AgentSessionState,
    ];
    let message_type = types[rng.next_u32() as usize % types.len()];
    let sequence = match rng.next_u32() % 8 {
        0 => rng.next_u64() as i64,
        _ => i64::from(rng.next_u32() % 6),
    };
    let bodies: [&[u8]; 8] = [
        b"text",
        b"",
        br#"{"AgentVersion":"3","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Standard_Stream"}}]}"#,
        br#"{"HandshakeTimeToComplete":1,"CustomerMessage":""}"#,
        br#"{"ClientVersion":"1.2.764.0","ProcessedClientActions":[]}"#,
        br#"{"AcknowledgedMessageSequenceNumber":0}"#,
        br#"{"AcknowledgedMessageSequenceNumber":9223372036854775807}"#,
        br#"{"AcknowledgedMessageSequenceNumber":-9223372036854775808}"#,
    ];
    let body = bodies[rng.next_u32() as usize % bodies.len()];
    let kind = PayloadType::from(rng.next_u32() % 14);
    let id = MessageId::from_random([sequence as u8; 16]);
    let mut header = Header::stream(message_type, kind, sequence, id, 1);
    if rng.next_u32().is_multiple_of(8) {
        header.layout = Layout::Service;
        header.payload_type = None;
    }
    frame(header, body)
}
