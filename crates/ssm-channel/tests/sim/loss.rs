//! Lost, late, doubled and damaged messages.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ssm_channel::{Config, Event, Handshake, Input, Pacing, Role, Room, SendError};
use ssm_proto::{Flags, Message, MessageBuf, MessageType, PayloadType};

use crate::pair::{Fate, Pair, shell};
use crate::solo::{Solo, acknowledged, numbers};

const MS: Duration = Duration::from_millis(1);

fn is_ack(message: &Message) -> bool {
    message.header.message_type == MessageType::Acknowledge
}

/// AWS's plugin stays silent, so a lost acknowledgement is resent until it gives up.
#[test]
fn item_39_lost_ack_is_reacknowledged() {
    let mut pair = Pair::shell().started();
    let mut lost = 0;
    pair.rule = Some(Box::new(move |to, message| {
        if to == Role::Agent && is_ack(message) && lost < 3 {
            lost += 1;
            return Fate::Lost;
        }
        Fate::Pass
    }));
    pair.output(Role::Agent, b"once");
    pair.settle();
    assert_eq!(pair.client.inbound.delivered, 1);
    assert_eq!(pair.client.channel.stats().duplicates_received, 3);
}

#[test]
fn item_43_44_a_message_is_repeated_byte_for_byte_with_growing_pauses() {
    let mut client = Solo::running(Config::client());
    client.send(PayloadType::Output, b"x");
    let first = client.messages().remove(0);
    let start = client.now;
    let mut at = Vec::new();
    for _ in 0..4_500 {
        for message in client.wait(MS) {
            assert_eq!(message, first);
            at.push((client.now - start).as_millis());
        }
    }
    assert_eq!(at, [200, 600, 1400, 2400, 3400, 4400]);
}

#[test]
fn three_later_acknowledgements_repeat_a_message_at_once() {
    let mut client = Solo::running(Config::client());
    for _ in 0..5 {
        client.send(PayloadType::Output, b"x");
        client.messages();
    }
    client.acknowledge(1);
    client.acknowledge(2);
    assert!(client.numbers().is_empty());
    client.acknowledge(3);
    assert_eq!(client.numbers(), [0]);
    client.acknowledge(4);
    assert!(client.numbers().is_empty(), "once is enough");
}

/// Karn's rule alone would never measure a path that is slower than the first timeout.
#[test]
fn a_slow_path_is_measured_and_then_left_alone() {
    let mut pair = Pair::shell().started();
    pair.link.conditions.delay = 300 * MS;
    for round in 0..20 {
        pair.output(Role::Client, b"k");
        pair.settle();
        pair.run_for(Duration::from_secs(1));
        if round == 4 {
            pair.client.sent.clear();
        }
    }
    let typed = pair.client.sent.iter().filter(|(_, message)| !is_ack(message)).count();
    assert_eq!(typed, 15, "every keystroke goes once");
}

/// A path that becomes slower than the timeout is not a path that lost a whole window.
#[test]
fn a_jump_of_the_delay_repeats_a_few_messages_only() {
    let config = Config { pacing: None, ..Config::client() };
    let mut pair = Pair::connected(config, Config::agent("i-0", shell(Handshake::Required))).started();
    let bulk = |pair: &mut Pair, count: u32| {
        for _ in 0..count {
            pair.run_until(|pair| pair.client.channel.can_send());
            pair.output(Role::Client, &[7; 1024]);
            pair.run_for(MS / 4);
        }
    };
    bulk(&mut pair, 2000);
    let before = pair.client.channel.stats().retransmissions;
    pair.link.conditions.delay = 180 * MS;
    bulk(&mut pair, 2000);
    pair.settle();
    let repeated = pair.client.channel.stats().retransmissions - before;
    // A round trip of the old path, while its last acknowledgements came in, and three probes of eight.
    let limit = 100 + 24;
    assert!(repeated <= limit, "{repeated} messages were repeated");
}

#[test]
fn a_silent_path_is_probed_with_eight_messages_a_timeout_the_oldest_first() {
    let mut client = Solo::running(Config { pacing: None, ..Config::client() });
    for _ in 0..30 {
        client.send(PayloadType::Output, &[0; 100]);
        client.messages();
    }
    let oldest: Vec<i64> = (0..8).collect();
    client.now += 200 * MS;
    client.channel.handle_timeout(client.now);
    assert_eq!(client.numbers(), oldest);
    assert!(
        client.wait(200 * MS - Duration::from_nanos(1)).is_empty(),
        "they are all that goes in a timeout"
    );
    client.now += Duration::from_nanos(1);
    client.channel.handle_timeout(client.now);
    assert_eq!(client.numbers(), (8..16).collect::<Vec<i64>>(), "the first eight have 400 ms");
    client.now += 200 * MS;
    client.channel.handle_timeout(client.now);
    assert_eq!(client.numbers(), oldest, "what the peer waits for comes before what it holds back");
}

