//! The end of a session.

use std::time::Duration;

use ssm_channel::{CloseReason, Config, Event, Handshake, Pacing, Role, SendError};
use ssm_proto::body::{ChannelClosed, ExitCode};
use ssm_proto::{MessageBuf, MessageType, PayloadType};

use crate::pair::{Fate, Pair, shell};
use crate::solo::Solo;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn item_75_the_service_says_why_a_session_ended() {
    let mut pair = Pair::shell().started();
    pair.output(Role::Agent, b"last words");
    pair.settle();
    let closed = ChannelClosed { output: "Session timed out".into(), ..ChannelClosed::default() };
    pair.service(Role::Client, MessageType::ChannelClosed, &closed.encode());
    let reason = CloseReason::AgentClosed { exit_code: None, detail: Some("Session timed out".into()) };
    assert_eq!(pair.client.closed.as_ref().unwrap().1, reason);
    assert_eq!(pair.client.inbound.delivered, 1);
}

#[test]
fn item_74_the_exit_code_of_a_command_comes_with_the_end() {
    let mut client = Solo::running(Config::client());
    client.stream(1, PayloadType::ExitCode, &ExitCode(3).encode()).unwrap();
    client
        .channel
        .handle_binary(
            client.now,
            crate::solo::frame(
                ssm_proto::Header::service(MessageType::ChannelClosed, Default::default(), 1),
                b"{}",
            ),
        )
        .unwrap();
    let events = client.events();
    let Some(Event::Closed(reason)) = events.last() else { panic!("{events:?}") };
    assert_eq!(*reason, CloseReason::AgentClosed { exit_code: Some(3), detail: None });
}

#[test]
fn item_89_a_port_session_ends_by_one_flag_that_is_acknowledged() {
    let mut pair = Pair::port().started();
    let now = pair.now;
    pair.client.channel.terminate(now);
    pair.client.channel.terminate(now);
    pair.drive(Role::Client);
    assert!(pair.client.closed.is_none());
    pair.run_for(Duration::from_millis(50));
    let (at, reason) = pair.client.closed.clone().unwrap();
    assert_eq!((at - now, reason), (Duration::from_millis(20), CloseReason::Terminated));
    let flags = pair.sent_as(Role::Client, 2);
    assert_eq!((flags.len(), &flags[0].1.payload[..]), (1, &[0, 0, 0, 2][..]));
    assert!(pair.sent_as(Role::Client, 3).is_empty());
}

#[test]
fn item_89_a_terminate_flag_is_waited_for_two_seconds() {
    let mut pair = Pair::port().started();
    pair.rule = Some(Box::new(|_, _| Fate::Lost));
    let now = pair.now;
    pair.client.channel.terminate(now);
    pair.drive(Role::Client);
    let mut buf = MessageBuf::with_capacity(1);
    buf.put_slice(b"x");
    let refused = pair.client.channel.send(now, PayloadType::Output, buf);
    assert!(matches!(refused, Err(SendError::Closed)));
    pair.run_for(3 * SECOND);
    let (at, reason) = pair.client.closed.clone().unwrap();
    assert_eq!((at - now, reason), (2 * SECOND, CloseReason::Terminated));
}

#[test]
fn the_end_of_the_session_answers_a_terminate_flag_as_well() {
    let mut pair = Pair::port().started();
    pair.rule = Some(Box::new(|_, _| Fate::Lost));
    let now = pair.now;
    pair.client.channel.terminate(now);
    pair.drive(Role::Client);
    pair.service(Role::Client, MessageType::ChannelClosed, b"{}");
    assert_eq!(pair.client.closed.as_ref().unwrap().1, CloseReason::Terminated);
}

#[test]
fn only_a_client_that_is_connected_ends_a_port_session_by_a_flag() {
    let mut pair = Pair::port().started();
    let now = pair.now;
    pair.agent.channel.terminate(now);
    pair.drive(Role::Agent);
    assert_eq!(pair.agent.closed, Some((now, CloseReason::Terminated)));
    pair.client.unreachable_until = Some(now + MINUTE);
    pair.cut(Role::Client);
    pair.client.channel.terminate(now);
    pair.drive(Role::Client);
    assert_eq!(pair.client.closed, Some((now, CloseReason::Terminated)));
    assert!(pair.client.channel.is_drained(), "no flag waits for anybody");
}

