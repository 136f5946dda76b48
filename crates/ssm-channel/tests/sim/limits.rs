//! How much is taken for sending, to the message.

use std::time::Duration;

use ssm_channel::{Config, Room};
use ssm_proto::body::HandshakeComplete;
use ssm_proto::{HEADER_LEN, PayloadType, Token};

use crate::solo::Solo;

const SECOND: Duration = Duration::from_secs(1);

/// A payload whose message has 1 KiB.
const KIB: [u8; 1024 - HEADER_LEN] = [7; 1024 - HEADER_LEN];

/// A client with a window of so many messages of 1 KiB, and as many for what somebody waits for.
fn windowed(messages: usize) -> Config {
    Config {
        pacing: None,
        payload_len: 1,
        payload_max: 1,
        window_min: messages * 1024,
        window_max: 2 * messages * 1024,
        window_reserve: messages * 1024,
        ..Config::client()
    }
}

/// Sends messages of 1 KiB as long as there is this room, and says how many.
fn fill(client: &mut Solo, room: Room) -> usize {
    let mut sent = 0;
    while client.channel.room() == Some(room) {
        client.send(PayloadType::Output, &KIB);
        assert_eq!(client.messages().len(), 1);
        sent += 1;
    }
    sent
}

#[test]
fn item_46_the_window_is_full_when_as_many_bytes_are_unacknowledged_as_it_has() {
    let mut client = Solo::running(windowed(50));
    assert_eq!(fill(&mut client, Room::Open), 50);
    assert!(!client.channel.can_send());
    assert_eq!(fill(&mut client, Room::Reserve), 50);
    assert_eq!(client.channel.room(), None);
    assert_eq!(client.channel.stats().in_flight, 100 * 1024);
}

#[test]
fn sixty_four_messages_are_kept_for_what_somebody_waits_for() {
    let mut client = Solo::running(Config { in_flight_max: 30, window_min: 1 << 20, ..windowed(1 << 12) });
    assert_eq!(fill(&mut client, Room::Open), 30);
    assert_eq!(fill(&mut client, Room::Reserve), 64);
    assert_eq!(client.channel.room(), None);
}

/// What the peer has to hold back behind a gap.
#[test]
fn two_windows_at_most_lie_between_the_oldest_message_and_the_next() {
    let mut client = Solo::running(windowed(50));
    let mut sent = 0;
    while client.channel.room().is_some() {
        client.send(PayloadType::Output, &KIB);
        client.messages();
        if sent > 0 {
            client.acknowledge(sent);
        }
        sent += 1;
    }
    assert_eq!(sent, 200);
    client.acknowledge(0);
    assert!(client.channel.can_send());
}

#[test]
fn the_window_has_room_for_four_messages_however_large() {
    let config = Config { payload_len: 100_000, payload_max: 100_000, ..windowed(1) };
    let mut client = Solo::running(Config { window_max: 1 << 20, ..config });
    let window = client.channel.stats().window;
    assert!((4 * (100_000 + HEADER_LEN)..=4 * (100_000 + 2 * HEADER_LEN)).contains(&window), "{window}");
    let mut sent = 0;
    while client.channel.can_send() {
        client.send(PayloadType::Output, &[7; 100_000]);
        client.messages();
        sent += 1;
    }
    assert!((4..=5).contains(&sent), "{sent}");
}

/// All of it has to be kept, as the agent may ask for a handshake after all.
#[test]
fn a_start_that_is_assumed_takes_64_kib() {
    let mut client = Solo::client(Config { pacing: None, window_min: 1 << 20, ..Config::client() });
    client.wait(3 * SECOND);
    let mut sent = 0;
    while client.channel.can_send() {
        client.send(PayloadType::Output, &[7; 1024]);
        client.messages();
        client.acknowledge(sent);
        sent += 1;
    }
    assert_eq!(sent, 64);
    client.stream(0, PayloadType::Output, b"$ ").unwrap();
    assert!(client.channel.can_send(), "there will be no handshake");
}

/// The agent has 15 s for it, of a connection that is there.
#[test]
fn an_assumed_start_holds_15_seconds_after_the_first_acknowledgement_while_connected() {
    let mut client = Solo::client(Config { pacing: None, window_min: 1 << 20, ..Config::client() });
    client.wait(3 * SECOND);
    for _ in 0..64 {
        client.send(PayloadType::Output, &[7; 1024]);
        client.messages();
    }
    (0..63).for_each(|sequence| client.acknowledge(sequence));
    client.wait(10 * SECOND);
    client.acknowledge(63);
    client.channel.handle_disconnected(client.now);
    client.wait(5 * SECOND);
    client.channel.handle_connected(client.now, Token::new("again".into()));
    assert!(!client.channel.can_send(), "nobody could ask");
    client.wait(15 * SECOND - Duration::from_millis(1));
    assert!(!client.channel.can_send());
    client.wait(Duration::from_millis(1));
    assert!(client.channel.can_send());
}

#[test]
fn only_a_disconnect_flag_is_waited_for() {
    let mut client = Solo::running(Config::client());
    for (kind, payload) in [
        (PayloadType::Output, [0, 0, 0, 1]),
        (PayloadType::Flag, [0, 0, 0, 3]),
        (PayloadType::Flag, [0, 0, 0, 0]),
        (PayloadType::Flag, [0, 0, 0, 1]),
    ] {
        assert!(client.channel.can_send());
        client.send(kind, &payload);
        client.messages();
    }
    assert!(!client.channel.can_send());
    (0..3).for_each(|sequence| client.acknowledge(sequence));
    assert!(!client.channel.can_send(), "its own acknowledgement counts");
    client.acknowledge(3);
    assert!(client.channel.can_send());
}

#[test]
fn nothing_is_taken_after_the_end_or_before_the_start() {
    let mut client = Solo::client(Config { assume_ready: None, ..Config::client() });
    assert_eq!((client.channel.room(), client.channel.ready()), (None, None));
    let complete = HandshakeComplete { time_to_complete: SECOND, customer_message: String::new() };
    client.stream(0, PayloadType::HandshakeComplete, &complete.encode()).unwrap();
    assert_eq!((client.channel.room(), client.channel.ready()), (None, None));
    client.stream(1, PayloadType::Output, b"$ ").unwrap();
    assert!(client.channel.can_send() && client.channel.ready().is_some());
    client.channel.terminate(client.now);
    assert!(client.channel.is_closed() && !client.channel.can_send());
}

/// Otherwise each upload would cost an allocation for every message.
#[test]
fn a_buffer_that_is_given_back_is_the_next_one() {
    let mut client = Solo::running(Config::client());
    let mut used = client.channel.buffer();
    used.put_slice(b"x");
    client.channel.send(client.now, PayloadType::Output, used).unwrap();
    let unused = client.channel.buffer();
    let at = unused.payload().as_ptr();
    client.channel.recycle(unused);
    assert_eq!(client.channel.buffer().payload().as_ptr(), at);
}