/// One acknowledgement within a timeout shows that the path is there, and that what was sent with it is lost.
#[test]
fn a_path_is_silent_when_nothing_was_acknowledged_for_a_timeout() {
    for (answered, repeated) in [(1, 29), (100, 29), (0, 8)] {
        let mut client = Solo::running(Config { pacing: None, ..Config::client() });
        client.send(PayloadType::Output, b"x");
        client.messages();
        client.acknowledge(0);
        for _ in 0..30 {
            client.send(PayloadType::Output, &[0; 100]);
            client.messages();
        }
        client.now += answered * MS;
        if answered > 0 {
            client.acknowledge(30);
        }
        client.now = client.channel.poll_timeout().expect("they time out");
        client.channel.handle_timeout(client.now);
        assert_eq!(client.numbers().len(), repeated, "an acknowledgement after {answered} ms");
    }
}

#[test]
fn item_48_every_tenth_frame_may_vanish_in_both_directions() {
    let config = Config { pacing: None, ..Config::client() };
    let mut pair = Pair::connected(config, Config::agent("i-0", shell(Handshake::Required))).started();
    pair.records = false;
    let mut frames = 0_u32;
    pair.rule = Some(Box::new(move |_, _| {
        frames += 1;
        if frames.is_multiple_of(10) { Fate::Lost } else { Fate::Pass }
    }));
    let payload: Vec<u8> = (0..1024_u32).map(|byte| byte as u8).collect();
    let count = 10 * 1024;
    for _ in 0..count {
        pair.run_until(|pair| pair.client.channel.can_send());
        pair.output(Role::Client, &payload);
    }
    pair.settle();
    assert_eq!(pair.agent.inbound.delivered, count);
    let took = pair.now - pair.start;
    assert!(took < Duration::from_secs(60), "10 MiB took {took:?}");
}

#[test]
fn item_49_three_seconds_without_acknowledgements_lose_and_double_nothing() {
    let mut pair = Pair::shell().started();
    let deaf = Rc::new(Cell::new(true));
    let rule = Rc::clone(&deaf);
    pair.rule =
        Some(Box::new(move |_, message| if rule.get() && is_ack(message) { Fate::Lost } else { Fate::Pass }));
    for number in 0..20_u8 {
        pair.output(Role::Client, &[number; 100]);
        pair.output(Role::Agent, &[number; 100]);
    }
    pair.run_for(Duration::from_secs(3));
    deaf.set(false);
    pair.settle();
    assert_eq!((pair.client.inbound.delivered, pair.agent.inbound.delivered), (20, 20));
}

#[test]
fn item_29_a_damaged_message_is_not_acknowledged() {
    let mut client = Solo::running(Config::client());
    let wire = client.stream_frame(1, PayloadType::Output, b"text");
    let mut damaged = wire.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    client.channel.handle_binary(client.now, damaged.into()).unwrap();
    assert!(client.messages().is_empty());
    client.channel.handle_binary(client.now, wire).unwrap();
    assert_eq!(client.acknowledged(), [1]);
}

#[test]
fn item_46_a_full_window_gives_the_payload_back() {
    let mut client = Solo::running(Config { pacing: None, ..Config::client() });
    while client.channel.room().is_some() {
        client.send(PayloadType::Output, &[1; 1000]);
        client.messages();
    }
    let mut buf = MessageBuf::with_capacity(4);
    buf.put_slice(b"kept");
    let Err(SendError::Blocked(back)) = client.channel.send(client.now, PayloadType::Output, buf) else {
        panic!("it was taken")
    };
    assert_eq!(back.payload(), b"kept");
    assert!(client.channel.stats().in_flight < 2 * 64 * 1024 + 2000);
    client.acknowledge(0);
    assert!(client.channel.room().is_some());
}

#[test]
fn bulk_data_leaves_room_for_what_somebody_waits_for() {
    let mut client = Solo::running(Config { pacing: None, ..Config::client() });
    while client.channel.can_send() {
        client.send(PayloadType::Output, &[1; 1000]);
        client.messages();
    }
    assert!(client.channel.stats().in_flight < 64 * 1024 + 2000);
    for _ in 0..100 {
        assert_eq!(client.channel.room(), Some(Room::Reserve));
        client.send(PayloadType::Output, b"key");
        assert_eq!(client.messages().len(), 1, "it goes out at once");
    }
}

/// A peer holds back at most 10,000 messages behind a gap.
#[test]
fn a_sender_does_not_run_away_from_a_gap_however_much_behind_it_is_acknowledged() {
    let mut client = Solo::running(Config { pacing: None, in_flight_max: 50, ..Config::client() });
    let mut sent = 0;
    while client.channel.can_send() {
        client.send(PayloadType::Output, b"x");
        client.messages();
        if sent > 0 {
            client.acknowledge(sent);
        }
        sent += 1;
        assert!(sent <= 50, "{sent} messages behind a gap");
    }
    client.acknowledge(0);
    assert!(client.channel.can_send());
}