#[test]
fn a_shell_ends_without_a_flag() {
    let mut pair = Pair::shell().started();
    let now = pair.now;
    pair.client.channel.terminate(now);
    pair.drive(Role::Client);
    assert_eq!(pair.client.closed.as_ref().unwrap().1, CloseReason::Terminated);
    assert!(pair.sent_as(Role::Client, 1).is_empty());
}

#[test]
fn nothing_is_due_after_the_end() {
    let mut pair = Pair::shell().started();
    let now = pair.now;
    pair.client.channel.terminate(now);
    pair.drive(Role::Client);
    let channel = &mut pair.client.channel;
    channel.handle_pong(now);
    channel.handle_clock(now, Duration::from_secs(1_800_000_000));
    channel.handle_disconnected(now);
    assert_eq!(channel.poll_timeout(), None);
    assert!(channel.poll_event().is_none());
}

#[test]
fn nothing_is_sent_after_the_end_though_it_waits() {
    let pacing = Some(Pacing { per_second: 10, burst: 1 });
    let mut client = Solo::running(Config { pacing, ..Config::client() });
    for expected in [1, 0] {
        client.send(PayloadType::Output, b"x");
        assert_eq!(client.messages().len(), expected);
    }
    client.channel.terminate(client.now);
    assert!(client.wait(SECOND).is_empty());
}

/// Whatever is acknowledged behind it: AWS's agent stalls in this way (a message whose delivery failed is never retried).
#[test]
fn item_47_a_message_that_is_never_acknowledged_ends_the_session_after_five_minutes() {
    let mut pair = Pair::shell().started();
    let stuck = pair.client.channel.stats().messages_sent as i64;
    pair.rule = Some(Box::new(move |to, message| {
        let stuck =
            to == Role::Agent && message.header.message_type.is_stream() && message.header.sequence == stuck;
        if stuck { Fate::Lost } else { Fate::Pass }
    }));
    let start = pair.now;
    for _ in 0..400 {
        if pair.client.closed.is_none() {
            pair.output(Role::Client, b"x");
        }
        pair.run_for(SECOND);
    }
    let (at, reason) = pair.client.closed.clone().unwrap();
    assert_eq!((at - start, reason), (5 * MINUTE, CloseReason::Undeliverable { sequence: stuck }));
}

#[test]
fn item_47_the_clock_of_a_stuck_message_stands_still_while_disconnected_or_paused() {
    let mut pair = Pair::shell().started();
    let start = pair.now;
    pair.agent.channel.set_input(ssm_channel::Input::Refused);
    pair.output(Role::Client, b"x");
    pair.run_for(4 * MINUTE);
    pair.service(Role::Client, MessageType::PausePublication, b"");
    pair.run_for(10 * MINUTE);
    pair.service(Role::Client, MessageType::StartPublication, b"");
    pair.run_for(30 * SECOND);
    pair.client.unreachable_until = Some(pair.now + 10 * MINUTE);
    pair.cut(Role::Client);
    pair.run_for(10 * MINUTE - SECOND);
    assert_eq!(pair.client.closed, None);
    pair.run_for(MINUTE);
    let (at, reason) = pair.client.closed.clone().unwrap();
    assert_eq!(reason, CloseReason::Undeliverable { sequence: 1 });
    let connected = at - start - 20 * MINUTE;
    assert!((5 * MINUTE..5 * MINUTE + 9 * SECOND).contains(&connected), "{connected:?}");
}

#[test]
fn an_endless_patience_is_no_overflow() {
    let config = Config {
        give_up: Duration::MAX,
        silence: Duration::MAX,
        keep_alive: Duration::MAX,
        handshake_timeout: Duration::MAX,
        reconnect: Some(Duration::MAX),
        ..Config::client()
    };
    let mut pair = Pair::connected(config, Config::agent("i-0", shell(Handshake::Required))).started();
    pair.output(Role::Client, b"x");
    pair.cut(Role::Client);
    pair.settle();
}