#[test]
fn item_34_35_36_numbers_count_stream_messages_of_any_type_and_nothing_else() {
    let mut client = Solo::running(Config::client());
    for (number, kind) in [PayloadType::Output, PayloadType::Size, PayloadType::Flag].into_iter().enumerate()
    {
        client.send(kind, b"abcd");
        client.stream(1 + number as i64, PayloadType::Output, b"x").unwrap();
        let sent = client.messages();
        assert_eq!((acknowledged(&sent), numbers(&sent)), (vec![1 + number as i64], vec![number as i64]));
        let (ack, message) = (&sent[0].header, &sent[1].header);
        assert_eq!((ack.sequence, ack.flags), (0, Flags::SYN_FIN));
        assert_eq!(message.flags, Flags::NONE);
    }
}

#[test]
fn item_32_payloads_of_unknown_types_are_acknowledged_and_ignored() {
    let mut client = Solo::running(Config::client());
    client.stream(1, PayloadType::Unknown(77), b"?").unwrap();
    client.stream(2, PayloadType::Output, b"x").unwrap();
    assert_eq!(client.acknowledged(), [1, 2]);
    assert!(matches!(&client.events()[..], [Event::Payload { payload, .. }] if &payload[..] == b"x"));
    assert_eq!(client.channel.stats().unknown_messages, 1);
}

#[test]
fn item_41_what_is_too_far_ahead_is_left_unacknowledged() {
    let mut client = Solo::running(Config { reorder_max: 10, reorder_bytes_max: 100, ..Config::client() });
    client.stream(12, PayloadType::Output, b"x").unwrap();
    client.stream(11, PayloadType::Output, &[0; 90]).unwrap();
    client.stream(10, PayloadType::Output, &[0; 11]).unwrap();
    assert_eq!(client.acknowledged(), [11]);
    assert_eq!(client.channel.stats().refused, 2);
    client.stream(1, PayloadType::Output, b"x").unwrap();
    assert_eq!(client.acknowledged(), [1]);
}

/// Agents leave what they are not ready for unacknowledged (`ErrHandlerNotReady`), and acknowledge the rest.
#[test]
fn item_40_106_an_agent_that_is_not_ready_takes_nothing_and_reacknowledges_what_it_has() {
    let mut agent = Solo::agent(Config::agent("i-0", shell(Handshake::Skipped)));
    agent.stream(0, PayloadType::Output, b"a").unwrap();
    agent.stream(2, PayloadType::Output, b"c").unwrap();
    assert_eq!(agent.acknowledged(), [0, 2]);
    agent.channel.set_input(Input::Refused);
    agent.stream(0, PayloadType::Output, b"a").unwrap();
    agent.stream(1, PayloadType::Output, b"b").unwrap();
    agent.stream(2, PayloadType::Output, b"c").unwrap();
    assert_eq!(agent.acknowledged(), [0, 2]);
    agent.channel.set_input(Input::Accepted);
    agent.stream(1, PayloadType::Output, b"b").unwrap();
    assert_eq!(agent.acknowledged(), [1]);
    assert_eq!(agent.channel.stats().messages_received, 3);
}

#[test]
fn item_51_data_goes_at_900_messages_a_second_and_acknowledgements_at_once() {
    let mut pair = Pair::shell().started();
    let start = pair.now;
    let mut sent = 0;
    while pair.now < start + Duration::from_secs(4) {
        while pair.client.channel.can_send() {
            pair.output(Role::Client, &[0; 16]);
            sent += 1;
        }
        pair.step(start + Duration::from_secs(4));
    }
    assert!((3_590..=3_705).contains(&sent), "{sent} messages in 4 s");
    pair.client.sent.clear();
    pair.output(Role::Agent, b"x");
    pair.run_for(20 * MS);
    let acked = pair.client.sent.iter().position(|(_, message)| is_ack(message)).unwrap();
    let (at, _) = pair.client.sent[acked];
    assert_eq!(at - start, Duration::from_secs(4) + 10 * MS);
}

#[test]
fn a_burst_after_a_quiet_time_goes_at_once() {
    let pacing = Some(Pacing { per_second: 10, burst: 5 });
    let mut client = Solo::running(Config { pacing, ..Config::client() });
    for _ in 0..5 {
        client.send(PayloadType::Output, b"x");
        assert_eq!(client.messages().len(), 1);
    }
    client.send(PayloadType::Output, b"x");
    assert!(client.messages().is_empty());
    assert!(!client.channel.can_send(), "one message waits, no queue");
    assert!(client.wait(99 * MS).is_empty());
    assert_eq!(client.wait(MS).len(), 1);
}

/// What overtakes the flag stalls AWS's agent for ever.
#[test]
fn nothing_follows_a_disconnect_flag_until_it_is_acknowledged() {
    let mut pair = Pair::port().started();
    pair.send(Role::Client, PayloadType::Flag, &[0, 0, 0, 1]);
    assert!(!pair.client.channel.can_send());
    pair.settle();
    assert!(pair.client.channel.can_send());
}
